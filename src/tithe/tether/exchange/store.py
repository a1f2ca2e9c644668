"""Exchange of states by way of a key-value store of torch.distributed: across machines without a shared folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Iterator
from dataclasses import asdict, dataclass
from typing import cast

from torch import distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]  # public, and not in its __all__

from tithe.errors import CorruptFileError, InvalidStateError, InvalidValueError
from tithe.tether.exchange.message import MOST_BYTES, valid_name
from tithe.tether.exchange.postbox import Postbox

__all__ = ["StoreExchange"]

_ROOT = "tithe.exchange"
_PIECE = 1 << 20  # bytes; TCPStore refuses values of more than 8 MiB
_MOST_MEMBERS = 4096
_MOST_RECORD = 4096
_LEFT = b"left"


@dataclass(frozen=True)
class _Record:
    """Which of a member's two slots holds its newest state; there is none where ``size`` is 0."""

    version: int = 0
    generation: int = -1
    slot: int = 0
    size: int = 0

    @classmethod
    def parsed(cls, text: bytes) -> _Record:
        """The record of its JSON; ``CorruptFileError`` where the text is something else."""
        try:
            found = cls(**json.loads(text[:_MOST_RECORD]))
            if any(type(value) is not int for value in asdict(found).values()) or found.slot not in (0, 1):
                raise ValueError("a number is none")
            return found
        except (TypeError, ValueError, RecursionError) as error:
            raise CorruptFileError(f"has a record that is none ({str(error)[:100]})") from error


