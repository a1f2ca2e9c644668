"""Products that skip small inputs as a Triton kernel: loads of masked-off weights are never issued.

Imported only where there is a CUDA device, or with ``TRITON_INTERPRET=1``, which runs it on CPU tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["skipping"]

_INPUTS, _OUTPUTS = 32, 128  # of a tile
_PROGRAMS = 512  # enough to keep a large device busy


def skipping(floors: Tensor, columns: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """As ``tithe.resolvent.sparse.kernels.skipping``; sums in float32, in an order that does not change."""
    inputs, outputs = columns.shape
    across, along = triton.cdiv(outputs, _OUTPUTS), triton.cdiv(inputs, _INPUTS)

    def product(x: Tensor) -> Tensor:
        x, rows = x.contiguous(), len(x)
        parts = max(1, min(along, _PROGRAMS // (across * rows)))
        sums = torch.empty(parts, rows, outputs, dtype=torch.float32, device=x.device)
        _skipping[across, parts, rows](
            x, floors, columns, sums, inputs, outputs, rows,
            TILES=triton.cdiv(along, parts), INPUTS=_INPUTS, OUTPUTS=_OUTPUTS,
        )  # fmt: skip
        out = sums[0] if parts == 1 else sums.sum(0)
        return (out if bias is None else out.add_(bias)).to(x.dtype)

    return product


@triton.jit  # type: ignore[untyped-decorator]
def _skipping(  # type: ignore[no-untyped-def]
    x_ptr, floors_ptr, columns_ptr, sums_ptr, inputs, outputs, rows,
    TILES: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    o = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    part, row = tl.program_id(1), tl.program_id(2)
    known = o < outputs
    total = tl.zeros((OUTPUTS,), tl.float32)
    for tile in range(TILES):
        j = (part * TILES + tile) * INPUTS + tl.arange(0, INPUTS)
        x = tl.load(x_ptr + row * inputs + j, mask=j < inputs, other=0.0).to(tl.float32)
        floor = tl.load(floors_ptr + j, mask=j < inputs, other=0.0).to(tl.float32)
        active = (j < inputs) & ((tl.abs(x) >= floor) | (x != x))  # NaN is active
        places = j[:, None].to(tl.int64) * outputs + o[None, :]
        weights = tl.load(columns_ptr + places, mask=active[:, None] & known[None, :], other=0.0).to(tl.float32)
        total += tl.sum(tl.where(active, x, 0.0)[:, None] * weights, axis=0)
    tl.store(sums_ptr + (part * rows + row).to(tl.int64) * outputs + o, total, mask=known)
