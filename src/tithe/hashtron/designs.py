"""How large a model becomes and how long it learns: by preset, by what the samples are, and by how many there are."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import NamedTuple

from tithe.errors import InvalidValueError
from tithe.hashtron.tuples.tables import tuple_bytes

__all__ = ["LEVELS", "PRESETS", "Design", "allowed", "design_columns", "design_image"]

_MOST_KIB = 1 << 20
_LEAST = 16  # tuples for which there must be room
_BITS_SHARE = 0.25  # of the bytes, that what makes the bits of columns may take at most
# For columns:
_CANDIDATES, _LOG_SIZE = 2, 10
_ENOUGH, _MOST = 500, 4096  # tuples for which width is given up; tuples above which more are of no use
_COPIES = 32  # of a tuple, where there are few bits
_WIDTHS, _LOG_FILLED = (3, 8), 4  # least and most; binary logarithm of the samples of a class for each cell
_EPOCHS, _PASSED = (6, 10), 60_000  # least and most; samples that all passes together see, where that lies between


@dataclass(frozen=True)
class Design:
    """What a model is made of.

    Attributes:
        tuples: how many.
        width: bits of each.
        log_size: binary logarithm of the cells of a table; wider addresses are hashed.
        epochs: passes over the samples.
        candidates: tuples that are drawn for each one that is kept, the purest; 1 keeps all.
        bits_bytes: that the encoder may take.
    """

    tuples: int
    width: int
    log_size: int
    epochs: int
    candidates: int
    bits_bytes: int


#: Levels of a number, at most.
LEVELS = 32

#: What a preset means: KiB of the model at most.
PRESETS = {"tiny": 16, "small": 64, "best": 1024}


class _Image(NamedTuple):
    width: int
    log_size: int
    epochs: int


# For images, by the KiB from which on it serves; chosen on held-out parts of MNIST's and Fashion-MNIST's training sets.
_IMAGES = {0: _Image(9, 6, 15), 32: _Image(9, 7, 15), 192: _Image(11, 9, 15)}
_IMAGE_CANDIDATES = 7


def allowed(preset: str | int) -> int:
    """Bytes that a preset, by name or as a number of KiB, allows; ``InvalidValueError`` where it means nothing."""
    if isinstance(preset, str) and preset in PRESETS:
        return PRESETS[preset] * 1024
    if isinstance(preset, numbers.Integral) and not isinstance(preset, bool) and 1 <= preset <= _MOST_KIB:
        return int(preset) * 1024
    names = ", ".join(map(repr, PRESETS))
    raise InvalidValueError(f"preset is {preset!r}; use {names}, or a whole number of KiB up to {_MOST_KIB}")


def design_image(preset: str | int, classes: int, length: int, spent: int, width: int | None) -> Design:
    """For images of ``length`` bits, by preset; ``width`` replaces the usual one; the encoder takes ``spent`` bytes."""
    size = allowed(preset)
    usual = _IMAGES[max(kib for kib in _IMAGES if kib * 1024 <= size)]
    width = usual.width if width is None else width
    log_size = _narrowed(size - spent, classes, width, length, min(usual.log_size, width))
    count = _count(size - spent, classes, width, log_size, length)
    return Design(count, width, log_size, usual.epochs, _IMAGE_CANDIDATES, spent)


def design_columns(
    preset: str | int, classes: int, samples: float, length: int, spent: int, width: int | None
) -> Design:
    """For columns: the more samples of a class, the wider are the tuples, as long as there is room for many of them.

    Args:
        preset: its name, or KiB.
        classes: how many.
        samples: to learn from, or how many the weighted ones amount to.
        length: bits of a sample.
        spent: bytes that the encoder would take with all of them.
        width: instead of what the samples suggest.

    Raises ``InvalidValueError`` where the preset has no room for 16 tuples.
    """
    bits_bytes = min(spent, int(allowed(preset) * _BITS_SHARE))
    size = allowed(preset) - bits_bytes
    if width is None:
        width = max(_WIDTHS[0], min(_WIDTHS[1], int(math.log2(max(1, samples / classes))) - _LOG_FILLED))
        while width > _WIDTHS[0] and _count(size, classes, width, width, length) < _ENOUGH:
            width -= 1
    width = min(width, length)
    log_size = _narrowed(size, classes, width, length, min(width, _LOG_SIZE))
    count = _count(size, classes, width, log_size, length)
    count = min(count, _MOST, max(_LEAST, _COPIES * math.comb(length, width)))
    epochs = max(_EPOCHS[0], min(_EPOCHS[1], round(_PASSED / samples)))
    return Design(count, width, log_size, epochs, _CANDIDATES, bits_bytes)


def _narrowed(size: int, classes: int, width: int, length: int, log_size: int) -> int:
    """``log_size``, or less where there would be room for fewer than 16 tuples."""
    while log_size > 1 and _count(size, classes, width, log_size, length) < _LEAST:
        log_size -= 1
    if _count(size, classes, width, log_size, length) < _LEAST:
        needed = math.ceil(_LEAST * tuple_bytes(1 << log_size, classes, width, length) / (1 - _BITS_SHARE) / 1024) + 1
        raise InvalidValueError(
            f"preset leaves {size} bytes for the neurons, too few for {classes} classes: use preset={needed} or more"
        )
    return log_size


def _count(size: int, classes: int, width: int, log_size: int, length: int) -> int:
    """Tuples whose tables, places and salts take ``size`` bytes."""
    return int(size / tuple_bytes(1 << log_size, classes, width, length))
