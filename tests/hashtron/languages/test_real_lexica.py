import functools

import numpy as np
import pytest

from tithe.data import available, describe, load, names
from tithe.data.locate import read
from tithe.hashtron.languages import (
    edit_distances,
    fit_aligner,
    letter_accuracy,
    letter_samples,
    letters,
    majority,
    parse,
    phoneme_error_rate,
    spoken,
)


@functools.cache
def lexicon(code):
    name = f"lexicon:{code}"
    if not available(name):
        pytest.skip(f"{name} is not on this machine")
    return parse(*read(describe(name)), name)


# Least share of words that can be aligned, most edits a phoneme of the per-letter majority.
@pytest.mark.parametrize(
    "code, share, most",
    [
        ("pol", 0.999, 0.25),
        ("deu", 0.999, 0.55),
        ("ara", 0.94, 0.45),  # a doubled consonant and its vowels are unwritten: up to three phonemes a letter
        ("heb", 0.99, 0.6),
        ("kor", 0.999, 0.3),
        ("jpn", 0.999, 0.35),
        ("tha", 0.96, 0.6),
        ("hin", 0.999, 0.25),
        ("kat", 1, 0.01),  # a letter is a phoneme
    ],
)
def test_languages(code, share, most):
    words = lexicon(code)
    samples = letter_samples(words, seed=0)
    part = samples.held_out
    assert samples.share >= share
    assert len(part.words) == pytest.approx(len(words) / 5, rel=0.1)
    assert not {w.casefold() for w in part.words} & {w.casefold() for w in samples.train.words}
    guess = majority(samples.train, part.windows)
    said = spoken(samples.chunks, guess, part.edges)
    rate = phoneme_error_rate(said, part.phonemes)
    assert rate < most
    constant = spoken(samples.chunks, np.zeros_like(guess), part.edges)
    assert rate < phoneme_error_rate(constant, part.phonemes)
    assert letter_accuracy(part, guess) > letter_accuracy(part, np.zeros_like(guess))
    right = sum(one == two for one, two in zip(said, part.phonemes, strict=True))
    assert (edit_distances(said, part.phonemes) == 0).sum() == right


@pytest.mark.parametrize(
    "code, word, expected",
    [
        ("pol", "Abramowicz", "a b r a m ɔ v i t͡ʂ _"),
        ("kor", "가루", "k a̠ ɾ u"),
        ("ara", "آس", "ʔ+aː s"),
        ("jpn", "あえぎごえ", "a̠ e̞ ɡʲ+i ɡ+o̞ e̞"),
    ],
)
def test_alignments_that_people_would_make(code, word, expected):
    words = lexicon(code)
    aligner = fit_aligner(words.words, words.phonemes)
    (chunks,) = aligner.align([word], [words.phonemes[words.words.index(word)]]).chunks
    assert " ".join("+".join(chunk) or "_" for chunk in chunks) == expected


@pytest.mark.slow
def test_every_lexicon():
    """All are read whole, and as the loader reads them; nearly all words are aligned, and spell both sides."""
    codes = [name.removeprefix("lexicon:") for name in names("lexicon")]
    assert len(codes) == 140
    for code in codes:
        words = lexicon(code)
        assert [len(words), words.dropped] == [len(load(f"lexicon:{code}")), ()], code
        aligned = fit_aligner(words.words, words.phonemes).align(words.words, words.phonemes)
        assert aligned.share > 0.94, code
        for word, sounds, spelled, chunks in zip(words.words, words.phonemes, *vars(aligned).values(), strict=True):
            assert spelled == letters(word)
            assert chunks is None or [sound for chunk in chunks for sound in chunk] == list(sounds)
        samples = letter_samples(words, seed=0)
        guess = majority(samples.train, samples.held_out.windows)
        said = spoken(samples.chunks, guess, samples.held_out.edges)
        assert phoneme_error_rate(said, samples.held_out.phonemes) < 0.75, code
