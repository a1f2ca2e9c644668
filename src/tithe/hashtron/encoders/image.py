"""Grey images as bits: scaled to 0..255, then seen as ``ImageBits`` sees them; deformed a little to learn from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.encoders.checks import fields, number, truth, whole, wholes
from tithe.hashtron.tuples.images import ImageBits
from tithe.hashtron.tuples.selection import in_windows
from tithe.hashtron.tuples.tables import Sharing
from tithe.hashtron.tuples.warps import Warps

__all__ = ["ImageEncoder"]

_EDGE = 28  # of the images for which the usual deformations are meant
_WHITE = 255
_SHARED = 3  # lines and columns of windows that use the same tables
_WINDOW = 0.3  # of the smaller edge
_CHUNK = 1024  # images that are scaled at once
_AMOUNTS = ("shift", "rotate", "scale", "shear", "elastic")  # of deformation
_NARROW = 0.1  # of the range of grey values, of which images to predict span more
_LONGEST, _WIDEST = 1 << 15, 16  # edge of an image, frame, that a file may name


@dataclass(frozen=True)
class ImageEncoder:
    """How images become bits; made by ``ImageEncoder.fit``.

    Attributes:
        seen: the bits of an image of 0..255.
        low: grey value that becomes 0, as what is darker.
        high: grey value that becomes 255, as what is brighter.
        warps: how images to learn from are deformed; ``None`` for not at all.

    >>> images = np.random.default_rng(0).integers(0, 17, (20, 8, 8))
    >>> encoder = ImageEncoder.fit(images)
    >>> encoder.length, encoder.windows, int(encoder.packed(images).max())
    (2736, (2, 3), 255)
    """

    seen: ImageBits
    low: float
    high: float
    warps: Warps | None

    @classmethod
    def fit(
        cls, X: NDArray[Any], *, seen: ImageBits | None = None, warps: Warps | None = None, deskew: bool = False
    ) -> ImageEncoder:
        """Learn the range of grey values.

        Args:
            X: images (n, H, W), of any real dtype.
            seen: what is seen of them; its shape and ``deskew`` are replaced.
            warps: deformations of images of 28×28 pixels, for others in proportion; ``None`` for none at all.
            deskew: whether to set slanted images upright first.

        Returns:
            The encoder. O(n · H · W).
        """
        shape = (int(X.shape[1]), int(X.shape[2]))
        part = min(shape) / _EDGE
        if warps is not None:
            warps = replace(warps, shift=warps.shift * part, elastic=warps.elastic * part)
        seen = replace(ImageBits(shape) if seen is None else seen, shape=shape, deskew=deskew)
        return cls(seen, float(X.min()), float(X.max()), warps)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.seen.shape

    @property
    def length(self) -> int:
        """D: bits of an image."""
        return self.seen.length

    @property
    def sharing(self) -> Sharing:
        """A table serves nine windows side by side."""
        return Sharing(_SHARED, _SHARED, self.seen.grid[1])

    @property
    def bytes(self) -> int:
        """What has to be kept to encode: two grey values, and two bytes for each threshold."""
        return 16 + 2 * (len(self.seen.bright) + len(self.seen.steep))

    @property
    def features(self) -> int:
        """Pixels of an image."""
        return self.seen.shape[0] * self.seen.shape[1]

    @property
    def windows(self) -> tuple[int, int]:
        """Edges of the windows from which tuples are drawn."""
        edge = max(2, round(_WINDOW * min(self.seen.shape)))
        return edge, edge + 1

    def names(self) -> list[str]:
        """What each bit says of an image, (D,)."""
        frame, (height, width) = self.seen.frame, self.seen.grid
        places = [f"at ({y - frame}, {x - frame})" for y in range(height) for x in range(width)]
        return [f"{plane} {place}" for plane in self.seen.names() for place in places]

    def packed(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Images (n, H, W) or (n, H·W), scaled to uint8 (n, H, W); warns where they look scaled otherwise already."""
        X = X.reshape(len(X), *self.seen.shape)
        self._warn_of_another_range(X)
        if X.dtype == np.uint8 and (self.low, self.high) == (0, _WHITE):
            return X
        out = np.zeros(X.shape, np.uint8)
        if self.high == self.low:
            return out
        half = self.high / 2 - self.low / 2  # of the range, which may be too large for float64
        for start in range(0, len(X), _CHUNK):
            part = slice(start, start + _CHUNK)
            scaled = (X[part].astype(np.float64) / 2 - self.low / 2) / half * _WHITE
            out[part] = np.clip(np.rint(scaled), 0, _WHITE)
        return out

    def _warn_of_another_range(self, X: NDArray[Any]) -> None:
        span = float(X.max()) / 2 - float(X.min()) / 2
        if 0 < span < _NARROW * (self.high / 2 - self.low / 2):
            warnings.warn(
                f"X spans the grey values {X.min():g} to {X.max():g}, the images of fit {self.low:g} to {self.high:g}: "
                "scale both in the same way",
                stacklevel=2,
            )

    def blocks(self, packed: NDArray[np.uint8], *, seed: int | None = None) -> NDArray[np.uint8]:
        """Images of ``packed`` as (⌈n/16⌉, D, 16); deformed at random with a seed."""
        return self.seen.blocks(packed, None if seed is None else self.warps, seed or 0)

    def draw(
        self, count: int, width: int, random: np.random.Generator, chances: NDArray[np.float64] | None = None
    ) -> NDArray[np.int32]:
        """Random tuples of bits of one window each, (count, width), all bits alike."""
        return in_windows(count, width, self.seen.planes, self.seen.grid, self.windows, _SHARED - 1, random)

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain JSON types; ``from_dict`` reads it back."""
        return {"kind": "image", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageEncoder:
        """The encoder that ``to_dict`` wrote; ``TypeError`` or ``ValueError`` where it did not."""
        seen, low, high, warps = fields(data, "seen", "low", "high", "warps")
        if not number(low, "low") <= number(high, "high"):
            raise ValueError(f"the grey values {low} to {high} do not ascend")
        return cls(_seen(seen), float(low), float(high), None if warps is None else _warps(warps))


def _seen(data: Any) -> ImageBits:
    shape, bright, steep, frame, spread, deskew = fields(
        data, "shape", "bright", "steep", "frame", "spread", "deskew"
    )  # fmt: skip
    if not isinstance(shape, list | tuple) or len(shape) != 2:
        raise ValueError("shape is no pair of a height and a width")
    height, width = (whole(edge, "an edge", 1, _LONGEST) for edge in shape)
    bright, steep = wholes(bright, "bright", 0, _WHITE), wholes(steep, "steep", 0, _WHITE)
    if not bright and not steep:
        raise ValueError("there are no levels of brightness or steepness")
    frame = whole(frame, "frame", 1, _WIDEST)
    return ImageBits((height, width), bright, steep, frame, truth(spread, "spread"), truth(deskew, "deskew"))


def _warps(data: Any) -> Warps:
    *amounts, mirror = fields(data, *_AMOUNTS, "mirror")
    if any(not 0 <= number(amount, "a deformation") <= _LONGEST for amount in amounts):
        raise ValueError("deformations are not all between 0 and the longest edge")
    return Warps(**dict(zip(_AMOUNTS, amounts, strict=True)), mirror=truth(mirror, "mirror"))
