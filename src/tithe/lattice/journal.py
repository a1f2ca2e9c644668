"""The journal of an epoch: the values of tasks that have a key, so that they need not run again."""

from __future__ import annotations

import base64
import os
from typing import Any

import numpy as np

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.lattice.outcome import Outcome
from tithe.ledger import Ledger

__all__ = ["Journal"]

_SYSTEM, _KIND = "lattice", "done"
_MOST_BYTES = 1 << 24  # of an array
_MOST_BITS = 3000


class Journal:
    """Values by key, in a ledger: what ``write`` has returned from survives ``kill -9``.

    A value is kept if it is made of ``None``, booleans, numbers, strings, lists, tuples, dictionaries with strings for
    keys, and NumPy arrays of at most 16 MB; of any other it is known that there was one, and the task runs again.

    Args:
        path: of the ledger; many epochs and other things may share it.
        run: the name of the epoch.

    >>> import tempfile
    >>> from tithe.lattice.task import Task
    >>> path = f"{tempfile.mkdtemp()}/journal.db"
    >>> with Journal(path, "squares") as journal:
    ...     journal.write([Outcome(Task(pow, 3, 2, key="3"), "done", value=9)])
    >>> with Journal(path, "squares") as journal:
    ...     journal.known("3")
    (9,)
    """

    def __init__(self, path: str | os.PathLike[str], run: str) -> None:
        self._ledger, self._run = Ledger(path), run
        self._values: dict[str, Any] = {}
        for event in self._ledger.read(run=run, system=_SYSTEM, kind=_KIND):
            try:
                self._values[event.payload["key"]] = event.payload["value"]
            except KeyError as error:
                raise CorruptFileError(
                    f"{path} has an entry without {error}; it was not written by a Lattice"
                ) from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.close()

    def known(self, key: str | None) -> tuple[Any] | None:
        """The value of a task that was done, in a tuple; ``None`` for one that was not."""
        return (_restored(self._values[key]),) if key is not None and key in self._values else None

    def write(self, outcomes: list[Outcome]) -> None:
        """Note the values of tasks that are done and have a key; all of them or none."""
        events = []
        for outcome in outcomes:
            if outcome.ok and not outcome.resumed and outcome.task.key:
                try:
                    value = _plain(outcome.value)
                    events.append((self._run, _SYSTEM, _KIND, {"key": outcome.task.key, "value": value}))
                except InvalidDTypeError:  # it runs again
                    continue
        try:
            self._ledger.extend(events)
        except (InvalidDTypeError, InvalidValueError):  # one of them is of no use: find out which
            for event in events:
                try:
                    self._ledger.extend([event])
                except (InvalidDTypeError, InvalidValueError):
                    continue


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject or value.nbytes > _MOST_BYTES:
            raise InvalidDTypeError("an array of objects, or too large")
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"$array": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, tuple):
        return {"$tuple": [_plain(part) for part in value]}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        if any(not isinstance(name, str) or name.startswith("$") for name in value):
            raise InvalidDTypeError("a dictionary whose keys are no strings, or begin with $")
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # Python writes no longer ones as text
        raise InvalidDTypeError("an integer of more than a thousand digits")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidDTypeError(f"a {type(value).__name__}")


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        flat = np.frombuffer(base64.b64decode(value["$array"]), dtype=np.dtype(value["dtype"]))
        return flat.reshape(value["shape"]).copy()
    if "$tuple" in value:
        return tuple(_restored(part) for part in value["$tuple"])
    return {name: _restored(part) for name, part in value.items()}
