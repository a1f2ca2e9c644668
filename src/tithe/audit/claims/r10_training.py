"""R10: the resolvent as a penalty or on gradients makes training cheaper."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "LITERAL", "judge", "sentence"]

LEAST = 0.15  # of the steps
LITERAL = ("penalty (R1)", "damped gradients (R2)")


def judge(found: Evidence) -> Finding:
    """Whether the source's penalty or its damped gradients save 15 % of the steps, their intervals included.

    It reads the table ``races`` (recipe, steps, saved_constant and saved_cosine with their ends, arrived, of) and the
    fact ``race``. A step costs the same in all of them, but for the filter, so steps stand for energy.
    """
    rows = found.rows("races")
    literal = [row for row in rows if row["recipe"] in LITERAL]
    if not literal:
        return Finding("unmeasured", "Nothing was measured.")
    reason = "\n".join([f"{found.facts['race']}:", *(sentence(row) for row in rows if row["saved_constant"] != 0)])
    best = max(literal, key=lambda row: _lower(row, "saved_constant"))
    measured = sentence(best)
    if _lower(best, "saved_cosine") >= LEAST:
        return Finding("holds", f"{best['recipe']} saves {LEAST:.0%} and more of the steps.", measured, reason)
    if _lower(best, "saved_constant") >= LEAST:
        return Finding("holds if", f"{best['recipe']} saves {LEAST:.0%} and more of the steps.", measured, reason,
                       condition="the baseline is a constant rate, not a cosine.")  # fmt: skip
    others = [row for row in rows if row["recipe"] not in LITERAL and _lower(row, "saved_constant") >= LEAST]
    instead = f"; {others[-1]['recipe']} does" if others else ""
    return Finding("fails", f"Neither the penalty nor damped gradients save steps{instead}.", measured, reason)


def sentence(row: Row) -> str:
    """One recipe in words."""
    if row["arrived"] < row["of"]:
        return f"{row['recipe']}: {row['arrived']} of {row['of']} networks arrive at all"
    parts = []
    for baseline in ("constant", "cosine"):
        low, mean, high = (show(row[f"saved_{baseline}{end}"], "+.0%") for end in ("_low", "", "_high"))
        parts.append(f"{mean} [{low}, {high}] against a {baseline} rate")
    return f"{row['recipe']}: steps saved {' and '.join(parts)}"


def _lower(row: Row, column: str) -> float:
    if row["arrived"] < row["of"]:
        return float("-inf")
    return float(row[column] if row[f"{column}_low"] is None else row[f"{column}_low"])


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._r_races import measure  # imports torch: not needed to list the claim

    recipes = [*LITERAL, "whitened gradients", "averaged"]
    return measure(run, recipes)


CLAIM = Claim(
    id="R10",
    title="The resolvent in the training loop",
    says=(
        "A penalty on the short waves of gradients or activations, added to any loss, or the same filter on gradients "
        "before each step, damps wasteful updates, so that training takes less energy and converges faster."
    ),
    claimed="15–30% less training energy",
    baseline="the same optimiser at a tuned constant rate, and with a cosine whose horizon is tuned",
    budget=60.0,
    measure=_measure,
    judge=judge,
)
