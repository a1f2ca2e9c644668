"""Pronunciation lexica: words and their phonemes, cut to at most 2000 rows a language."""

from __future__ import annotations

import hashlib
import random

from tithe.data.records import Lexicon
from tithe.errors import CorruptFileError

__all__ = ["MAX_ROWS", "cut", "parse_lexicon", "sample_rows"]

MAX_ROWS = 2000


def sample_rows(code: str, total: int) -> list[int]:
    """Which rows of the public file belong to the lexicon: all, or ``MAX_ROWS`` of them drawn with the code as seed.

    Args:
        code: ISO 639-3 code of the language, which seeds Python's generator.
        total: how many rows the public file has.

    Returns:
        Ascending row numbers, 0-based. The same in every supported release of Python. O(total).

    >>> len(sample_rows("pol", 132558)), sample_rows("pol", 2)
    (2000, [0, 1])
    """
    return sorted(random.Random(code).sample(range(total), min(total, MAX_ROWS)))


def cut(raw: bytes, code: str, sha256_of_source: str) -> bytes:
    r"""The lexicon from the public file of a language; what is not that file is returned as it is.

    Args:
        raw: the public file, or a file that is already cut (or a wrong one, whose own checksum then tells).
        code: ISO 639-3 code of the language.
        sha256_of_source: checksum of the public file.

    Returns:
        The lines that ``sample_rows`` names, in their order. O(size).
        Source: Lee et al. 2020, "Massively multilingual pronunciation modeling with WikiPron" (LREC).

    >>> cut(b"a\ta\nb\tb\n", "pol", sha256_of_source="of another file")
    b'a\ta\nb\tb\n'
    """
    if hashlib.sha256(raw).hexdigest() != sha256_of_source:
        return raw
    lines = raw.splitlines(keepends=True)
    return b"".join(lines[row] for row in sample_rows(code, len(lines)))


def parse_lexicon(data: bytes) -> Lexicon:
    r"""The rows of a lexicon.

    Args:
        data: UTF-8 lines, each a word, a tab, and phonemes with a space between them.

    Returns:
        (word, phonemes) pairs in the order of the file; a word with two pronunciations has two rows.
        Raises ``CorruptFileError`` for a line of another form. O(size).

    >>> parse_lexicon("kot\tk ɔ t\n".encode())
    [('kot', ('k', 'ɔ', 't'))]
    """
    rows: Lexicon = []
    for number, line in enumerate(data.decode().rstrip("\n").split("\n"), start=1):
        word, tab, phonemes = line.partition("\t")
        if not (word and tab and phonemes.strip()) or "\t" in phonemes:
            raise CorruptFileError(f"line {number} is {line!r}, expected a word, one tab, and phonemes between spaces")
        rows.append((word, tuple(phonemes.split())))
    return rows
