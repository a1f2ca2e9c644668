"""Letters to phonemes: lexica read, aligned and made into samples, and how wrong a pronunciation is.

>>> from tithe.hashtron.languages import letters
>>> letters("Łódź")
('Ł', 'ó', 'd', 'ź')
"""

from tithe.hashtron.languages.alignment import Aligned, Aligner, fit_aligner
from tithe.hashtron.languages.baseline import letter_accuracy, majority
from tithe.hashtron.languages.error_rate import edit_distances, phoneme_error_rate
from tithe.hashtron.languages.lexicon import Dropped, Pronunciations, parse, read
from tithe.hashtron.languages.samples import (
    UNALIGNED,
    UNSEEN,
    Alphabet,
    LetterSamples,
    Part,
    letter_samples,
    split_words,
    spoken,
)
from tithe.hashtron.languages.spelling import letters

__all__ = [
    "UNALIGNED",
    "UNSEEN",
    "Aligned",
    "Aligner",
    "Alphabet",
    "Dropped",
    "LetterSamples",
    "Part",
    "Pronunciations",
    "edit_distances",
    "fit_aligner",
    "letter_accuracy",
    "letter_samples",
    "letters",
    "majority",
    "parse",
    "phoneme_error_rate",
    "read",
    "split_words",
    "spoken",
]
