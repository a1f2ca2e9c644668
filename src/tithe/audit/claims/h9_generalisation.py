"""H9: by the capacity law train accuracy stays at 60 to 80 %, eval rises, and that costs no time."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import points, show

__all__ = ["CLAIM", "CONSTANT", "FORWARD", "LAW", "NONE", "SHUFFLED", "judge"]

NONE, LAW, SHUFFLED, FORWARD = "none", "law", "shuffled", "law, forward"
CONSTANT = "constant, the law's median"
_R2, _SHARE, _OVERHEAD = 0.7, 0.5, 1.1  # the claimed R², most of the runs, and the claimed 10 % of time


def judge(found: Evidence) -> Finding:
    """What of the claim holds, part by part.

    It fails where the law makes the gap no smaller than no cap, a run does not begin with the final neuron, or one is
    stuck. It holds where every part does: R² of the logarithms of premodulo and margin at least 0.7 on every task,
    train accuracy from 60 to 80 % in most of the runs, eval that rises with its whole interval, a time ratio of 1.1 at
    most, and better eval than with a constant of the law's median and with another neuron's sums. Else it holds without
    the parts that the condition names. It reads the table ``differences`` (control, test, gap with intervals) and the
    facts.
    """
    against, facts = {row["control"]: row for row in found.rows("differences")}, found.facts
    if not against:
        return Finding("unmeasured", "Nothing was measured.")
    none = against[NONE]
    measured = (
        f"gap {points(none, 'gap')}, eval {points(none, 'test')} against no cap; train {show(facts['train'], '.0%')} "
        f"in the median; time {facts['overhead']:.2f}×"
    )
    reason = "\n".join([*(_sentence(row) for row in against.values()), *_others(found)])
    if none["gap_high"] is None or none["gap_high"] >= 0:
        return Finding("fails", "The law makes the gap no smaller.", measured, reason)
    if facts["begun"] < facts["runs"] or facts["stuck"]:
        return Finding("fails", "A run is out of order, or stuck.", measured, reason)
    level = [name for name in (CONSTANT, SHUFFLED) if (against[name]["test_low"] or 0.0) <= 0]
    missing = {
        f"premodulo follows the margin, R² {show(facts['r2'], '.2f')}": facts["r2"] < _R2,
        f"train ends at 60 to 80%, in {show(facts['saturated'], '.0%')} of runs": facts["saturated"] <= _SHARE,
        "eval rises": (facts["rise_low"] or 0.0) <= 0,
        f"{facts['overhead']:.2f}× the time": facts["overhead"] > _OVERHEAD,
        f"the law is better than {' and '.join(level)}": bool(level),
    }
    left = [part for part, lacks in missing.items() if lacks]
    if not left:
        return Finding("holds", "Smaller gap, in time, and by the law.", measured, reason)
    return Finding("holds if", "The gap is smaller; not all that is claimed about it is true.", measured, reason,
                   condition=f"these are left out: {'; '.join(left)}.")  # fmt: skip


def _sentence(row: Row) -> str:
    return f"The law against {row['control']}: eval {points(row, 'test')}, gap {points(row, 'gap')}."


def _others(found: Evidence) -> list[str]:
    facts = found.facts
    ends = "" if facts["rise_low"] is None else f" [{facts['rise_low']:+.1f}, {facts['rise_high']:+.1f}]"
    return [
        f"A constant premodulo is a dial of the gap: rank correlation {show(facts['dial'], '.2f')} on the worst task.",
        f"Margin and premodulo: R² of the logarithms {show(facts['r2'], '.2f')} with the 10× limit, "
        f"{show(facts['r2, lifted'], '.2f')} without, on the worst task; rank correlation "
        f"{show(facts['spearman'], '.2f')} and {show(facts['spearman, lifted'], '.2f')}.",
        f"Eval rises by {facts['rise']:+.1f}{ends} points in the last two thirds of a sweep.".replace("-", "−"),
        f"Backward with cache and law takes {facts['overhead']:.2f}× [{facts['overhead_low']:.2f}, "
        f"{facts['overhead_high']:.2f}] the time of forward, {facts['samples']:,} samples.",
        f"{facts['begun']} of {facts['runs']} runs begin with the final neuron; {facts['stuck']} got stuck.",
    ]


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h9_measure import measure  # imports numba and SciPy: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H9",
    title="Generalisation by capacity",
    says=(
        "Under the backward pipeline premodulos go with margins, train accuracy saturates by itself at 60 to 80% while "
        "eval rises, every run begins with the final neuron, none gets stuck, and it takes hardly longer than forward."
    ),
    claimed="R² > 0.7; train 60–80%, eval rising, small gap; time within 10%",
    baseline="no cap, constants, the law with other sums or turned round; the forward pipeline",
    budget=10.0,
    measure=_measure,
    judge=judge,
)
