"""Products in fewer floating-point bits: rounded operands on the units that the hardware has for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from tithe.product.kernels.passes import quantise_lines
from tithe.product.pair import Pair

__all__ = ["cast", "float8", "float8_sums", "float32_is_exact", "tf32", "tf32_allowed"]

_FLOAT8_MAX = 448.0  # of e4m3


def cast(pair: Pair, kind: torch.dtype) -> Tensor:
    """Both operands rounded to ``kind`` and multiplied in it; (m, n) of ``kind``, or wider where that would overflow.

    float16 ends at 65,504, so operands of wider dtypes are first divided by powers of two that bring them under one.
    """
    if kind != torch.float16 or pair.A.dtype == kind:
        return pair.left.to(kind) @ pair.right.to(kind)
    left, right = (_power_of_two(reach.max()) for reach in (pair.left_reach, pair.right_reach))
    product = (pair.left / left).to(kind) @ (pair.right / right).to(kind)
    return product.to(pair.wide).mul_(left * right)


def tf32(pair: Pair) -> Tensor:
    """The float32 product through TF32 tensor cores; (m, n) float32."""
    with tf32_allowed():
        return pair.left.float() @ pair.right.float()


@contextmanager
def tf32_allowed() -> Iterator[None]:
    """Torch's setting that lets float32 products on CUDA be made in TF32 is on inside the ``with`` block."""
    backend = torch.backends.cuda.matmul
    # Since 2.9 torch has two interfaces to this setting and refuses to mix them.
    name: str
    value: bool | str
    try:
        name, value, before = "allow_tf32", True, backend.allow_tf32
    except RuntimeError:
        name, value, before = "fp32_precision", "tf32", backend.fp32_precision
    try:
        setattr(backend, name, value)
        yield
    finally:
        setattr(backend, name, before)


def float32_is_exact() -> bool:
    """Whether torch is set to multiply float32 matrices in float32, not in TF32 or bfloat16."""
    try:
        return torch.get_float32_matmul_precision() == "highest" and not torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set through the newer interface, to something else than the default
        return False


def float8(pair: Pair) -> Tensor:
    """Row- and column-scaled e4m3 operands on fp8 tensor cores; (m, n) bfloat16. Ada, Hopper or later."""
    row_scale, column_scale = (_scale(x) for x in (pair.left_reach, pair.right_reach))
    left = quantise_lines(pair.A, _float(pair.a), row_scale, torch.float8_e4m3fn).contiguous()
    right = quantise_lines(pair.B.T, _float(pair.b), column_scale, torch.float8_e4m3fn).contiguous()
    return float8_sums(left, right, row_scale, column_scale)


def float8_sums(left: Tensor, right: Tensor, row_scale: Tensor, column_scale: Tensor) -> Tensor:
    """``(left @ right.T)·row_scale·column_scale`` for e4m3 (m, k) and (n, k), padded to the units' multiples of 16."""
    (m, k), n = left.shape, right.shape[0]
    if (m | k | n) % 16:
        left, right = _pad(left), _pad(right)
        row_scale, column_scale = pad(row_scale, (0, -m % 16)), pad(column_scale, (0, -n % 16))
    product = torch._scaled_mm(
        left, right.T, scale_a=row_scale[:, None], scale_b=column_scale[None], out_dtype=torch.bfloat16
    )
    return product[:m, :n]


def _float(shift: Tensor | None) -> Tensor | None:
    return None if shift is None else shift.float()


def _power_of_two(reach: Tensor) -> Tensor:
    """The smallest power of two that is at least ``reach``; 1 for 0."""
    return torch.where(reach > 0, torch.exp2(torch.ceil(torch.log2(reach))), torch.ones_like(reach))


def _pad(X: Tensor) -> Tensor:
    rows, cols = X.shape
    return pad(X.view(torch.int8), (0, -cols % 16, 0, -rows % 16)).view(X.dtype)


def _scale(reach: Tensor) -> Tensor:
    scale = (reach / _FLOAT8_MAX).float()
    return torch.where(scale > 0, scale, torch.ones_like(scale))
