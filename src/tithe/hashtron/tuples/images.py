"""Images as bits: is a pixel bright, and does it lie at an edge that rises to the right, left, down or up?

Like everything in this package, images go in blocks of 16, side by side in the last axis. A block's words hold each bit
together with its two neighbours to the right (see ``kernels.find_cells``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.kernels import BLOCK, FIELD
from tithe.hashtron.tuples.warps import Warps, deskewing, identity, warp
from tithe.parallel import run_parts

__all__ = ["ImageBits"]

_jit: Any = numba.njit(nogil=True, cache=True)
_DIRECTIONS = 4


@dataclass(frozen=True)
class ImageBits:
    """How images (n, H, W) uint8 become words of bits; ``planes`` · (H + 2·frame) · (W + 2·frame) of them.

    Args:
        shape: (H, W).
        bright: grey values above which a pixel is bright, one plane each.
        steep: differences between neighbours two pixels apart above which there is an edge, four planes each.
        frame: dark pixels around the image.
        spread: whether an edge is seen from its eight neighbours as well.
        deskew: whether slanted images are set upright first, by their second moments.
    """

    shape: tuple[int, int]
    bright: tuple[int, ...] = (100,)
    steep: tuple[int, ...] = (60,)
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

    def words(self, images: NDArray[np.uint8], warps: Warps | None = None, seed: int = 0) -> NDArray[np.uint32]:
        """Images (n, H, W) as (⌈n/16⌉, ``length``, 16), warped at random if ``warps`` says how; by ``seed``."""
        blocks = -(-len(images) // BLOCK)
        out = np.empty((blocks, self.length, BLOCK), np.uint32)
        bright, steep = np.array(self.bright, np.int16), np.array(self.steep, np.int16)
        maps = np.tile(identity(), (len(images), 1)) if not self.deskew else deskewing(images)
        fields = None if warps is None else warps.draw(len(images), self.shape, seed)

        def part(b: int) -> None:
            rows = slice(b * BLOCK, (b + 1) * BLOCK)
            grey = np.zeros((*self.grid, BLOCK), np.int16)
            warp(images[rows], maps[rows], None if fields is None else fields.take(rows), self.frame, grey)
            _see(grey.reshape(self.grid[0], -1), bright, steep, self.spread, out[b])

        run_parts(part, blocks)
        return out


@_jit
def _see(grey, bright, steep, spread, words):
    """Bits of a block, from grey values (height, width · BLOCK), as words (planes · height · width, BLOCK)."""
    height, across = grey.shape
    target = words.reshape(-1, height, across)
    plane = np.zeros((height, across), np.uint8)
    smeared = np.zeros((height, across), np.uint8)
    number = 0
    for level in bright:
        for y in range(height):
            for i in range(across):
                plane[y, i] = grey[y, i] > level
        _put(plane, target[number])
        number += 1
    for level in steep:
        for direction in range(_DIRECTIONS):
            plane[:] = 0
            for y in range(1, height - 1):
                if direction < 2:
                    ahead, behind = grey[y, 2 * BLOCK :], grey[y, : across - 2 * BLOCK]
                    line = plane[y, BLOCK : across - BLOCK]
                else:
                    ahead, behind, line = grey[y + 1], grey[y - 1], plane[y]
                if direction % 2:
                    ahead, behind = behind, ahead
                for i in range(line.size):
                    line[i] = ahead[i] - behind[i] > level
            if spread:
                _smear(plane, smeared)
                _put(smeared, target[number])
            else:
                _put(plane, target[number])
            number += 1


@_jit
def _smear(plane, out):
    """Each bit or any of its eight neighbours; the outermost lines of ``plane`` are empty. ``plane`` is spoilt."""
    height, across = plane.shape
    out[:] = 0
    for y in range(height):
        left, middle, right = plane[y, : across - 2 * BLOCK], plane[y, BLOCK : across - BLOCK], plane[y, 2 * BLOCK :]
        wide = out[y, BLOCK : across - BLOCK]
        for i in range(wide.size):
            wide[i] = np.uint8(left[i] | middle[i] | right[i])
    plane[:] = out
    for y in range(1, height - 1):
        above, here, below, line = plane[y - 1], plane[y], plane[y + 1], out[y]
        for i in range(across):
            line[i] = np.uint8(above[i] | here[i] | below[i])


@_jit
def _put(plane, target):
    height, across = plane.shape
    for y in range(height):
        line, out = plane[y], target[y]
        for i in range(across):
            out[i] = line[i]
        for i in range(across - BLOCK):
            out[i] |= np.uint32(line[i + BLOCK]) << np.uint32(FIELD)
        for i in range(across - 2 * BLOCK):
            out[i] |= np.uint32(line[i + 2 * BLOCK]) << np.uint32(2 * FIELD)
