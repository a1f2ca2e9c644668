"""Generations: the state of a population at every merge, kept, listed, compared and given back bit by bit."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import create_exclusively
from tithe.tether.bookmarks import Bookmark, Reason, States, decode, encode, read_bookmark
from tithe.tether.differences import Difference, difference

__all__ = ["Generations"]

_Bookmarks = list[Bookmark]  # inside of the class, list is a method
_NAME = re.compile(r"generation-([0-9]{6,})\.safetensors")


class Generations:
    """Keeps the states of a population under numbers, in memory or in a folder.

    In a folder each bookmark is a safetensors file such as ``generation-000012.safetensors`` with a checksum. It is
    there whole or not at all, even after kill -9. Any number of processes may mark in one folder: each gets a number
    of its own. A folder that is opened again goes on where it was.

    Args:
        folder: of a file system that has hard links, made where there is none; ``None`` keeps bookmarks in memory.
        most: keep at most so many bookmarks; the first and the last stay in any case.
        most_bytes: keep at most so many bytes of tensors, likewise.

    Raises ``InvalidValueError`` for limits that cannot be used. Source: MISSION T6.

    >>> import torch
    >>> generations = Generations()
    >>> generations.mark("start", {"a": {"w": torch.zeros(2)}}, step=0).number
    1
    >>> mark = generations.mark("merge", {"a": {"w": torch.ones(2)}}, step=9, before={"a": 0.5}, after={"a": 0.4})
    >>> [(kept.number, kept.what, kept.step) for kept in generations.list()]
    [(1, 'start', 0), (2, 'merge', 9)]
    >>> generations.restore(1)
    {'a': {'w': tensor([0., 0.])}}
    >>> generations.diff(2, 1).changes
    {'a': {'w': Change(relative=1.0, largest=1.0)}}
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, most: int = 100, most_bytes: int = 1 << 30
    ) -> None:
        _check_limits(most, most_bytes)
        self.most, self.most_bytes = most, most_bytes
        self.folder = None if folder is None else Path(folder).absolute()
        self._kept: dict[int, bytes] = {}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def mark(
        self,
        what: Reason,
        states: States,
        *,
        step: int,
        before: Mapping[str, float] | None = None,
        after: Mapping[str, float] | None = None,
        compatibility: Tensor | None = None,
        note: str = "",
    ) -> Bookmark:
        """Keep a copy of the states of the members, then prune.

        Args:
            what: why: ``"merge"``, ``"drift"``, ``"renormalise"``, ``"regroup"``, ``"start"`` or ``"final"``.
            states: tensors by name, by member, as state dicts have them, of any dtype of safetensors; copied.
            step: of the training.
            before: losses by member before what happened.
            after: losses by member after it.
            compatibility: of members with members, (n, n).
            note: any text.

        Returns:
            The bookmark with its number. Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what cannot be
            kept, ``OSError`` as the file system does; nothing is kept then. O(bytes + bookmarks).
        """
        if compatibility is not None and (compatibility.ndim != 2 or len(set(compatibility.shape)) != 1):
            raise InvalidValueError(f"compatibility has shape {tuple(compatibility.shape)}; pass a square matrix")
        matrix = None if compatibility is None else tuple(tuple(map(float, row)) for row in compatibility.tolist())
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        losses = _losses("before", before, states), _losses("after", after, states)
        known = Bookmark(0, what, now, int(step), (), *losses, matrix, note, 0)
        known, raw = encode(known, states)
        number = self.newest + 1
        while not self._create(number, raw):
            number += 1
        self.prune()
        return replace(known, number=number)

    @property
    def newest(self) -> int:
        """The largest number of a bookmark, 0 where there is none."""
        return max(self._numbers(), default=0)

    def list(self) -> _Bookmarks:
        """All bookmarks that can be read, by number; headers are read, tensors are not. O(bookmarks)."""
        return [found for _, found in self._looked_at() if isinstance(found, Bookmark)]

    def damaged(self) -> dict[str, str]:
        """What is wrong with files that are damaged, truncated or foreign, by name; reads all of them. O(bytes).

        Other names than those of bookmarks are not looked at.
        """
        found = {}
        for number, _ in self._looked_at():
            try:
                self.restore(number)
            except CorruptFileError as error:
                found[_name(number)] = str(error)
            except InvalidValueError:  # pruned by another process meanwhile
                continue
        return found

    def restore(self, number: int) -> dict[str, dict[str, Tensor]]:
        """The states of a bookmark, on the CPU, bit by bit what they were.

        Returns:
            Tensors by name, by member; a copy each time. Raises ``CorruptFileError`` where the file is damaged,
            ``InvalidValueError`` where there is none of that number. O(bytes).
        """
        try:
            if not isinstance(number, int):
                raise KeyError(number)
            with self._open(number) as file:
                read_bookmark(file, number, self._source(number))  # says more of a truncated file
                file.seek(0)
                raw = file.read()
        except (FileNotFoundError, KeyError):
            there = ", ".join(map(str, self._numbers())) or "none"
            raise InvalidValueError(f"there is no bookmark {number!r}; there are {there}") from None
        return decode(raw, self._source(number))

    def diff(self, a: int, b: int) -> Difference:
        """What differs between two bookmarks, member by member and tensor by tensor.

        Args:
            a: number of the first.
            b: number of the second.

        Returns:
            Changes in float64; NaN where a tensor has one. Raises as ``restore`` does. O(bytes).
        """
        return difference(self.restore(a), self.restore(b))

    def prune(self, *, most: int | None = None, most_bytes: int | None = None) -> tuple[int, ...]:
        """Forget the oldest bookmarks beyond the limits, but never the first and the last.

        Args:
            most: bookmarks; by default as when opened.
            most_bytes: of tensors, likewise.

        Returns:
            The numbers that were forgotten. Damaged files are left alone. O(bookmarks).
        """
        most = self.most if most is None else most
        most_bytes = self.most_bytes if most_bytes is None else most_bytes
        _check_limits(most, most_bytes)
        kept = self.list()
        count, size = len(kept), sum(one.nbytes for one in kept)
        forgotten = []
        for one in kept[1:-1]:
            if count <= most and size <= most_bytes:
                break
            self._remove(one.number)
            forgotten.append(one.number)
            count, size = count - 1, size - one.nbytes
        return tuple(forgotten)

    def forget_after(self, number: int) -> tuple[int, ...]:
        """Forget all bookmarks of larger numbers, as where a run is set back; the numbers that were forgotten."""
        later = tuple(other for other in self._numbers() if other > number)
        for other in later:
            self._remove(other)
        return later

    def _looked_at(self) -> Iterator[tuple[int, Bookmark | CorruptFileError]]:
        for number in self._numbers():
            try:
                with self._open(number) as file:
                    yield number, read_bookmark(file, number, self._source(number))
            except CorruptFileError as error:
                yield number, error
            except (FileNotFoundError, KeyError):  # pruned by another process meanwhile
                continue

    def _numbers(self) -> tuple[int, ...]:
        if self.folder is None:
            return tuple(sorted(self._kept))
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return tuple(sorted(int(match[1]) for match in matches if match and _name(int(match[1])) == match[0]))

    def _create(self, number: int, raw: bytes) -> bool:
        if self.folder is None:
            return self._kept.setdefault(number, raw) is raw  # one step, so that threads get numbers of their own
        return create_exclusively(self.folder / _name(number), raw)

    def _open(self, number: int) -> BinaryIO:
        if self.folder is None:
            return io.BytesIO(self._kept[number])
        path = self.folder / _name(number)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise CorruptFileError(f"{path} is no file; move it away")
            return path.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CorruptFileError(f"{path} cannot be read ({error.strerror}); see to its permissions") from error

    def _remove(self, number: int) -> None:
        if self.folder is None:
            self._kept.pop(number, None)
        else:
            (self.folder / _name(number)).unlink(missing_ok=True)

    def _source(self, number: int) -> str:
        return f"bookmark {number}" if self.folder is None else str(self.folder / _name(number))


def _name(number: int) -> str:
    return f"generation-{number:06d}.safetensors"


def _check_limits(most: int, most_bytes: int) -> None:
    for name, value in (("most", most), ("most_bytes", most_bytes)):
        if value < 1:
            raise InvalidValueError(f"{name} is {value}; use an integer of at least 1")


def _losses(name: str, losses: Mapping[str, float] | None, states: States) -> dict[str, float] | None:
    if losses is None:
        return None
    if unknown := sorted(set(losses) - set(states)):
        raise InvalidValueError(f"{name} has losses of {unknown}, who are not among the members {list(states)}")
    return {member: float(loss) for member, loss in losses.items()}
