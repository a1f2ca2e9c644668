"""T11: over a descent a network dwindles into homogeny, which goes with its loss, and renewal undoes it."""

from __future__ import annotations

from collections.abc import Mapping

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "MEASURES", "QUESTIONS", "judge"]

MEASURES = ("rank of rows", "cosine of rows", "rank of samples", "cosine of samples")
# The answers that the source expects, on figures that are larger for what is more alike.
QUESTIONS: Mapping[str, tuple[str, int]] = {
    "grown": ("more alike at the end than at first, without renewal", 1),
    "descent": ("more alike as the loss of one task falls", -1),
    "remains": ("the more alike, the more loss is left at the end of a task", 1),
    "renewal": ("less alike just after a renewal than just before", -1),
    "apart": ("less alike at the end with renewal than without", -1),
}


def judge(found: Evidence) -> Finding:
    """Whether homogeneity grows over the descent, goes with the loss, and is undone by renewal.

    The rule was written before anything was measured. A question of ``QUESTIONS`` is answered with yes where the 95 %
    interval over seeds lies wholly on the side that the source expects. A measure of homogeneity bears the claim out
    where it grows, goes with the loss in one of both ways (within one descent, or with what remains at the end of
    tasks), and is less both just after a renewal and at the end, on all data that were measured. The claim holds where
    all questions have a yes for all measures; it holds for the measures that bear it out, if there are some; else it
    fails. It reads the table ``answers`` (data, measure, and a figure with its ends for each question).
    """
    rows = found.rows("answers")
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    answers = {name: _answers([row for row in rows if row["measure"] == name]) for name in measures}
    reason = "\n".join(map(_sentence, rows))
    measured = "; ".join(
        f"{text}: {sum(question in answers[name] for name in measures)} of {len(measures)} measures"
        for question, (text, _) in QUESTIONS.items()
    )
    if all(len(yes) == len(QUESTIONS) for yes in answers.values()):
        return Finding("holds", "It grows, goes with the loss, and renewal undoes it.", measured, reason)
    bearing = [name for name in measures if _bears_out(answers[name])]
    if not bearing:
        return Finding("fails", "No measure grows, goes with the loss and is undone by renewal.", measured, reason)
    ways = [question for question in ("descent", "remains") if all(question in answers[name] for name in bearing)]
    loss = {"descent": "that of one descent", "remains": "what is left at the end of tasks"}
    condition = f"homogeneity is the {' or the '.join(bearing)}"
    if len(ways) == 1:
        condition += f", and the loss is {loss[ways[0]]}"
    summary = f"{len(bearing)} of {len(measures)} measures of homogeneity grow, go with the loss, and are undone."
    return Finding("holds if", summary, measured, reason, condition=f"{condition}.")


def _answers(rows: list[Row]) -> set[str]:
    """The questions that have a yes in all rows."""
    return {question for question in QUESTIONS if all(_yes(row, question) for row in rows)}


def _yes(row: Row, question: str) -> bool:
    sign = QUESTIONS[question][1]
    near = row[f"{question}_{'low' if sign > 0 else 'high'}"]
    return bool(sign * (row[question] if near is None else near) > 0)


def _bears_out(yes: set[str]) -> bool:
    return {"grown", "renewal", "apart"} <= yes and bool(yes & {"descent", "remains"})


def _sentence(row: Row) -> str:
    spec = "+.2f" if "rank" in row["measure"] else "+.3f"
    specs = {"grown": spec, "descent": "+.2f", "remains": "+.2f", "renewal": "+.4f", "apart": spec}
    figures = [
        f"{text}: {'yes' if _yes(row, question) else 'no'} ({show(row[question], specs[question])} "
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
    budget=25.0,
    measure=_measure,
    judge=judge,
)
