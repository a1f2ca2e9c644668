"""Read a pronunciation lexicon from a file that anybody may have made: what is usable, and what was dropped and why."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

from tithe.errors import CorruptFileError, DataUnavailableError

__all__ = ["Dropped", "Pronunciations", "Reason", "parse", "read"]

Phonemes: TypeAlias = tuple[str, ...]
Reason: TypeAlias = Literal["blank", "columns", "no word", "no phonemes", "unreadable", "duplicate"]

_FORM = "a word, one tab, and phonemes with a space between them"
_WHITESPACE = " \u00a0\ufeff"
_REPLACEMENT = "\ufffd"  # what a decoder leaves where it could not read
_MOST_WRONG = 0.5  # of the lines; a file with more of another form is another kind of file
_SHOWN = 60  # characters of a line in a message


class Dropped(NamedTuple):
    """A line that gives no pronunciation: its number, from 1 on, why, and how it begins."""

    line: int
    reason: Reason
    text: str


@dataclass(frozen=True)
class Pronunciations:
    """The pronunciations of a lexicon; a word with several has several.

    Attributes:
        words: in the order of the file, NFC, at least two different ones.
        phonemes: of each word, NFC, at least one each, and at least two different ones in all.
        lines: of the file.
        dropped: the lines that are not among them; ``lines`` is how many words and dropped lines there are.
    """

    words: tuple[str, ...]
    phonemes: tuple[Phonemes, ...]
    lines: int
    dropped: tuple[Dropped, ...] = ()

    def __len__(self) -> int:
        return len(self.words)

    def report(self) -> str:
        r"""What was dropped, in one line; O(dropped).

        >>> parse(b"ab\tx y\nab\tx y\n\nba\ty x\n").report()
        '2 of 4 lines kept; dropped: 1 blank (line 3), 1 duplicate (line 2)'
        """
        counts = Counter(drop.reason for drop in self.dropped)
        first = {drop.reason: drop.line for drop in reversed(self.dropped)}
        found = [
            f"{counts[why]} {why} ({'line' if counts[why] == 1 else 'first in line'} {first[why]})"
            for why in get_args(Reason)
            if counts[why]
        ]
        kept = f"{len(self)} of {self.lines} lines kept"
        return f"{kept}; dropped: {', '.join(found)}" if found else kept


def read(path: str | os.PathLike[str]) -> Pronunciations:
    """Read a lexicon from a file, as ``parse`` does.

    Args:
        path: of the file.

    Returns:
        The pronunciations. Raises ``CorruptFileError`` as ``parse``, ``DataUnavailableError`` where the file cannot be
        read. O(size).

    >>> read("no/such.tsv")
    Traceback (most recent call last):
        ...
    tithe.errors.DataUnavailableError: cannot read no/such.tsv (No such file or directory): give a lexicon that is ...
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataUnavailableError(
            f"cannot read {path} ({error.strerror}): give a lexicon that is there and readable, each line {_FORM}"
        ) from error
    return parse(data, str(path))


def parse(data: bytes, name: str = "lexicon") -> Pronunciations:
    r"""The pronunciations in the content of a lexicon.

    Lines that give none are dropped and reported. A file is refused where what is left would be wrong or useless.

    Args:
        data: UTF-8 lines, with or without byte-order mark, ended by LF, CR LF or CR.
        name: what messages call it.

    Returns:
        The pronunciations. Raises ``CorruptFileError``, with the line and a remedy, where the file is empty, not UTF-8
        or only in part, mostly of another form, or without two different words and two different phonemes. O(size).

    Source: MISSION H8; the form is that of WikiPron, Lee et al. 2020.

    >>> lexicon = parse("kot\tk ɔ t\nkod\tk ɔ t\nkura\n".encode())
    >>> lexicon.words, lexicon.phonemes[0]
    (('kot', 'kod'), ('k', 'ɔ', 't'))
    >>> lexicon.dropped
    (Dropped(line=3, reason='columns', text='kura'),)
    """
    lines = _decoded(data, name).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    rows: dict[tuple[str, Phonemes], None] = {}
    dropped = []
    for number, line in enumerate(lines, start=1):
        found = _row(line)
        if not isinstance(found, str) and found in rows:
            found = "duplicate"
        if isinstance(found, str):
            dropped.append(Dropped(number, found, line[:_SHOWN]))
        else:
            rows[found] = None
    _check(name, lines, list(rows), dropped)
    words, phonemes = zip(*rows, strict=True)
    return Pronunciations(words, phonemes, len(lines), tuple(dropped))


def _decoded(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise CorruptFileError(f"{name}, line 1: the file is UTF-16, UTF-32 or binary; save it as UTF-8")
    lines = data.split(b"\n")
    wrong = [number for number, line in enumerate(lines, start=1) if not _is_utf8(line)]
    if wrong:
        others = sum(not line.isascii() for line in lines) - len(wrong)
        what = (
            f"mixed encodings: this line is not UTF-8, and so {len(wrong)} of {len(lines)}, while {others} others are"
            if others
            else "the file is not UTF-8"
        )
        shown = lines[wrong[0] - 1][:_SHOWN]
        raise CorruptFileError(f"{name}, line {wrong[0]}: {what}; save all of it as UTF-8 (found {shown!r})")
    return data.decode().removeprefix("\ufeff")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _row(line: str) -> tuple[str, Phonemes] | Reason:
    if not line.strip():
        return "blank"
    columns = line.split("\t")
    if len(columns) != 2:
        return "columns"
    if any(character == _REPLACEMENT or unicodedata.category(character) == "Cc" for character in "".join(columns)):
        return "unreadable"
    word, phonemes = (unicodedata.normalize("NFC", column) for column in columns)
    word, found = word.strip(_WHITESPACE), tuple(phonemes.split())
    if not word:
        return "no word"
    return (word, found) if found else "no phonemes"


def _check(name: str, lines: list[str], rows: list[tuple[str, Phonemes]], dropped: list[Dropped]) -> None:
    """Refuse a file of which nothing can be learned."""
    written = [drop for drop in dropped if drop.reason != "blank"]
    if not rows and not written:
        raise CorruptFileError(f"{name}, line 1: the file is empty; each line should be {_FORM}")
    wrong = [drop for drop in written if drop.reason != "duplicate"]
    if not rows or len(wrong) > _MOST_WRONG * len(lines):
        first, most = wrong[0], Counter(drop.reason for drop in wrong).most_common(1)[0][0]
        raise CorruptFileError(
            f"{name}, line {first.line}: {len(wrong)} of {len(lines)} lines give no pronunciation, most for "
            f"{most!r}, starting with {first.text!r}; each line should be {_FORM}"
        )
    words, phonemes = {word for word, _ in rows}, {phoneme for _, found in rows for phoneme in found}
    if len(phonemes) < 2:
        raise CorruptFileError(
            f"{name}, line 1 to {len(lines)}: {phonemes.pop()!r} is the only phoneme, so there is nothing to learn; "
            "put spaces between phonemes, and give words that differ in sound"
        )
    if len(words) < 2:
        raise CorruptFileError(
            f"{name}, line 1 to {len(lines)}: {words.pop()!r} is the only word, so none can be held out; give more"
        )
