"""Train one language: read its lexicon, align it, train a network backward, measure it on held-out words, save it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import CorruptFileError, DataUnavailableError, InvalidStateError, TitheError
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.hashtron.languages.baseline import letter_accuracy, majority
from tithe.hashtron.languages.candidates import seen_candidates
from tithe.hashtron.languages.contexts import REACH, seen_contexts
from tithe.hashtron.languages.error_rate import phoneme_error_rate
from tithe.hashtron.languages.lexicon import parse
from tithe.hashtron.languages.pronouncer import Pronouncer, load_pronouncer, save_pronouncer
from tithe.hashtron.languages.ranking import TOPOLOGY, Settings, questions
from tithe.hashtron.languages.rows import Row
from tithe.hashtron.languages.samples import LetterSamples, letter_samples, spoken
from tithe.hashtron.network import Network
from tithe.hashtron.pipeline.pipeline import Pipeline
from tithe.locks import lock

__all__ = ["finished", "model_path", "train_language"]

_RECIPE = 1  # of what is done with settings; a model of another one is trained again
_PATIENCE, _PAUSE = 120.0, 0.2  # seconds


def model_path(folder: str | os.PathLike[str], language: str) -> Path:
    """Where the model of a language is in a folder of models.

    >>> model_path("languages", "pol").name
    'pol.pronouncer'
    """
    return Path(folder) / f"{language}.pronouncer"


def finished(lexicon: str | os.PathLike[str], out: str | os.PathLike[str], settings: Settings) -> Row | None:
    """The row of a language that was trained on this very lexicon with these settings; ``None`` where it is to be done.

    Args:
        lexicon: the file.
        out: the folder of models.
        settings: that are wanted.

    Returns:
        The row. A model that is damaged, or cannot be read, is to be done again. O(size of both files).
    """
    path = model_path(out, Path(lexicon).stem)
    try:
        _, about = load_pronouncer(path)
        if about["made of"] != _made_of(_read(Path(lexicon)), settings):
            return None
        return replace(Row.from_plain(about["row"]), bytes=path.stat().st_size)
    except (TitheError, OSError, LookupError, TypeError):
        return None


def train_language(
    lexicon: str | os.PathLike[str], out: str | os.PathLike[str], settings: Settings | None = None
) -> Row:
    """Train the model of one language, unless it is there.

    A run that was interrupted, ``kill -9`` included, goes on where it was. Every neuron that is trained becomes a
    record in the sum cache ``sums/<language>`` of the folder.

    Args:
        lexicon: the file; the language is called as it is, without the ending.
        out: the folder of models, made where there is none.
        settings: by default ``Settings()``.

    Returns:
        What was measured. Where there can be no model, the row says why; whatever is wrong with a lexicon or a file
        raises nothing. O(sweeps · neurons · letters · candidates).

    Source: MISSION H8.

    >>> import tempfile
    >>> train_language("no/such.tsv", tempfile.mkdtemp()).error[:36]
    'cannot read no/such.tsv (No such fil'
    """
    lexicon, out, settings = Path(lexicon), Path(out), settings or Settings()
    start, runs = time.perf_counter(), out / "runs" / lexicon.stem
    try:
        with _alone(runs):
            done = finished(lexicon, out, settings)
            return _trained(lexicon, out, settings, runs, start) if done is None else done
    except (TitheError, OSError) as error:
        return Row(lexicon.stem, seconds=time.perf_counter() - start, error=str(error))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have a folder for oneself; wait for whoever is at work there, such as a worker that outlived its scheduler."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            held = lock(folder)
            break
        except InvalidStateError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
    with closing(held):
        yield


def _trained(lexicon: Path, out: Path, settings: Settings, runs: Path, start: float) -> Row:
    language, data = lexicon.stem, _read(lexicon)
    words, made_of = parse(data, str(lexicon)), _made_of(data, settings)
    samples = letter_samples(words, seed=settings.seed, width=2 * REACH + 1, held_out=settings.held_out)
    # Another lexicon, or other settings, are another run: what is left of an old one is never gone on with.
    run = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    model, remarks = _fitted(samples, settings, runs / run, out / "sums" / language)
    note = "; ".join([words.report(), *remarks] if words.dropped else remarks)
    row = Row(language, len(words), samples.share, **_measured(samples, model), note=note)
    row = replace(row, seconds=time.perf_counter() - start)
    size = save_pronouncer(model, model_path(out, language), {"made of": made_of, "row": asdict(row)})
    shutil.rmtree(runs, ignore_errors=True)
    return replace(row, bytes=size)


def _fitted(samples: LetterSamples, settings: Settings, run: Path, sums: Path) -> tuple[Pronouncer, tuple[str, ...]]:
    """A trained model, and what the pipeline warned of."""
    contexts = seen_contexts(samples.train.windows, settings.least)
    candidates = seen_candidates(samples.train, len(samples.alphabet.letters) + 2, settings.most)
    network = Network.random(TOPOLOGY, np.random.default_rng(settings.seed))
    remarks: tuple[str, ...] = ("no letter has a choice",)
    X, y = questions(contexts, candidates, samples.train)
    if len(y):
        held_out = questions(contexts, candidates, samples.held_out)
        pipeline = Pipeline("backward", settings.policy, "majority", settings.sweeps)
        fit = partial(
            pipeline.fit, network, X, y, seed=settings.seed, held_out=held_out if len(held_out[1]) else None, folder=run
        )
        with SumCache(sums) as cache, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # they are in the run
            try:
                found = fit(cache=cache)
            except (CorruptFileError, InvalidStateError):  # what is left of a run is of no use: it begins anew
                shutil.rmtree(run)
                found = fit(cache=cache)
        network, remarks = found.network, found.warnings
    return Pronouncer(samples.alphabet, samples.chunks, candidates, contexts, network), remarks


def _measured(samples: LetterSamples, model: Pronouncer) -> dict[str, Any]:
    train, held_out = samples.train, samples.held_out
    said, usual = model.labels(held_out.windows), majority(train, held_out.windows)
    constant = np.full_like(said, np.bincount(train.labels[train.labels >= 0]).argmax())

    def errors(labels: NDArray[np.int64]) -> float:
        return phoneme_error_rate(spoken(samples.chunks, labels, held_out.edges), held_out.phonemes)

    return {
        "train": letter_accuracy(train, model.labels(train.windows)), "eval": letter_accuracy(held_out, said),
        "prior": letter_accuracy(held_out, constant), "majority": letter_accuracy(held_out, usual),
        "error_rate": errors(said), "majority_error_rate": errors(usual),
    }  # fmt: skip


def _made_of(data: bytes, settings: Settings) -> dict[str, Any]:
    """What a model depends on, as JSON has it."""
    lexicon: str = hashlib.sha256(data).hexdigest()
    return {"recipe": _RECIPE, "lexicon": lexicon, "settings": asdict(settings)}


def _read(lexicon: Path) -> bytes:
    try:
        return lexicon.read_bytes()
    except OSError as error:
        raise DataUnavailableError(
            f"cannot read {lexicon} ({error.strerror}): give a lexicon that is there and readable"
        ) from error
