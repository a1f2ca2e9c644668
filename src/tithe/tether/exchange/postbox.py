"""What the folder and the store have in common: each member leaves its newest state in a place that others read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from tithe.errors import CorruptFileError, InvalidStateError
from tithe.tether.exchange.hearing import Hearing
from tithe.tether.exchange.message import MOST_BYTES, Message, pack, unpack

__all__ = ["Postbox"]

_TRIES = 3  # a state may be replaced while it is read


class Postbox(ABC):
    """An ``Exchange`` by way of a place that outlives any member; where that is, subclasses say.

    Args:
        name: this member's own, of 1 to 64 letters, digits, ``_`` and ``-``; no two at a time have the same.
        patience: seconds without a sign of life after which a peer counts as dead.
        most_age: generations that a peer may be behind; ``None`` for any.
        most_bytes: of a state.
    """

    def __init__(
        self, name: str, *, patience: float = 60.0, most_age: int | None = None, most_bytes: int = MOST_BYTES
    ) -> None:
        self._hearing = Hearing(name, patience, most_age)
        self._most_bytes = most_bytes
        self._read: dict[str, Hashable] = {}
        self._closed = False

    @property
    def name(self) -> str:
        """Name of this member."""
        return self._hearing.name

    @property
    def generation(self) -> int:
        """The last generation published under this name, also by a process before; −1 where there is none."""
        return self._hearing.generation

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Sender and reason of what was not taken, the last 256, oldest first."""
        return list(self._hearing.refused)

    def publish(
        self,
        tensors: Mapping[str, Tensor],
        *,
        generation: int,
        step: int = 0,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Hand out a state (see ``Exchange``). If this process dies meanwhile, the others keep the one before."""
        self._open()
        message = Message(self.name, generation, step, tensors, info or {})
        self._hearing.newer(generation)
        self._send(pack(message, most_bytes=self._most_bytes), generation)
        self._hearing.generation = generation

    def collect(self, like: Mapping[str, Tensor]) -> list[Message]:
        """The newest state of each living peer that is valid and was not taken before (see ``Exchange``)."""
        found = (self._hear(peer, like) for peer in self.peers())
        return [message for message in found if message is not None]

    def peers(self) -> list[str]:
        """Names of the other members that are alive; this is a sign of life too."""
        self._open()
        self._look(joining=False)
        return self._hearing.alive()

    def leave(self) -> None:
        """Say goodbye; the others stop hearing this member at once. Doing it twice does nothing more."""
        if not self._closed:
            self._closed = True
            self._depart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def _hear(self, peer: str, like: Mapping[str, Tensor]) -> Message | None:
        for _ in range(_TRIES):
            version = self._version(peer)
            if version is None or version == self._read.get(peer):
                return None
            try:
                data = self._fetch(peer, version)
                if data is None:
                    continue
                message = unpack(data, most_bytes=self._most_bytes)
            except CorruptFileError as error:
                if self._version(peer) != version:
                    continue
                self._read[peer] = version
                self._hearing.refuse(peer, str(error))
                return None
            self._read[peer] = version
            return self._hearing.take(peer, message, like)
        return None  # its sender is faster than this reader; the next collect tries again

    def _open(self) -> None:
        if self._closed:
            raise InvalidStateError(f"{self.name!r} has left; make a new {type(self).__name__} to come back")

    @abstractmethod
    def _send(self, data: bytes, generation: int) -> None:
        """Replace this member's state, all or nothing, and give a sign of life."""

    @abstractmethod
    def _look(self, *, joining: bool) -> None:
        """Give a sign of life and tell the hearing of those of the others."""

    @abstractmethod
    def _version(self, peer: str) -> Hashable | None:
        """Something that changes whenever the peer's state does; ``None`` where there is no state."""

    @abstractmethod
    def _fetch(self, peer: str, version: Hashable) -> bytes | None:
        """The peer's state, unchecked; ``None`` where it is another version; ``CorruptFileError`` where it is none."""

    @abstractmethod
    def _depart(self) -> None:
        """Withdraw the state and say that this member has left."""
