"""Alerts of a run: each goes on when it should, stays off when it should, and does not flap."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.hashtron.pipeline.alert_limits import Band, Limits
from tithe.hashtron.pipeline.alerts import Alert, Alerts, alerts
from tithe.hashtron.pipeline.step import Step

HIDDEN = Step(0, 0, 0, 0, "trained", "gold", 1, False, 1000, 100, 40, 0, 64, 0.7, 0.65, 0.5, 0.01)


def numbered(changes: Sequence[dict[str, Any]]) -> list[Step]:
    return [replace(HIDDEN, number=number, **change) for number, change in enumerate(changes)]


def named(found: Sequence[Alert]) -> list[tuple[str, int, bool]]:
    return [(alert.name, alert.step, alert.on) for alert in found]


def raised(changes: Sequence[dict[str, Any]]) -> list[tuple[str, int, bool]]:
    return named(list(alerts(numbered(changes))))


# --- memorisation


def test_learning_by_heart_is_told_and_taken_back() -> None:
    steps = numbered(
        [{"train": train, "eval": held} for train, held in [(0.9, 0.7), (0.97, 0.8), (0.94, 0.8), (0.92, 0.8)]]
    )
    on, off = alerts(steps)
    assert named([on, off]) == [("memorisation", 1, True), ("memorisation", 3, False)]
    assert (on.since, off.since) == (1, 1)
    assert "97.0 %" in on.text and "80.0 %" in on.text


def test_a_high_accuracy_that_holds_on_other_data_is_no_alert() -> None:
    assert raised([{"train": 0.99, "eval": 0.97}] * 5) == []


def test_a_gap_alone_is_no_alert() -> None:
    assert raised([{"train": 0.94, "eval": 0.6}] * 5) == []


def test_without_held_out_data_the_training_data_must_do() -> None:
    found = list(alerts(numbered([{"train": 0.94, "eval": None}, {"train": 0.96, "eval": None}])))
    assert named(found) == [("memorisation", 1, True)] and "nothing held out" in found[0].text


# --- stagnation


def sweeps(margins: Sequence[float], **change: Any) -> list[dict[str, Any]]:
    """Two neurons trained in each sweep, whose margins are these."""
    return [
        {"sweep": sweep, "position": position, "total": round(100 * margin), **change}
        for sweep, margin in enumerate(margins)
        for position in range(2)
    ]


def test_margins_that_stay_for_more_than_three_sweeps_are_told() -> None:
    assert raised(sweeps([0.2, 0.4, 0.4, 0.4, 0.4])) == []
    assert raised(sweeps([0.2, 0.4, 0.4, 0.4, 0.4, 0.4])) == []  # the last one has not ended
    found = raised(sweeps([0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.7, 0.7]))
    assert found == [("stagnation", 12, True), ("stagnation", 16, False)]


def test_margins_that_move_are_no_alert_nor_are_those_of_final_neurons() -> None:
    assert raised(sweeps([0.2, 0.3] * 6)) == []
    assert raised(sweeps([0.4] * 12, final=True)) == []


def test_a_neuron_without_votes_has_no_margin() -> None:
    assert raised(sweeps([0.0] * 12, pivotal=0)) == []


# --- oscillation


def trained_with(premodulos: Sequence[int], **change: Any) -> list[dict[str, Any]]:
    return [{"premodulo": premodulo, **change} for premodulo in premodulos]


def test_a_premodulo_that_goes_up_and_down_is_told() -> None:
    assert raised(trained_with([64, 640, 64, 640])) == []
    found = list(alerts(numbered(trained_with([64, 640, 64, 640, 64, 640, 640]))))
    assert named(found) == [("oscillation", 4, True), ("oscillation", 6, False)]
    assert "neuron 0.0" in found[0].text and "640 to 64" in found[0].text


def test_a_premodulo_that_climbs_or_trembles_is_no_alert() -> None:
    assert raised(trained_with([2 * 4**power for power in range(12)])) == []
    assert raised(trained_with([64, 80] * 10)) == []
    assert raised([{"premodulo": [64, 640][position], "position": position} for position in (0, 1) * 8]) == []


def test_two_neurons_that_swing_are_one_alert() -> None:
    both = [{"premodulo": premodulo, "position": position} for premodulo in [64, 640] * 4 for position in (0, 1)]
    rest = trained_with([640, 640], position=0) + trained_with([640], position=1)
    assert raised(both) == [("oscillation", 8, True)]
    assert raised(both + rest) == [("oscillation", 8, True), ("oscillation", 18, False)]


# --- stuck


def test_a_layer_in_which_nothing_is_trained_is_told() -> None:
    kept: list[dict[str, Any]] = [{"kind": "kept", "why": "worse", "neuron": None}]
    assert raised(kept * 9 + [{}] + kept * 9) == []
    assert raised((kept * 6 + [{**kept[0], "layer": 1}] * 6) * 3) == []
    found = list(alerts(numbered(kept * 12 + [{}] + kept + [{}] * 3)))
    assert named(found) == [("stuck", 9, True), ("stuck", 16, False)]
    assert "10 steps in layer 0" in found[0].text and "worse" in found[0].text


# --- all of them


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.01, 0.98), st.floats(0.01, 0.5))
def test_between_on_and_off_lies_the_whole_band(values: list[float], off: float, width: float) -> None:
    band, state, edge = Band(off + width, off), False, 0.0
    for value in values:
        new = band.state(value, state)
        if off <= value <= off + width:
            assert new == state
        if new != state:
            assert value > band.on if new else value < band.off
            assert abs(value - edge) > width or not edge
            edge = value
        state = new


@given(st.lists(st.tuples(st.floats(0.931, 0.949), st.floats(0.0, 1.0)), min_size=1, max_size=40), st.booleans())
def test_accuracies_within_the_band_change_nothing(pairs: list[tuple[float, float]], on: bool) -> None:
    watch = Alerts()
    watch.after(replace(HIDDEN, train=0.99 if on else 0.5, eval=0.5))
    for train, share in pairs:
        assert watch.after(replace(HIDDEN, train=train, eval=train - 0.081 - 0.018 * share)) == ()
    assert list(watch.on) == (["memorisation"] if on else [])


@given(st.lists(st.floats(1.26, 1.99), max_size=30), st.booleans())
def test_changes_between_trembling_and_swinging_change_nothing(ratios: list[float], on: bool) -> None:
    watch, premodulos = Alerts(), [10**6, 10**7] * 3 if on else [10**6] * 3
    for premodulo in premodulos:
        watch.after(replace(HIDDEN, premodulo=premodulo))
    last = premodulos[-1]
    for number, ratio in enumerate(ratios):
        last = round(last * ratio if number % 2 else last / ratio)
        assert watch.after(replace(HIDDEN, premodulo=last)) == ()
    assert list(watch.on) == (["oscillation"] if on else [])


@given(st.lists(st.sampled_from([-19, -15, -11, 11, 15, 19]), max_size=30), st.booleans())
def test_margins_that_change_a_little_more_than_not_at_all_change_nothing(changes: list[int], on: bool) -> None:
    """In thousandths of a margin: 10 is nothing, 20 is something."""
    watch, total, sweep = Alerts(), 5000, 0
    for sweep in range(6 if on else 3):
        watch.after(replace(HIDDEN, samples=10_000, pivotal=10_000, total=total, sweep=sweep))
    for change in changes:
        total, sweep = total + 10 * change, sweep + 1
        assert watch.after(replace(HIDDEN, samples=10_000, pivotal=10_000, total=total, sweep=sweep)) == ()
    assert list(watch.on) == (["stagnation"] if on else [])


steps = st.builds(
    lambda **change: replace(HIDDEN, **change),
    layer=st.integers(0, 1),
    position=st.integers(0, 1),
    kind=st.sampled_from(["trained", "kept", "skipped"]),
    total=st.integers(-100, 100),
    premodulo=st.integers(1, 2000),
    train=st.floats(0.9, 1.0),
    eval=st.floats(0.7, 1.0),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(steps, st.integers(0, 1)), max_size=60))
def test_on_and_off_take_turns_and_the_same_steps_say_the_same(given: list[tuple[Step, int]]) -> None:
    run, sweep = [], 0
    for number, (step, later) in enumerate(given):
        sweep += later
        run.append(replace(step, number=number, sweep=sweep))
    found = list(alerts(run))
    assert found == list(alerts(run))
    on: dict[str, int] = {}
    for alert in found:
        assert alert.on == (alert.name not in on) and alert.text
        if alert.on:
            assert alert.since == alert.step
            on[alert.name] = alert.step
        else:
            assert alert.since == on.pop(alert.name) < alert.step


@pytest.mark.parametrize("wrong", [{"sweeps": 0}, {"swings": 1.5}, {"failures": True}])
def test_limits_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="whole number from 1 on"):
        Limits(**wrong)
    with pytest.raises(InvalidValueError, match="off below on"):
        Band(0.5, 0.5)
