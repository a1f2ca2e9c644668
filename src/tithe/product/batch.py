"""From batches to two-dimensional products: items that share a right operand are one, others are several."""

from __future__ import annotations

import torch
from torch import Tensor

from tithe.product.complex_products import multiply_complex
from tithe.product.operands import Shape
from tithe.product.pair import Pair
from tithe.product.planner import Outcome, multiply_at_ratio, multiply_by, multiply_within
from tithe.product.probing import Probing
from tithe.product.rates import Rates
from tithe.product.request import Request

__all__ = ["child", "multiply", "shares_right"]


def multiply(
    A: Tensor, B: Tensor, shape: Shape, request: Request, known: Rates, generator: torch.Generator | None
) -> tuple[Tensor, list[Outcome]]:
    """The product (..., m, n) and one outcome for each two-dimensional product that it took.

    The failure probability is shared by the items of the batch. ``generator`` only seeds two others, one for
    estimators and one for the probes that judge them, so neither sees the other's numbers.
    """
    drawing, judging = (child(generator, A.device) for _ in range(2))
    failure = 1 - request.confidence
    if shares_right(B):  # items are groups of rows
        rows = A.expand(*shape.lead, shape.m, shape.k).reshape(-1, shape.k)
        outcome = _one(rows, B.reshape(shape.k, shape.n), shape.batch, request, failure, known, drawing, judging)
        return outcome.product.view(shape.output), [outcome]
    left, right = shape.items(A, B)
    outcomes = [
        _one(left(i), right(i), 1, request, failure / shape.batch, known, drawing, judging) for i in range(shape.batch)
    ]
    return torch.stack([outcome.product for outcome in outcomes]).view(shape.output), outcomes


def shares_right(B: Tensor) -> bool:
    """Whether all items of a batch have the same right operand."""
    return B.dim() == 2 or B.shape[:-2].numel() == 1


def _one(
    A: Tensor,
    B: Tensor,
    groups: int,
    request: Request,
    failure: float,
    known: Rates,
    drawing: torch.Generator,
    judging: torch.Generator,
) -> Outcome:
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
