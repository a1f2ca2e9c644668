"""Images as bits: which pixels are bright, and where edges rise to the right, left, down or up.

Like everything in this package, images go in blocks of 16, side by side in the last axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.kernels import BLOCK
from tithe.hashtron.tuples.warps import Warps, deskewing, identity, warp
from tithe.parallel import run_parts

__all__ = ["ImageBits"]

_jit: Any = numba.njit(nogil=True, cache=True)
_DIRECTIONS = 4


@dataclass(frozen=True)
class ImageBits:
    """How images (n, H, W) uint8 become blocks of bits; ``planes`` · (H + 2·frame) · (W + 2·frame) of them.

    Args:
        shape: (H, W).
        bright: grey values above which a pixel is bright, one plane each.
        steep: differences between neighbours two pixels apart above which there is an edge, four planes each.
        frame: dark pixels around the image.
        spread: whether an edge is seen from its eight neighbours as well.
        deskew: whether slanted images are set upright first, by their second moments.
    """

    shape: tuple[int, int]
    bright: tuple[int, ...] = (30, 60, 90, 120, 150, 180, 210)
    steep: tuple[int, ...] = (20, 60, 120)
    frame: int = 2
    spread: bool = True
    deskew: bool = False

    @property
    def planes(self) -> int:
        """Planes of bits."""
        return len(self.bright) + _DIRECTIONS * len(self.steep)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[0] + 2 * self.frame, self.shape[1] + 2 * self.frame

    @property
    def length(self) -> int:
        """Bits of an image."""
        return self.planes * self.grid[0] * self.grid[1]

    def names(self) -> list[str]:
        """What each plane of bits says of a pixel."""
        edges = [f"rises {way} > {level}" for way in ("right", "left", "down", "up") for level in self.steep]
        return [f"bright > {level}" for level in self.bright] + edges

    def blocks(self, images: NDArray[np.uint8], warps: Warps | None = None, seed: int = 0) -> NDArray[np.uint8]:
        """Images (n, H, W) as (⌈n/16⌉, ``length``, 16), warped at random if ``warps`` says how; by ``seed``."""
        count = -(-len(images) // BLOCK)
        out = np.empty((count, self.length, BLOCK), np.uint8)
        bright, steep = np.array(self.bright, np.int16), np.array(self.steep, np.int16)
        maps = np.tile(identity(), (len(images), 1)) if not self.deskew else deskewing(images)
        fields = None if warps is None else warps.draw(len(images), self.shape, seed)

        def part(b: int) -> None:
            rows = slice(b * BLOCK, (b + 1) * BLOCK)
            grey = np.zeros((*self.grid, BLOCK), np.int16)
            warp(images[rows], maps[rows], None if fields is None else fields.take(rows), self.frame, grey)
            _see(grey.reshape(self.grid[0], -1), bright, steep, self.spread, out[b])

        run_parts(part, count)
        return out


@_jit
def _see(grey, bright, steep, spread, bits):
    """Bits of a block, from grey values (height, width · BLOCK), as uint8 (planes · height · width, BLOCK)."""
    height, across = grey.shape
    target = bits.reshape(-1, height, across)
    for k in range(len(bright)):
        _above(grey, bright[k], target[k])
    rises = np.zeros((height, across), np.int16)
    widened = np.zeros((height, across), np.int16)
    number = len(bright)
    for direction in range(_DIRECTIONS):
        rises[:] = 0
        for y in range(1, height - 1):
            if direction < 2:
                ahead, behind = grey[y, 2 * BLOCK :], grey[y, : across - 2 * BLOCK]
                line = rises[y, BLOCK : across - BLOCK]
            else:
                ahead, behind, line = grey[y + 1], grey[y - 1], rises[y]
            if direction % 2:
                ahead, behind = behind, ahead
            for i in range(line.size):
                line[i] = np.int16(ahead[i] - behind[i])
        if spread:
            _widen(rises, widened)
        for k in range(len(steep)):
            _above(rises, steep[k], target[number])
            number += 1


@_jit
def _widen(values, spare):
    """Each value becomes the largest of its neighbourhood of nine; ``spare`` is of the same shape."""
    height, across = values.shape
    for y in range(height):
        left, middle, right = values[y, : across - 2 * BLOCK], values[y, BLOCK : across - BLOCK], values[y, 2 * BLOCK :]
        line = spare[y, BLOCK : across - BLOCK]
        for i in range(line.size):
            line[i] = _largest(left[i], middle[i], right[i])
    for y in range(1, height - 1):
        above, here, below, line = spare[y - 1], spare[y], spare[y + 1], values[y]
        for i in range(across):
            line[i] = _largest(above[i], here[i], below[i])


@_jit
def _largest(a, b, c):
    most = a if a > b else b
    return np.int16(most if most > c else c)


@_jit
def _above(values, level, out):
    for y in range(values.shape[0]):
        source, line = values[y], out[y]
        for i in range(source.size):
            line[i] = source[i] > level
