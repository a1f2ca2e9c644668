"""How large a model becomes and how long it learns: by preset, by what the samples are, and by how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tithe.errors import InvalidValueError
from tithe.hashtron.tuples.kernels import FIELD

__all__ = ["PRESETS", "Design", "design_columns", "design_image", "levels_within"]

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


class _Preset(NamedTuple):
    kib: int
    width: int
    log_size: int
    epochs: int
    candidates: int


#: What a preset means for images, by name. The bytes bound the models of tables of columns, too.
PRESETS = {
    "tiny": _Preset(kib=16, width=9, log_size=6, epochs=12, candidates=7),
    "small": _Preset(kib=64, width=9, log_size=7, epochs=12, candidates=7),
    "best": _Preset(kib=1024, width=10, log_size=10, epochs=16, candidates=7),
}


def preset(name: str) -> _Preset:
    """The preset of this name; ``InvalidValueError`` where there is none."""
    if name not in PRESETS:
        raise InvalidValueError(f"preset is {name!r}; use one of {', '.join(map(repr, PRESETS))}")
    return PRESETS[name]


def design_image(name: str, classes: int, width: int | None) -> Design:
    """For images, by preset; ``width`` replaces the preset's, ``InvalidValueError`` where it is over 10."""
    if width is not None and width > FIELD:
        raise InvalidValueError(f"tuple_bits is {width}; for images use at most {FIELD}, or None")
    kib, usual, log_size, epochs, candidates = preset(name)
    width = usual if width is None else width
    log_size = min(log_size, width)
    return Design(_count(kib * 1024, classes, width, log_size), width, log_size, epochs, candidates)


def design_columns(name: str, classes: int, samples: int, spent: int, width: int | None) -> Design:
    """For columns: the more samples, the wider are the tuples, for which there are enough then.

    Args:
        name: of the preset.
        classes: how many.
        samples: to learn from.
        spent: bytes that the encoder takes.
        width: instead of the usual one.
    """
    width = _usual_width(samples) if width is None else width
    log_size = min(width, _LOG_SIZE)
    count = min(_count(preset(name).kib * 1024 - spent, classes, width, log_size), _MOST)
    epochs = max(_EPOCHS[0], min(_EPOCHS[1], round(_VISITS / samples)))
    return Design(count, width, log_size, epochs, _CANDIDATES, _CHOSEN)


_MOST, _LOG_SIZE, _CANDIDATES, _CHOSEN = 4096, 10, 2, 0.5
_EPOCHS, _VISITS = (6, 20), 200_000  # least and most; samples that are visited between them


def _usual_width(samples: int) -> int:
    return 4 if samples < 5000 else 6


def levels_within(name: str, columns: int) -> int:
    """Levels of a number, so that they take a quarter of the preset's bytes at most, but one in any case."""
    return max(1, min(_LEVELS, int(preset(name).kib * 1024 * _LEVELS_SHARE / (8 * max(1, columns)))))


def _count(size: int, classes: int, width: int, log_size: int) -> int:
    """Tuples whose tables, places and salts take ``size`` bytes."""
    return max(_LEAST, int(size / (classes * 2**log_size / 8 + 2 * width + 4)))
