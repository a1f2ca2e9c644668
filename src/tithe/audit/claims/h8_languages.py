"""H8: letters to phonemes in many languages, each trained backward, spread over workers."""

from __future__ import annotations

import statistics

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence
from tithe.audit.formatting import show

__all__ = ["CLAIM", "judge"]


def judge(found: Evidence) -> Finding:
    """Whether every lexicon ends with a model that is of use.

    It fails where a lexicon ends without a model, a run does not begin with the last layer, or more than a tenth of the
    models make as many phoneme errors in held-out words as each letter's usual phonemes do. It holds where all make
    fewer, and under a condition in between. It reads the table ``languages`` (language, error, eval, usual, tree, each
    with its errors a phoneme) and the facts ``runs``, ``first`` and the paired difference to the trees.
    """
    rows, facts = found.rows("languages"), found.facts
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    made = [row for row in rows if not row["error"]]
    useless = [row["language"] for row in made if row["errors"] >= row["usual_errors"]]
    measured = f"{len(made)} of {len(rows)} with a model, {len(made) - len(useless)} of use"
    if len(made) < len(rows) or facts["first"] < facts["runs"]:
        missing = [row["language"] for row in rows if row["error"]]
        what = f"No model of {', '.join(missing)}." if missing else "Not every run begins with the last layer."
        return Finding("fails", what, measured)
    middle = {key: statistics.median(row[key] for row in made) for key in ("eval", "usual", "errors", "usual_errors")}
    reason = "\n".join([
        f"In held-out words {show(middle['eval'], '.1%')} of the letters get the right phonemes (median), "
        f"{show(middle['usual'], '.1%')} by each letter's usual ones; errors a phoneme {show(middle['errors'], '.3f')} "
        f"and {show(middle['usual_errors'], '.3f')}.",
        f"Over a decision tree on the same letters, in pairs of a language: {show(facts['over_tree'], '+.2f')} points "
        f"[{show(facts['over_tree_low'], '+.2f')}, {show(facts['over_tree_high'], '+.2f')}], fewer errors in "
        f"{facts['fewer_than_tree']} of {len(made)}.",
        f"{facts['first']} of {facts['runs']} runs begin with the last layer.",
    ])  # fmt: skip
    if len(useless) > len(made) / 10:
        return Finding("fails", f"{len(useless)} of {len(made)} models are of no use.", measured, reason)
    if useless:
        return Finding("holds if", "Nearly all languages are learned.", measured, reason,
                       condition=f"there is something to learn: in {', '.join(useless)} each letter's usual phonemes "
                       "are as good.")  # fmt: skip
    return Finding("holds", f"All {len(made)} languages are learned.", measured, reason)


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h8_measure import measure  # imports numba and torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H8",
    title="Many languages",
    says="About 140 pronunciation lexicons train successfully through the backward pipeline, spread over workers.",
    claimed="140 of 140",
    baseline="each letter's usual phonemes, and a decision tree on the same letters",
    budget=8.0,
    measure=_measure,
    judge=judge,
)
