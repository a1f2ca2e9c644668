"""Which phase a run is in, and whether held-out accuracy will rise: guesses from accuracies so far, experimental."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.records import Record, Rows, as_rows
from tithe.hashtron.backward.trend import trend
from tithe.meter.intervals import Interval, interval

__all__ = ["Evaluation", "Phase", "Predictor", "evaluated", "fit_predictor", "phase"]

Phase = Literal["learning", "generalising", "memorising", "resting"]

_WINDOW = _AHEAD = 30  # trainings
_SURE = 2.0  # standard errors that a slope must be away from 0
_ROUNDS, _RIDGE = 25, 1.0
_SIGNS = 6
_TRIVIAL = ("yes", "no", "as before", "not as before")


def phase(records: Rows | Sequence[Record], *, window: int = _WINDOW) -> Phase:
    """The phase of the latest run, by the slopes of its last accuracies.

    Args:
        records: in the order of training, measured on held-out data.
        window: how many of the last trainings are looked at, at least 3.

    Returns:
        ``"learning"`` where training and held-out accuracy rise, ``"generalising"`` where only the latter does,
        ``"memorising"`` where only the former does, else ``"resting"``; to rise is to have a slope of more than two
        standard errors. These are taken from single trainings, which depend on each other, so this is a description
        and no test. Raises ``InvalidValueError`` for too few records. O(window log window).

    Source: MISSION H11; the source's generalisation phase, in which training accuracy has saturated.

    >>> accuracies = [(0.75, 0.5 + 0.004 * i) for i in range(30)]
    >>> phase([
    ...     Record(0, i, 1, float(i), votes=1, outputs=0, samples=9, pivotal=3, train=train, eval=held)
    ...     for i, (train, held) in enumerate(accuracies)
    ... ])
    'generalising'
    """
    window = integer("window", window, 3)
    rows = as_rows(records)
    last = rows[rows["run"] == rows["run"].max(initial=0)][-window:]
    if len(last) < window or np.isnan(last["eval"]).any() or np.isnan(last["train"]).any():
        raise InvalidValueError(
            f"the latest run has {len(last)} records; {window}, all measured on held-out data, are expected"
        )
    rises = []
    for name in ("train", "eval"):
        found = trend(np.arange(window), last[name].astype(np.float64))
        rises.append(found.slope > 0 and found.slope > _SURE * found.error)
    names: dict[tuple[bool, ...], Phase] = {(True, True): "learning", (False, True): "generalising"}
    return names.get(tuple(rises), "memorising" if rises[0] else "resting")


@dataclass(frozen=True, slots=True)
class Predictor:
    """Says how likely it is that held-out accuracy will be higher some trainings later.

    Attributes:
        weights: of the signs (a constant, the slopes of training accuracy, held-out accuracy and their gap over the
            window, the gap, and what training accuracy lacks of 1), in a logistic regression.
        window: trainings that it looks back.
        ahead: trainings that it looks forward.
    """

    weights: tuple[float, ...]
    window: int = _WINDOW
    ahead: int = _AHEAD

    def probability(self, train: Sequence[float], held_out: Sequence[float]) -> float:
        """That held-out accuracy will be above the last one in ``ahead`` trainings.

        Args:
            train: accuracies on the training data, at least ``window``, the latest last.
            held_out: the same on held-out data.

        Returns:
            0 to 1. Raises ``InvalidValueError`` for too few. O(window log window).
        """
        if min(len(train), len(held_out)) < self.window:
            raise InvalidValueError(f"{min(len(train), len(held_out))} accuracies; {self.window} are expected")
        recent = (np.asarray(values[-self.window :], np.float64) for values in (train, held_out))
        return float(_logistic(_signs(*recent) @ np.array(self.weights)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How often predictions for later trainings were right; all figures are means over runs.

    Attributes:
        predicted: share of right predictions of the predictor.
        trivial: the same for four guesses that need no predictor, by name: ``"yes"``, ``"no"``, ``"as before"`` (it
            will rise if it has risen in as many trainings before) and ``"not as before"``.
        gain: of the predictor over the best of these, with its 95 % interval.
        runs: how many runs that were.
        predictions: how many predictions.
    """

    predicted: float
    trivial: dict[str, float]
    gain: Interval
    runs: int
    predictions: int


