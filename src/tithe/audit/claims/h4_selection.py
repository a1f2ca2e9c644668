"""H4: of a layer, train the neuron next whose margin is in the gold zone; and anti-correlated neurons together."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import points, show

__all__ = ["CLAIM", "FRESH", "GOLD", "OPPOSITE", "RANDOM", "judge"]

RANDOM, GOLD, FRESH = "at random", "gold zone", "gold zone, sums taken anew"
OPPOSITE = "farthest from it"
_FINE = "+.2f"


def judge(found: Evidence) -> Finding:
    """Whether a network learns more from as many trainings when the gold zone says which neuron is next.

    What counts is test accuracy, averaged over the trainings of a sweep, in pairs of task and seed with 95 % intervals.
    It holds where the gold zone is better than a random order and than the opposite order. It holds under a condition
    where only sums that are taken anew before every choice are better than random, or where it is better than the
    opposite and loses nothing at the end to random; otherwise it fails. It reads the table ``differences`` (order,
    over, mean and end with their intervals) and the facts ``gold``, ``networks`` and ``pairs``.
    """
    rows = {(row["order"], row["over"]): row for row in found.rows("differences")}
    if (GOLD, RANDOM) not in rows:
        return Finding("unmeasured", "Nothing was measured.")
    random, opposite, fresh = rows[GOLD, RANDOM], rows[GOLD, OPPOSITE], rows.get((FRESH, RANDOM))
    over = (points(row, "mean", _FINE) for row in (random, opposite))
    measured = "{} of test accuracy over a random order, {} over the opposite one".format(*over)
    reason = "\n".join([*map(_sentence, rows.values()), _beforehand(found)])
    if _low(random) > 0 and _low(opposite) > 0:
        return Finding("holds", "The gold zone first learns faster than any order.", measured, reason)
    if fresh is not None and _low(fresh) > 0:
        return Finding("holds if", "It pays once sums are true.", measured, reason,
                       condition="all neurons of the layer are asked again before every choice.")  # fmt: skip
    if _low(opposite) > 0 and (random["end_low"] or 0.0) > -0.5:
        return Finding("holds if", "Better than the opposite, no better than chance.", measured, reason,
                       condition="the other choice is the neuron farthest from the zone.")  # fmt: skip
    return Finding("fails", "The gold zone first is no better than a random order.", measured, reason)


def _low(row: Row) -> float:
    return -1.0 if row["mean_low"] is None else float(row["mean_low"])


def _sentence(row: Row) -> str:
    mean, end = (points(row, key, _FINE) for key in ("mean", "end"))
    return f"{row['order'].capitalize()} over {row['over']}: {mean}, at the end {end}."


def _beforehand(found: Evidence) -> str:
    facts = found.facts
    return (
        f"Before anything is trained {show(facts['gold'], '.0%')} of the neurons are in the gold zone, so "
        "that there is little to choose from.\n"
        f"Of anti-correlated neurons there were {facts['pairs, majority']} pairs in {facts['networks']} networks that "
        "end in a majority, where a sample wants the same of all that it hears, and "
        f"{facts['pairs, trained']} with a trained final neuron: too few for training them together to matter."
    )


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h4_measure import measure  # imports numba and torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H4",
    title="The gold zone first",
    says=(
        "Neurons with √N < |S| < 0.8·N promise the most; train the one whose margin is nearest to the zone's middle, "
        "else a moderate one, else any; and anti-correlated neurons as a pair."
    ),
    claimed="highest information gain",
    baseline="a random order, and the opposite one, with as many trainings",
    budget=5.0,
    measure=_measure,
    judge=judge,
)
