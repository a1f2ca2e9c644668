"""A/B comparisons: a worse setting is stopped early, an equal one is not, and nothing is measured twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tithe
from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.pipeline import ab
from tithe.hashtron.pipeline.ab import PAIR, compare, run_name
from tithe.hashtron.pipeline.rollout import Outcome, Pair, Rollout, rollout, sizes
from tithe.hashtron.pipeline.templates import template
from tithe.hashtron.pipeline.trial_sets import TrialSet, as_sets, from_arrays, from_lexicon
from tithe.ledger import Ledger

Draw = Callable[[np.random.Generator, int], np.ndarray]
ALPHA = 0.05

GOOD = template("constant", final="majority")
BAD = template("constant", final="majority", policy={"name": "constant", "premodulo": 2})


def simulated(draw: Draw, sets: int, seed: int, **options: Any) -> Rollout:
    """A rollout whose differences in held-out accuracy are drawn."""
    found = draw(np.random.default_rng(seed), sets)
    names = [str(number) for number in range(sets)]

    def measure(name: str, _: int) -> Pair:
        return Pair(name, 0, Outcome(0.9, 0.7, 1.0), Outcome(0.9, 0.7 + float(found[int(name)]), 1.0))

    return rollout(names, measure, alpha=ALPHA, order=seed, **options)


# --- stopping


@pytest.mark.parametrize("sets", [8, 40])
@pytest.mark.parametrize(
    "draw",
    [
        lambda random, n: random.normal(0, 0.02, n),
        lambda random, n: random.choice([-0.01, 0.01], n),
        lambda random, n: random.choice([-0.01, 0.0, 0.01], n),
        lambda random, n: random.standard_t(2, n) * 0.01,
        lambda random, n: random.exponential(0.01, n) - random.exponential(0.01, n),
    ],
    ids=["normal", "coins", "ties", "heavy tails", "peaked"],
)
def test_of_equal_settings_the_second_is_stopped_at_most_as_often_as_said(draw: Draw, sets: int) -> None:
    runs = 400
    stopped = sum(simulated(draw, sets, seed).stopped for seed in range(runs))
    assert stopped <= ALPHA * runs + 3 * (ALPHA * (1 - ALPHA) * runs) ** 0.5


def test_nor_is_it_over_many_data_sets() -> None:
    stopped = sum(simulated(lambda random, n: random.normal(0, 0.02, n), 140, seed).stopped for seed in range(300))
    assert stopped <= ALPHA * 300 + 3 * (ALPHA * (1 - ALPHA) * 300) ** 0.5


def test_a_worse_setting_is_stopped_early_and_a_better_one_never() -> None:
    worse = [simulated(lambda random, n: random.normal(-0.03, 0.02, n), 140, seed) for seed in range(100)]
    assert sum(found.stopped and found.looks[-1].sets <= 28 for found in worse) >= 95
    assert all(len(found.pairs) == found.looks[-1].sets < 140 for found in worse if found.looks[-1].sets <= 28)
    better = [simulated(lambda random, n: random.normal(0.03, 0.02, n), 140, seed) for seed in range(100)]
    assert not any(found.stopped for found in better) and all(len(found.pairs) == 140 for found in better)


def test_a_fall_within_the_tolerance_does_not_stop() -> None:
    found = [simulated(lambda random, n: random.normal(-0.01, 0.01, n), 40, seed, tolerance=0.02) for seed in range(50)]
    assert not any(run.stopped for run in found)
    assert simulated(lambda random, n: random.normal(-0.01, 0.01, n), 40, 0).stopped


def test_a_handful_of_data_sets_cannot_tell() -> None:
    found = simulated(lambda random, n: np.full(n, -0.5), 5, 0)
    assert not found.stopped and [look.upper for look in found.looks] == [None] * 3
    assert found.interval("eval").high == pytest.approx(-0.5)


@given(st.integers(1, 500), st.lists(st.floats(0.01, 0.99), max_size=6, unique=True))
@example(100, [0.010000000000000002])
@example(100, [0.07])
def test_stages_grow_and_end_with_all(sets: int, shares: list[float]) -> None:
    found = sizes(sets, (*sorted(shares), 1.0))
    assert found[-1] == sets and list(found) == sorted(set(found)) and found[0] >= 1
    for share in shares:
        assert any(-1e-6 <= size - share * sets < 1 - 1e-9 for size in found)  # rounded up, but not for a last bit


def test_seeds_of_a_data_set_are_one_difference_unless_it_is_alone() -> None:
    def measure(name: str, seed: int) -> Pair:
        return Pair(name, seed, Outcome(1.0, 0.5, 1.0), Outcome(1.0, 0.5 + 0.1 * seed, 3.0))

    two = rollout(["x", "y"], measure, seeds=(0, 2))
    assert two.differences("eval") == pytest.approx([0.1, 0.1]) and two.interval("seconds").mean == 2.0
    assert two.differences("gap") == pytest.approx([-0.1, -0.1])
    assert rollout(["x"], measure, seeds=(0, 2)).differences("eval") == pytest.approx([0.0, 0.2])


def test_a_data_set_that_cannot_be_used_is_left_out_and_told(digits: list[TrialSet], tmp_path: Path) -> None:
    empty = tmp_path / "xyz.tsv"
    empty.write_text("a\tA\nb\tB\nab\tA B\n")  # no letter has a choice
    told: list[str] = []
    found = compare([digits[0], from_lexicon(empty)], GOOD, BAD, note=told.append)
    assert [pair.name for pair in found.pairs] == ["digit 0"] and found.sets == 2
    assert len(told) == 1 and "xyz is left out" in told[0] and "no letter with a choice" in told[0]
    with pytest.raises(InvalidValueError, match="nothing to compare"):
        compare([from_lexicon(empty)], GOOD, BAD)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shares": (0.5, 0.2, 1)}, "rising"),
        ({"shares": (0.5,)}, "the last of them 1"),
        ({"shares": ()}, "rising"),
        ({"alpha": 0.7}, "alpha is 0.7"),
        ({"tolerance": -0.1}, "tolerance -0.1"),
        ({"tolerance": float("nan")}, "tolerance nan"),
        ({"seeds": ()}, "there must be some"),
        ({"seeds": (1, 1)}, "differ"),
        ({"names": ["x", "x"]}, "differ"),
        ({"names": []}, "no data sets"),
    ],
)
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidValueError, match=told):
        rollout(wrong.pop("names", ["x"]), lambda name, seed: pytest.fail("measured"), **wrong)


# --- training


@pytest.fixture(scope="module")
def digits() -> list[TrialSet]:
    """Ten data sets: is an image this digit? Half of the images are."""
    found = tithe.data.load("digits")
    pixels = (found.train_x.reshape(-1, 64) > 7).astype(np.int64)
    sets = []
    for digit in range(10):
        is_it = found.train_y == digit
        rows = np.flatnonzero(is_it)[:120].tolist() + np.flatnonzero(~is_it)[:120].tolist()
        sets.append(from_arrays(f"digit {digit}", pixels[rows], is_it[rows].astype(np.int64), together=8))
    return sets


def test_a_setting_that_cannot_learn_is_stopped_on_real_data(digits: list[TrialSet], tmp_path: Path) -> None:
    with Ledger(tmp_path / "runs.db") as ledger:
        found = compare(digits, GOOD, BAD, ledger=ledger, shares=(0.2, 0.8, 1.0))
        assert found.stopped and len(found.pairs) == 8 and found.looks[-1].upper is not None
        assert found.interval("eval").mean < -0.1 and found.looks[-1].upper < 0
        assert min(pair.a.eval for pair in found.pairs) > 0.7
        events = ledger.read(run=run_name(GOOD, BAD))
    assert [event.kind for event in events].count(PAIR) == 8 and events[-1].payload["worse"]
    assert {event.payload["name"] for event in events if event.kind == PAIR} == {pair.name for pair in found.pairs}


def test_both_arms_get_the_same_and_equal_settings_come_to_the_same(digits: list[TrialSet]) -> None:
    found = compare(digits[:5], GOOD, GOOD, seeds=(0, 1))
    assert not found.stopped and len(found.pairs) == 10
    assert set(found.differences("eval")) == set(found.differences("gap")) == {0.0}
    assert len({pair.a.eval for pair in found.pairs}) > 3


def test_what_is_in_the_ledger_is_not_trained_again(
    digits: list[TrialSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train, most = ab.train, 7

    def counting(*arguments: Any) -> Outcome:
        if len(trained) == most:
            raise KeyboardInterrupt
        trained.append("")
        return train(*arguments)

    monkeypatch.setattr(ab, "train", counting)
    with Ledger(tmp_path / "runs.db") as ledger:
        with pytest.raises(KeyboardInterrupt):
            compare(digits[:5], GOOD, BAD, ledger=ledger)
        assert len(ledger.read(kind=PAIR)) == 3  # the fourth had one arm only
        trained.clear()
        most = 99
        told: list[int] = []
        again = compare(digits[:5], GOOD, BAD, ledger=ledger, progress=told.append)
        assert len(trained) == 4 and told == [1, 2, 3, 4, 5]
        whole = compare(digits[:5], GOOD, BAD)
        assert [(p.name, p.a.eval, p.b.eval) for p in again.pairs] == [
            (p.name, p.a.eval, p.b.eval) for p in whole.pairs
        ]
        trained.clear()
        compare(digits[:1], GOOD, {**BAD, "sweeps": 2}, ledger=ledger)  # other settings
        compare([from_arrays("digit 0", np.arange(20), np.arange(20) % 2)], GOOD, BAD, ledger=ledger)  # other data
        assert len(trained) == 4


def test_held_out_samples_are_not_shown_to_settings_that_accept_by_others(digits: list[TrialSet]) -> None:
    trial = digits[0].make(0)
    settings = template("forward", final="majority", accept="not worse")
    honest = ab.train(trial, settings, 0)
    swapped = type(trial)(trial.network, trial.X, trial.y, trial.held, 1 - trial.wanted)
    assert ab.train(swapped, settings, 0).eval == pytest.approx(1 - honest.eval)
    assert honest.eval > 0.7


def test_settings_must_be_plain(digits: list[TrialSet]) -> None:
    from tithe.hashtron import CapacityLaw

    with pytest.raises(InvalidValueError, match="by its name"):
        compare(digits, GOOD, {"policy": CapacityLaw()})
    with pytest.raises(InvalidValueError, match="direction"):
        compare(digits, GOOD, {"direction": "up"})


# --- data sets


def test_groups_are_held_out_whole_and_splits_follow_the_seed() -> None:
    groups = np.arange(100) // 4
    each = from_arrays("groups", np.arange(100), groups % 3, groups=groups)
    first, again, other = each.make(0), each.make(0), each.make(1)
    assert not set(groups[first.X]) & set(groups[first.held]) and len(first.held) == 20
    assert (first.held == again.held).all() and first.network.neurons == again.network.neurons
    assert set(first.held) != set(other.held) and first.network.neurons != other.network.neurons
    assert first.network.topology.layers[-1].neurons == 2


@pytest.mark.parametrize(
    ("X", "y", "error"),
    [
        (np.ones(3), [0, 1, 1], InvalidDTypeError),
        ([1, 2, 3], [0.5, 1, 1], InvalidDTypeError),
        ([1, 2, 3], [0, 1], InvalidValueError),
        ([[[1]], [[2]]], [0, 1], InvalidValueError),
        ([1, 2, 3], [0, 1, -1], InvalidValueError),
        ([1], [0], InvalidValueError),
    ],
)
def test_arrays_that_cannot_be_are_refused_by_name(X: Any, y: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="odd one"):
        from_arrays("odd one", X, y)


def test_a_users_function_may_yield_arrays_or_sets() -> None:
    parity = from_arrays("parity", np.arange(9), np.arange(9) % 2)
    assert [each.name for each in as_sets([parity, ("thirds", np.arange(9), np.arange(9) % 3)])] == ["parity", "thirds"]
    with pytest.raises(InvalidDTypeError, match="yield TrialSet"):
        as_sets([(np.arange(9), np.arange(9))])


def test_a_lexicon_is_judged_by_its_letters(tmp_path: Path) -> None:
    words = [f"{first}{vowel}c" for first in "ktpbsm" for vowel in "aeiou"]
    said = [f"{word[:2]}{'k' if word[1] in 'aei' else 't'}" for word in words]
    path = tmp_path / "xyz.tsv"
    path.write_text("".join(f"{word}\t{' '.join(phonemes)}\n" for word, phonemes in zip(words, said, strict=True)))
    each = from_lexicon(path)
    trial = each.make(0)
    assert each.name == "xyz" and set(trial.y.tolist()) == {0, 255} and trial.judge is not None
    found = ab.train(trial, GOOD, 0)
    assert found.train == 1 and found.eval > 0.85  # of three letters one has a choice
    assert trial.accuracies(trial.network)[0] < 0.95


def test_digests_do_not_depend_on_the_order_of_settings() -> None:
    settings = {"direction": "forward", "sweeps": 2}
    assert run_name(settings, {}) == run_name(dict(reversed(settings.items())), {}) != run_name({}, settings)
    assert json.loads(json.dumps(settings)) == settings
