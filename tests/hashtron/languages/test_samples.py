import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.hashtron.languages import (
    UNALIGNED,
    UNSEEN,
    Alphabet,
    Part,
    letter_accuracy,
    letter_samples,
    majority,
    parse,
    phoneme_error_rate,
    split_words,
    spoken,
)


@pytest.fixture(scope="module")
def lexicon():
    sounds = {"a": "ɑ", "b": "b", "c": "t s", "d": "d"}
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list(sounds), random.integers(1, 7))) for _ in range(300)]
    return parse("".join(f"{w}\t{' '.join(sounds[x] for x in w.lower())}\n" for w in [*words, "Abba"]).encode())


@settings(deadline=None)
@given(
    st.lists(st.text("abAB", max_size=3), min_size=2, max_size=30).filter(lambda x: len({w.lower() for w in x}) > 1),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_split_keeps_words_on_one_side(words, fraction, seed):
    out = split_words(words, fraction, np.random.default_rng(seed))
    sides = {}
    for word, side in zip(words, out.tolist(), strict=True):
        assert sides.setdefault(word.lower(), side) == side
    held = sum(sides.values())
    assert 0 < held < len(sides)
    assert abs(held - fraction * len(sides)) <= 1
    np.testing.assert_array_equal(out, split_words(words, fraction, np.random.default_rng(seed)))


def test_another_seed_is_another_split():
    words = [str(i) for i in range(100)]
    one, two = (split_words(words, 0.2, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.sum() == two.sum() == 20
    assert (one != two).any()


@pytest.mark.parametrize("words, fraction", [(["a", "A"], 0.5), ([], 0.5), (["a", "b"], 0.0), (["a", "b"], 1.0)])
def test_splits_that_cannot_be(words, fraction):
    with pytest.raises(InvalidValueError, match="cannot be held out: use a fraction"):
        split_words(words, fraction, np.random.default_rng(0))


@settings(deadline=None)
@given(st.lists(st.text("abĄ", max_size=5), max_size=5), st.sampled_from([1, 3, 9]))
def test_windows_show_the_word_around_each_letter(words, width):
    windows, edges = Alphabet(("a", "b"), width).windows(words)
    assert windows.shape == (sum(map(len, words)), width)
    assert windows.dtype == np.uint32
    for word, first, last in zip(words, edges[:-1], edges[1:], strict=True):
        codes = [{"a": 2, "b": 3}.get(letter, 1) for letter in word]
        assert windows[first:last, width // 2].tolist() == codes
        for i, row in enumerate(windows[first:last].tolist()):
            places = range(i - width // 2, i + width // 2 + 1)
            assert row == [codes[k] if 0 <= k < len(word) else 0 for k in places]


def test_regular_spelling_is_all_majority(lexicon):
    samples = letter_samples(lexicon, seed=0, width=7)
    assert samples.share == 1
    assert set(samples.chunks) == {("ɑ",), ("b",), ("t", "s"), ("d",)}
    part = samples.held_out
    guess = majority(samples.train, part.windows)
    assert letter_accuracy(part, guess) == 1
    assert phoneme_error_rate(spoken(samples.chunks, guess, part.edges), part.phonemes) == 0
    assert samples.alphabet.characters(part.windows)[:, 3].tolist() == list("".join(part.words).lower())


def test_labels_spell_the_phonemes(lexicon):
    samples = letter_samples(lexicon, seed=0)
    for part in (samples.train, samples.held_out):
        assert spoken(samples.chunks, part.labels, part.edges) == part.phonemes
    assert sorted(samples.train.words + samples.held_out.words) == sorted(lexicon.words)
    counts = np.bincount(samples.train.labels)
    assert (np.diff(counts) <= 0).all()


def test_same_seed_same_samples(lexicon):
    one, two = letter_samples(lexicon, seed=3), letter_samples(lexicon, seed=3)
    assert one.held_out.words == two.held_out.words
    assert one.chunks == two.chunks
    np.testing.assert_array_equal(one.train.labels, two.train.labels)


def test_what_is_not_seen_and_what_is_not_aligned():
    text = "".join(f"{w}\t{' '.join(w)}\n" for w in ["ab", "ba", "aab", "abb", "bab", "aba"]) + "z\tw\nq\tk j u u\n"
    lexicon = parse(text.encode())
    for seed in range(50):
        samples = letter_samples(lexicon, seed=seed, held_out=0.4)
        if {"z", "q"} <= set(samples.held_out.words):
            break
    part = samples.held_out
    labels = dict(zip(part.words, np.split(part.labels, part.edges[1:-1]), strict=True))
    assert labels["z"].tolist() == [UNSEEN]
    assert labels["q"].tolist() == [UNALIGNED]
    assert samples.share == 7 / 8
    assert part.aligned == len(part.words) - 1
    guess = majority(samples.train, part.windows)
    known = len(guess) - 1
    assert letter_accuracy(part, guess) == (known - 1) / known
    assert phoneme_error_rate(spoken(samples.chunks, guess, part.edges), part.phonemes) > 0


def test_majority_breaks_ties_to_the_more_frequent_label():
    windows = np.array([[2], [2], [3], [3], [3]], np.uint32)
    part = Part((), (), windows, np.zeros(1, np.int64), np.array([1, 0, 2, UNSEEN, UNALIGNED]))
    assert majority(part, np.array([[2], [3], [1]], np.uint32)).tolist() == [0, 2, 0]


def test_refusals(lexicon):
    for width in (0, 4, -1):
        with pytest.raises(InvalidValueError, match="odd number"):
            letter_samples(lexicon, seed=0, width=width)
    samples = letter_samples(lexicon, seed=0)
    with pytest.raises(InvalidValueError, match="those from 0 to 3 have phonemes"):
        spoken(samples.chunks, np.array([UNSEEN]), np.array([0, 1]))
    with pytest.raises(InvalidValueError, match="give one a letter"):
        letter_accuracy(samples.held_out, np.zeros(1, np.int64))
    nothing = Part((), (), np.zeros((1, 1), np.uint32), np.zeros(1, np.int64), np.array([UNALIGNED]))
    with pytest.raises(InvalidValueError, match="none of the words"):
        letter_accuracy(nothing, np.zeros(1, np.int64))
