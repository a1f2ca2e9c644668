"""Gradients through a product: those of the plain one, whatever made the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["differentiable"]


def differentiable(A: Tensor, B: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``multiply(A, B)`` with the derivatives of ``A @ B``: two plain products in the backward pass.

    >>> A = torch.ones(2, 2, requires_grad=True)
    >>> differentiable(A, torch.eye(2), torch.matmul).sum().backward()
    >>> A.grad
    tensor([[1., 1.],
            [1., 1.]])
    """
    if torch.is_grad_enabled() and (A.requires_grad or B.requires_grad):
        product: Tensor = _Product.apply(A, B, multiply)  # type: ignore[no-untyped-call]
        return product
    return multiply(A, B)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Tensor, B: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(A, B)
        return multiply(A, B)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        A, B = ctx.saved_tensors
        left = (grad @ B.mT).sum_to_size(A.shape) if ctx.needs_input_grad[0] else None
        right = (A.mT @ grad).sum_to_size(B.shape) if ctx.needs_input_grad[1] else None
        return left, right, None
