"""Accounts of a call: what the plain product costs here, what was spent instead, and one receipt for all items."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from tithe.product import batch
from tithe.product.operands import Shape
from tithe.product.planner import Outcome
from tithe.product.rates import Rates
from tithe.receipt import Bound, Cost, Receipt, join_methods

__all__ = ["Tally", "largest_item", "plain_cost", "receipt_of", "seconds_of_one", "seconds_since"]

Sizes = tuple[int, int, int]


def largest_item(A: Tensor, B: Tensor, shape: Shape) -> Sizes:
    """Sizes of the two-dimensional products that will be made: one for all items where they share B."""
    return (shape.batch * shape.m if batch.shares_right(B) else shape.m, shape.k, shape.n)


def seconds_of_one(known: Rates, A: Tensor, shape: Shape, sizes: Sizes) -> float:
    """Seconds that the plain product of one item of those ``sizes`` is predicted to take; infinite if unknown."""
    return shape.products * known.plain_seconds(A.dtype.to_real(), math.prod(sizes))


def plain_cost(known: Rates, A: Tensor, B: Tensor, shape: Shape) -> Cost:
    """What the plain product of all items costs, its seconds an estimate."""
    sizes = largest_item(A, B, shape)
    times = shape.batch * shape.m // sizes[0]
    seconds = times * seconds_of_one(known, A, shape, sizes)
    if math.isfinite(seconds):
        return Cost(shape.flops, seconds=seconds, estimated=("seconds",))
    return Cost(shape.flops)


def seconds_since(start: float, A: Tensor) -> float | None:
    """Seconds since that reading of the clock; unknown on other devices than CPUs, where work may not have ended."""
    return time.perf_counter() - start if A.is_cpu else None


def receipt_of(outcomes: Sequence[Outcome], spent: Cost, plain: Cost, confidence: float) -> Receipt:
    """One receipt for all items of a batch, their bounds holding together with ``confidence``."""
    first, *rest = [Receipt(o.method, spent, plain, o.bound, o.tried) for o in outcomes]
    total = sum(rest, first)
    bound = total.bound
    if bound is not None and bound != Bound.exact():
        bound = replace(bound, confidence=confidence)
    return replace(total, spent=spent, plain=plain, bound=bound)


class Tally:
    """Receipts of a stream of calls, added up in constant memory: of what was tried, the last by each method.

    The sum's confidence is that with which all certified bounds hold together: a call that was not certified repeats
    one of those, and takes nothing from it.

    Args:
        planning: the receipt of a product that was made to plan and not handed out: only what it spent counts.
    """

    def __init__(self, planning: Receipt) -> None:
        self._methods, self._bound = "", planning.bound
        self._spent, self._plain = _figures(planning.spent), [0.0, 0.0]  # flops and seconds, NaN where unknown
        self._tried = {attempt.method: attempt for attempt in planning.tried}

    def add(self, receipt: Receipt, *, certified: bool) -> None:
        """One more call, with probes of its own or without."""
        self._methods = join_methods(self._methods, receipt.method) if self._methods else receipt.method
        for total, cost in ((self._spent, receipt.spent), (self._plain, receipt.plain)):
            total[:] = map(operator.add, total, _figures(cost))
        known = self._bound
        if known is not None and receipt.bound is not None and receipt.bound is not known:
            both = known + receipt.bound
            self._bound = both if certified else replace(both, confidence=known.confidence, probes=known.probes)
        self._tried.update((attempt.method, attempt) for attempt in receipt.tried)

    @property
    def receipt(self) -> Receipt:
        """The sum; its method names each as often as it was used."""
        spent, plain = _cost(self._spent), _cost(self._plain, estimated=("seconds",))
        return Receipt(self._methods or "none", spent, plain, self._bound, tuple(self._tried.values()))


def _figures(cost: Cost) -> list[float]:
    return [math.nan if x is None else x for x in (cost.flops, cost.seconds)]


def _cost(figures: list[float], estimated: tuple[str, ...] = ()) -> Cost:
    flops, seconds = (None if math.isnan(x) else x for x in figures)
    return Cost(flops, seconds=seconds, estimated=() if seconds is None else estimated)
