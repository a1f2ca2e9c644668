"""Tables of columns as bits: numbers by thermometers, categories by single bits or codes, texts by their byte runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.encoders.column import Categories, Column, Numbers, Text, column_from_dict, column_to_dict
from tithe.hashtron.encoders.values import all_numbers, missing
from tithe.hashtron.tuples.kernels import BLOCK, lay_out
from tithe.hashtron.tuples.selection import at_random
from tithe.hashtron.tuples.tables import Sharing

__all__ = ["ColumnBits"]

_CHUNK = 4096  # rows whose bits are held unpacked
_BUCKETS = 256  # for the byte runs of a text


@dataclass(frozen=True)
class ColumnBits:
    """How rows of a table become bits; made by ``ColumnBits.fit``.

    A number larger than all levels has all bits of its column set; a category that was not seen has none. A constant
    column has no bits. Where no column has any, there is a single bit that is never set.

    Attributes:
        columns: ``Numbers``, ``Categories`` or ``Text``, one for each column.
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
        levels: int = 16,
        categorical: Sequence[int | str] | None = None,
        text: Sequence[int | str] | None = None,
        missing: Literal["error", "level"] = "error",
        feature_names: Sequence[str] | None = None,
    ) -> ColumnBits:
        """Learn levels and categories.

        Args:
            X: (n, columns), of numbers, or of objects: numbers, truths, strings and what is missing.
            levels: of a number, at most.
            categorical: columns of categories, by number or name; those that hold strings are in any case.
            text: columns of texts, by number or name.
            missing: what a missing value is: an ``"error"``, or a ``"level"``.
            feature_names: of the columns.

        Returns:
            The encoder. Raises ``InvalidValueError`` for an option or column that does not exist and for missing
            values that were not allowed; ``InvalidDTypeError`` for a value that is neither number nor string.
            O(n log n) for each column.
        """
        if missing not in ("error", "level"):
            raise InvalidValueError(f"missing is {missing!r}; use 'error', or 'level' to let it be a value of its own")
        named = list(feature_names) if feature_names is not None else []
        labels = tuple(f"column {c} ({named[c]!r})" if named else f"column {c}" for c in range(X.shape[1]))
        texts, categories = (_places(which, named, X.shape[1]) for which in (text, categorical))
        columns: list[Column] = []
        for c, label in enumerate(labels):
            column = X[:, c]
            _refuse_missing(column, label, missing)
            if c in texts:
                columns.append(Text.fit(column, _BUCKETS, label))
            elif c in categories or not all_numbers(column):
                columns.append(Categories.fit(column, label))
            else:
                columns.append(Numbers.fit(column, levels, label))
        return cls(tuple(columns), labels, missing)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Bits of each column that has some; they lie side by side."""
        return tuple(column.length for column in self.columns if column.length) or (1,)

    @property
    def length(self) -> int:
        """D: bits of a row."""
        return sum(self.lengths)

    @property
    def sharing(self) -> Sharing:
        """Each tuple has tables of its own."""
        return Sharing()

    @property
    def bytes(self) -> int:
        """What has to be kept to encode: levels, names of categories, places of byte runs."""
        return sum(column.bytes for column in self.columns)

    def bits(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """Rows (n, columns) as bool (n, D); raises as ``fit`` does. O(n · D)."""
        parts = []
        for c, (column, label) in enumerate(zip(self.columns, self.labels, strict=True)):
            _refuse_missing(X[:, c], label, self.missing)
            if column.length:
                parts.append(column.bits(X[:, c], label))
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(X), 1), np.bool_)

    def names(self) -> list[str]:
        """What each bit says of a row, (D,)."""
        said = [f"{label} {words}" for column, label in zip(self.columns, self.labels, strict=True)
                for words in column.says()]  # fmt: skip
        return said or ["nothing"]

    def packed(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """The bits of rows (n, columns), eight in a byte: (n, ⌈D/8⌉)."""
        out = np.empty((len(X), -(-self.length // 8)), np.uint8)
        for start in range(0, len(X), _CHUNK):
            out[start : start + _CHUNK] = np.packbits(self.bits(X[start : start + _CHUNK]), axis=1)
        return out

    def blocks(self, packed: NDArray[np.uint8], *, seed: int | None = None) -> NDArray[np.uint8]:
        """Rows of ``packed`` as (⌈n/16⌉, D, 16); columns are not deformed, whatever the seed."""
        blocks = np.empty((-(-len(packed) // BLOCK), self.length, BLOCK), np.uint8)
        lay_out(np.unpackbits(packed, axis=1, count=self.length), blocks)
        return blocks

    def draw(self, count: int, width: int, random: np.random.Generator) -> NDArray[np.int32]:
        """Random tuples of bits of different columns, (count, width); of fewer bits where there are not so many."""
        return at_random(count, min(width, self.length), self.lengths, random)

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain JSON types; ``from_dict`` reads it back."""
        columns = [column_to_dict(column) for column in self.columns]
        return {"kind": "columns", "columns": columns, "labels": list(self.labels), "missing": self.missing}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ColumnBits:
        """The encoder that ``to_dict`` wrote."""
        return cls(tuple(map(column_from_dict, data["columns"])), tuple(data["labels"]), data["missing"])


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


def _refuse_missing(column: NDArray[Any], label: str, allowed: str) -> None:
    if allowed == "error" and (count := int(missing(column).sum())):
        raise InvalidValueError(
            f"{label} has {count} missing values (NaN or None); fill them in, or give missing='level' to the model, "
            "to which a missing value is then a value of its own"
        )
