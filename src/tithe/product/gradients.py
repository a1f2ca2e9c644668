"""Gradients through a product: those of the plain one, whatever made the value; made by plain products or by others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["differentiable"]

Multiply = Callable[[Tensor, Tensor], Tensor]


def differentiable(A: Tensor, B: Tensor, multiply: Multiply, backward: Multiply = torch.matmul) -> Tensor:
    """``multiply(A, B)`` with the derivatives of ``A @ B``: two products in the backward pass, by ``backward``.

    They are G·Bᴴ and Aᴴ·G for the gradient G that arrives. Items that share an operand are one product there, over
    all of them, so what ``backward`` promises of a product it promises of that operand's gradient.

    >>> A = torch.ones(2, 2, requires_grad=True)
    >>> differentiable(A, torch.eye(2), torch.matmul).sum().backward()
    >>> A.grad
    tensor([[1., 1.],
            [1., 1.]])
    """
    if torch.is_grad_enabled() and (A.requires_grad or B.requires_grad):
        product: Tensor = _Product.apply(A, B, multiply, backward)  # type: ignore[no-untyped-call]
        return product
    return multiply(A, B)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Tensor, B: Tensor, multiply: Multiply, backward: Multiply) -> Tensor:
        ctx.save_for_backward(A, B)
        ctx.multiply = backward
        return multiply(A, B)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        A, B = ctx.saved_tensors
        left = _to_the_left(grad, B, A.shape, ctx.multiply) if ctx.needs_input_grad[0] else None
        right = _to_the_right(A, grad, B.shape, ctx.multiply) if ctx.needs_input_grad[1] else None
        return left, right, None, None


def _to_the_left(grad: Tensor, B: Tensor, shape: torch.Size, multiply: Multiply) -> Tensor:
    """G·Bᴴ, summed to the shape of A."""
    if _is_shared(shape, grad):
        return _to_the_right(B.mT, grad.mT, torch.Size((*shape[:-2], shape[-1], shape[-2])), multiply).mT
    return multiply(grad, B.mH).sum_to_size(shape)


def _to_the_right(A: Tensor, grad: Tensor, shape: torch.Size, multiply: Multiply) -> Tensor:
    """Aᴴ·G, summed to the shape of B."""
    if _is_shared(shape, grad):  # the rows of all items are rows of one product
        A = A.expand(*grad.shape[:-2], *A.shape[-2:])
        A, grad = (X.reshape(-1, X.shape[-1]) for X in (A, grad))
        return multiply(A.mH, grad).view(shape)
    return multiply(A.mH, grad).sum_to_size(shape)


def _is_shared(shape: torch.Size, grad: Tensor) -> bool:
    return grad.dim() > 2 and shape[:-2].numel() == 1
