"""From samples to bits: what a model looks at. Encoders are fitted to data, can be inspected, and are saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tithe.errors import CorruptFileError
from tithe.hashtron.encoders.columns import ColumnBits
from tithe.hashtron.encoders.image import ImageEncoder
from tithe.hashtron.tuples.tables import Sharing

__all__ = ["ColumnBits", "Encoder", "ImageEncoder", "encoder_from_dict"]


class Encoder(Protocol):
    """What a model needs of an encoder; ``ColumnBits`` and ``ImageEncoder`` are the two that there are."""

    @property
    def length(self) -> int:
        """D: bits of a sample."""

    @property
    def features(self) -> int:
        """Columns, or pixels, of a sample."""

    @property
    def bytes(self) -> int:
        """What has to be kept to encode."""

    def names(self) -> list[str]:
        """What each bit says of a sample, (D,)."""

    def packed(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Samples in the compact form, one row each, in which they are kept while a model learns."""

    def blocks(self, packed: NDArray[np.uint8], *, seed: int | None = None) -> NDArray[np.uint8]:
        """Rows of ``packed`` as (⌈n/16⌉, D, 16) for ``Tables``; with a seed, slightly deformed, to learn from."""

    @property
    def sharing(self) -> Sharing:
        """Which windows use the same tables."""

    def draw(
        self, count: int, width: int, random: np.random.Generator, chances: NDArray[np.float64] | None = None
    ) -> NDArray[np.int32]:
        """Random tuples of bits, (count, width); of fewer bits where there are not so many.

        Columns are drawn in proportion to ``chances``, (D,), where they are given.
        """

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain JSON types."""


_KINDS: dict[str, Any] = {"columns": ColumnBits, "image": ImageEncoder}


def encoder_from_dict(data: Mapping[str, Any]) -> Encoder:
    """The encoder that ``to_dict`` wrote; ``CorruptFileError`` where it is none.

    >>> encoder_from_dict(ColumnBits.fit(np.eye(3)).to_dict()).length
    3
    """
    try:
        encoder: Encoder = _KINDS[data["kind"]].from_dict(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptFileError(f"no encoder can be read from it: {type(error).__name__}: {error}") from error
    return encoder