class StoreExchange(Postbox):
    """A member of a population that exchanges states through a ``torch.distributed`` store.

    A state goes into one of the member's two slots in pieces of 1 MiB, and the record that says which slot counts is
    written last: a sender that is killed in between leaves the state before readable. Nothing is deleted, so nobody
    waits for a key that has gone; the store holds two states a member.

    Who is alive: a peer whose counter of signs of life has changed within ``patience`` seconds of this process's
    monotonic clock. A store has no clock, so a newcomer hears the members that were there before it only once they do
    something again.

    The store must outlive all members: host a ``TCPStore`` in a process of its own (``serve``, or ``python -m
    tithe.tether.exchange``) and give each member a client of it, ``TCPStore(host, port, is_master=False)``. Whoever
    reaches its port can read and write: use it in a network that is trusted. A ``HashStore`` serves threads of one
    process. A ``FileStore`` works, but it grows with each state, and a member that is killed while it appends leaves
    the others hanging: prefer ``FolderExchange`` there. A ``PrefixStore`` keeps several populations apart.

    Args:
        store: used by this member only, or by one thread at a time.
        name: this member's own, of 1 to 64 letters, digits, ``_`` and ``-``; no two at a time have the same.
        patience: in seconds.
        most_age: generations that a peer may be behind this member; ``None`` for any.
        most_bytes: of a state; larger ones are not fetched.

    Raises ``InvalidValueError`` for values that cannot be used, and, like all methods but ``leave``,
    ``InvalidStateError`` where the store's host cannot be reached. Two round trips a peer and ``collect``, and one a
    piece of a state that is new.

    >>> import torch
    >>> store = dist.HashStore()
    >>> with StoreExchange(store, "ada") as ada, StoreExchange(store, "bob") as bob:
    ...     ada.publish({"w": torch.ones(2)}, generation=0)
    ...     [(m.sender, m.tensors["w"]) for m in bob.collect({"w": torch.zeros(2)})]
    [('ada', tensor([1., 1.]))]
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        patience: float = 60.0,
        most_age: int | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__(name, patience=patience, most_age=most_age, most_bytes=most_bytes)
        self._store = store
        self._there: set[str] = set()
        self._places: dict[int, str] = {}
        self._foreign: set[int] = set()
        with self._reaching():
            self._place = self._joined()
            self._record = self._before()
            self._look(joining=True)

    def _send(self, data: bytes, generation: int) -> None:
        with self._reaching():
            slot = 1 - self._record.slot
            for number, start in enumerate(range(0, len(data), _PIECE)):
                self._set(_piece(self._place, slot, number), data[start : start + _PIECE])
            self._enter(_Record(self._record.version + 1, generation, slot, len(data)))
            self._store.add(_key(self._place, "beat"), 1)

    def _look(self, *, joining: bool) -> None:
        with self._reaching():
            self._store.add(_key(self._place, "beat"), 1)
            members = min(self._store.add(f"{_ROOT}/members", 0), _MOST_MEMBERS)
            for place in set(range(members)) - self._places.keys() - self._foreign:
                self._meet(place)
            for peer, place in self._peers().items():
                mark = self._value(_key(place, "beat"))
                if mark == _LEFT:
                    self._hearing.gone(peer)
                else:
                    self._hearing.saw(peer, (place, mark), live=not joining)

    def _version(self, peer: str) -> Hashable | None:
        with self._reaching():
            latest = self._value(_key(self._peers()[peer], "latest"))
        with contextlib.suppress(CorruptFileError):  # which the fetch then reports
            if latest and _Record.parsed(latest).size == 0:
                return None
        return latest or None

    def _fetch(self, peer: str, version: Hashable) -> bytes | None:
        record, place = _Record.parsed(cast(bytes, version)), self._peers()[peer]
        if not 0 < record.size <= self._most_bytes:
            raise CorruptFileError(f"has {record.size} bytes; from 1 to {self._most_bytes} are taken")
        keys = [_piece(place, record.slot, number) for number in range(-(-record.size // _PIECE))]
        data = bytearray()
        with self._reaching():
            if not self._store.check(keys):
                raise CorruptFileError("lacks pieces that it announces")
            for key in keys:
                data += self._store.get(key)
                if len(data) != min(record.size, (keys.index(key) + 1) * _PIECE):
                    raise CorruptFileError(f"has {len(data)} bytes where more or fewer were announced")
        return bytes(data)

    def _depart(self) -> None:
        with contextlib.suppress(InvalidStateError), self._reaching():  # there may be nobody left to tell
            self._set(_key(self._place, "beat"), _LEFT)
            self._enter(_Record(self._record.version + 1, self.generation))  # for who reads the pieces just now
            for slot in (0, 1):
                number = 0
                while self._store.check([key := _piece(self._place, slot, number)]):
                    self._set(key, b"-")
                    number += 1

    def _joined(self) -> int:
        """The place of this name in the store: the one that it had, or a new one."""
        own = f"{_ROOT}/place/{self.name}"
        before = self._value(own)
        place = int(before) if before.isdigit() else self._store.add(f"{_ROOT}/members", 1) - 1
        self._set(_key(place, "name"), self.name.encode())
        self._set(own, str(place).encode())
        return place

    def _before(self) -> _Record:
        """What the store has of this name from a process before."""
        record, latest = _Record(), self._value(_key(self._place, "latest"))
        if latest:
            try:
                record = _Record.parsed(latest)
            except CorruptFileError as error:
                self._hearing.refuse(self.name, f"the state before {error}")
        self._hearing.generation = record.generation
        beat = _key(self._place, "beat")
        if not self._value(beat).isdigit():  # a newcomer, or one that has left
            self._set(beat, b"0")
        return record

    def _enter(self, record: _Record) -> None:
        self._set(_key(self._place, "latest"), json.dumps(asdict(record)).encode())
        self._record = record

    def _meet(self, place: int) -> None:
        """Learn who has a place, once."""
        found = self._value(_key(place, "name"))
        if not found:  # joining just now, or killed while it did
            return
        try:
            self._places[place] = valid_name(found.decode("ascii", "replace"))
        except InvalidValueError as error:
            self._foreign.add(place)
            self._hearing.refuse(f"place {place}", str(error))

    def _peers(self) -> dict[str, int]:
        """Places of the others; one that was killed while it joined may have two, of which the later counts."""
        return {name: place for place, name in sorted(self._places.items()) if name != self.name}

    def _value(self, key: str) -> bytes:
        """What the store has, ``b""`` where that is nothing; never waits. Keys are never deleted, so one check does."""
        if key not in self._there:
            if not self._store.check([key]):
                return b""
            self._there.add(key)
        return bytes(self._store.get(key))

    def _set(self, key: str, value: bytes) -> None:
        self._store.set(key, value)  # type: ignore[arg-type,unused-ignore]  # takes bytes, whatever the stub says

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except dist.DistError as error:
            reason = str(error).partition("\n")[0][:200]
            raise InvalidStateError(
                f"the host of the store cannot be reached ({reason}); let it run in a process of its own, "
                f"python -m tithe.tether.exchange, and make a new StoreExchange"
            ) from error


def _key(place: int, what: str) -> str:
    return f"{_ROOT}/{place}/{what}"


def _piece(place: int, slot: int, number: int) -> str:
    return f"{_ROOT}/{place}/{slot}/{number}"
