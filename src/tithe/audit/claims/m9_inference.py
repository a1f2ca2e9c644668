"""M9: networks that run three to five times as fast at the same accuracy, and train two to three times as fast."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "FASTER", "INT8_LOSS", "TRAINS_FASTER", "judge"]

FASTER, TRAINS_FASTER = 3.0, 2.0  # the least of what is claimed
INT8_LOSS = 1.0  # points, the least of what int8 is said to lose
_LOST, _COSINE, _HIGHER = 0.05, 0.998, 1.05  # points; to fp32's embeddings; of the loss after equal steps


def judge(found: Evidence) -> Finding:
    """Whether converted networks, or steps of training, are as much faster as claimed, intervals included.

    It reads the tables ``inference`` (network, way, kind, time over fp32's with its ends; points lost of accuracy with
    theirs, or error and cosine of embeddings) and ``training`` (products by, time over the plain step's with its ends,
    loss and plain loss), and the facts ``data``, ``int8 units`` and ``products of <network>``, the share of seconds
    within layers.
    """
    converted, training = found.rows("inference", kind="converted"), found.rows("training")
    if not converted:
        return Finding("unmeasured", "Nothing was measured.")
    runs = all(row["high"] <= 1 / FASTER and _same(row) for row in converted)
    trains = any(row["high"] <= 1 / TRAINS_FASTER and _learns(row) for row in training)
    less = all(_less(row, other) for row in converted for other in _int8(found, row))
    figures = "; ".join(f"{row['network']} {_gain(row)} as fast{_cost(row)}" for row in converted)
    measured, summary = figures, f"Converted: {figures}."
    if training:
        best = min(training, key=lambda row: (not _learns(row), row["time"]))
        measured += f"; training {_gain(best)}"
        summary += f" A training step by {best['method']}: {_gain(best)} as fast."
    reason = "\n".join(filter(None, (_limit(found, converted), _others(found), _steps(training))))
    if runs and trains and less:
        return Finding("holds", summary, measured, reason)
    data = found.facts["data"]
    if not (runs or trains):
        words = f"Neither runs {FASTER:g} nor trains {TRAINS_FASTER:g} times as fast"
        if data != "MNIST":
            return Finding("unmeasured", f"{words} on {data}, which is small. {summary}", measured, reason)
        return Finding("fails", f"{words}. {summary}", measured, reason)
    missing = [
        words
        for met, words in (
            (runs, "only training counts"),
            (trains, "only running a trained network counts"),
            (less, "int8 may lose as little"),
        )
        if not met
    ]
    return Finding("holds if", summary, measured, reason, condition=f"{', and '.join(missing)}.")


def _same(row: Row) -> bool:
    return bool(row["cosine"] >= _COSINE if row["lost"] is None else row["lost"] <= _LOST)


def _learns(row: Row) -> bool:
    return bool(row["loss"] <= _HIGHER * row["plain_loss"])


def _int8(found: Evidence, row: Row) -> list[Row]:
    others = found.rows("inference", network=row["network"])
    return [other for other in others if other["kind"] in ("per tensor", "per channel")]


def _less(row: Row, other: Row) -> bool:
    return bool(row["error"] < other["error"] if row["lost"] is None else row["lost"] <= other["lost"])


def _gain(row: Row) -> str:
    return f"{show(1 / row['time'], '.2g')}× [{show(1 / row['high'], '.2g')}, {show(1 / row['low'], '.2g')}]"


def _cost(row: Row) -> str:
    if row["lost"] is not None:
        return f" at {show(row['lost'], '.2f')} points lost"
    return f" at cosine {show(row['cosine'], '.4f')}, embeddings {show(row['error'], '.2g%')} off"


def _limit(found: Evidence, converted: list[Row]) -> str:
    """How much faster a network would be whose layers took no time."""
    words = []
    for row in converted:
        share = found.facts.get(f"products of {row['network']}")
        if share is not None:
            most = f", so {show(1 / (1 - share), '.2g')}× if they took no time" if share < 1 else ""
            words.append(f"{row['network']} {show(share, '.0%')}{most}")
    if not words:
        return ""
    units = found.facts.get("int8 units") or "none"
    return (
        f"Of fp32's seconds are within linear layers: {'; '.join(words)}. The rest is not made faster by cheaper "
        f"products, and by int8 a layer still reads and rounds its activations. int8 units here: {units}."
    )


def _others(found: Evidence) -> str:
    rows = [row for row in found.rows("inference") if row["kind"] != "converted"]
    if not rows:
        return ""
    figures = "; ".join(f"{row['network']} by {row['way']} {_gain(row)}{_cost(row)}" for row in rows)
    lost = [row["lost"] for row in rows if row["lost"] is not None]
    said = ""
    if lost and max(lost) < INT8_LOSS:
        said = f" int8 loses {show(max(lost), '.2f')} points at most here, not {INT8_LOSS:g} to 3."
    return f"Others, in the same run: {figures}.{said}"


def _steps(training: list[Row]) -> str:
    if not training:
        return ""
    words = "; ".join(
        f"by {row['method']} {show(row['time'], '.0%')} of the plain step's time, loss {show(row['loss'], '.3f')} "
        f"where plain steps reach {show(row['plain_loss'], '.3f')}"
        for row in training
    )
    return (
        f"Training, products of both passes and their certificates: {words}. While weights change with every step "
        "nothing can be prepared once, and two thirds of the work is gradients, made anew each time."
    )


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m9_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M9",
    title="Faster networks at the same accuracy",
    says=(
        "Engineers get networks that run three to five times as fast at the same accuracy and train two to three times "
        "as fast; they lose less than by int8, which is said to cost one to three percent."
    ),
    claimed="runs 3–5×, trains 2–3× as fast; less loss than int8 (1–3%)",
    baseline="fp32; torch's dynamic int8 by its quickest engine; torchao's int8, compiled",
    budget=20.0,
    measure=_measure,
    judge=judge,
)
