"""T11: over a descent a network dwindles into homogeny, which goes with its loss, and renewal undoes it."""

from __future__ import annotations

from collections.abc import Mapping

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "MEASURES", "QUESTIONS", "judge"]

MEASURES = ("rank of rows", "cosine of rows", "rank of samples", "cosine of samples")
# What the source expects, and on which side of 0 it lies, on figures that are larger for what is more alike.
QUESTIONS: Mapping[str, tuple[str, int]] = {
    "grown": ("grows over the descent, without renewal", 1),
    "descent": ("grows as the loss of a task falls", -1),
    "remains": ("the more of it, the more loss is left at the end of a task", 1),
    "renewal": ("falls at a renewal", -1),
    "apart": ("lower at the end with renewal", -1),
}


def judge(found: Evidence) -> Finding:
    """Whether homogeneity grows over the descent, goes with the loss, and is undone by renewal.

    A question of ``QUESTIONS`` has a yes where the 95 % interval over seeds lies wholly on the side that the source
    expects, a no where it lies wholly on the other side, on any of the data; else it is open. A measure of homogeneity
    bears the claim out where it grows, goes with the loss in one of both ways (within one descent, or with what is
    left at the end of tasks), and is less both just after a renewal and at the end. The claim holds where all questions
    have a yes for all measures; it holds for the measures that bear it out, if there are some; it is unmeasured where
    one might with more seeds; else it fails. The rule was written before anything was measured, but for what is open,
    which failed the claim in a first quick run that was too short.

    It reads the table ``answers`` (data, measure, and a figure with its ends for each question).
    """
    rows = found.rows("answers")
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    answers = {name: _answers([row for row in rows if row["measure"] == name]) for name in measures}
    reason = "\n".join(map(_sentence, rows))
    counts = {q: sum(them[q] == "yes" for them in answers.values()) for q in QUESTIONS}
    measured = (
        f"of {len(measures)} measures {counts['grown']} grow, {counts['descent']} with the falling loss of a task, "
        f"{counts['remains']} with the loss left at its end; {counts['renewal']} fall at a renewal, {counts['apart']} "
        "are lower with renewal"
    )
    if min(counts.values()) == len(measures):
        return Finding("holds", "It grows, goes with the loss, and renewal undoes it.", measured, reason)
    bearing = [name for name in measures if _bears_out(answers[name], {"yes"})]
    if not bearing:
        if any(_bears_out(them, {"yes", "open"}) for them in answers.values()):
            return Finding("unmeasured", "The seeds are too few to tell.", measured, reason)
        return Finding("fails", "No measure grows, goes with the loss and is undone by renewal.", measured, reason)
    ways = {"descent": "that of one descent", "remains": "what is left at the end of tasks"}
    loss = [text for q, text in ways.items() if all(answers[name][q] == "yes" for name in bearing)]
    condition = f"homogeneity is the {' or the '.join(bearing)}"
    if len(loss) == 1:
        condition += f", and the loss is {loss[0]}"
    summary = f"{len(bearing)} of {len(measures)} measures of homogeneity grow, go with the loss, and are undone."
    return Finding("holds if", summary, measured, reason, condition=f"{condition}.")


def _answers(rows: list[Row]) -> dict[str, str]:
    """What one measure answers on all data."""
    found = {}
    for question in QUESTIONS:
        each = [_answer(row, question) for row in rows]
        found[question] = "no" if "no" in each else "open" if "open" in each else "yes"
    return found


def _answer(row: Row, question: str) -> str:
    ends = [row[f"{question}{end}"] for end in ("_low", "_high")]
    signed = [QUESTIONS[question][1] * (row[question] if end is None else end) for end in ends]
    return "yes" if min(signed) > 0 else "no" if max(signed) < 0 else "open"


def _bears_out(answers: Mapping[str, str], among: set[str]) -> bool:
    ways = answers["descent"] in among or answers["remains"] in among
    return ways and all(answers[question] in among for question in ("grown", "renewal", "apart"))


def _sentence(row: Row) -> str:
    spec = "+.2f" if "rank" in row["measure"] else "+.3f"
    specs = {"grown": spec, "descent": "+.2f", "remains": "+.2f", "renewal": "+.4f", "apart": spec}
    figures = [
        f"{text}: {_answer(row, question)} ({show(row[question], specs[question])} "
        f"[{show(row[f'{question}_low'], specs[question])}, {show(row[f'{question}_high'], specs[question])}])"
        for question, (text, _) in QUESTIONS.items()
    ]
    return f"{row['data']}, {row['measure']}: {'; '.join(figures)}."


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._t11_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="T11",
    title="Dwindling into homogeny",
    says=(
        "As a descent goes on, each answer leaves less space for the next: what a network holds becomes more and more "
        "alike, as its loss does, until only a new matrix laid over the old one can renew it."
    ),
    claimed="homogeneity grows over the descent, goes with the loss, and re-normalisation undoes it",
    baseline="the same descents without renewal; effective rank and mean |cosine|, of rows and of samples",
    budget=40.0,
    measure=_measure,
    judge=judge,
)
