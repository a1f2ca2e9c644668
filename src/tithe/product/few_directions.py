"""What makes a product from few of its directions, if those are nearly all of it: rehearsed on a few of its lines."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tithe.product.estimators import SIDES, Anchored, Estimator, Interpolated, LowRank
from tithe.product.estimators.propagation import held_out, with_surplus
from tithe.product.pair import Pair
from tithe.product.sample import Sample

__all__ = ["COUNTS", "anchored_error", "from_few_directions"]

COUNTS = (8, 12, *range(16, 120, 8))  # of directions that may be kept; eights are quickest
_LEAST_LINES, _MOST_LINES = 24, 96  # of a look that has to confirm that few directions matter
_ACROSS = 32  # lines of the other side, where they only show the error
_TRIES = 3  # counts that are rehearsed
_HELD_OUT = 8  # columns, at least, to judge a rehearsal by
_NEAR = 1.5  # times the error allowed that may be predicted of what is rehearsed, and found by a rehearsal for another


def from_few_directions(
    pair: Pair, sample: Sample, allowed: Mapping[int, float], quick: Callable[[Estimator], bool]
) -> Iterator[tuple[Estimator, int]]:
    """Estimators that should keep the error allowed, the quickest of their kinds, and the probes to judge them with.

    Most products are not of few directions, and the sample says so for little. Should it say that they are, golden
    lines of the product are made exactly. As the lines that estimators start from are the first of these, the others
    show what error they will make.

    Args:
        pair: what is to be multiplied.
        sample: of it.
        allowed: relative error by number of probes.
        quick: whether an estimator would be quicker than what is known to do.

    O(l·(k·l + l²)) for a look at l ≤ 180 lines.
    """
    m, k, n, _ = sizes = pair.m, pair.k, pair.n, pair.A.dtype
    hoped, largest = sample.pair.tails, max(allowed.values())
    few = int(np.argmax(np.append(hoped <= largest**2 * hoped[0], True)))  # directions beyond which that is left
    counts = [count for count in COUNTS if few < count <= min(m, k, n) // 4]
    enough = _promising(hoped, counts, largest, m, n)
    sides = [side for side in SIDES if enough and quick(Interpolated.of(enough[0], *sizes, side))]
    if not sides:
        return
    promising = _promising(hoped, counts, _NEAR * largest, m, n)
    for side in sides if n <= m else sides[::-1]:  # the cheaper first
        lines = m if side == "left" else n
        some = with_surplus(promising[-1], lines) + _LEAST_LINES
        look = pair.closeup(some, _ACROSS) if side == "left" else pair.closeup(_ACROSS, some)
        error = functools.partial(Interpolated.rehearsed, look, lines=lines, side=side)
        if found := _fewest(error, promising, allowed):
            yield Interpolated.of(found[0], *sizes, side), found[1]
            return
    some = min(_MOST_LINES, 3 * few + _LEAST_LINES)
    look = pair.closeup(some, some)
    promising = _promising(look.decay, counts, _NEAR * largest, m, n)
    if not promising or not quick(Anchored.of(promising[0], *sizes)):
        return
    if found := _fewest(functools.partial(anchored_error, look, m=m, n=n), promising, allowed):
        yield Anchored.of(found[0], *sizes), found[1]
    for probes, most in allowed.items():
        if count := next((count for count in counts if _predicted(LowRank, look.decay, count, m, n) <= most), 0):
            yield LowRank.of(count, *sizes), probes
            return


def _promising(tails: NDArray[np.float64], counts: list[int], allowed: float, m: int, n: int) -> list[int]:
    """The fewest directions whose error should be ``allowed``, and a few more."""
    first = next((i for i, c in enumerate(counts) if _predicted(Anchored, tails, c, m, n) <= allowed), None)
    return [] if first is None else counts[first : first + _TRIES]


def _fewest(error: Callable[[int], float], counts: list[int], allowed: Mapping[int, float]) -> tuple[int, int] | None:
    """The first count whose error is allowed with as few probes as possible, and how many those are."""
    found = dict[int, float]()
    for count in counts:
        found[count] = error(count)
        if found[count] <= min(allowed.values()):
            break
        if not found[count] <= _NEAR * max(allowed.values()):
            return None
    for probes, most in allowed.items():
        for count in counts:
            if found.get(count, math.inf) <= most:
                return count, probes
    return None


def anchored_error(look: Pair, count: int, m: int, n: int) -> float:
    """Relative error to be expected of so many anchor columns in an (m, n) product.

    Args:
        look: golden lines of it, from the first.
        count: anchor columns. Of more than the look has lines to spare, what its decay says.
        m: rows of the product.
        n: its columns.
    """
    if look.n - count < _HELD_OUT:
        return _predicted(Anchored, look.decay, count, m, n)
    missed = held_out(look.product[:, :count], look.product[:, count:], with_surplus(count, m))
    return missed if math.isfinite(missed) else _predicted(Anchored, look.decay, count, m, n)


def _predicted(family: type[Anchored | LowRank], tails: NDArray[np.float64], count: int, m: int, n: int) -> float:
    """Relative error to be expected of so many directions of an (m, n) product with those ``tails``."""
    if not 0 < tails[0] < math.inf:
        return math.inf
    return math.sqrt(family.missed(tails, count, m, n) / tails[0])
