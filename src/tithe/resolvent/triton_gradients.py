"""Many gradients filtered in two launches as Triton kernels: the first measures norms, the second writes.

Imported only where there is a CUDA device, or with ``TRITON_INTERPRET=1``, which runs them on CPU tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["Filtering"]

_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
_TILE = 2048  # points of a tile, padded
_PARTS = 1024  # partial sums that are added at once


class Filtering:
    """A filter of many gradients that lie alike at every step: what does not change is on the device already.

    It takes those of float32, float16 and bfloat16 whose points lie at equal distances, as in contiguous and in
    channels-last memory.

    Args:
        gradients: kernels (out, in, ...), of one dtype, on one device.
        matrix: the filter of a kernel, symmetric, float32 (points, points).
    """

    def __init__(self, gradients: Sequence[Tensor], matrix: Tensor) -> None:
        points, device = len(matrix), matrix.device
        distances = [_distances(gradient, points) for gradient in gradients]
        self._shapes = _shapes(gradients)
        self._taken = [i for i, known in enumerate(distances) if known]
        self._left = [i for i, known in enumerate(distances) if not known]
        self._points, self._width = points, max(16, triton.next_power_of_2(points))
        self._tile = _TILE // self._width
        self._matrix = torch.zeros(self._width, self._width, device=device)
        self._matrix[:points, :points] = matrix
        rows = [gradients[i].numel() // points for i in self._taken]
        tiles = [triton.cdiv(count, self._tile) for count in rows]
        firsts = [sum(tiles[:i]) for i in range(len(tiles))]
        layouts = [
            (first, count, total, *(distances[i] or ()))
            for i, first, count, total in zip(self._taken, firsts, tiles, rows, strict=True)
        ]
        self._layouts = torch.tensor(layouts, dtype=torch.int32, device=device)
        self._owners = torch.repeat_interleave(torch.tensor(tiles, dtype=torch.int64)).to(device, torch.int32)
        self._squares = torch.empty(2, len(self._owners), device=device)
        self._chunks = triton.cdiv(max(tiles, default=0), _PARTS)
        self._where: list[int] = []
        self._addresses = torch.empty(0)

    def suits(self, gradients: Sequence[Tensor]) -> bool:
        """Whether these lie as those that were given at first."""
        return _shapes(gradients) == self._shapes

    def __call__(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Filter gradients that it ``suits`` in place, each with the norm that it had; those that it cannot take are
        given back as they were. O(weights · points of a kernel).
        """
        where = [gradients[i].data_ptr() for i in self._taken]
        if where != self._where:
            self._where, self._addresses = where, _uploaded(where, self._matrix.device)
        for write in (False, True) if where else ():
            _filter[(len(self._owners),)](
                self._addresses, self._layouts, self._owners, self._matrix, self._squares, len(self._owners),
                WRITE=write, TYPE=_TYPES[gradients[0].dtype], POINTS=self._points, WIDTH=self._width, TILE=self._tile,
                PARTS=_PARTS, CHUNKS=self._chunks,
            )  # fmt: skip
        return [gradients[i] for i in self._left]


def _uploaded(numbers: list[int], device: torch.device) -> Tensor:
    """On a GPU without waiting for it: a step whose host runs ahead should not stop here."""
    if device.type != "cuda":
        return torch.tensor(numbers, dtype=torch.int64, device=device)
    return torch.tensor(numbers, dtype=torch.int64, pin_memory=True).to(device, non_blocking=True)


def _shapes(gradients: Sequence[Tensor]) -> tuple[list[torch.Size], list[tuple[int, ...]]]:
    return list(map(Tensor.size, gradients)), list(map(Tensor.stride, gradients))


def _distances(gradient: Tensor, points: int) -> tuple[int, int, int, int] | None:
    """How kernels lie in memory: how many side by side, from one row of them to the next, to a neighbour, to the next
    point; None where no such numbers describe it, or dtype or size are none of the kernels'.
    """
    if gradient.dtype not in _TYPES or gradient.numel() >= 1 << 31:
        return None
    if gradient.is_contiguous():
        return gradient.numel() // points, 0, points, 1
    if gradient.ndim > 2 and gradient.movedim(1, -1).is_contiguous():  # channels last
        inputs = gradient.shape[1]
        return inputs, inputs * points, 1, inputs
    return None


@triton.jit  # type: ignore[untyped-decorator]
def _filter(  # type: ignore[no-untyped-def]
    addresses_ptr, layouts_ptr, owners_ptr, matrix_ptr, squares_ptr, programs,
    WRITE: tl.constexpr, TYPE: tl.constexpr, POINTS: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
    PARTS: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    owner = tl.load(owners_ptr + program)
    gradient_ptr = tl.load(addresses_ptr + owner).to(tl.pointer_type(TYPE))
    layout_ptr = layouts_ptr + owner * 7
    first, parts, rows = tl.load(layout_ptr), tl.load(layout_ptr + 1), tl.load(layout_ptr + 2)
    side, outer, inner, step = (
        tl.load(layout_ptr + 3), tl.load(layout_ptr + 4), tl.load(layout_ptr + 5), tl.load(layout_ptr + 6),
    )  # fmt: skip
    row = (program - first) * TILE + tl.arange(0, TILE)
    point = tl.arange(0, WIDTH)
    places = ((row // side) * outer + (row % side) * inner)[:, None] + (point * step)[None, :]
    known = (row < rows)[:, None] & (point < POINTS)[None, :]
    old = tl.load(gradient_ptr + places, mask=known, other=0.0).to(tl.float32)
    matrix = tl.load(matrix_ptr + point[:, None] * WIDTH + point[None, :])
    new = tl.dot(old, matrix, input_precision="ieee")
    if not WRITE:
        tl.store(squares_ptr + program, tl.sum(old * old))
        tl.store(squares_ptr + programs + program, tl.sum(new * new))
    else:
        before, after = tl.zeros((PARTS,), tl.float32), tl.zeros((PARTS,), tl.float32)
        for chunk in range(CHUNKS):
            part = chunk * PARTS + tl.arange(0, PARTS)
            before += tl.load(squares_ptr + first + part, mask=part < parts, other=0.0)
            after += tl.load(squares_ptr + programs + first + part, mask=part < parts, other=0.0)
        was, became = tl.sum(before), tl.sum(after)
        scale = tl.where(became > 0, tl.sqrt(was / became), 1.0)
        tl.store(gradient_ptr + places, (new * scale).to(TYPE), mask=known)
