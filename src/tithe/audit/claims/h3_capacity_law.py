"""H3: the capacity law, premodulo = (N/(|S|+1))², follows the margin and controls how well a network generalises."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import points, show

__all__ = ["CLAIM", "CLAMPED", "LAW", "LEAST", "UNLIMITED", "judge"]

LAW = "law"
UNLIMITED, CLAMPED = "none", "10× a step"
LEAST = 0.7  # the claimed R² of premodulo and margin


def judge(found: Evidence) -> Finding:
    """Whether the law keeps its bounds, follows the margin on real votes, and is better than what does not.

    It fails where a bound is broken, or R² is under 0.7 (of the
    logarithms, on the worst task) even before the change is limited, or the gap is no smaller than without any cap. It
    holds where R² is 0.7 or more with the 10× limit, and test accuracy is higher than with a constant of the law's own
    median and with another neuron's sums, with intervals above 0. Otherwise it holds under a condition, which says what
    was missing. It reads the tables ``adaptation`` (limits, least) and ``differences`` (control, test, gap and their
    intervals), and the facts of the formula.
    """
    adapted = {row["limits"]: row for row in found.rows("adaptation")}
    against = {row["control"]: row for row in found.rows("differences")}
    if not adapted or not against:
        return Finding("unmeasured", "Nothing was measured.")
    free, clamped = adapted[UNLIMITED], adapted[CLAMPED]
    none = against["none"]
    measured = (
        f"R² {show(free['least'], '.2f')} before and {show(clamped['least'], '.2f')} after the 10× limit; gap "
        f"{points(none, 'gap')} against no cap, test {points(none, 'test')}"
    )
    reason = "\n".join([_formula(found), *(_sentence(row) for row in against.values())])
    if found.facts["broken"]:
        return Finding("fails", f"{found.facts['broken']} values leave the law's bounds.", measured, reason)
    if free["least"] < LEAST:
        return Finding("fails", "The premodulo does not follow the margin.", measured, reason)
    if none["gap_high"] is None or none["gap_high"] >= 0:
        return Finding("fails", "The law makes the gap no smaller.", measured, reason)
    rivals = [name for name, row in against.items() if name.startswith(("constant", "shuffled"))]
    level = [name for name in rivals if against[name]["test_low"] is None or against[name]["test_low"] <= 0]
    if clamped["least"] >= LEAST and not level:
        return Finding("holds", "It follows the margin and beats what does not.", measured, reason)
    conditions = ["M is V, the pivotal votes"]
    if clamped["least"] < LEAST:
        conditions.append("nothing limits the change a step")
    if level:
        conditions.append(f"a smaller gap is all that is asked: {' and '.join(level)} test as well")
    return Finding("holds if", "It follows the margin and closes the gap, as any cap of its size does." if level else
                   "It follows the margin and closes the gap.", measured, reason,
                   condition="; ".join(conditions) + ".")  # fmt: skip


def _sentence(row: Row) -> str:
    return f"The law against {row['control']}: test {points(row, 'test')}, gap {points(row, 'gap')}."


def _formula(found: Evidence) -> str:
    facts = found.facts
    return (
        f"Bounds, monotony, regimes and the 10× limit were checked in {facts['checked']:,} cases. The square leaves "
        f"uint32 from a capacity of {facts['overflows from']:,} on, where 32 bits would wrap to {facts['wrapped']}: it "
        f"is cut off there. A hidden neuron hears from {show(facts['pivotal'], '.1%')} of the samples, in the median: "
        f"with M = V the cap binds in {show(facts['bound by law'], '.0%')} of their trainings, with the source's M = N "
        f"in {show(facts['bound by law_n'], '.0%')}."
    )


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h3_measure import measure  # imports numba and SciPy: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H3",
    title="The capacity law",
    says=(
        "A neuron should tell N/(|S|+1) things apart, so its keys are hashed to the square of that; the capacity is "
        "between 1 and N, changes by at most 10× a step, and so controls how a network generalises."
    ),
    claimed="premodulo goes with the margin, R² > 0.7; collisions make it generalise",
    baseline="no cap; a constant of the law's median; the law turned round, or with another neuron's sums",
    budget=8.0,
    measure=_measure,
    judge=judge,
)
