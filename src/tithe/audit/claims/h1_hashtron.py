"""H1: a network of hash-based one-bit neurons learns, predicts, and is kept in files of the reference's format."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence
from tithe.audit.formatting import show

__all__ = ["CLAIM", "FORWARD", "OURS", "judge"]

FORWARD = "forward pipeline (one neuron after the other)"
OURS = "HashtronClassifier"


def judge(found: Evidence) -> Finding:
    """Whether it learns above the prior, agrees with the reference bit for bit, and survives being saved and loaded.

    It reads the table ``agreement`` (what, equal, of), ``learning`` (method, test, test_low, prior) and ``models``
    (method, data, test, bytes).
    """
    agreement, learning = found.rows("agreement"), found.rows("learning")
    if not agreement or not learning:
        return Finding("unmeasured", "Nothing was measured.")
    wrong = [row for row in agreement if row["equal"] != row["of"]]
    row = learning[0]
    lower = row["test"] if row["test_low"] is None else row["test_low"]
    measured = f"{show(row['test'], '.1%')} of unseen digits right, odd or even, where guessing gives "
    measured += show(row["prior"], ".1%")
    reason = _compared(found)
    if wrong:
        summary = f"{wrong[0]['what']}: {wrong[0]['equal']} of {wrong[0]['of']} equal the reference."
        return Finding("fails", summary, measured, reason)
    if lower <= row["prior"]:
        return Finding("fails", "What it learned on its training data does not carry over.", measured, reason)
    total = sum(row["of"] for row in agreement)
    return Finding("holds", f"Learns, and all {total} values agree with the reference.", measured, reason)


def _compared(found: Evidence) -> str:
    rows = found.rows("models")
    if not rows:
        return ""
    ours = next((row for row in rows if row["method"] == OURS), None)
    others = ", ".join(f"{row['method']} {show(row['test'], '.2%')}" for row in rows if row is not ours)
    sentences = []
    if ours is not None:
        sentence = (
            f"Trained through the votes' errors, a layer of such neurons reaches {show(ours['test'], '.2%')} on "
            f"{ours['data']} in {show(ours['bytes'] / 1024, '.0f')} KiB, {found.facts['epochs']} passes"
        )
        sentences.append(f"{sentence}; beside it {others}." if others else f"{sentence}.")
    sentences.append(
        "The reference's own forward pipeline reaches 18% on MNIST's training set; with a constant final neuron no "
        "hidden one ever gets a vote, so a majority stands there here."
    )
    return "\n".join(sentences)


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h1_measure import measure  # imports numba and scikit-learn: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H1",
    title="Networks of hash-based one-bit neurons",
    says=(
        "A network of discrete neurons, each a few hashes and a filter of two-bit cells, is trained neuron by neuron, "
        "predicts, and is saved and loaded; the existing forward pipeline is the baseline."
    ),
    claimed="trains, predicts, saves, loads",
    baseline="guessing; logistic regression and a random forest on the same images",
    budget=45.0,
    measure=_measure,
    judge=judge,
)
