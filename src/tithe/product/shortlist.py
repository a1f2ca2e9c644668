"""Which estimators should keep a tolerance, with how many probes, and what each would cost: the cheapest first."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from tithe.product.certificate import safety_factor
from tithe.product.estimators import (
    SCALED,
    SIDES,
    Anchored,
    Centred,
    Estimator,
    Exact,
    Interpolated,
    LowRank,
    MeanField,
    Reduced,
    Truncated,
)
from tithe.product.few_directions import COUNTS, from_few_directions
from tithe.product.pair import Pair
from tithe.product.probing import LADDER, checking_work
from tithe.product.rates import Rates
from tithe.product.sample import Sample

__all__ = ["Option", "shortlist", "worth_a_look"]

_WORTH = 0.9  # a shortcut predicted to cost more than this share of the plain product is not tried
_MARGIN = 1.05  # between the bound that is predicted and the tolerance
_TUNED = 1.08  # the same for what is cut until it only just keeps the tolerance
_MOST_PLANNING = 0.15  # share of the plain product that a plan may cost if nothing comes of it
_FEW_RUNGS = 2  # of the ladder: with more probes truncation saves less than they cost
_ALONG_MEANS = 2  # directions of what rounding misses where means dominate: along them, on either side
_MOST_KEPT = 0.8  # share of slices beyond which truncation has nothing left to save


@dataclass(frozen=True, slots=True)
class Option:
    """An estimator, the probes to judge it with, and the seconds that both are predicted to take."""

    estimator: Estimator
    probes: int
    seconds: float


def shortlist(pair: Pair, sample: Sample, tol: float, failure: float, known: Rates) -> list[Option]:
    """All that should keep ``tol`` for less than the plain product, by predicted seconds.

    Args:
        pair: what is to be multiplied.
        sample: of it; the source of all expectations.
        tol: relative error allowed.
        failure: probability that one attempt may fail with.
        known: what things cost here.

    O(k) for the sample's statistics, whatever the size of the operands.
    """
    budget = _budget(pair, known)
    affordable = [kind for kind in known.kinds if _seconds(known, Reduced(kind), pair, LADDER[0]) < budget]

    def priced(expected: Iterable[tuple[Estimator, int]]) -> list[Option]:
        found = [Option(estimator, probes, _seconds(known, estimator, pair, probes)) for estimator, probes in expected]
        return sorted((option for option in found if option.seconds < budget), key=lambda option: option.seconds)

    options = priced(_expected_to_do(pair, sample, tol, failure, affordable))
    most, few = options[0].seconds if options else budget, list[Option]()
    if _least(known, pair.m, pair.k, pair.n, pair.A.dtype) < most:
        # what such products miss lies in few directions too: the worst case of the certificate
        allowed = _allowed(tol, failure, 1, LADDER[:_FEW_RUNGS])
        quick = functools.partial(_is_quicker, known, pair, most)
        few = priced(from_few_directions(pair, sample, allowed, quick))
    if options and not few and (truncated := _truncated(options[0].estimator)):
        sample.weigh(pair, centred=truncated is not options[0].estimator)
        options = priced(_expected_to_do(pair, sample, tol, failure, affordable))
    return sorted([*few, *options], key=lambda option: option.seconds)


def _is_quicker(known: Rates, pair: Pair, than: float, estimator: Estimator) -> bool:
    return _seconds(known, estimator, pair, LADDER[0]) < than


def _truncated(estimator: Estimator) -> Truncated | None:
    """The truncated product that it is or centres; it weighs all slices, which others need not know."""
    inner = estimator.inner if isinstance(estimator, Centred) else estimator
    return inner if isinstance(inner, Truncated) else None


def worth_a_look(pair: Pair, known: Rates) -> bool:
    """Whether anything could be cheaper than the plain product for operands of this size, and a look costs little."""
    if known.planning > _MOST_PLANNING * _seconds(known, Exact(), pair, 0):
        return False
    few: tuple[Estimator, ...] = (MeanField(), *map(Reduced, known.kinds))
    return min(_seconds(known, e, pair, LADDER[0]) for e in few) < _budget(pair, known)


def _budget(pair: Pair, known: Rates) -> float:
    """Seconds that a shortcut and its certificate may take, once planning is paid for."""
    return _WORTH * _seconds(known, Exact(), pair, 0) - known.planning


def _seconds(known: Rates, estimator: Estimator, pair: Pair, probes: int) -> float:
    return _predicted(known, estimator, pair.m, pair.k, pair.n, pair.A.dtype, probes)  # type: ignore[arg-type]  # ours are hashable


@functools.lru_cache(maxsize=4096)  # the same few shapes come again and again
def _predicted(known: Rates, estimator: Estimator, m: int, k: int, n: int, dtype: torch.dtype, probes: int) -> float:
    cube, dense = float(m) * k * n, not isinstance(estimator, MeanField | Anchored | Interpolated | LowRank)
    seconds = known.seconds(estimator.work(m, k, n, dtype), cube)
    if not dense and not isinstance(estimator, MeanField):  # thin products read longer than they multiply
        seconds += known.seconds({"norm": 2.0 * (m * k + k * n + m * n)}, cube)
    if probes == 0:
        return seconds
    return seconds + known.seconds(checking_work(m, k, n, probes, dense=dense), cube)


@functools.lru_cache(maxsize=4096)
def _least(known: Rates, m: int, k: int, n: int, dtype: torch.dtype) -> float:
    """Seconds of the quickest product from few directions."""
    few = [Interpolated.of(COUNTS[0], m, k, n, dtype, side) for side in SIDES]
    return min(_predicted(known, estimator, m, k, n, dtype, LADDER[0]) for estimator in few)


def _allowed(tol: float, failure: float, directions: float, rungs: Sequence[int] = LADDER) -> dict[int, float]:
    """The largest error, spread over so many directions, that each number of probes should show to keep ``tol``."""
    return {s: tol / (_MARGIN * safety_factor(s, failure, directions=directions)) for s in rungs}


def _expected_to_do(
    pair: Pair, sample: Sample, tol: float, failure: float, kinds: Sequence[str]
) -> Iterator[tuple[Estimator, int]]:
    """Each estimator that should keep ``tol``, with the fewest probes that should show it."""
    spread = min(pair.m, pair.n) / 4  # directions over which errors are taken to be spread
    allowed = _allowed(tol, failure, spread)
    whole = [Reduced(kind) for kind in kinds if kind != "sign"]
    scaled = [estimator for estimator in whole if estimator.kind in SCALED]
    means = sample.look.centred < sample.look.norm / 2  # are they worth taking out?
    signs = [Reduced("sign")] if "sign" in kinds else []  # hopeless where there is more than means
    fixed: Sequence[Estimator] = [MeanField(), *whole, *(map(Centred, [*scaled, *signs]) if means else [])]
    along_means = _allowed(tol, failure, _ALONG_MEANS) if means else allowed
    for estimator in fixed:
        expected, limits = sample.expected_error(estimator), along_means if estimator in whole else allowed
        if probes := next((s for s in LADDER if expected <= limits[s]), 0):
            yield estimator, probes
    inners: Sequence[Estimator] = [Exact(), *(scaled if pair.A.device.type == "cpu" else [])]
    for inner, centre in [*((inner, means) for inner in inners), *([(Exact(), False)] if means else [])]:
        error = sample.inner_error(inner, centred=centre)
        for probes, most in list(allowed.items())[:_FEW_RUNGS]:
            share = sample.share_to_keep(most * _MARGIN / _TUNED, centred=centre, inner_error=error)
            if share <= _MOST_KEPT:
                part = Truncated(math.ceil(1000 * share) / 1000, inner)
                yield (Centred(part) if centre else part), probes
