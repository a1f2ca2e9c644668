"""Accounts of a call: what the plain product costs here, what was spent instead, and one receipt for all items."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from tithe.product import batch
from tithe.product.operands import Shape
from tithe.product.planner import Outcome
from tithe.product.rates import Rates
from tithe.receipt import Bound, Cost, Receipt

__all__ = ["largest_item", "plain_cost", "receipt_of", "seconds_of_one", "seconds_since"]

Sizes = tuple[int, int, int]


def largest_item(A: Tensor, B: Tensor, shape: Shape) -> Sizes:
    """Sizes of the two-dimensional products that will be made: one for all items where they share B."""
    return (shape.batch * shape.m if batch.shares_right(B) else shape.m, shape.k, shape.n)


def seconds_of_one(known: Rates, A: Tensor, shape: Shape, sizes: Sizes) -> float:
    """Seconds that the plain product of one item of those ``sizes`` is predicted to take; infinite if unknown."""
    return shape.products * known.plain_seconds(A.dtype.to_real(), math.prod(sizes))


def plain_cost(known: Rates, A: Tensor, shape: Shape, sizes: Sizes) -> Cost:
    """What the plain product of all items costs, its seconds an estimate."""
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
