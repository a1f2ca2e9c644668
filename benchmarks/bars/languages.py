"""Bar of the languages: a model for each lexicon, better than each letter's usual phonemes, nothing trained twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import languages
from benchmarks.bars.bar import Reading, bar
from tithe.lattice.usage import cores

_LEXICA, _MOST_MINUTES = 140, 20
_LEAST_GAIN, _LEAST_FEWER = 5.0, 130


@bar("languages")
def every_language() -> Iterator[Reading]:
    """All lexica by the command, which is killed with all its workers on the way and run again."""
    with tempfile.TemporaryDirectory() as folder:
        found = languages.measure(Path(folder), jobs=min(2, cores()))
    told = languages.figures(found.rows)
    yield Reading(
        "lexica that end with a model", f"{told['models']} of {len(found.rows)}", f"{_LEXICA}",
        told["models"] == len(found.rows) == _LEXICA,
    )  # fmt: skip
    minutes = found.seconds / 60
    yield Reading("time for all, 2 cores", f"{minutes:.1f} min", f"≤ {_MOST_MINUTES} min", minutes <= _MOST_MINUTES)
    figure = f"{told['median_gain']:.1f} points ({told['median_majority']:.1%} to {told['median_eval']:.1%})"
    what = "letters right in held-out words over each letter's usual phonemes, median"
    yield Reading(what, figure, f"≥ {_LEAST_GAIN:g} points", told["median_gain"] >= _LEAST_GAIN)
    rate = f"{told['median_error_rate']:.1%} instead of {told['median_majority_error_rate']:.1%}"
    yield Reading(
        "fewer phoneme errors than by usual phonemes", f"in {told['fewer_errors']} languages, median {rate}",
        f"in ≥ {_LEAST_FEWER}", told["fewer_errors"] >= _LEAST_FEWER,
    )  # fmt: skip
    yield Reading(
        "trained again of what was finished when it was killed", f"{found.touched} of {found.killed_after}", "none",
        not found.touched and found.killed_after > 0,
    )  # fmt: skip
    figure = f"{found.first} of {found.runs}"
    yield Reading("runs that begin with the last layer", figure, "all", found.first == found.runs > 0)