def fit_predictor(records: Rows | Sequence[Record], *, window: int = _WINDOW, ahead: int = _AHEAD) -> Predictor:
    """A predictor from finished runs.

    Args:
        records: in the order of training; those without accuracies are left out.
        window: trainings to look back, at least 3.
        ahead: trainings to look forward, at least 1.

    Returns:
        The predictor; the same for the same records. Raises ``InvalidValueError`` where no run is long enough.
        O(n · window).

    Source: MISSION H11; logistic regression with a ridge.

    >>> rises = [0.01 * i for i in range(90)]
    >>> records = [Record(0, 0, 1, 0.0, votes=1, outputs=0, samples=9, pivotal=3, train=1, eval=x) for x in rises]
    >>> fit_predictor(records).probability([1.0] * 30, rises[:30]) > 0.8
    True
    """
    window, ahead = integer("window", window, 3), integer("ahead", ahead, 1)
    found = [_questions(*run, window, ahead) for run in _runs(as_rows(records))]
    if not sum(len(answers) for _, answers, _ in found):
        raise InvalidValueError(
            f"no run has {_least(window, ahead)} records with accuracies; a predictor needs at least one"
        )
    signs, answers = (np.concatenate([each[part] for each in found]) for part in (0, 1))
    scale = np.abs(signs).max(0)
    scale[scale == 0] = 1
    signs = signs / scale
    weights = np.zeros(_SIGNS)
    for _ in range(_ROUNDS):  # Newton's method
        likely = _logistic(signs @ weights)
        slope = signs.T @ (answers - likely) - _RIDGE * weights
        curve = (signs * (likely * (1 - likely))[:, None]).T @ signs + _RIDGE * np.eye(len(weights))
        weights += np.linalg.solve(curve, slope)
    return Predictor(tuple((weights / scale).tolist()), window, ahead)


def evaluated(
    earlier: Rows | Sequence[Record],
    later: Rows | Sequence[Record],
    *,
    window: int = _WINDOW,
    ahead: int = _AHEAD,
) -> Evaluation:
    """How good a predictor that has seen the earlier runs is on the later ones.

    What was found on five real yes-or-no tasks (``python -m benchmarks.capacity_advice``): fitted to the runs of eight
    seeds, it was right in 65.4 % of predictions for ten other seeds, where "yes" is in 47.0 and "as before" in 39.9;
    but "not as before" alone, which lives on the noise of single measurements, is in 60.1, and 5.3 [-0.2, 10.9] points
    more are not shown to be any. Fitted to four tasks and asked about the fifth, it was nowhere shown to be better than
    the best trivial guess (-6.8 to 7.0 points, all intervals around 0). So do not stop or go on by it.

    Args:
        earlier: records of the runs to fit to.
        later: records of other runs, or of the same ones later.
        window: as for ``fit_predictor``.
        ahead: as for ``fit_predictor``.

    Returns:
        The shares of right predictions beside those of trivial ones. Raises as ``fit_predictor`` does, and where no
        later run is long enough. O(n · window).

    Source: MISSION H11.
    """
    predictor = fit_predictor(earlier, window=window, ahead=ahead)
    shares, count = [], 0
    for run in _runs(as_rows(later)):
        signs, answers, before = _questions(*run, window, ahead)
        if len(answers):
            yes = np.ones(len(answers), np.bool_)
            guesses = (signs @ np.array(predictor.weights) > 0, yes, ~yes, before, ~before)
            shares.append([float((guess == answers).mean()) for guess in guesses])
            count += len(answers)
    if not shares:
        raise InvalidValueError(
            f"no later run has {_least(window, ahead)} records with accuracies; at least one is expected"
        )
    table = np.array(shares)
    predicted, *trivial = table.mean(0).tolist()
    gain = interval((table[:, 0] - table[:, 1 + int(np.argmax(trivial))]).tolist())
    return Evaluation(predicted, dict(zip(_TRIVIAL, trivial, strict=True)), gain, len(shares), count)


def _runs(rows: Rows) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The accuracies of each run, on training and held-out data."""
    rows = rows[~np.isnan(rows["train"]) & ~np.isnan(rows["eval"])]
    for run in np.unique(rows["run"]):
        here = rows[rows["run"] == run]
        yield here["train"].astype(np.float64), here["eval"].astype(np.float64)


def _questions(
    train: NDArray[np.float64], held_out: NDArray[np.float64], window: int, ahead: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """At each moment of a run: the signs, whether held-out accuracy was higher later, and whether it had risen."""
    moments = range(_least(window, ahead) - ahead - 1, len(train) - ahead)
    signs = [_signs(train[t - window + 1 : t + 1], held_out[t - window + 1 : t + 1]) for t in moments]
    now = held_out[moments.start : max(moments.start, moments.stop)]
    later, before = (held_out[moments.start + by :][: len(now)] for by in (ahead, -ahead))
    return np.array(signs).reshape(-1, _SIGNS), later > now, now > before


def _least(window: int, ahead: int) -> int:
    """How many records a run must have for one question."""
    return max(window, ahead + 1) + ahead


def _signs(train: NDArray[np.float64], held_out: NDArray[np.float64]) -> NDArray[np.float64]:
    gap, moments = train - held_out, np.arange(len(train))
    slopes = [len(train) * trend(moments, values).slope for values in (train, held_out, gap)]
    return np.array([1.0, *slopes, gap[-1], 1 - train[-1]])


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))
