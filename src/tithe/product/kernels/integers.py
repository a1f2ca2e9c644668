"""Products of operands rounded to 8, 7 or 6 bits, with row and column scales, summed exactly in int32."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from tithe.machine import cpu_flags
from tithe.product.kernels import int8_gemm
from tithe.product.kernels.passes import rescale, round_lines
from tithe.product.pair import Pair, RankOne

__all__ = ["LEVELS", "multiply", "scaled_sums", "worth_having"]

_LONGEST = 131_072  # slices of int8 entries whose products add up to less than 2³¹
LEVELS = {"int8": 127, "int7": 63, "int6": 31}  # largest magnitude of a rounded entry; all are stored as int8


def multiply(pair: Pair, kind: str, plus: RankOne | None = None) -> Tensor:
    """The product of the (shifted) pair with entries rounded to ``kind``, plus a rank-one matrix; float32 (m, n).

    O(mkn). Each row of A and column of B has its own scale, so that its largest entry becomes the largest allowed.
    """
    left, row_scale, row_squares = round_lines(pair.A, pair.a, LEVELS[kind])
    right, column_scale, column_squares = round_lines(pair.B.T, pair.b, LEVELS[kind])
    pair.note_squares(row_squares, column_squares)
    extra = None if plus is None else (plus.u.float(), plus.v.float())
    total: Tensor | None = None
    for k in range(0, pair.k, _LONGEST):  # parts whose sums fit into int32
        part = slice(k, k + _LONGEST)
        product = scaled_sums(left[:, part], right.T[part], row_scale, column_scale, extra if k == 0 else None)
        total = product if total is None else total.add_(product)
    assert total is not None
    return total


def scaled_sums(
    left: Tensor,
    right: Tensor,
    row_scale: Tensor,
    column_scale: Tensor,
    plus: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``(left @ right)·row_scale·column_scale + u vᵀ`` for int8 (m, k) and (k, n), by the fastest way there is here."""
    if left.is_cuda:
        return rescale(_cuda_sums(left, right), row_scale, column_scale, plus)
    if _own_kernel():
        return torch.from_numpy(int8_gemm.int8_matmul_scaled(left, right, row_scale, column_scale, *(plus or ())))
    return rescale(torch._int_mm(left.contiguous(), right), row_scale, column_scale, plus)


def worth_having() -> tuple[str, ...]:
    """The kinds whose speeds may differ here: fewer bits are only faster in our own kernel, and with AVX2."""
    return tuple(LEVELS) if _own_kernel() and len(int8_gemm.levels()) > 1 else ("int8",)


@cache
def _own_kernel() -> bool:
    """Whether our kernel beats torch's: torch has none for AVX2, and better ones for VNNI and AMX."""
    return int8_gemm.available() and not cpu_flags() & {"amx_int8", "avx512_vnni"}


def _cuda_sums(left: Tensor, right: Tensor) -> Tensor:
    # Tensor cores want lines along k for both, more than 16 rows and multiples of 8.
    m, n = left.shape[0], right.shape[1]
    lines = right.T.contiguous()
    if m <= 16 or (m | n | left.shape[1]) % 8:
        left = pad(left, (0, -left.shape[1] % 8, 0, max(-m % 8, 24 - m)))
        lines = pad(lines, (0, -lines.shape[1] % 8, 0, -n % 8))
    return torch._int_mm(left.contiguous(), lines.T)[:m, :n]
