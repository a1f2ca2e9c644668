"""Tables of columns as bits: numbers by thermometers, categories by single bits or codes, texts by their byte runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.encoders.categories import fit_categories
from tithe.hashtron.encoders.checks import fields, strings
from tithe.hashtron.encoders.column import Column, Numbers, Text, column_from_dict, column_to_dict
from tithe.hashtron.encoders.values import Values, scan
from tithe.hashtron.tuples.kernels import BLOCK, lay_out
from tithe.hashtron.tuples.selection import at_random
from tithe.hashtron.tuples.tables import Sharing

__all__ = ["ColumnBits"]

_CHUNK, _AT_ONCE = 4096, 1 << 24  # rows, and bits, that are held unpacked
_BUCKETS = 256  # for the byte runs of a text
_NUMBER = 4  # bytes to keep which column it is


@dataclass(frozen=True)
class ColumnBits:
    """How rows of a table become bits; made by ``ColumnBits.fit``.

    A number larger than all levels has all bits of its column set; a category that was not seen has none, or where
    there are more than 32, which share a code, that of its name. A constant column has no bits. Where no column has
    any, there is a single bit that is never set.

    Attributes:
        columns: ``Numbers``, ``Categories``, ``Codes`` or ``Text``, one for each column.
        labels: what messages call them.
        missing: ``"error"``, or ``"level"``: a missing value is a value of its own, if there was one at fitting; else
            it is read as a number below all levels, or as a category that was not seen.

    >>> table = np.array([[1.5, "red"], [2.5, "blue"], [3.5, "red"]], object)
    >>> encoder = ColumnBits.fit(table)
    >>> encoder.columns
    (Numbers(levels=(2.0, 3.0), absent=False), Categories(names=('red', 'blue'), absent=False))
    >>> encoder.bits(table).astype(int).tolist()
    [[0, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]]
    """

    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    missing: Literal["error", "level"] = "error"

    @classmethod
    def fit(
        cls,
        X: NDArray[Any],
        *,
        weight: NDArray[np.floating] | None = None,
        levels: int = 16,
        categorical: Iterable[int | str] | None = None,
        text: Iterable[int | str] | None = None,
        missing: Literal["error", "level"] = "error",
        feature_names: Sequence[str] | None = None,
    ) -> ColumnBits:
        """Learn levels and categories.

        Args:
            X: (n, columns), of numbers, or of objects: numbers, truths, strings and what is missing.
            weight: of the rows, (n,); 1 for each if ``None``.
            levels: of a number, at most.
            categorical: columns of categories, by number or name; those that hold strings are in any case.
            text: columns of texts, by number or name.
            missing: what a missing value is: an ``"error"``, or a ``"level"``.
            feature_names: of the columns.

        Returns:
            The encoder. Raises ``InvalidValueError`` for an option or column that does not exist and for missing
            or infinite values that were not allowed; ``InvalidDTypeError`` for a value that is neither number nor
            string. O(n log n) for each column.
        """
        if missing not in ("error", "level"):
            raise InvalidValueError(f"missing is {missing!r}; use 'error', or 'level' to let it be a value of its own")
        named = list(feature_names) if feature_names is not None else []
        labels = tuple(f"column {c} ({named[c]!r})" if named else f"column {c}" for c in range(X.shape[1]))
        texts, categories = (_places(which, named, X.shape[1]) for which in (text, categorical))
        weight = np.ones(len(X)) if weight is None else weight
        columns: list[Column] = []
        for c, label in enumerate(labels):
            values = scan(X[:, c], label)
            _refuse_missing(values, missing)
            if c in texts:
                columns.append(Text.fit(values, _BUCKETS))
            elif c in categories or not values.numeric:
                columns.append(fit_categories(values, weight))
            else:
                columns.append(Numbers.fit(values, weight, levels))
        return cls(tuple(columns), labels, missing)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Bits of each column that has some; they lie side by side."""
        return tuple(column.length for column in self.columns if column.length) or (1,)

    @cached_property
    def length(self) -> int:
        """D: bits of a row."""
        return sum(self.lengths)

    @property
    def features(self) -> int:
        """Columns of a row."""
        return len(self.columns)

    @property
    def sharing(self) -> Sharing:
        """Each tuple has tables of its own."""
        return Sharing()

    @cached_property
    def costs(self) -> NDArray[np.int64]:
        """Bytes to keep each bit, (D,): a level, a name, the place of a byte run."""
        return np.concatenate([column.costs() for column in self.columns if column.length] or [np.zeros(1, np.int64)])

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """To which of the columns that have bits each bit belongs, (D,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def bytes(self) -> int:
        """What has to be kept to encode: what the bits cost, and which columns they are of."""
        return int(self.costs.sum()) + _NUMBER * sum(column.length > 0 for column in self.columns)

    def within(self, size: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first bits of ``order``, (D,), that can all be kept in ``size`` bytes, ascending; one in any case."""
        first = np.zeros(len(order), np.int64)
        first[np.unique(self.owners[order], return_index=True)[1]] = _NUMBER
        fits = np.cumsum(self.costs[order] + first) <= size
        return np.sort(order[: max(1, int(fits.sum()))])

    def only(self, bits: NDArray[np.int64]) -> ColumnBits:
        """An encoder that makes these bits only, which ascend."""
        kept = np.zeros(self.length, np.bool_)
        kept[bits] = True
        ends = iter(np.cumsum(self.lengths).tolist())
        columns: list[Column] = []
        for column in self.columns:
            if column.length:
                end = next(ends)
                column = column.keep(kept[end - column.length : end])
            columns.append(column)
        return ColumnBits(tuple(columns), self.labels, self.missing)

    def bits(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """Rows (n, columns) as bool (n, D); raises as ``fit`` does. O(n · D)."""
        parts = [column.bits(values) for column, values in self._scanned(X) if column.length]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(X), 1), np.bool_)

    def names(self) -> list[str]:
        """What each bit says of a row, (D,)."""
        said = [f"{label} {words}" for column, label in zip(self.columns, self.labels, strict=True)
                for words in column.says()]  # fmt: skip
        return said or ["nothing"]

    def packed(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """The bits of rows (n, columns), eight in a byte: (n, ⌈D/8⌉)."""
        out = np.empty((len(X), -(-self.length // 8)), np.uint8)
        rows = self._rows_at_once()
        for start in range(0, len(X), rows):
            out[start : start + rows] = np.packbits(self.bits(X[start : start + rows]), axis=1)
        return out

    def unpacked(self, packed: NDArray[np.uint8]) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Some rows of ``packed`` after the other, and their bits (rows, D), 0 or 1."""
        rows = self._rows_at_once()
        for start in range(0, len(packed), rows):
            part = slice(start, start + rows)
            yield part, np.unpackbits(packed[part], axis=1, count=self.length)

    def repacked(self, packed: NDArray[np.uint8], bits: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows of ``packed`` as ``only(bits).packed`` would make them."""
        out = np.empty((len(packed), -(-len(bits) // 8)), np.uint8)
        for part, rows in self.unpacked(packed):
            out[part] = np.packbits(rows[:, bits], axis=1)
        return out

    def blocks(self, packed: NDArray[np.uint8], *, seed: int | None = None) -> NDArray[np.uint8]:
        """Rows of ``packed`` as (⌈n/16⌉, D, 16); columns are not deformed, whatever the seed."""
        blocks = np.empty((-(-len(packed) // BLOCK), self.length, BLOCK), np.uint8)
        lay_out(np.unpackbits(packed, axis=1, count=self.length), blocks)
        return blocks

    def draw(
        self, count: int, width: int, random: np.random.Generator, chances: NDArray[np.float64] | None = None
    ) -> NDArray[np.int32]:
        """Random tuples of bits of different columns, (count, width); of fewer bits where there are not so many."""
        there = self.length if chances is None else int(np.count_nonzero(chances))
        return at_random(count, min(width, there), self.lengths, random, chances)

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain JSON types; ``from_dict`` reads it back."""
        columns = [column_to_dict(column) for column in self.columns]
        return {"kind": "columns", "columns": columns, "labels": list(self.labels), "missing": self.missing}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ColumnBits:
        """The encoder that ``to_dict`` wrote; ``KeyError``, ``TypeError`` or ``ValueError`` where it did not."""
        listed, labels, missing = fields(data, "columns", "labels", "missing")
        if missing not in ("error", "level") or not listed or len(listed) != len(strings(labels, "labels")):
            raise ValueError(f"missing is {str(missing)[:40]!r}, or columns and labels are not as many")
        return cls(tuple(map(column_from_dict, listed)), tuple(labels), missing)

    def _rows_at_once(self) -> int:
        return max(BLOCK, min(_CHUNK, _AT_ONCE // self.length))

    def _scanned(self, X: NDArray[Any]) -> Iterator[tuple[Column, Values]]:
        """The columns that have bits, or that may hold what is missing and must not."""
        unread = X.dtype.kind == "O" or (X.dtype.kind == "f" and bool(np.isnan(X).any()))
        for c, column in enumerate(self.columns):
            if column.length or unread:
                values = scan(X[:, c], self.labels[c])
                _refuse_missing(values, self.missing)
                yield column, values


def _places(which: Iterable[int | str] | None, named: list[str], count: int) -> set[int]:
    places = set()
    for entry in which if which is not None else ():
        if isinstance(entry, str):
            if entry not in named:
                raise InvalidValueError(f"there is no column {entry!r}; the names are {named or 'not known'}")
            places.add(named.index(entry))
        elif -count <= entry < count:
            places.add(int(entry) % count)
        else:
            raise InvalidValueError(f"there is no column {entry}; X has {count} columns, counted from 0")
    return places


def _refuse_missing(values: Values, allowed: str) -> None:
    if allowed == "error" and (count := int(values.absent.sum())):
        raise InvalidValueError(
            f"{values.label} has {count} missing values (NaN or None); fill them in, or give missing='level' to the "
            "model, to which a missing value is then a value of its own"
        )
