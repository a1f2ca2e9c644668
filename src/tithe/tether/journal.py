"""What a population tells of itself: bookmarks of its members' states, and the events of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tithe.tether.bookmarks import Reason, States
from tithe.tether.generations import Generations

__all__ = ["Journal", "Listener"]

_SYSTEM = "tether"

Losses = Mapping[str, float]  # by the names of members


class Listener(Protocol):
    """What takes events, such as a ``Ledger``."""

    def append(self, run: str, system: str, kind: str, payload: Mapping[str, Any]) -> object:
        """Take one."""


@dataclass(frozen=True)
class Journal:
    """Where a population writes down what it does.

    Attributes:
        names: of the members.
        generations: for bookmarks, or ``None``.
        ledger: for events, or ``None``.
        run: which run these belong to.
    """

    names: Sequence[str]
    generations: Generations | None
    ledger: Listener | None
    run: str

    @property
    def kept(self) -> bool:
        """Whether anything is written down at all."""
        return self.generations is not None or self.ledger is not None

    def mark(self, what: Reason, states: States, step: int, before: Losses, after: Losses) -> None:
        """Bookmark the states of some members, by their names, and write to the ledger what was done with them."""
        number = None
        if self.generations is not None:
            number = self.generations.mark(what, states, step=step, before=before or None, after=after or None).number
        members = [self.names.index(name) for name in states]
        losses = {"before": list(before.values()), "after": list(after.values())}
        self.tell(what, step, members=members, generation=number, **losses)

    def tell(self, kind: str, step: int, **payload: Any) -> None:
        """Write an event to the ledger."""
        if self.ledger is not None:
            self.ledger.append(self.run, _SYSTEM, kind, {"step": step, **payload})
