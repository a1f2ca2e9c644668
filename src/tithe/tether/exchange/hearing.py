"""What one member knows of the others: who is alive, what was taken from whom, what was refused and why."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Hashable, Mapping

from torch import Tensor

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.tether.exchange.message import Message, check, valid_name

__all__ = ["Hearing"]

_MOST_REFUSED = 256


class Hearing:
    """Decides which peers are alive and which of their messages are taken.

    A peer is alive while its mark, which it changes whenever it does something, changes within ``patience`` seconds of
    this process's monotonic clock. Clocks of different machines are never compared.

    Args:
        name: this member's own.
        patience: seconds without a change after which a peer counts as dead.
        most_age: as for ``check``.

    Raises ``InvalidValueError`` for values that cannot be used.

    >>> hearing = Hearing("ada")
    >>> hearing.saw("bob", 1, live=False)  # it may have been dead for long
    >>> hearing.alive()
    []
    >>> hearing.saw("bob", 2, live=False)
    >>> hearing.alive()
    ['bob']
    """

    def __init__(self, name: str, patience: float = 60.0, most_age: int | None = None) -> None:
        if not (math.isfinite(patience) and patience > 0):
            raise InvalidValueError(f"patience is {patience}; use a positive number of seconds")
        if most_age is not None and most_age < 0:
            raise InvalidValueError(f"most_age is {most_age}; use a number of generations from 0, or None")
        self.name, self.patience, self.most_age = valid_name(name), patience, most_age
        self.generation = -1
        self.refused: deque[tuple[str, str]] = deque(maxlen=_MOST_REFUSED)
        self._marks: dict[str, Hashable] = {}
        self._moved: dict[str, float] = {}
        self._taken: dict[str, int] = {}

    def saw(self, peer: str, mark: Hashable, *, live: bool) -> None:
        """Note a peer's mark; ``live``: whether a peer that is seen for the first time counts as alive."""
        if peer not in self._marks:
            self._moved[peer] = time.monotonic() if live else -math.inf
        elif self._marks[peer] != mark:
            self._moved[peer] = time.monotonic()
        self._marks[peer] = mark

    def gone(self, peer: str) -> None:
        """Note that a peer has left."""
        self._marks.pop(peer, None)
        self._moved.pop(peer, None)

    def known(self) -> list[str]:
        """Peers that were seen and have not left, alive or not."""
        return sorted(self._marks)

    def alive(self) -> list[str]:
        """Peers whose mark has changed within ``patience`` seconds."""
        now = time.monotonic()
        return sorted(peer for peer, moved in self._moved.items() if now - moved <= self.patience)

    def newer(self, generation: int) -> None:
        """Raise ``InvalidValueError`` for a generation that this member cannot publish next."""
        if generation <= self.generation:
            raise InvalidValueError(
                f"generation {generation} is not newer than {self.generation}, the last that was published as "
                f"{self.name!r}; go on from {self.generation + 1}"
            )

    def take(self, peer: str, message: Message, like: Mapping[str, Tensor]) -> Message | None:
        """The message if it is by this peer and fits; otherwise the reason is noted."""
        try:
            if message.sender != peer:
                raise InvalidValueError(f"it is by {message.sender!r}, in the place of {peer!r}")
            fitting = check(
                message,
                like,
                after=self._taken.get(peer, -1),
                receiver=self.name,
                generation=self.generation,
                most_age=self.most_age,
            )
        except (CorruptFileError, InvalidValueError) as error:
            self.refuse(peer, str(error))
            return None
        self._taken[peer] = fitting.generation
        return fitting

    def refuse(self, peer: str, reason: str) -> None:
        """Note that something of a peer was not taken."""
        self.refused.append((peer, reason))
