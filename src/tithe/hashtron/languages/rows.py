"""What is known of a language after it was trained: one row a language, for the terminal and for files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tithe.errors import CorruptFileError
from tithe.files import write_atomically

__all__ = ["HEADINGS", "Row", "as_cells", "read_rows", "remarks", "write_rows"]

HEADINGS = ("", "rows", "align", "train", "eval", "prior", "usual", "errors", "usual", "s", "KiB")
"""Of ``as_cells``; "usual" is what each letter's most frequent phonemes come to, first in letters, then in errors."""


@dataclass(frozen=True, slots=True)
class Row:
    """One language. Shares are from 0 to 1; those of letters count the letters of aligned words.

    Attributes:
        language: its name, that of the lexicon without the ending.
        rows: pronunciations in the lexicon that could be used.
        alignable: how many of them could be aligned.
        train: letters of the words trained on that get the right phonemes.
        eval: letters of held-out words that do.
        prior: the same by always giving the most frequent phonemes.
        majority: the same by giving each letter its most frequent phonemes.
        error_rate: edits from what was found to what is right, a phoneme, over all held-out words.
        majority_error_rate: the same of each letter's most frequent phonemes.
        seconds: from reading the lexicon to the saved model; after an interruption, of what was left to do.
        bytes: of the model's file.
        note: what was dropped of the lexicon, and other things to know; empty for nothing.
        error: why there is no model; empty where there is one.
    """

    language: str
    rows: int = 0
    alignable: float = 0.0
    train: float = 0.0
    eval: float = 0.0
    prior: float = 0.0
    majority: float = 0.0
    error_rate: float = 0.0
    majority_error_rate: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    note: str = ""
    error: str = ""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Row:
        """A row from JSON; raises ``CorruptFileError`` where it is none.

        >>> Row.from_plain({"language": "pol", "rows": 9}).rows
        9
        """
        try:
            row = cls(**plain)
        except TypeError as error:
            raise CorruptFileError(f"no row of a language: {error}") from error
        for each in fields(cls):
            value = getattr(row, each.name)
            if type(value).__name__ != each.type and not (each.type == "float" and type(value) is int):
                raise CorruptFileError(f"no row of a language: {each.name} is {value!r}")
        return row


def as_cells(row: Row) -> list[str]:
    """A row in words, as many as ``HEADINGS``.

    >>> as_cells(Row("pol", 2000, 1, 0.99, 0.98, 0.1, 0.85, 0.01, 0.15, 2.1, 123_275))[-4:]
    ['1.0%', '15.0%', '2.1', '120']
    """
    if row.error:
        return [row.language, *["–"] * (len(HEADINGS) - 1)]
    shares = (row.alignable, row.train, row.eval, row.prior, row.majority, row.error_rate, row.majority_error_rate)
    figures = (f"{share:.0%}" if share == 1 else f"{share:.1%}" for share in shares)
    return [row.language, str(row.rows), *figures, f"{row.seconds:.1f}", f"{row.bytes / 1024:.0f}"]


def remarks(rows: Iterable[Row]) -> list[str]:
    """What rows say in words, a line for each that says something.

    >>> remarks([Row("pol"), Row("xyz", error="the file is empty")])
    ['xyz has no model: the file is empty']
    """
    return [
        f"{row.language} has no model: {row.error}" if row.error else f"{row.language}: {row.note}"
        for row in rows
        if row.error or row.note
    ]


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file that ``write_rows`` made; none where there is no file.

    Raises ``CorruptFileError`` where it holds something else. O(size).

    >>> read_rows("no/such.json")
    []
    """
    try:
        return [Row.from_plain(plain) for plain in json.loads(Path(path).read_bytes())]
    except FileNotFoundError:
        return []
    except (TypeError, ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"{path} holds no rows of languages ({error}); remove it, or give another folder"
        ) from error


def write_rows(rows: Iterable[Row], path: str | os.PathLike[str]) -> None:
    """Write rows as JSON, and beside it, with the ending ``.tsv``, as a table; each is whole or as before. O(rows)."""
    rows, path = list(rows), Path(path)
    write_atomically(path, json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")
    names = [each.name for each in fields(Row)]
    lines = [names, *([" ".join(str(getattr(row, name)).split()) for name in names] for row in rows)]
    write_atomically(path.with_suffix(".tsv"), "".join("\t".join(line) + "\n" for line in lines))
