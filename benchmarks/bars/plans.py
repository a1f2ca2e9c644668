"""Bars of plans: tolerances kept by like operands and by those that drift, and the time of a call between checks."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bars.bar import Reading, bar
from benchmarks.plans import DRIFTS, STREAMS, TOL, N, alike, drifting, times

_CALLS = 200
_HIDDEN = "sixteen rows"  # of 1024, no larger than others: a guard of 32 rows can but hope to draw one


@bar("plans")
def plans() -> Iterator[Reading]:
    """Products above the tolerance in like streams, drifts answered at once and by the next check, and time."""
    for family in DRIFTS:
        plan, errors = alike(family, _CALLS)
        above = sum(error > TOL for error in errors)
        figure = f"{above} above, the largest {max(errors):.2%}; {plan.checks} checks, {plan.alarms} alarms"
        what = f"{_CALLS} pairs alike, {family}, n={N}, tol {TOL:.0%}, by {plan.method}"
        yield Reading(what, figure, "0 above", above == 0)
    for family, drifts in DRIFTS.items():
        for name, after in drifts.items():
            found = drifting(family, after, guarded=True)
            holds = found.by_the_check == STREAMS and (name == _HIDDEN or found.at_once >= 0.95 * STREAMS)
            target = f"{STREAMS} by the next check" + (f", ≥ {0.95 * STREAMS:.0f} at once" if name != _HIDDEN else "")
            figure = f"{found.at_once} of {STREAMS} at once, {found.by_the_check} by the next check"
            what = f"{family} → {name}: within tol, {found.left} of {STREAMS} plans erring by more"
            yield Reading(what, figure, target, holds)
    found = drifting("uniform", DRIFTS["uniform"]["normal"], guarded=False)
    figure = f"{found.at_once} of {STREAMS} at once, {found.by_the_check} by the next check"
    holds = found.by_the_check == STREAMS
    yield Reading("uniform → normal, without the guard", figure, f"{STREAMS} by the next check", holds)
    for family in DRIFTS:
        method, compared = times(family)
        for other, c in compared.items():
            what = f"time of a call between checks, {family}, by {method}, of {other}"
            figure = f"{c.ratio:.1%} [{c.low:.1%}, {c.high:.1%}]"
            yield Reading(what, figure, "< 100 %, the whole interval", None if method == "exact" else c.high < 1)
