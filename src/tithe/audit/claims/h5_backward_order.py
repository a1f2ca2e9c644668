"""H5: training goes backward from the final neuron to the first layer, and goes on after a crash."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence
from tithe.audit.formatting import points, show

__all__ = ["BACKWARD", "CLAIM", "judge"]

BACKWARD = "backward"
_ENOUGH = 20  # pairs of task and seed


def judge(found: Evidence) -> Finding:
    """Whether runs begin with the final neuron, go back, survive kills, and learn more than forward.

    It fails where one run is out of order, one neuron is lost to a kill, or backward under the law is worse than
    forward with its whole interval. It holds where test accuracy is higher with the whole interval, and under a
    condition where it is neither, or where there are fewer than 20 pairs to tell. It reads the facts of orders and
    kills, and the tables ``accuracies`` and ``differences`` (policy, final, test with its interval).
    """
    facts, rows = found.facts, found.rows("differences")
    if not rows or not facts.get("runs"):
        return Finding("unmeasured", "Nothing was measured.")
    law = found.rows("differences", policy="law", final="majority")[0]
    measured = (
        f"{facts['begun']} of {facts['runs']} runs begin with the final neuron, {facts['back']} only go back; "
        f"{facts['kills']} kills, {facts['equal']} of {facts['trainings']} trainings end as without; test accuracy "
        f"{points(law, 'test')} over forward"
    )
    reason = "\n".join([
        *(f"With {'a majority' if row['final'] == 'majority' else 'a trained neuron'} at the end and premodulos by "
          f"{row['policy']}: {points(row, 'test')} over forward." for row in rows),
        _trained_last(found),
        f"{facts['logged']} skips forward were logged, of layers none of whose neurons has a vote.",
    ])  # fmt: skip
    if facts["begun"] < facts["runs"] or facts["back"] < facts["runs"]:
        return Finding("fails", "A run is out of order.", measured, reason)
    if facts["again"] or facts["equal"] < facts["trainings"]:
        return Finding("fails", "A kill costs a neuron.", measured, reason)
    if law["pairs"] < _ENOUGH:
        return Finding("holds if", "In order and safe; too few pairs to say whether it helps.", measured, reason,
                       condition="order and safety are what is asked of it.")  # fmt: skip
    if law["test_low"] is not None and law["test_low"] > 0:
        return Finding("holds", "In order, safe, and better than forward.", measured, reason)
    if law["test_high"] is not None and law["test_high"] < 0:
        return Finding("fails", "In order and safe, but it learns less than forward.", measured, reason)
    return Finding("holds if", "In order and safe; networks learn no more by it.", measured, reason,
                   condition="order and safety are what is asked of it.")  # fmt: skip


def _trained_last(found: Evidence) -> str:
    rows = [found.rows("accuracies", policy="law", way=BACKWARD, final=final) for final in ("votes", "majority")]
    if not all(rows):
        return ""
    trained, majority = (show(row[0]["test"], ".1%") for row in rows)
    return (
        f"The source trains the final neuron first, with premodulo = N: so the network tests at {trained}, with a "
        f"majority in its place at {majority}, where guessing gives {show(found.facts['prior'], '.1%')}."
    )


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h5_measure import measure  # imports numba: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H5",
    title="Backward order",
    says=(
        "Training must begin with the final neuron, with premodulo = N, and go back layer by layer, which is the best "
        "order for the flow of information; where it is stuck it skips forward, and after a crash it goes on."
    ),
    claimed="every run begins with the final neuron; optimal",
    baseline="the same trainings in the reference's random order",
    budget=9.0,
    measure=_measure,
    judge=judge,
)
