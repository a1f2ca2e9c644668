"""How large a model becomes and how long it learns: by preset, by what the samples are, and by how many there are."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import NamedTuple

from tithe.errors import InvalidValueError

__all__ = ["PRESETS", "Design", "design_columns", "design_image", "levels_within"]

_MOST_KIB = 1 << 20
_LEAST = 16  # tuples that there are in any case
_LEVELS = 16
_LEVELS_SHARE = 0.25  # of the bytes that may go into the levels of numbers


@dataclass(frozen=True)
class Design:
    """What a model is made of.

    Attributes:
        tuples: how many.
        width: bits of each.
        log_size: binary logarithm of the cells of a table; wider addresses are hashed.
        epochs: passes over the samples.
        candidates: tuples that are drawn for each one that is chosen, the purest; 1 takes all.
        chosen: share of the tuples that are chosen so; the others are taken as they come.
    """

    tuples: int
    width: int
    log_size: int
    epochs: int
    candidates: int
    chosen: float = 1.0


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


def design_image(preset: str | int, classes: int, spent: int, width: int | None) -> Design:
    """For images, by preset; ``width`` replaces the usual one, and the encoder takes ``spent`` bytes."""
    size = allowed(preset)
    usual = _IMAGES[max(kib for kib in _IMAGES if kib * 1024 <= size)]
    width = usual.width if width is None else width
    log_size = min(usual.log_size, width)
    return Design(_count(size - spent, classes, width, log_size), width, log_size, usual.epochs, _IMAGE_CANDIDATES)


def design_columns(preset: str | int, classes: int, samples: int, spent: int, width: int | None) -> Design:
    """For columns: the more samples, the wider are the tuples, for which there are enough then.

    Args:
        preset: its name, or KiB.
        classes: how many.
        samples: to learn from.
        spent: bytes that the encoder takes.
        width: instead of the usual one.
    """
    width = _usual_width(samples) if width is None else width
    log_size = min(width, _LOG_SIZE)
    count = min(_count(allowed(preset) - spent, classes, width, log_size), _MOST)
    epochs = max(_EPOCHS[0], min(_EPOCHS[1], round(_VISITS / samples)))
    return Design(count, width, log_size, epochs, _CANDIDATES, _CHOSEN)


_MOST, _LOG_SIZE, _CANDIDATES, _CHOSEN = 4096, 10, 2, 0.5
_EPOCHS, _VISITS = (6, 20), 200_000  # least and most; samples that are visited between them


def _usual_width(samples: int) -> int:
    return 4 if samples < 5000 else 6


def levels_within(preset: str | int, columns: int) -> int:
    """Levels of a number, so that they take a quarter of the preset's bytes at most, but one in any case."""
    return max(1, min(_LEVELS, int(allowed(preset) * _LEVELS_SHARE / (8 * max(1, columns)))))


def _count(size: int, classes: int, width: int, log_size: int) -> int:
    """Tuples whose tables, places and salts take ``size`` bytes."""
    return max(_LEAST, int(size / (classes * 2**log_size / 8 + 2 * width + 4)))
