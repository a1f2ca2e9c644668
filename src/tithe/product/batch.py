"""From batches to two-dimensional products: items that share a right operand are one, others are several."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tithe.product.complex_products import multiply_complex
from tithe.product.operands import Shape
from tithe.product.pair import Pair
from tithe.product.planner import Outcome, multiply_at_ratio, multiply_by, multiply_within
from tithe.product.probing import Probing
from tithe.product.rates import Rates
from tithe.product.request import Request

__all__ = ["Item", "child", "join", "multiply", "multiply_item", "shares_right", "split"]


class Item(NamedTuple):
    """A (m, k) and B (k, n): one product, the rows of which fall into that many ``groups`` of equal size."""

    A: Tensor
    B: Tensor
    groups: int = 1


def multiply(
    A: Tensor, B: Tensor, shape: Shape, request: Request, known: Rates, generator: torch.Generator | None
) -> tuple[Tensor, list[Outcome]]:
    """The product (..., m, n) and one outcome for each two-dimensional product that it took.

    The failure probability is shared by the items of the batch. ``generator`` only seeds two others, one for
    estimators and one for the probes that judge them, so neither sees the other's numbers.
    """
    drawing, judging = (child(generator, A.device) for _ in range(2))
    items = split(A, B, shape)
    failure = (1 - request.confidence) / len(items)
    outcomes = [multiply_item(item, request, failure, known, drawing, judging) for item in items]
    return join([outcome.product for outcome in outcomes], shape), outcomes


def split(A: Tensor, B: Tensor, shape: Shape) -> list[Item]:
    """The two-dimensional products that a batch takes, views where that is possible; O(items)."""
    if shares_right(B):  # items are groups of rows
        rows = A.expand(*shape.lead, shape.m, shape.k).reshape(-1, shape.k)
        return [Item(rows, B.reshape(shape.k, shape.n), shape.batch)]
    left, right = shape.items(A, B)
    return [Item(left(i), right(i)) for i in range(shape.batch)]


def join(products: list[Tensor], shape: Shape) -> Tensor:
    """What ``split`` has taken apart, (..., m, n)."""
    whole = products[0] if len(products) == 1 else torch.stack(products)
    return whole.view(shape.output)


def shares_right(B: Tensor) -> bool:
    """Whether all items of a batch have the same right operand."""
    return B.dim() == 2 or B.shape[:-2].numel() == 1


def multiply_item(
    item: Item,
    request: Request,
    failure: float,
    known: Rates,
    drawing: torch.Generator,
    judging: torch.Generator,
) -> Outcome:
    """What is asked for of one product; its bound may fail with probability ``failure``."""
    A, B, groups = item
    if A.is_complex():
        return multiply_complex(A, B, groups, request, failure, known, drawing, judging)
    pair = Pair(A, B)
    if not request.auto:
        probing = Probing(pair, groups, judging)
        return multiply_by(probing, request.estimator(known.fastest_kind), request.tol, failure, drawing)
    if request.ratio is None:
        assert request.tol is not None
        return multiply_within(Probing(pair, groups, judging), request.tol, failure, known, drawing)
    return multiply_at_ratio(Probing(pair, groups, judging), request.ratio, request.tol, failure, drawing)


def child(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """A generator of its own on ``device``, seeded by one draw of ``generator``; by fresh entropy without one."""
    made = torch.Generator(device)
    if generator is None:
        made.seed()
    else:
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        made.manual_seed(int(seed))
    return made
