"""M4: a trained digit classifier keeps its accuracy when all its products are approximated."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "LOST", "RATIO", "judge"]

LOST = 0.05  # percentage points
RATIO = 0.3


def judge(found: Evidence) -> Finding:
    """Whether a method within the ratio loses no more accuracy than claimed, the interval over seeds included.

    The figures it reads: table ``methods`` (method, role, share of the multiply–adds, accuracy and lost points with
    their ends, time) and the fact ``data``.
    """
    exact = found.rows("methods", role="exact")
    tried = [row for row in found.rows("methods", role="tithe") if row["share"] is not None]
    if not exact or not tried:
        return Finding("unmeasured", "No product within the ratio was measured.")
    data, accuracy = found.facts["data"], exact[0]["accuracy"]
    within = [row for row in tried if row["share"] <= RATIO]
    measured = f"{data}: {show(accuracy, '.2%')} exact"
    if not within:
        cheapest = min(tried, key=lambda row: float(row["share"]))
        nearest = show(cheapest["share"], ".0%")
        summary = f"No method stays within {RATIO:g} of the multiply–adds; the nearest takes {nearest}."
        return Finding("fails", summary, measured, _reason(found, cheapest))
    best = min(within, key=lambda row: (_upper(row), row["lost"]))
    measured += (
        f" → {show(best['accuracy'], '.2%')} by {best['method']} at {show(best['share'], '.0%')} of the multiply–adds"
    )
    reason = _reason(found, best)
    if best["lost"] > LOST:
        summary = f"Within {RATIO:g} of the multiply–adds, the best method loses {show(best['lost'], '.2f')} points."
        return Finding("fails", summary, measured, reason)
    conditions = []
    if data != "MNIST":
        conditions.append(f"what holds on {data}, measured for want of MNIST, holds on MNIST")
    if _upper(best) > LOST:
        conditions.append(f"one goes by the mean over seeds (the interval reaches {show(_upper(best), '.2f')} points)")
    if best["time"] is not None and best["time_low"] > 1:
        conditions.append(
            f"the cost is counted in multiply–adds (it takes {show(best['time'], '.1f')} times as long here)"
        )
    lost, share = show(best["lost"], ".2f"), show(best["share"], ".0%")
    summary = f"{best['method']} loses {lost} points at {share} of the multiply–adds."
    if conditions:
        return Finding("holds if", summary, measured, reason, condition=", and ".join(conditions) + ".")
    return Finding("holds", summary, measured, reason)


def _upper(row: Row) -> float:
    return float(row["lost"] if row["lost_high"] is None else row["lost_high"])


def _reason(found: Evidence, best: Row) -> str:
    sentences = [
        f"{best['method']} loses {show(best['lost'], '.2f')} points "
        f"({show(best['lost_low'], '.2f')} to {show(best['lost_high'], '.2f')} over {best['seeds']} seeds, paired) "
        f"and takes {show(best['time'], '.0%')} of the exact product's time."
    ]
    for row in found.rows("methods", role="baseline"):
        share = "" if row["share"] is None else f" at {show(row['share'], '.0%')} of the multiply–adds"
        lost, time = show(row["lost"], ".2f"), show(row["time"], ".0%")
        sentences.append(f"{row['method']} loses {lost} points{share}, in {time} of its time.")
    return " ".join(sentences)


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m4_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M4",
    title="A digit classifier with all products approximated",
    says=(
        "In a network of three layers, 784 → 512 → 256 → 10, trained on handwritten digits, every product is replaced "
        "by its approximation at a ratio of 0.3, and the accuracy falls by five hundredths of a point, where int8 is "
        "said to cost one to three points."
    ),
    claimed="96.39% → 96.34% at ratio 0.3",
    baseline="the exact product; sampling at the same ratio; torch's dynamic int8 quantisation",
    budget=70.0,
    measure=_measure,
    judge=judge,
)
