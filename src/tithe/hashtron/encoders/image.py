"""Grey images as bits: scaled to 0..255, then seen as ``ImageBits`` sees them; deformed a little to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.hashtron.tuples.images import ImageBits
from tithe.hashtron.tuples.selection import in_windows
from tithe.hashtron.tuples.tables import Sharing
from tithe.hashtron.tuples.warps import Warps

__all__ = ["ImageEncoder"]

_EDGE = 28  # of the images for which the usual deformations are meant
_WHITE = 255
_SHARED = 3  # lines and columns of windows that use the same tables
_WINDOW = 0.3  # of the smaller edge


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
        """Images (n, H, W) or (n, H·W), scaled to uint8 (n, H, W)."""
        X = X.reshape(len(X), *self.seen.shape)
        if X.dtype == np.uint8 and (self.low, self.high) == (0, _WHITE):
            return X
        if self.high == self.low:
            return np.zeros(X.shape, np.uint8)
        scaled = (X.astype(np.float32) - np.float32(self.low)) * np.float32(_WHITE / (self.high - self.low))
        return np.asarray(np.clip(np.rint(scaled), 0, _WHITE), np.uint8)

    def blocks(self, packed: NDArray[np.uint8], *, seed: int | None = None) -> NDArray[np.uint8]:
        """Images of ``packed`` as (⌈n/16⌉, D, 16); deformed at random with a seed."""
        return self.seen.blocks(packed, None if seed is None else self.warps, seed or 0)

    def draw(self, count: int, width: int, random: np.random.Generator) -> NDArray[np.int32]:
        """Random tuples of bits of one window each, (count, width)."""
        return in_windows(count, width, self.seen.planes, self.seen.grid, self.windows, _SHARED - 1, random)

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain JSON types; ``from_dict`` reads it back."""
        return {"kind": "image", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageEncoder:
        """The encoder that ``to_dict`` wrote."""
        seen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data["seen"].items()
        }
        warps = None if data["warps"] is None else Warps(**data["warps"])
        return cls(ImageBits(**seen), data["low"], data["high"], warps)
