"""Chooses how to multiply two matrices: the cheapest estimator that is certified to keep the tolerance, else exact."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tithe.product.certificate import safety_factor
from tithe.product.estimators import (
    Approximation,
    Centred,
    Estimator,
    Exact,
    Look,
    MeanField,
    Reduced,
    Sampled,
    Truncated,
    flops,
)
from tithe.product.pair import Pair
from tithe.product.probing import LADDER, Probing
from tithe.product.rates import Rates
from tithe.receipt import Attempt, Bound

__all__ = ["Outcome", "candidates", "multiply_at_ratio", "multiply_by", "multiply_within"]

_WORTH = 0.9  # a shortcut predicted to cost more than this share of the plain product is not tried
_MARGIN = 1.05  # between the bound that is predicted and the tolerance
_FAILURES = 2  # attempts that may fail before the plain product
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625)
_NOT_FINITE = Attempt("auto", "the operands are not finite, or too large to be summed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A product, the name of the estimator that made it, its bound, and the operations that all of it took."""

    product: Tensor
    method: str
    bound: Bound
    flops: float
    tried: tuple[Attempt, ...] = ()


@lru_cache(maxsize=64)
def candidates(device: str, kinds: tuple[str, ...]) -> tuple[Estimator, ...]:
    """What may be tried for a tolerance: a list that the operands and the probes have no influence on.

    ``kinds`` are those that have units on this machine.
    """
    scaled = [kind for kind in kinds if kind in ("int8", "float8")]
    inners: list[Estimator] = [Exact()]
    if device == "cpu" and "int8" in kinds:
        inners.append(Reduced("int8"))
    return (
        MeanField(),
        *(Reduced(kind) for kind in kinds),
        *(Centred(Reduced(kind)) for kind in scaled),
        *(Centred(Truncated(share, inner)) for share in _SHARES for inner in inners),
        *(Truncated(share) for share in _SHARES),
    )


def multiply_within(probing: Probing, tol: float, failure: float, known: Rates, generator: torch.Generator) -> Outcome:
    """The cheapest certified product with a relative error of at most ``tol``; the plain one where nothing else pays.

    Args:
        probing: of the pair to multiply.
        tol: relative Frobenius error that each group of rows has to keep.
        failure: probability that the certificate may fail with, over all that could be tried.
        known: what things cost here.
        generator: for estimators that draw at random.
    """
    pair = probing.pair
    options = candidates(pair.A.device.type, known.kinds)
    costs, plain_cost = _costs(known, options, pair.m, pair.k, pair.n, pair.A.dtype)
    budget = _WORTH * plain_cost
    if min(costs) + known.seconds(probing.work(LADDER[0]), pair.cube) > budget:
        return _plain(pair, Attempt("auto", "nothing is cheaper than the plain product for operands of this size"))
    if not pair.finite:
        return _plain(pair, _NOT_FINITE, spent=pair.area)
    judge = probing.for_tolerance(tol)
    spent = pair.area
    tried: list[Attempt] = []
    failure /= len(options) * len(LADDER)
    for estimator, probes in _cheapest_first(judge, probing.look, options, costs, budget, tol, failure, known):
        product, bound, work = _attempt(judge, estimator, probes, failure, generator)
        spent += work
        if bound.upper <= tol:
            spent += flops(probing.work_done(judge))
            return Outcome(product.tensor(pair.A.dtype), estimator.name, bound, spent, tuple(tried))
        tried.append(_missed(estimator, bound, tol))
        if len(tried) == _FAILURES:
            break
    if not tried:
        tried.append(Attempt("auto", f"no shortcut is expected to keep tol={tol:g} for less than the plain product"))
    return _plain(pair, *tried, spent=spent + flops(probing.work_done(judge)))


def multiply_at_ratio(
    probing: Probing, ratio: float, tol: float | None, failure: float, generator: torch.Generator
) -> Outcome:
    """The product expected to be the most accurate for ``ratio`` of the multiply–adds, certificate included.

    The plain product where nothing is left to save, or where the bound is above ``tol``.
    """
    pair = probing.pair
    if not pair.finite:
        return _plain(pair, _NOT_FINITE, spent=pair.area)
    looking = pair.area + flops(probing.work(probing.first))
    overhead = (looking + flops(probing.result_work(probing.first)) + 3 * pair.area) / pair.flops
    if ratio >= 1:
        return _plain(pair)
    share = max(ratio - overhead, 1 / pair.k)
    basic = (Truncated(share), Sampled(share))
    options: tuple[Estimator, ...] = (MeanField(), *basic, *(Centred(estimator) for estimator in basic))
    best = min(options, key=lambda estimator: estimator.expected_error(pair, probing.look))
    product, bound, work = _attempt(probing, best, probing.first, failure, generator)
    if tol is not None and bound.upper > tol:
        return _plain(pair, _missed(best, bound, tol), spent=looking + work)
    return Outcome(product.tensor(pair.A.dtype), best.name, bound, looking + work)


