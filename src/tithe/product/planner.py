"""Chooses how to multiply two matrices: the cheapest estimator that is certified to keep the tolerance, else exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tithe.product.estimators import (
    Anchored,
    Approximation,
    Centred,
    Estimator,
    Exact,
    Fourier,
    LowRank,
    MeanField,
    Sampled,
    Sketched,
    Trajectory,
    Truncated,
    flops,
)
from tithe.product.pair import Pair
from tithe.product.probing import LADDER, Probing, checking_work
from tithe.product.rates import Rates
from tithe.product.sample import Sample
from tithe.product.shortlist import shortlist, worth_a_look
from tithe.receipt import Attempt, Bound

__all__ = [
    "Outcome",
    "attempt_by",
    "missed",
    "most_accurate",
    "multiply_at_ratio",
    "multiply_by",
    "multiply_within",
    "rehearse",
]

_ATTEMPTS = 2  # that may fail before the plain product
_FEW = 4  # probes where more would eat up the ratio
_NOT_FINITE = Attempt("auto", "the operands are not finite, or too large to be summed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A product, the name of the estimator that made it, its bound, and the operations that all of it took.

    ``by`` are the estimators themselves: one, three of a complex product, none of the plain product.
    """

    product: Tensor
    method: str
    bound: Bound
    flops: float
    tried: tuple[Attempt, ...] = ()
    by: tuple[Estimator, ...] = ()


def multiply_within(probing: Probing, tol: float, failure: float, known: Rates, generator: torch.Generator) -> Outcome:
    """The cheapest certified product with a relative error of at most ``tol``; the plain one where nothing else pays.

    Args:
        probing: of the pair to multiply.
        tol: relative Frobenius error that each group of rows has to keep.
        failure: probability that the certificate may fail with, over all attempts.
        known: what things cost here.
        generator: for estimators that draw at random.
    """
    pair = probing.pair
    if not worth_a_look(pair, known):
        return _plain(pair, Attempt("auto", "nothing is cheaper than the plain product for operands of this size"))
    sample = Sample(pair)
    options = shortlist(pair, sample, tol, failure / _ATTEMPTS, known)[:_ATTEMPTS]
    if not options:
        if not math.isfinite(sample.look.norm):
            return _plain(pair, _NOT_FINITE)
        reason = f"no shortcut is expected to keep tol={tol:g} for less than the plain product"
        return _plain(pair, Attempt("auto", reason))
    judge = probing.for_tolerance(tol, sample)
    spent, tried = 0.0, list[Attempt]()
    for option in options:  # settled before the first probe was drawn, so each attempt has its own share of failure
        product, bound, work = _attempt(judge, option.estimator, option.probes, failure / _ATTEMPTS, generator)
        spent += work
        if bound.upper <= tol:
            spent += flops(judge.work())
            made = product.tensor(pair.A.dtype)
            return Outcome(made, option.estimator.name, bound, spent, tuple(tried), (option.estimator,))
        if not pair.finite:
            return _plain(pair, _NOT_FINITE, spent=spent)
        tried.append(missed(option.estimator.name, bound, tol))
    return _plain(pair, *tried, spent=spent + flops(judge.work()))


def rehearse(pair: Pair, known: Rates) -> None:
    """Plan, multiply and certify without regard to cost: on a small pair, what a plan costs whatever the size."""
    generator = torch.Generator(pair.A.device)
    probing, sample = Probing(pair, 1, generator), Sample(pair)
    shortlist(pair, sample, 0.01, 1e-3, known)
    _attempt(probing.for_tolerance(0.5, sample), MeanField(), LADDER[0], 1e-3, generator)


def multiply_at_ratio(
    probing: Probing, ratio: float, tol: float | None, failure: float, generator: torch.Generator
) -> Outcome:
    """The product expected to be the most accurate for ``ratio`` of the multiply–adds, certificate included.

    The plain product where nothing is left to save, or where the bound is above ``tol``.
    """
    pair = probing.pair
    if ratio >= 1:
        return _plain(pair)
    if not pair.finite:
        return _plain(pair, _NOT_FINITE, spent=pair.area)
    entries = pair.area + pair.m * pair.n
    probes = LADDER[0] if LADDER[0] * entries <= ratio / 3 * pair.cube else _FEW
    checking = flops(checking_work(pair.m, pair.k, pair.n, probes, dense=True))
    share = ratio - (checking + 4 * entries) / pair.flops
    if share < 1 / pair.k:
        reason = f"for operands of this size a certificate alone costs more than ratio={ratio:g}"
        return _plain(pair, Attempt("auto", reason))
    best = most_accurate(pair, share)
    product, bound, work = _attempt(probing, best, probes, failure, generator)
    spent = work + flops(probing.work())
    if tol is not None and bound.upper > tol:
        return _plain(pair, missed(best.name, bound, tol), spent=spent)
    return Outcome(product.tensor(pair.A.dtype), best.name, bound, spent, by=(best,))


