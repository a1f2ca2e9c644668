"""Products in fewer floating-point bits: rounded operands on the units that the hardware has for them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tithe.product.pair import Pair

__all__ = ["cast", "float8", "float8_sums", "tf32"]

_FLOAT8_MAX = 448.0  # of e4m3


def cast(pair: Pair, kind: torch.dtype) -> Tensor:
    """Both operands rounded to ``kind`` and multiplied in it; (m, n) of ``kind``."""
    return pair.left.to(kind) @ pair.right.to(kind)


def tf32(pair: Pair) -> Tensor:
    """The float32 product through TF32 tensor cores; (m, n) float32. Restores torch's setting."""
    backend = torch.backends.cuda.matmul
    before = backend.allow_tf32
    try:
        backend.allow_tf32 = True
        return pair.left.float() @ pair.right.float()
    finally:
        backend.allow_tf32 = before


def float8(pair: Pair) -> Tensor:
    """Row- and column-scaled e4m3 operands on fp8 tensor cores; (m, n) bfloat16. Ada, Hopper or later."""
    row_scale, column_scale = (_scale(x) for x in (pair.left_reach, pair.right_reach))
    left = (pair.left.float() / row_scale[:, None]).to(torch.float8_e4m3fn)
    right = (pair.right.T.float() / column_scale[:, None]).to(torch.float8_e4m3fn)
    return float8_sums(left, right, row_scale, column_scale)


def float8_sums(left: Tensor, right: Tensor, row_scale: Tensor, column_scale: Tensor) -> Tensor:
    """``(left @ right.T)·row_scale·column_scale`` for e4m3 (m, k) and (n, k), padded to the units' multiples of 16."""
    (m, k), n = left.shape, right.shape[0]
    if (m | k | n) % 16:
        left, right = _pad(left), _pad(right)
        row_scale, column_scale = F.pad(row_scale, (0, -m % 16)), F.pad(column_scale, (0, -n % 16))
    product = torch._scaled_mm(
        left, right.T, scale_a=row_scale[:, None], scale_b=column_scale[None], out_dtype=torch.bfloat16
    )
    return product[:m, :n]


def _pad(X: Tensor) -> Tensor:
    rows, cols = X.shape
    return F.pad(X.view(torch.int8), (0, -cols % 16, 0, -rows % 16)).view(X.dtype)


def _scale(reach: Tensor) -> Tensor:
    scale = (reach / _FLOAT8_MAX).float()
    return torch.where(scale > 0, scale, torch.ones_like(scale))