def multiply_by(
    probing: Probing, estimator: Estimator, tol: float | None, failure: float, generator: torch.Generator
) -> Outcome:
    """What ``estimator`` makes of it, with its bound; the plain product if that is above ``tol``."""
    pair = probing.pair
    if isinstance(estimator, Exact):
        return _plain(pair)
    if not pair.finite:
        return _plain(pair, _NOT_FINITE, spent=pair.area)
    rungs = LADDER if tol is not None else LADDER[:1]
    judge = probing if tol is None else probing.for_tolerance(tol)
    product, bound, work = _attempt(judge, estimator, rungs[0], failure / len(rungs), generator)
    for probes in rungs[1:]:
        if tol is None or bound.upper <= tol:
            break
        bound = judge.bound(product, probes, failure / len(rungs))
    spent = pair.area + work + flops(probing.work_done(judge))
    if tol is not None and bound.upper > tol:
        return _plain(pair, _missed(estimator, bound, tol), spent=spent)
    return Outcome(product.tensor(pair.A.dtype), estimator.name, bound, spent)


@lru_cache(maxsize=1024)
def _costs(
    known: Rates, options: tuple[Estimator, ...], m: int, k: int, n: int, dtype: torch.dtype
) -> tuple[tuple[float, ...], float]:
    """Seconds predicted for each of the options, and for the plain product."""
    cube = float(m) * k * n
    each = tuple(known.seconds(estimator.work(m, k, n, dtype), cube) for estimator in options)
    return each, known.seconds(Exact().work(m, k, n, dtype), cube)


def _plain(pair: Pair, *reasons: Attempt, spent: float = 0.0) -> Outcome:
    return Outcome(pair.A @ pair.B, "exact", Bound.exact(), spent + pair.flops, reasons)


def _missed(estimator: Estimator, bound: Bound, tol: float) -> Attempt:
    return Attempt(estimator.name, f"bound {bound.upper:.3g} is above tol={tol:g}", bound.upper)


def _attempt(
    probing: Probing, estimator: Estimator, probes: int, failure: float, generator: torch.Generator
) -> tuple[Approximation, Bound, float]:
    """One estimator's product, the bound that ``probes`` probes give it, and the operations of both."""
    pair, dtype = probing.pair, probing.pair.A.dtype
    product = estimator.multiply(pair, generator=generator)
    if product.dense is not None or dtype != pair.wide:  # what is certified is what will be returned
        product = Approximation(product.tensor(dtype))
    bound = probing.bound(product, probes, failure)
    checking = probing.result_work(probes) if product.dense is not None else {}
    return product, bound, flops(estimator.work(pair.m, pair.k, pair.n, dtype)) + flops(checking)


def _cheapest_first(
    judge: Probing,
    look: Look,
    options: Sequence[Estimator],
    costs: Sequence[float],
    budget: float,
    tol: float,
    failure: float,
    known: Rates,
) -> Iterator[tuple[Estimator, int]]:
    """Those options that should keep ``tol`` within ``budget`` seconds, with the probes they need, the cheapest first.

    The error to be expected costs passes over the operands, so it is asked for only when it is an option's turn.
    """
    pair = judge.pair
    waiting: list[tuple[float, int, int]] = []
    for cost, i in [*sorted((cost, i) for i, cost in enumerate(costs) if cost < budget), (budget, -1)]:
        while waiting and waiting[0][0] <= cost:
            _, chosen, probes = heapq.heappop(waiting)
            yield options[chosen], probes
        if i < 0:
            return
        expected = options[i].expected_error(pair, look) / (look.norm or 1.0)
        for probes in LADDER:
            if _MARGIN * expected * safety_factor(probes, failure, directions=min(pair.m, pair.n) / 4) <= tol:
                checking = known.seconds({**judge.work(probes), **judge.result_work(probes)}, pair.cube)
                total = cost + checking
                if total < budget:
                    heapq.heappush(waiting, (total, i, probes))
                break