def most_accurate(pair: Pair, share: float) -> Estimator:
    """What should err least for ``share`` of the multiply–adds and a few passes, no certificate in it.

    O(k) beside a sample, and a look at 96 rows and columns that shows how the product decays.
    """
    by_slices: tuple[Estimator, ...] = (Truncated(share), Sampled(share), Sketched(share), Trajectory(share))
    by_directions: tuple[Estimator, ...] = (
        Fourier(share),
        *(LowRank(share, iterations) for iterations in (0, 1)),
        *(Anchored(share, strategy) for strategy in ("golden", "islands")),
    )
    most = share * pair.flops + 4 * (pair.area + pair.m * pair.n)
    options = [MeanField(), *by_slices, *(Centred(estimator) for estimator in by_slices), *by_directions]
    within = [e for e in options if flops(e.work(pair.m, pair.k, pair.n, pair.A.dtype)) <= most]
    sample = Sample(pair)
    sample.pair.note_tails(pair.tails)
    return min(within, key=sample.expected_error)


def multiply_by(
    probing: Probing, estimator: Estimator, tol: float | None, failure: float, generator: torch.Generator
) -> Outcome:
    """What ``estimator`` makes of it, with its bound; the plain product if that is above ``tol``."""
    pair = probing.pair
    if isinstance(estimator, Exact):
        return _plain(pair)
    if not pair.finite:
        return _plain(pair, _NOT_FINITE, spent=pair.area)
    product, bound, spent = attempt_by(probing, estimator, tol, failure, generator)
    if tol is not None and bound.upper > tol:
        return _plain(pair, missed(estimator.name, bound, tol), spent=spent)
    return Outcome(product.tensor(pair.A.dtype), estimator.name, bound, spent, by=(estimator,))


def attempt_by(
    probing: Probing, estimator: Estimator, tol: float | None, failure: float, generator: torch.Generator
) -> tuple[Approximation, Bound, float]:
    """One estimator's product, its bound by as many probes as it takes to keep ``tol``, and the operations of both."""
    rungs = LADDER if tol is not None else LADDER[:1]
    judge = probing if tol is None else probing.for_tolerance(tol, Sample(probing.pair))
    product, bound, work = _attempt(judge, estimator, rungs[0], failure / len(rungs), generator)
    for probes in rungs[1:]:
        if tol is None or bound.upper <= tol:
            break
        bound = judge.bound(product, probes, failure / len(rungs))
    return product, bound, work + flops(judge.work())


def _plain(pair: Pair, *reasons: Attempt, spent: float = 0.0) -> Outcome:
    return Outcome(pair.A @ pair.B, "exact", Bound.exact(), spent + pair.flops, reasons)


def missed(method: str, bound: Bound, tol: float) -> Attempt:
    """Why a product with that bound was dropped."""
    upper = bound.upper if math.isfinite(bound.upper) else None
    return Attempt(method, f"bound {bound.upper:.3g} is above tol={tol:g}", upper)


def _attempt(
    probing: Probing, estimator: Estimator, probes: int, failure: float, generator: torch.Generator
) -> tuple[Approximation, Bound, float]:
    """One estimator's product, the bound that ``probes`` probes give it, and the operations of both."""
    pair, dtype = probing.pair, probing.pair.A.dtype
    product = estimator.multiply(pair, generator=generator)
    whole = product.dense is not None or dtype != pair.wide  # what is certified is what will be returned
    if whole or flops(probing.result_work(product, probes)) > flops(probing.dense_work(probes)):
        product = Approximation(product.tensor(dtype))
    bound = probing.bound(product, probes, failure)
    checking = probing.result_work(product, probes)
    return product, bound, flops(estimator.work(pair.m, pair.k, pair.n, dtype)) + flops(checking)
