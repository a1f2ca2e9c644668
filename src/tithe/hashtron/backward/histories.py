"""What a policy knows of neurons: the sums of their last tallies, and the premodulo that each was given last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.records import Record, Rows, as_rows
from tithe.hashtron.fitting import UNCAPPED

__all__ = ["History", "Neuron", "Sums", "histories_from_plain", "histories_to_plain"]

Neuron = tuple[int, int]  # layer and position, both from 0


@dataclass(frozen=True, slots=True)
class Sums:
    """What one tally of a neuron came to.

    Attributes:
        total: S, the sum of the ±1 votes.
        pivotal: V, how many samples voted; all do for a final neuron.
        samples: N, how many were asked.

    Raises ``InvalidValueError`` unless |S| ≤ V ≤ N < 2^32 and N ≥ 1, ``InvalidDTypeError`` for what is no integer.

    >>> Sums(-3, 7, 100).pivotal
    7
    """

    total: int
    pivotal: int
    samples: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, integer(name, getattr(self, name)))  # NumPy's own would overflow
        if not abs(self.total) <= self.pivotal <= self.samples <= UNCAPPED or not self.samples:
            raise InvalidValueError(
                f"total {self.total}, pivotal {self.pivotal}, samples {self.samples}: |total| <= pivotal <= samples "
                "is expected, and 1 to 2^32 - 1 samples"
            )


@dataclass(frozen=True, slots=True)
class History:
    """All that a policy knows of a neuron.

    Attributes:
        given: the premodulo with which it was trained last; ``None`` before.
        sums: of its tallies, oldest first, at least as many of the newest as the policy ``reads``. Those without votes
            say nothing and are left out.

    Raises ``InvalidValueError`` for a premodulo out of range.

    >>> History().after(Sums(-3, 7, 100)).after(Sums(5, 9, 100), given=64)
    History(given=64, sums=(Sums(total=-3, pivotal=7, samples=100), Sums(total=5, pivotal=9, samples=100)))
    """

    given: int | None = None
    sums: tuple[Sums, ...] = ()

    def __post_init__(self) -> None:
        if self.given is not None:
            object.__setattr__(self, "given", integer("given", self.given, 1, UNCAPPED))
        object.__setattr__(self, "sums", tuple(sums for sums in self.sums if sums.pivotal))

    def after(self, sums: Sums, *, given: int | None = None, keep: int | None = None) -> History:
        """The history with one more tally, and with the premodulo that was ``given``, where it was trained.

        Only the last ``keep`` tallies stay, all with ``None``. O(tallies).
        """
        if keep is not None:
            keep = integer("keep", keep, 1)
        return History(self.given if given is None else given, (*self.sums, sums)[-(keep or 0) :])

    @classmethod
    def of(cls, records: Rows | Sequence[Record]) -> History:
        """What the records of one neuron say, oldest first; ``SumCache.history`` gives them. O(records).

        >>> past = [Record(0, 3, 1, 0.0, votes=-3, outputs=0, samples=100, pivotal=7, premodulo=64)]
        >>> History.of(past)
        History(given=64, sums=(Sums(total=-3, pivotal=7, samples=100),))
        """
        rows = as_rows(records)
        given = rows["premodulo"][rows["premodulo"] > 0]
        sums = zip(*(rows[name].tolist() for name in ("votes", "pivotal", "samples")), strict=True)
        return cls(int(given[-1]) if len(given) else None, tuple(Sums(*each) for each in sums))

    def to_plain(self) -> dict[str, Any]:
        """The history as numbers and lists; :meth:`from_plain` reads them. O(tallies).

        >>> History(64, (Sums(-3, 7, 100),)).to_plain()
        {'given': 64, 'sums': [[-3, 7, 100]]}
        """
        return {"given": self.given, "sums": [[each.total, each.pivotal, each.samples] for each in self.sums]}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> History:
        """The history that :meth:`to_plain` wrote. O(tallies).

        Raises ``InvalidValueError`` or ``InvalidDTypeError`` for anything else.

        >>> History.from_plain({'given': None, 'sums': [[-3, 7, 100]]}).sums[0].total
        -3
        """
        try:
            return cls(plain["given"], tuple(Sums(*each) for each in plain["sums"]))
        except (KeyError, TypeError) as error:
            if isinstance(error, InvalidDTypeError):
                raise
            raise InvalidValueError(f"no history: {plain!r}; write one with to_plain") from error


def histories_to_plain(histories: Mapping[Neuron, History]) -> dict[str, Any]:
    """All that any policy needs in order to go on, as JSON can hold it; ``histories_from_plain`` reads it. O(size).

    >>> histories_to_plain({(2, 0): History(64)})
    {'2.0': {'given': 64, 'sums': []}}
    """
    return {f"{layer}.{position}": history.to_plain() for (layer, position), history in histories.items()}


def histories_from_plain(plain: Mapping[str, Any]) -> dict[Neuron, History]:
    """What ``histories_to_plain`` wrote. O(size).

    Raises ``InvalidValueError`` or ``InvalidDTypeError`` for anything else.

    >>> histories_from_plain({'2.0': {'given': 64, 'sums': []}})
    {(2, 0): History(given=64, sums=())}
    """
    found = {}
    for name, history in plain.items():
        layer, _, position = name.partition(".")
        if not (layer.isdecimal() and position.isdecimal()):
            raise InvalidValueError(f"{name!r} names no neuron; layer.position is expected, for instance 2.0")
        found[int(layer), int(position)] = History.from_plain(history)
    return found
