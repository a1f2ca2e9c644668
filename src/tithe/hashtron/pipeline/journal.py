"""The journal of a run: what was found out once is read again after an interruption, in the same order."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tithe.errors import CorruptFileError, InvalidStateError
from tithe.ledger import Ledger
from tithe.locks import locked

__all__ = ["JOURNAL", "Journal"]

JOURNAL = "steps.db"
"""The name of the file in the folder of a run."""

_RUN, _SYSTEM, _START = "run", "hashtron", "start"


class Journal(AbstractContextManager["Journal"]):
    """What happened in a run, in order; what ``note`` has returned from survives ``kill -9``.

    Args:
        folder: of the run, made where there is none, and locked; ``None`` for a run that nobody will take up again.
        start: all that the run depends on, as JSON can hold it; compared with what was noted when the run began.
        begun: more that is noted with it at the beginning and not compared.

    Attributes:
        begun: as it was when the run began.

    Raises ``InvalidStateError`` where the folder holds a run that began otherwise, or somebody is at work in it.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with Journal(Path(folder), {"seed": 0}, {}) as journal:
    ...     print(journal.recall("sum"), journal.note("sum", {"total": 3}))
    None None
    >>> with Journal(Path(folder), {"seed": 0}, {}) as journal:
    ...     journal.recall("sum"), journal.recall("sum")
    ({'total': 3}, None)
    """

    def __init__(self, folder: Path | None, start: dict[str, Any], begun: dict[str, Any]) -> None:
        self.begun = begun
        self._past: deque[tuple[str, dict[str, Any]]] = deque()
        self._ledger: Ledger | None = None
        self._open = ExitStack()
        if folder is None:
            return
        with ExitStack() as opened:
            opened.enter_context(locked(folder))
            self._ledger = opened.enter_context(Ledger(folder / JOURNAL))
            events = self._ledger.read(run=_RUN, system=_SYSTEM)
            if events:
                self.begun = _same_start(folder, events[0].kind, events[0].payload, start)
                self._past.extend((event.kind, event.payload) for event in events[1:])
            else:
                self._ledger.append(_RUN, _SYSTEM, _START, {"start": start, "begun": begun})
            self._open = opened.pop_all()

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def recall(self, kind: str) -> dict[str, Any] | None:
        """What was noted at this point of the run; ``None`` from where it was interrupted on. O(1).

        Raises ``CorruptFileError`` where something of another kind was.
        """
        if not self._past:
            return None
        noted, payload = self._past.popleft()
        if noted != kind:
            raise CorruptFileError(f"the journal of the run goes on with {noted!r} where {kind!r} is due; begin anew")
        return payload

    def note(self, kind: str, payload: dict[str, Any]) -> None:
        """Note what was found out. O(size)."""
        if self._ledger is not None:
            self._ledger.append(_RUN, _SYSTEM, kind, payload)


def _same_start(folder: Path, kind: str, noted: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """What was noted beside the start, where the start is the same."""
    if kind != _START or noted.keys() != {"start", "begun"}:
        raise CorruptFileError(f"{folder / JOURNAL} is no journal of a pipeline; give another folder")
    differing = [name for name in start if noted["start"].get(name) != start[name]]
    if differing or noted["start"].keys() != start.keys():
        name = differing[0] if differing else "version"
        raise InvalidStateError(
            f"{folder} holds a run with {name} {noted['start'].get(name)!r}, this one has {start.get(name)!r}: "
            "take it up with the same arguments, or give another folder"
        )
    begun: dict[str, Any] = noted["begun"]
    return begun
