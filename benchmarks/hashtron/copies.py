"""Training sets enlarged by deformed copies, so that the hashtron is not the only one to learn from these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.hashtron.tasks import Samples
from tithe.hashtron.tuples.warps import WARPS, identity, warp

_BLOCK = 16  # images that ``warp`` takes at once
_EDGE = 28  # of the images for which the deformations are meant


def enlarged(samples: Samples, copies: int, name: str, seed: int) -> Samples:
    """The images, and so many deformed copies of each; the deformations are those of the hashtron."""
    X = [samples.X, *(_deformed(samples.X, name, seed + 1000 * copy) for copy in range(1, copies + 1))]
    return Samples(np.concatenate(X), np.tile(samples.y, copies + 1))


def _deformed(images: NDArray[np.uint8], name: str, seed: int) -> NDArray[np.uint8]:
    n, height, width = images.shape
    part = min(height, width) / _EDGE
    warps = replace(WARPS[name], shift=WARPS[name].shift * part, elastic=WARPS[name].elastic * part)
    fields = warps.draw(n, (height, width), seed)
    maps = np.tile(identity(), (_BLOCK, 1))
    grey = np.zeros((height, width, _BLOCK), np.int16)
    out = np.empty_like(images)
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(n, start + _BLOCK))
        count = rows.stop - start
        warp(images[rows], maps[:count], fields.take(rows), 0, grey)
        out[rows] = grey[:, :, :count].transpose(2, 0, 1)
    return out
