"""Small random deformations of training images, and setting slanted ones upright: one interpolation for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError

__all__ = ["WARPS", "Fields", "Warps", "deskewing", "identity", "warp", "warps_named"]

_jit: Any = numba.njit(nogil=True, cache=True)
_KNOTS = 5  # of the elastic displacement, along each side
_LEAST_MASS = 1e-6


class Fields(NamedTuple):
    """What is done to each image: affine maps (n, 6), displacements in pixels at knots (n, 2, 5, 5), mirrors (n,)."""

    maps: NDArray[np.float32]
    knots: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def take(self, rows: slice) -> Fields:
        """Of some of the images."""
        return Fields(self.maps[rows], self.knots[rows], self.mirrored[rows])


@dataclass(frozen=True)
class Warps:
    """How far training images are deformed: half-widths of uniform distributions, a standard deviation for ``elastic``.

    Args:
        shift: pixels.
        rotate: radians.
        scale: share.
        shear: pixels a pixel.
        elastic: pixels by which the knots of a smooth field are displaced.
        mirror: whether half of the images are mirrored left to right.
    """

    shift: float = 1.0
    rotate: float = 0.15
    scale: float = 0.1
    shear: float = 0.15
    elastic: float = 1.0
    mirror: bool = False

    def draw(self, count: int, shape: tuple[int, int], seed: int) -> Fields:
        """Deformations of ``count`` images, the same for the same seed."""
        random = np.random.default_rng(seed)
        angle, shear = (random.uniform(-x, x, count) for x in (self.rotate, self.shear))
        wide, high = (1 + random.uniform(-self.scale, self.scale, count) for _ in range(2))
        across, down = (random.uniform(-self.shift, self.shift, count) for _ in range(2))
        cos, sin = np.cos(angle), np.sin(angle)
        # where in the image a pixel's value comes from, about the middle: x' = x·m0 + y·m1 + m2, y' = x·m3 + y·m4 + m5
        maps = np.stack((cos * wide, shear * wide - sin * high, across, sin * wide, cos * high, down), axis=1)
        knots = random.normal(0, self.elastic, (count, 2, _KNOTS, _KNOTS)) if self.elastic else None
        displaced = np.zeros((count, 2, _KNOTS, _KNOTS), np.float32) if knots is None else knots.astype(np.float32)
        mirrored = random.random(count) < 0.5 if self.mirror else np.zeros(count, np.bool_)
        return Fields(maps.astype(np.float32), displaced, mirrored)


#: Ways to deform images of 28×28 pixels, by name.
WARPS = {
    "handwriting": Warps(),
    "shift": Warps(rotate=0, scale=0, shear=0, elastic=0),
    "mirror": Warps(rotate=0, scale=0, shear=0, elastic=0, mirror=True),
}


def warps_named(name: str | bool) -> Warps | None:
    """The way of this name; ``handwriting`` for True, none for False.

    Raises ``InvalidValueError`` where there is none of this name.

    >>> warps_named(False), warps_named("shift").shift
    (None, 1.0)
    """
    if isinstance(name, bool):
        return WARPS["handwriting"] if name else None
    if name not in WARPS:
        raise InvalidValueError(f"augment is {name!r}; use {', '.join(map(repr, WARPS))}, True or False")
    return WARPS[name]


def identity() -> NDArray[np.float32]:
    """The affine map that changes nothing, (6,)."""
    return np.array([1, 0, 0, 0, 1, 0], np.float32)


def deskewing(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The maps (n, 6) that set images (n, H, W) upright and into the middle, by their first and second moments.

    >>> deskewing(np.eye(5, dtype=np.uint8)[None])[0].tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    """
    maps = np.empty((len(images), 6), np.float32)
    _deskew(images, maps)
    return maps


