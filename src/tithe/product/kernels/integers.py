"""int8 products with row and column scales, summed exactly in int32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tithe.product.kernels.passes import quantise_lines, rescale
from tithe.product.pair import Pair, RankOne

__all__ = ["LEVEL", "multiply", "sums"]

LEVEL = 127  # largest magnitude of a quantised entry


def multiply(pair: Pair, plus: RankOne | None = None) -> Tensor:
    """The product of the (shifted) pair with entries rounded to int8, plus a rank-one matrix; float32 (m, n), O(mkn).

    Each row of A and column of B has its own scale, so that its largest entry becomes ``LEVEL``.
    """
    row_scale, column_scale = (pair.left_reach / LEVEL).float(), (pair.right_reach / LEVEL).float()
    left = quantise_lines(pair.A, None if pair.a is None else pair.a.float(), row_scale)
    right = quantise_lines(pair.B.T, None if pair.b is None else pair.b.float(), column_scale).T
    extra = None if plus is None else (plus.u.float(), plus.v.float())
    return rescale(sums(left, right), row_scale, column_scale, extra)


def sums(left: Tensor, right: Tensor) -> Tensor:
    """The int32 product of two int8 matrices, (m, k) and (k, n); exact as long as k·LEVEL² fits, k < 133,000."""
    if left.device.type != "cuda":
        return torch._int_mm(left, right)
    # Tensor cores want lines along k for both, more than 16 rows and multiples of 8.
    m, n = left.shape[0], right.shape[1]
    lines = right.T.contiguous()
    if m <= 16 or (m | n | left.shape[1]) % 8:
        left = pad(left, (0, -left.shape[1] % 8, 0, max(-m % 8, 24 - m)))
        lines = pad(lines, (0, -lines.shape[1] % 8, 0, -n % 8))
    return torch._int_mm(left.contiguous(), lines.T)[:m, :n]
