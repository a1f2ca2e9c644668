"""Steps go to the ledger whole and in order, without keeping the training waiting, and failures are told."""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.hashtron import Hashtron, Layer, Network, Pipeline, Topology
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.pipeline.alert_limits import Band, Limits
from tithe.hashtron.pipeline.alerts import alerts
from tithe.hashtron.pipeline.events import LedgerEvents, payload
from tithe.hashtron.pipeline.step import Step
from tithe.ledger import Ledger

STEP = Step(0, 0, 0, 3, "trained", "gold", 1, False, 1000, 100, 40, 10, 64, 0.7, 0.6, 0.5, 0.01, Hashtron(((7, 2),)))


class Gated(Ledger):
    """A ledger that writes when it may, and fails when it should."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate, self.batches, self.fails = threading.Event(), 0, False

    def extend(self, events: Iterable[Any]) -> list[int]:
        self.gate.wait()
        self.batches += 1
        if self.fails:
            raise OSError("no space left on device")
        return super().extend(events)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    ledger = Gated(tmp_path / "runs.db")
    yield ledger
    ledger.gate.set()
    ledger.close()


def many(count: int) -> list[Step]:
    return [replace(STEP, number=number, position=number % 9) for number in range(count)]


def test_every_step_is_written_once_in_order_without_the_neuron(tmp_path: Path) -> None:
    steps = many(1000)
    steps[1] = replace(STEP, number=1, eval=None, seconds=float("inf"))
    with LedgerEvents(tmp_path / "runs.db", "one", room=50) as events:
        for step in steps:
            events(step)
    with Ledger(tmp_path / "runs.db") as ledger:
        found = ledger.read(run="one", system="hashtron", kind="neuron")
    assert [event.payload for event in found] == [payload(step) for step in steps]
    first = found[0].payload
    assert {"layer", "position", "sweep", "attempt", "kind", "why", "samples", "pivotal", "total"} < first.keys()
    assert {"margin", "regime", "premodulo", "train", "eval", "prior", "seconds"} < first.keys()
    assert "neuron" not in first and first["margin"] == 0.4 and first["regime"] == "gold"


def test_many_steps_take_few_transactions(gated: Gated) -> None:
    with LedgerEvents(gated, "one") as events:
        for step in many(500):
            events(step)
        gated.gate.set()
    assert len(gated.read(run="one")) == 500 and gated.batches <= 3


def test_a_full_queue_makes_the_caller_wait_and_loses_nothing(gated: Gated) -> None:
    done = threading.Event()

    def train() -> None:
        for step in many(30):
            events(step)
        done.set()

    with LedgerEvents(gated, "one", room=8) as events:
        thread = threading.Thread(target=train)
        thread.start()
        assert not done.wait(0.3) and len(events._waiting) == 8
        gated.gate.set()
        assert done.wait(20)
        thread.join()
    assert [event.payload["number"] for event in gated.read()] == list(range(30))


def test_alerts_are_events_beside_the_step_that_raised_them(tmp_path: Path) -> None:
    steps = [replace(step, train=0.99 if 3 <= step.number < 7 else 0.7) for step in many(10)]
    with LedgerEvents(tmp_path / "runs.db", "one") as events:
        for step in steps:
            events(step)
    with Ledger(tmp_path / "runs.db") as ledger:
        kinds = [event.kind for event in ledger.read()]
        found = [event.payload for event in ledger.read(kind="alert")]
    assert [number for number, kind in enumerate(kinds) if kind == "alert"] == [4, 9]
    assert [alert["text"] for alert in found] == [alert.text for alert in alerts(steps)]
    assert [(alert["name"], alert["step"], alert["on"]) for alert in found] == [
        ("memorisation", 3, True), ("memorisation", 7, False),
    ]  # fmt: skip


def test_limits_of_alerts_are_the_callers(tmp_path: Path) -> None:
    with LedgerEvents(tmp_path / "runs.db", "one", limits=Limits(train=Band(0.6, 0.5), gap=Band(0.05, 0.01))) as events:
        events(STEP)
    with Ledger(tmp_path / "runs.db") as ledger:
        assert len(ledger.read(kind="alert")) == 1


def test_a_failure_is_raised_by_the_next_call_and_at_the_end(gated: Gated) -> None:
    gated.fails = True
    gated.gate.set()
    events = LedgerEvents(gated, "one", room=1)
    with pytest.raises(InvalidStateError, match=r"1 steps are missing in .*no space left") as caught:
        for step in many(3):
            events(step)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(InvalidStateError, match="no space left"):
        events.close()


def test_a_failure_is_raised_at_the_end_of_the_block_unless_it_was_already(gated: Gated) -> None:
    gated.fails = True
    gated.gate.set()
    with pytest.raises(InvalidStateError, match="no space left"), LedgerEvents(gated, "one") as events:
        events(STEP)
    with pytest.raises(ZeroDivisionError) as caught, LedgerEvents(gated, "two") as events:
        events(STEP)
        raise ZeroDivisionError
    assert "no space left" in caught.value.__notes__[0]


def test_what_the_ledger_cannot_keep_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidStateError, match="bytes"), LedgerEvents(tmp_path / "runs.db", "one") as events:
        events(replace(STEP, why=b"gold"))  # type: ignore[arg-type]


def test_it_can_be_closed_twice_and_not_used_afterwards(tmp_path: Path) -> None:
    with Ledger(tmp_path / "runs.db") as ledger:
        events = LedgerEvents(ledger, "one")
        events(STEP)
        events.close()
        events.close()
        with pytest.raises(InvalidStateError, match="closed"):
            events(STEP)
        assert len(ledger.read()) == 1  # a ledger that was given stays open
    with pytest.raises(InvalidValueError, match="room is 0"):
        LedgerEvents(tmp_path / "runs.db", "one", room=0)


def test_a_run_that_was_killed_and_went_on_has_every_event_once_and_its_alerts_in_turn(tmp_path: Path) -> None:
    steps = [replace(step, train=0.99 if step.number >= 3 else 0.7) for step in many(12)]
    for part in (steps[:5], steps[7:9]):  # two steps were lost with the first process
        with LedgerEvents(tmp_path / "runs.db", "one") as events:
            for step in part:
                events(step)
    with LedgerEvents(tmp_path / "runs.db", "one") as events:
        for step in steps[9:]:
            events(step)
        assert events.complete(steps) == 2 and events.complete(steps) == 0
    with Ledger(tmp_path / "runs.db") as ledger:
        assert sorted(event.payload["number"] for event in ledger.read(kind="neuron")) == list(range(12))
        assert [event.payload["on"] for event in ledger.read(kind="alert")] == [True]


def test_every_step_of_a_pipeline_becomes_an_event(tmp_path: Path) -> None:
    topology = Topology((Layer(9, combiner=MajorityPool(3, 1, 3, capwidth=3)), Layer(1)))
    start, X = Network.random(topology, np.random.default_rng(0)), np.arange(60)
    with LedgerEvents(tmp_path / "runs.db", "one") as events:
        run = Pipeline(sweeps=2).fit(start, X, X // 3 % 2, seed=0, held_out=(X + 60, X // 3 % 2), progress=events)
        assert events.complete(run.steps) == 0
    with Ledger(tmp_path / "runs.db") as ledger:
        assert [event.payload for event in ledger.read(kind="neuron")] == [payload(step) for step in run.steps]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_that_the_thread_is_not_its_own(gated: Gated) -> None:
    gated.gate.set()
    with LedgerEvents(gated, "one", room=1) as events:
        child = os.fork()
        if not child:
            code = 1
            try:
                events._waiting.append(STEP)
                events(STEP)
            except InvalidStateError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
