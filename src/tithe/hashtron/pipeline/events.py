"""Steps of a run as events of the ledger, written by a thread of their own, so that training waits for no disk."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.hashtron.pipeline.alert_limits import Limits
from tithe.hashtron.pipeline.alerts import Alerts
from tithe.hashtron.pipeline.step import Step
from tithe.ledger import Event, Ledger

__all__ = ["ALERT", "NEURON", "SYSTEM", "LedgerEvents", "payload"]

SYSTEM, NEURON, ALERT = "hashtron", "neuron", "alert"

_PAUSE = 0.1  # seconds between two batches
_LEFT = tuple(name for name in Step.__slots__ if name != "neuron")
_DERIVED = ("margin", "capacity", "regime")


def payload(step: Step) -> dict[str, Any]:
    """A step as the ledger has it: all but the neuron itself, with margin, capacity and regime. O(1).

    >>> step = Step(0, 0, 1, 0, "trained", "final", 1, True, 100, 100, 20, 4, 100, 0.6, 0.5, 0.5, 0.01)
    >>> payload(step)["margin"], payload(step)["regime"], "neuron" in payload(step)
    (0.2, 'gold', False)
    """
    return {name: getattr(step, name) for name in (*_LEFT, *_DERIVED)}


class LedgerEvents:
    """Takes every step of a run, as ``progress=``, and writes it to a ledger, with the alerts that it gives rise to.

    Steps are events of system ``hashtron`` and kind ``neuron``, alerts of kind ``alert``. A call only puts the step
    into a queue; a thread works out alerts and writes what has come up ten times a second, in one transaction. Where
    the queue is full the call waits, so that nothing is lost. When the process is killed, the last tenth of a second
    is; the run itself is durable elsewhere, and ``complete`` makes up for it once it has gone on to its end.

    Args:
        ledger: an open one, which stays open, or the path of one.
        run: the name of the run; where it has events already, alerts go on from these.
        room: steps that may wait.
        limits: of the alerts.

    Raises as ``Ledger`` does, and ``InvalidValueError`` for no room. What goes wrong in the thread is raised, as the
    cause of an ``InvalidStateError``, by the next call and by ``close``. Source: MISSION H7, H10.

    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/runs.db"
    >>> with LedgerEvents(path, "one") as events:
    ...     events(Step(0, 0, 1, 0, "trained", "final", 1, True, 100, 100, 20, 4, 100, 0.97, 0.5, 0.5, 0.01))
    >>> with Ledger(path) as ledger:
    ...     [event.kind for event in ledger.read(run="one", system="hashtron")]
    ['neuron', 'alert']
    """

    def __init__(
        self, ledger: Ledger | str | os.PathLike[str], run: str, *, room: int = 4096, limits: Limits | None = None
    ) -> None:
        if room < 1:
            raise InvalidValueError(f"room is {room}; at least 1 is expected")
        self._owned = not isinstance(ledger, Ledger)
        self._ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        self._run, self._room, self._process = run, room, os.getpid()
        self._alerts = Alerts(limits)
        self._waiting: deque[Step] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"events of {run}", daemon=True)
        self._thread.start()

    def __call__(self, step: Step) -> None:
        """Note a step; waits only where ``room`` are waiting. O(1)."""
        if len(self._waiting) >= self._room or self._error is not None or self._closing:
            self._make_room()
        self._waiting.append(step)

    def __enter__(self) -> LedgerEvents:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except InvalidStateError as failure:
            if error is None:
                raise
            error.add_note(str(failure))  # what went wrong in the block matters more

    def close(self) -> None:
        """Write what is waiting and end the thread. Closing again does nothing but raise the same error."""
        self._check_process()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._owned:
            self._ledger.close()
        self._check_error()

    def flush(self) -> None:
        """Wait until all that was noted is in the ledger. Raises ``InvalidStateError`` where that fails."""
        self._check_process()
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._error is not None)
        self._check_error()

    def complete(self, steps: Iterable[Step]) -> int:
        """Note those of a run's steps that its events lack, because a process was killed before it wrote them.

        Args:
            steps: all of the run, ``Run.steps``.

        Returns:
            How many they were. Raises as a call does. O(steps + events of the run).

        >>> import tempfile
        >>> steps = [Step(i, 0, 0, i, "trained", "gold", 1, False, 100, 20, 4, 4, 16) for i in range(3)]
        >>> with LedgerEvents(f"{tempfile.mkdtemp()}/runs.db", "one") as events:
        ...     events(steps[2])
        ...     events.complete(steps), events.complete(steps)
        (2, 0)
        """
        self.flush()
        there = {event.payload["number"] for event in self._read()}
        missing = [step for step in steps if step.number not in there]
        for step in missing:
            self(step)
        self.flush()
        return len(missing)

    def _read(self) -> list[Event]:
        return self._ledger.read(run=self._run, system=SYSTEM, kind=NEURON)

    def _make_room(self) -> None:
        self._check_process()
        self._check_error()
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._waiting) < self._room or self._error is not None)
        self._check_error()
        if self._closing:
            raise InvalidStateError(f"the events of run {self._run!r} have been closed; make another LedgerEvents")

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise InvalidStateError("these events belong to the process that made them; make others after a fork")

    def _check_error(self) -> None:
        if self._error is not None:
            raise InvalidStateError(
                f"events of run {self._run!r} could not be written, {len(self._waiting)} steps are missing in "
                f"{self._ledger.path}: {self._error}"
            ) from self._error

    def _work(self) -> None:
        try:
            for event in self._read():
                self._alerts.after(Step(**{name: event.payload[name] for name in _LEFT}))
            while not (self._closing and not self._waiting):
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or len(self._waiting) >= self._room, _PAUSE)
                if self._waiting:
                    self._write()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def _write(self) -> None:
        steps = [self._waiting[place] for place in range(len(self._waiting))]  # others may come meanwhile
        found: list[tuple[str, str, str, dict[str, Any]]] = []
        for step in steps:
            found.append((self._run, SYSTEM, NEURON, payload(step)))
            found += [(self._run, SYSTEM, ALERT, asdict(alert)) for alert in self._alerts.after(step)]
        self._ledger.extend(found)
        for _ in steps:  # not before they are written, so that an error can say how many are missing
            self._waiting.popleft()
        with self._changed:
            self._changed.notify_all()
