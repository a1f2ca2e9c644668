"""The passes around products in fewer bits as Triton kernels: each reads its matrix once, tile by tile.

Imported only where there is a CUDA device, or with ``TRITON_INTERPRET=1``, which runs them on CPU tensors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["quantise", "rescale"]

_TILE = (32, 128)


def quantise(X: Tensor, shift: Tensor, inverse: Tensor, dtype: torch.dtype) -> Tensor:
    """``(X − shift)·inverse``, line by line, as int8 (rounded half to even) or float8.

    Args:
        X: (lines, length), floating point, any strides.
        shift: float32 (lines,).
        inverse: float32 (lines,).
        dtype: ``torch.int8`` or ``torch.float8_e4m3fn``.

    Returns a matrix of that dtype whose lines lie in memory as those of ``X``.
    """
    by_rows = X.stride(1) <= X.stride(0)
    rows, columns = X.shape if by_rows else X.T.shape
    out = torch.empty(rows, columns, dtype=dtype, device=X.device)
    source = X if by_rows else X.T
    _quantise[_grid(rows, columns)](
        source, shift, inverse, out, rows, columns, *source.stride(),
        BY_ROWS=by_rows, ROUND=dtype == torch.int8, TILE_R=_TILE[0], TILE_C=_TILE[1],
    )  # fmt: skip
    return out if by_rows else out.T


def rescale(sums: Tensor, row_scale: Tensor, column_scale: Tensor, plus: tuple[Tensor, Tensor] | None) -> Tensor:
    """``sums·row_scale·column_scale + u vᵀ`` as float32 (m, n), from int32 or floating-point sums of any strides."""
    (rows, columns), (u, v) = sums.shape, plus or (row_scale, column_scale)
    out = torch.empty(rows, columns, dtype=torch.float32, device=sums.device)
    _rescale[_grid(rows, columns)](
        sums, row_scale, column_scale, u, v, out, rows, columns, *sums.stride(),
        PLUS=plus is not None, TILE_R=_TILE[0], TILE_C=_TILE[1],
    )  # fmt: skip
    return out


def _grid(rows: int, columns: int) -> tuple[int, int]:
    return triton.cdiv(rows, _TILE[0]), triton.cdiv(columns, _TILE[1])


@triton.jit
def _quantise(
    x_ptr, shift_ptr, inverse_ptr, out_ptr, rows, columns, stride_r, stride_c,
    BY_ROWS: tl.constexpr, ROUND: tl.constexpr, TILE_R: tl.constexpr, TILE_C: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0) * TILE_R + tl.arange(0, TILE_R)[:, None]
    c = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)[None, :]
    inside = (r < rows) & (c < columns)
    line = r if BY_ROWS else c
    known = line < (rows if BY_ROWS else columns)
    x = tl.load(x_ptr + r.to(tl.int64) * stride_r + c.to(tl.int64) * stride_c, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(shift_ptr + line, mask=known, other=0.0)
    inverse = tl.load(inverse_ptr + line, mask=known, other=0.0)
    y = (x - shift) * inverse
    if ROUND:  # adding and taking off 1.5·2²³ rounds half to even
        y = (y + 12582912.0) - 12582912.0
    tl.store(out_ptr + r.to(tl.int64) * columns + c, y.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _rescale(
    sums_ptr, row_ptr, column_ptr, u_ptr, v_ptr, out_ptr, rows, columns, stride_r, stride_c,
    PLUS: tl.constexpr, TILE_R: tl.constexpr, TILE_C: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0) * TILE_R + tl.arange(0, TILE_R)[:, None]
    c = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)[None, :]
    inside = (r < rows) & (c < columns)
    sums = tl.load(sums_ptr + r.to(tl.int64) * stride_r + c.to(tl.int64) * stride_c, mask=inside, other=0)
    row, column = tl.load(row_ptr + r, mask=r < rows, other=0.0), tl.load(column_ptr + c, mask=c < columns, other=0.0)
    y = sums.to(tl.float32) * row * column
    if PLUS:
        y += tl.load(u_ptr + r, mask=r < rows, other=0.0) * tl.load(v_ptr + c, mask=c < columns, other=0.0)
    tl.store(out_ptr + r.to(tl.int64) * columns + c, y, mask=inside)
