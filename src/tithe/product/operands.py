"""The two operands of a product: what is accepted, and how batches become plain two-dimensional products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["DTYPES", "Shape", "check_operands"]

_NO_BATCH = torch.Size()
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a product (..., m, k) · (..., k, n): ``lead`` are the broadcast batch dimensions.

    ``products`` is how many real products the plain one takes: four where the operands are complex.
    """

    m: int
    k: int
    n: int
    lead: torch.Size
    products: int = 1

    @property
    def batch(self) -> int:
        """Number of two-dimensional products."""
        return self.lead.numel()

    @property
    def output(self) -> torch.Size:
        """Shape of the product."""
        return torch.Size((*self.lead, self.m, self.n))

    @property
    def flops(self) -> float:
        """Operations of the plain product, a real multiply–add counted as two."""
        return 2.0 * self.products * self.batch * self.m * self.k * self.n

    def items(self, A: Tensor, B: Tensor) -> tuple[Callable[[int], Tensor], Callable[[int], Tensor]]:
        """Two functions that give the i-th left and right operand of the batch, as views."""
        lead = self.lead

        def pick(X: Tensor) -> Callable[[int], Tensor]:
            if X.dim() == 2:
                return lambda i: X
            spread = X.expand(*lead, *X.shape[-2:])
            return lambda i: spread[tuple(int(j) for j in np.unravel_index(i, lead))]

        return pick(A), pick(B)


def check_operands(A: Tensor, B: Tensor) -> Shape:
    """The sizes of ``A @ B``; O(1).

    Raises:
        InvalidDTypeError: not tensors, not of a dtype in ``DTYPES``, or of two different dtypes.
        InvalidValueError: fewer than two dimensions, sizes that do not fit, or two devices.

    >>> check_operands(torch.ones(5, 2, 3), torch.ones(3, 4)).output
    torch.Size([5, 2, 4])
    """
    try:
        (m, k), (rows, n) = A.shape, B.shape
        plain = A.layout is B.layout is torch.strided and A.dtype is B.dtype and A.dtype in DTYPES
        if plain and k == rows and A.device == B.device:
            return Shape(m, k, n, _NO_BATCH, 4 if A.is_complex() else 1)
    except (AttributeError, TypeError, ValueError):
        pass
    return _with_batches(A, B)


def _with_batches(A: Tensor, B: Tensor) -> Shape:
    """The same for batches, or what is wrong."""
    for name, X in (("A", A), ("B", B)):
        if not isinstance(X, Tensor):
            raise InvalidDTypeError(f"{name} is a {type(X).__name__}; a torch.Tensor is expected (torch.as_tensor)")
        if X.dtype not in DTYPES:
            known = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
            remedy = "to(torch.complex64)" if X.is_complex() else "float()"
            raise InvalidDTypeError(f"{name} is {X.dtype}; one of {known} is expected (use {name}.{remedy})")
        if X.layout is not torch.strided:
            raise InvalidDTypeError(f"{name} has layout {X.layout}; a dense tensor is expected (use {name}.to_dense())")
        if X.dim() < 2:
            raise InvalidValueError(
                f"{name} has shape {tuple(X.shape)}; at least two dimensions are expected (use {name}[None] for a row)"
            )
    if A.dtype != B.dtype:
        raise InvalidDTypeError(f"A is {A.dtype} and B is {B.dtype}; give both the same dtype, as for torch.matmul")
    if A.device != B.device:
        raise InvalidValueError(f"A is on {A.device} and B on {B.device}; move one of them")
    m, k = A.shape[-2:]
    if B.shape[-2] != k:
        raise InvalidValueError(
            f"A has shape {tuple(A.shape)} and B {tuple(B.shape)}: the last size of A ({k}) and the last but one of "
            f"B ({B.shape[-2]}) must be equal; transpose one with .mT?"
        )
    try:
        lead = torch.Size(np.broadcast_shapes(A.shape[:-2], B.shape[:-2]))
    except ValueError:
        raise InvalidValueError(
            f"A has shape {tuple(A.shape)} and B {tuple(B.shape)}: the batch sizes {tuple(A.shape[:-2])} and "
            f"{tuple(B.shape[:-2])} do not broadcast"
        ) from None
    return Shape(m, k, B.shape[-1], lead, 4 if A.is_complex() else 1)
