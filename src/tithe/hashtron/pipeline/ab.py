"""A/B comparison of two settings of a pipeline, pair by pair, kept in a ledger so that it can be interrupted."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tithe.errors import InvalidValueError, TitheError
from tithe.hashtron.pipeline.events import SYSTEM
from tithe.hashtron.pipeline.pipeline import Pipeline
from tithe.hashtron.pipeline.rollout import SHARES, Look, Outcome, Pair, Rollout, rollout
from tithe.hashtron.pipeline.trial_sets import Trial, TrialSet
from tithe.ledger import Ledger

__all__ = ["PAIR", "compare", "run_name", "train"]

PAIR, LOOK = "pair", "look"

_VALIDATION = 0.2  # of the training data, for settings that accept by other samples


def compare(
    sets: Sequence[TrialSet],
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    seeds: Sequence[int] = (0,),
    ledger: Ledger | None = None,
    shares: Sequence[float] = SHARES,
    tolerance: float = 0.0,
    alpha: float = 0.05,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Rollout:
    """Train with two settings on the same splits of the same data sets, from the same networks; see :func:`rollout`.

    Args:
        sets: data sets with different names.
        a: settings in use, keyword arguments of ``Pipeline`` as plain data.
        b: settings that should take their place.
        seeds: for each data set one pair with each.
        ledger: gets an event of kind ``pair`` for each pair, system ``hashtron``; pairs that are there already, of the
            same settings and data, are not trained again.
        shares: of the data sets after each stage.
        tolerance: by how much held-out accuracy may fall.
        alpha: the probability that b is stopped though it is as good.
        progress: called with the number of pairs that are done.
        note: told of a data set that is left out, and why.

    Returns:
        What was found. A data set that cannot be had, or that the settings cannot be used on, is left out. Raises
        ``InvalidValueError`` for settings that are not plain or that ``Pipeline`` refuses, for sets of one name, and
        where all are left out. O(data sets · seeds) trainings of each.

    Source: MISSION H6, H10.

    >>> from tithe.hashtron.pipeline.trial_sets import from_arrays
    >>> found = compare([from_arrays("thirds", np.arange(90), np.arange(90) // 3 % 2)], {}, {"direction": "forward"})
    >>> len(found.pairs), found.stopped
    (1, False)
    """
    for settings in (a, b):
        Pipeline(**settings)
    by_name = {each.name: each for each in sets}
    run, known = run_name(a, b), _known(ledger, sets, a, b, seeds)
    done = 0

    def measure(name: str, seed: int) -> Pair:
        trial, outcomes = by_name[name].make(seed), {}
        turns = [("a", a), ("b", b)]
        for arm, settings in turns if np.random.default_rng([seed, *name.encode()]).integers(2) else turns[::-1]:
            outcomes[arm] = train(trial, settings, seed)
        pair = Pair(name, seed, outcomes["a"], outcomes["b"])
        if ledger is not None:
            ledger.append(run, SYSTEM, PAIR, {"key": _key(by_name[name], seed, a, b), **asdict(pair)})
        return pair

    def told(name: str, seed: int) -> Pair | None:
        nonlocal done
        try:
            pair = known.get((name, seed)) or measure(name, seed)
        except TitheError as error:
            pair = None
            if note is not None:
                note(f"{name} is left out: {error}")
        done += 1
        if progress is not None:
            progress(done)
        return pair

    def looked(found: Look) -> None:
        if ledger is not None:
            ledger.append(run, SYSTEM, LOOK, asdict(found))

    return rollout(
        [each.name for each in sets], told, seeds=seeds, shares=shares, tolerance=tolerance, alpha=alpha, look=looked
    )


def train(trial: Trial, settings: Mapping[str, Any], seed: int) -> Outcome:
    """Train with some settings, and see what held-out samples say that training has not seen in any way.

    Where the settings accept a neuron by other samples, these are a fifth of the training data. O(one training).

    >>> from tithe.hashtron.pipeline.trial_sets import from_arrays
    >>> trial = from_arrays("thirds", np.arange(90), np.arange(90) // 3 % 2).make(0)
    >>> train(trial, {}, seed=0).train > 0.5
    True
    """
    pipeline = Pipeline(**settings)
    X, y, validation = trial.X, trial.y, None
    if pipeline.accept != "always":
        last = np.random.default_rng([seed, 1]).random(len(y)) < _VALIDATION
        X, y, validation = trial.X[~last], trial.y[~last], (trial.X[last], trial.y[last])
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what it says of each run is not asked here
        network = pipeline.fit(trial.network, X, y, seed=seed, held_out=validation).network
    seconds = time.perf_counter() - start
    return Outcome(*trial.accuracies(network), seconds)


def run_name(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """The run of a comparison in the ledger: another for other settings.

    >>> run_name({}, {"sweeps": 2})
    'ab d53a66e0d8a6'
    """
    return f"ab {_digest([a, b])[:12]}"


def _known(
    ledger: Ledger | None, sets: Sequence[TrialSet], a: Mapping[str, Any], b: Mapping[str, Any], seeds: Sequence[int]
) -> dict[tuple[str, int], Pair]:
    if ledger is None:
        return {}
    keys = {_key(each, seed, a, b): (each.name, seed) for each in sets for seed in seeds}
    found = {}
    for event in ledger.read(run=run_name(a, b), system=SYSTEM, kind=PAIR):
        if event.payload.get("key") in keys:
            name, seed = keys[event.payload["key"]]
            found[name, seed] = Pair(name, seed, Outcome(**event.payload["a"]), Outcome(**event.payload["b"]))
    return found


def _key(each: TrialSet, seed: int, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return _digest([a, b, each.name, each.data, seed])


def _digest(content: Any) -> str:
    try:
        text = json.dumps(content, sort_keys=True, default=_as_dict)
    except TypeError as error:
        raise InvalidValueError(
            f"settings are not plain ({error}); give the policy by its name, or a mapping"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__}")
