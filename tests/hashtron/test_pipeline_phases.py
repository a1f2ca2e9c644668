"""Phases are named by slopes; a predictor is scored on later records that it has not seen, beside trivial guesses."""

from dataclasses import replace

import numpy as np
import pytest

import tithe
from tithe.errors import InvalidValueError
from tithe.hashtron import Layer, Network, Pipeline, SumCache, Topology
from tithe.hashtron.backward.records import Record, Rows, as_rows
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.pipeline.phases import Predictor, _questions, evaluated, fit_predictor, phase

WINDOW = 30


def run(train: np.ndarray, held_out: np.ndarray, number: int = 1) -> Rows:
    return as_rows([
        Record(0, place, number, 0.0, votes=1, outputs=0, samples=9, pivotal=3, train=float(a), eval=float(b))
        for place, (a, b) in enumerate(zip(train, held_out, strict=True))
    ])  # fmt: skip


def noisy(slope: float, seed: int, start: float = 0.5) -> np.ndarray:
    return start + slope * np.arange(WINDOW) + np.random.default_rng(seed).normal(0, 0.002, WINDOW)


@pytest.mark.parametrize(
    ("train", "held_out", "name"),
    [(0.004, 0.004, "learning"), (0.0, 0.004, "generalising"), (0.004, -0.002, "memorising"), (0.0, 0.0, "resting")],
)
def test_the_phase_follows_the_slopes(train: float, held_out: float, name: str) -> None:
    found: list[str] = [phase(run(noisy(train, seed), noisy(held_out, seed + 99))) for seed in range(20)]
    assert found.count(name) >= 17  # a slope of chance counts as one now and then


def test_only_the_latest_run_and_the_window_are_read() -> None:
    rows = np.concatenate([
        run(noisy(0.004, 0), noisy(0.004, 1), number=1),
        run(np.r_[noisy(-0.01, 2), noisy(0, 3)], np.r_[noisy(-0.01, 4), noisy(0.004, 5)], number=2),
    ])  # fmt: skip
    assert phase(rows) == "generalising"
    with pytest.raises(InvalidValueError, match="has 60 records; 61"):
        phase(rows, window=61)
    with pytest.raises(InvalidValueError, match="30, all measured"):
        phase([replace_eval(rows)])
    with pytest.raises(InvalidValueError, match="0 records"):
        phase([])


def replace_eval(rows: Rows) -> Record:
    return replace(Record(0, 0, 9, 0.0, votes=1, outputs=0, samples=9, pivotal=3), train=0.5)


def saturating(seed: int, number: int) -> Rows:
    """Held-out accuracy rises while training accuracy does, and falls from the moment that this has saturated."""
    random = np.random.default_rng(seed)
    turn = random.integers(40, 80)
    train = np.minimum(np.arange(120) / turn, 1) * 0.4 + 0.5
    held_out = 0.5 + 0.003 * np.minimum(np.arange(120), turn) - 0.002 * np.maximum(np.arange(120) - turn, 0)
    return run(train, held_out + random.normal(0, 0.002, 120), number)


def test_a_predictor_finds_what_is_there_and_beats_trivial_guesses() -> None:
    earlier, later = (np.concatenate([saturating(seed, seed) for seed in seeds]) for seeds in (range(8), range(8, 16)))
    found = evaluated(earlier, later)
    assert found.runs == 8 and found.predictions == 8 * (120 - 30 - 30)
    assert found.predicted > max(found.trivial.values()) + 0.1
    assert found.gain.low is not None and found.gain.low > 0


def test_where_nothing_can_be_known_it_does_not_pretend() -> None:
    def noise(seeds: range) -> Rows:
        random = [np.random.default_rng(seed) for seed in seeds]
        return np.concatenate([
            run(each.uniform(0.5, 0.9, 120), np.cumsum(each.normal(0, 0.001, 120)) + 0.5, number)
            for number, each in enumerate(random)
        ])  # fmt: skip

    found = evaluated(noise(range(12)), noise(range(12, 24)))
    assert found.gain.low is not None and found.gain.low < 0.05 and found.predicted < 0.7


def test_what_comes_later_is_not_seen_before() -> None:
    """Neither the fit nor a question depends on what comes after it."""
    first = saturating(0, 1)
    predictor = fit_predictor(first)
    assert predictor == fit_predictor(first.copy())
    train, held_out = (first[name].astype(float).tolist() for name in ("train", "eval"))
    assert predictor.probability(train[:50], held_out[:50]) == predictor.probability(train[10:50], held_out[10:50])
    signs, answers, before = _questions(np.array(train), np.array(held_out), WINDOW, WINDOW)
    early = _questions(np.array(train[:100]), np.array(held_out[:100]), WINDOW, WINDOW)
    for whole, part in zip((signs, answers, before), early, strict=True):
        assert len(part) == 40 and (whole[: len(part)] == part).all()


def test_trivial_guesses_are_scored_as_they_should_be() -> None:
    rises = run(np.full(90, 0.7), 0.5 + 0.001 * np.arange(90))
    found = evaluated(rises, rises)
    assert found.predicted == 1.0 and found.gain.mean == 0.0
    assert found.trivial == {"yes": 1.0, "no": 0.0, "as before": 1.0, "not as before": 0.0}
    falls = run(np.full(90, 0.7), 0.9 - 0.001 * np.arange(90))
    found = evaluated(falls, falls)
    assert found.predicted == 1.0
    assert found.trivial == {"yes": 0.0, "no": 1.0, "as before": 1.0, "not as before": 0.0}


def test_runs_that_are_too_short_or_not_measured_are_told() -> None:
    short = run(np.full(60, 0.7), np.full(60, 0.7))
    with pytest.raises(InvalidValueError, match="no run has 61 records"):
        fit_predictor(short)
    with pytest.raises(InvalidValueError, match="no later run has 61 records"):
        evaluated(saturating(0, 1), short)
    blind = saturating(0, 1)
    blind["eval"] = np.nan
    with pytest.raises(InvalidValueError, match="no run"):
        fit_predictor(blind)
    with pytest.raises(InvalidValueError, match="5 accuracies; 30"):
        Predictor((0.0,) * 6).probability([0.5] * 5, [0.5] * 5)


def test_records_of_a_pipeline_on_real_data_can_be_judged() -> None:
    digits = tithe.data.load("digits")
    random = np.random.default_rng(0)
    pixels = np.stack([random.permutation(64)[:10] for _ in range(15)])
    X = ((digits.train_x.reshape(-1, 64) > 7)[:, pixels] << np.arange(10)).sum(2)
    y, cache = digits.train_y % 2, SumCache()
    topology = Topology((Layer(15, combiner=MajorityPool(5, 1, 3, capwidth=5)), Layer(1)))
    for seed in range(2):
        start = Network.random(topology, np.random.default_rng(seed))
        pipeline = Pipeline(final="majority", sweeps=5, policy={"name": "constant", "premodulo": 64})
        pipeline.fit(start, X[:800], y[:800], seed=seed, held_out=(X[800:], y[800:]), cache=cache)
    rows = cache.records()
    found = evaluated(rows[rows["run"] == 1], rows[rows["run"] == 2], window=10, ahead=10)
    assert found.runs == 1 and found.predictions > 40
    assert all(0 <= share <= 1 for share in (found.predicted, *found.trivial.values()))
    assert phase(rows, window=20) in ("learning", "generalising", "memorising", "resting")
