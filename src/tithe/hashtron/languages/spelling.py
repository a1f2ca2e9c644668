"""The letters of a word: what a phoneme can belong to, in any script."""

from __future__ import annotations

import functools
import unicodedata
from typing import Literal

__all__ = ["letters"]


def letters(word: str) -> tuple[str, ...]:
    """Split a word into letters.

    A letter is a character of the NFC form with the diacritics that follow it. Marks that spell a sound of their own,
    as the vowel signs of Devanagari, Thai, Arabic and Hebrew do, are letters by themselves, and so are the parts of a
    Hangul syllable: a syllable would have up to four phonemes.

    Args:
        word: any text.

    Returns:
        The letters; together they are the word, except that Hangul is decomposed. O(len(word)).

    Source: Unicode Standard Annex 29, grapheme clusters, narrowed as said.

    >>> letters("m\u0300o"), letters("की")
    (('m̀', 'o'), ('क', 'ी'))
    >>> len(letters("강")), letters("e\u0301")
    (3, ('é',))
    """
    found: list[str] = []
    for character in unicodedata.normalize("NFC", word):
        kind = _kind(character)
        if kind == "hangul":
            found += unicodedata.normalize("NFD", character)
        elif kind == "joins" and found:
            found[-1] += character
        else:
            found.append(character)
    return tuple(found)


@functools.lru_cache(maxsize=1 << 14)
def _kind(character: str) -> Literal["stands", "joins", "hangul"]:
    if "\uac00" <= character <= "\ud7a3":
        return "hangul"
    category = unicodedata.category(character)
    # Diacritics that go with any script are named so, the marks of one script after it; formats are joiners and marks
    # of direction.
    diacritic = category[0] == "M" and unicodedata.name(character, "").startswith(("COMBINING", "VARIATION SELECTOR"))
    return "joins" if diacritic or category in ("Cf", "Me") else "stands"