def warp(
    images: NDArray[np.uint8],
    maps: NDArray[np.float32],
    fields: Fields | None,
    frame: int,
    grey: NDArray[np.int16],
) -> None:
    """Put up to 16 images (n, H, W) into a block (H + 2·frame, W + 2·frame, 16), by ``maps`` after ``fields``."""
    if fields is None and (maps == identity()).all():
        inner = grey[frame : grey.shape[0] - frame, frame : grey.shape[1] - frame]
        inner[:, :, : len(images)] = images.transpose(1, 2, 0)
        return
    if fields is None:
        nothing = np.zeros((len(images), 2, _KNOTS, _KNOTS), np.float32)
        fields = Fields(np.tile(identity(), (len(images), 1)), nothing, np.zeros(len(images), np.bool_))
    _warp(images, maps, *fields, frame, grey)


@_jit
def _deskew(images, maps):
    n, height, width = images.shape
    for i in range(n):
        mass, sx, sy = 0.0, 0.0, 0.0
        for y in range(height):
            for x in range(width):
                v = float(images[i, y, x])
                mass += v
                sx += v * x
                sy += v * y
        mass = max(mass, _LEAST_MASS)
        mx, my = sx / mass, sy / mass
        sxy, syy = 0.0, 0.0
        for y in range(height):
            for x in range(width):
                v = float(images[i, y, x])
                sxy += v * (x - mx) * (y - my)
                syy += v * (y - my) ** 2
        slant = sxy / syy if syy > _LEAST_MASS else 0.0
        if mass <= _LEAST_MASS:
            mx, my = (width - 1) / 2, (height - 1) / 2
        maps[i] = 0
        maps[i, 0], maps[i, 1], maps[i, 4] = 1, slant, 1
        maps[i, 2], maps[i, 5] = mx - (width - 1) / 2, my - (height - 1) / 2


@_jit
def _warp(images, maps, more, knots, mirrored, frame, grey):
    n, height, width = images.shape
    cx, cy = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    rows, columns = grey.shape[:2]
    padded = np.zeros((height + 3, width + 3), np.float32)  # one line before and two behind: 0 outside, no questions
    xs, ys = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for s in range(n):
        padded[1 : height + 1, 1 : width + 1] = images[s]
        outer, inner = maps[s], more[s]
        for y in range(rows):
            _displace(knots[s, 0], y, rows, xs)
            _displace(knots[s, 1], y, rows, ys)
            py = np.float32(y - frame) - cy
            for x in range(columns):
                px = np.float32(x - frame) - cx
                qx = px * inner[0] + py * inner[1] + inner[2] + xs[x]
                qy = px * inner[3] + py * inner[4] + inner[5] + ys[x]
                qx = -qx if mirrored[s] else qx
                xs[x] = qx * outer[0] + qy * outer[1] + outer[2] + cx + np.float32(1)
                ys[x] = qx * outer[3] + qy * outer[4] + outer[5] + cy + np.float32(1)
            for x in range(columns):
                u = min(max(xs[x], np.float32(0)), np.float32(width + 1))
                v = min(max(ys[x], np.float32(0)), np.float32(height + 1))
                i, j = int(v), int(u)
                fu, fv = u - np.float32(j), v - np.float32(i)
                top = padded[i, j] + fu * (padded[i, j + 1] - padded[i, j])
                bottom = padded[i + 1, j] + fu * (padded[i + 1, j + 1] - padded[i + 1, j])
                grey[y, x, s] = np.int16(top + fv * (bottom - top))


@_jit
def _displace(knots, y, rows, out):
    """A smooth field along one line: bilinear between the knots."""
    down = np.float32(y) * np.float32(_KNOTS - 1) / np.float32(rows - 1)
    i = min(int(down), _KNOTS - 2)
    f = down - np.float32(i)
    step = np.float32(_KNOTS - 1) / np.float32(out.size - 1)
    for x in range(out.size):
        across = np.float32(x) * step
        j = min(int(across), _KNOTS - 2)
        g = across - np.float32(j)
        top = knots[i, j] + g * (knots[i, j + 1] - knots[i, j])
        bottom = knots[i + 1, j] + g * (knots[i + 1, j + 1] - knots[i + 1, j])
        out[x] = top + f * (bottom - top)
