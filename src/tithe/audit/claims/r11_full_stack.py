"""R11: front end, filtered weights and all make training and inference much cheaper together."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.claims.r10_training import sentence
from tithe.audit.evidence import Evidence
from tithe.audit.formatting import show

__all__ = ["CLAIM", "STACK", "judge"]

LEAST, LOST = 0.40, 0.003
STACK = "full stack"


def judge(found: Evidence) -> Finding:
    """Whether the full stack saves 40 % of the multiply–adds to the target, interval included, at the same accuracy.

    It reads the table ``races`` (as for R10, and work_saved with its ends, inference_saved, accuracy, accuracy_lost)
    and the fact ``race``.
    """
    rows = found.rows("races", recipe=STACK)
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    row, reason = rows[0], "\n".join([f"{found.facts['race']}:", *map(sentence, found.rows("races"))])
    if row["arrived"] < row["of"]:
        summary = f"{row['arrived']} of {row['of']} networks arrive at the target."
        return Finding("fails", summary, sentence(row), reason)
    lower = row["work_saved"] if row["work_saved_low"] is None else row["work_saved_low"]
    work, inference = show(row["work_saved"], ".0%"), show(row["inference_saved"], ".0%")
    ends = f"[{show(lower, '.0%')}, {show(row['work_saved_high'], '.0%')}]"
    measured = f"{work} {ends} of the multiply–adds of training against cosine, {inference} of those of inference"
    lost = f"{show(100 * row['accuracy_lost'], '+.2f')} points of accuracy lost"
    if lower < LEAST:
        return Finding("fails", f"Training is {work} cheaper, {lost}.", measured, reason)
    if row["accuracy_lost"] > LOST:
        condition = f"one gives up {show(100 * row['accuracy_lost'], '.1f')} points of accuracy."
        return Finding("holds if", f"Training is {work} cheaper, {lost}.", measured, reason, condition=condition)
    return Finding("holds", f"Training is {work} cheaper and inference {inference}, {lost}.", measured, reason)


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._r_races import measure  # imports torch: not needed to list the claim

    return measure(run, ["averaged", "front end", "PCA front end, averaged", STACK])


CLAIM = Claim(
    id="R11",
    title="The full stack of the resolvent",
    says=(
        "Filters in training, data in a compressed form and inference on sparse, coherent patterns add up, so that "
        "training and inference together take far less."
    ),
    claimed="40–70% cumulative",
    baseline="the same network on all pixels, with a cosine whose horizon is tuned",
    budget=30.0,
    measure=_measure,
    judge=judge,
)
