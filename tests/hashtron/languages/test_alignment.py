import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.hashtron.languages import alignment, alignment_loops, fit_aligner, letters
from tithe.hashtron.languages.alignment_loops import NOWHERE, STEPS, best_paths, expected_counts, kinds, step_keys

WORDS = st.lists(
    st.tuples(st.text("abcd", min_size=1, max_size=5), st.lists(st.sampled_from("xyz"), min_size=1, max_size=6)),
    min_size=1,
    max_size=8,
)


def paths(n, m):
    """All sequences of steps that take n letters and m phonemes."""
    if n == m == 0:
        return [()]
    found = []
    for s, (a, b) in enumerate(STEPS.tolist()):
        if a <= n and b <= m:
            found += [(*before, s) for before in paths(n - a, m - b)]
    return found


def tried(word, sounds):
    """One word as the loops read it, and for each of its paths the places of its steps among the keys."""
    n, m = len(word), len(sounds)
    keys, cells = step_keys(word, sounds, np.array([0, n]), np.array([0, m]), 4, 3)
    found = []
    for path in paths(n, m):
        ends = np.cumsum(STEPS[list(path)], axis=0)
        found.append([(i * (m + 1) + j, s) for (i, j), s in zip(ends.tolist(), path, strict=True)])
    return keys, cells, found


small = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1)).filter(lambda x: x[1] <= 2 * x[0])


@settings(deadline=None)
@given(small)
def test_expected_counts_are_those_of_all_paths(case):
    n, m, seed = case
    random = np.random.default_rng(seed)
    keys, cells, found = tried(random.integers(0, 4, n), random.integers(0, 3, m))
    names, places = np.unique(keys, return_inverse=True)
    places = places.reshape(keys.shape) - (names[0] == NOWHERE)
    weight = random.random(int((names != NOWHERE).sum()))
    expected = np.zeros_like(weight)
    shares = np.array([math.prod(weight[places[at]] for at in path) for path in found])
    for share, path in zip(shares / shares.sum(), found, strict=True):
        for at in path:
            expected[places[at]] += share
    counts = expected_counts(places, np.array([0, n]), np.array([0, m]), cells, weight)
    np.testing.assert_allclose(counts, expected, atol=1e-12)


@settings(deadline=None)
@given(small)
def test_the_best_path_is_the_best_of_all(case):
    n, m, seed = case
    random = np.random.default_rng(seed)
    keys, cells, found = tried(random.integers(0, 4, n), random.integers(0, 3, m))
    scores = np.log(random.random(keys.shape))
    best = max(found, key=lambda path: sum(scores[at] for at in path))
    taken = best_paths(scores, np.array([0, n]), np.array([0, m]), cells)
    assert taken[taken >= 0].tolist() == [s for _, s in best]


def test_equal_keys_are_equal_steps():
    """A key stands for letters and phonemes, and nothing else does; it says how many they are."""
    meant = {}
    for word, sounds in itertools.product(itertools.product(range(3), repeat=2), itertools.product(range(2), repeat=2)):
        keys, _ = step_keys(np.array(word), np.array(sounds), np.array([0, 2]), np.array([0, 2]), 3, 2)
        for c, s in zip(*np.nonzero(keys != NOWHERE), strict=True):
            (i, j), (a, b) = divmod(c, 3), STEPS[s]
            assert kinds(keys[c, s], 3, 2) == s
            assert meant.setdefault(keys[c, s], (word[i - a : i], sounds[j - b : j])) == (
                word[i - a : i],
                sounds[j - b : j],
            )
    assert len(set(meant.values())) == len(meant)


@pytest.mark.parametrize("name", ["step_keys", "expected_counts", "best_paths"])
def test_compiled_loops_are_the_plain_ones(name, monkeypatch):
    words = ["shah", "hash", "ash", "has", "s"]
    sounds = [("ʃ", "a"), ("h", "a", "ʃ"), ("a", "ʃ"), ("h", "a", "s"), ("ɛ", "s")]
    compiled = fit_aligner(words, sounds)
    aligned = compiled.align(words, sounds)
    short = {"step_keys": "_steps", "expected_counts": "_counts", "best_paths": "_paths"}[name]
    monkeypatch.setattr(alignment_loops, short, getattr(alignment_loops, f"_{name}"))
    plain = fit_aligner(words, sounds)
    np.testing.assert_array_equal(plain.keys, compiled.keys)
    np.testing.assert_allclose(plain.scores, compiled.scores, atol=1e-12)
    assert plain.align(words, sounds) == aligned


@settings(deadline=None)
@given(WORDS)
def test_an_alignment_spells_both_sides(rows):
    words, phonemes = zip(*rows, strict=True)
    fitting = [len(sounds) <= 2 * len(word) for word, sounds in rows]
    if not any(fitting):
        with pytest.raises(InvalidValueError, match=r"none of .* can be aligned"):
            fit_aligner(words, phonemes)
        return
    aligned = fit_aligner(words, phonemes).align(words, phonemes)
    for word, sounds, spelled, chunks, fits in zip(words, phonemes, *vars(aligned).values(), fitting, strict=True):
        assert "".join(spelled) == word
        assert (chunks is not None) == fits
        if chunks is not None:
            assert len(chunks) == len(spelled)
            assert [sound for chunk in chunks for sound in chunk] == list(sounds)
            assert max(map(len, chunks)) <= 2
    assert aligned.share == sum(fitting) / len(fitting)


@settings(deadline=None, max_examples=20)
@given(WORDS, st.text("abe", max_size=6), st.lists(st.sampled_from("xyw"), max_size=8))
def test_words_with_letters_and_phonemes_never_seen(rows, word, sounds):
    words, phonemes = zip(*[(w, p) for w, p in [*rows, ("a", ("x",))] if len(p) <= 2 * len(w)], strict=True)
    (chunks,) = fit_aligner(words, phonemes).align([word], [sounds]).chunks
    assert (chunks is not None) == (0 < len(sounds) <= 2 * len(word))
    assert chunks is None or [sound for chunk in chunks for sound in chunk] == sounds


def test_a_regular_spelling_is_recovered():
    """Letters with one sound, a silent one, one of two sounds, and two of one sound, in random words."""
    sounds = {"a": "ɑ", "e": "ɛ", "b": "b", "d": "d", "h": "", "x": "k s", "qu": "kʷ", "k": "k", "s": "s"}
    random = np.random.default_rng(0)
    spelled = [random.choice(list(sounds), random.integers(2, 8)).tolist() for _ in range(400)]
    spelled = [word for word in spelled if {*word} != {"h"}]
    words = ["".join(word) for word in spelled]
    phonemes = [" ".join(map(sounds.__getitem__, word)).split() for word in spelled]
    aligned = fit_aligner(words, phonemes).align(words, phonemes)
    assert aligned.share == 1
    said = {letter: set() for letter in "abdehkqsux"}
    for word, chunks in zip(aligned.letters, aligned.chunks, strict=True):
        for letter, chunk in zip(word, chunks, strict=True):
            said[letter].add(" ".join(chunk))
    assert said.pop("q") | said.pop("u") == {"kʷ", ""}
    assert said == {letter: {sound} for letter, sound in sounds.items() if letter != "qu"}


def test_case_does_not_matter():
    aligner = fit_aligner(["Ab", "bA", "BB"], [("a", "b"), ("b", "a"), ("b", "b")])
    assert set(aligner.alphabet) == {"a", "b"}


def test_same_words_same_aligner():
    words, phonemes = ["chat", "hat", "cat"], [("ʃ", "a"), ("a", "t"), ("k", "a", "t")]
    one, two = fit_aligner(words, phonemes), fit_aligner(words, phonemes)
    assert one.scores.tobytes() == two.scores.tobytes()
    assert one.align(words, phonemes) == two.align(words, phonemes)


def test_long_words_count_and_are_aligned():
    word = "ab" * (alignment.MOST_LETTERS // 2)
    words, phonemes = [word, *"abab"], [["x", "y"] * (len(word) // 2), *"xyxy"]
    aligner = fit_aligner(words, phonemes)
    assert aligner.align([word], phonemes[:1]).chunks == (((("x",), ("y",)) * (len(word) // 2)),)
    assert np.exp(aligner.scores).sum() == pytest.approx(1, abs=1e-6)
    assert aligner.align([word + "a"], [("x",)]).chunks == (None,)


def test_many_words_are_estimated_from_some(monkeypatch):
    words, phonemes = ["ab", "b", "a"] * 40, [("x", "y"), ("y",), ("x",)] * 40
    monkeypatch.setattr(alignment, "MOST_WORDS", 50)
    monkeypatch.setattr(alignment, "_TOGETHER", 7)
    aligned = fit_aligner(words, phonemes).align(words, phonemes)
    assert aligned.chunks == ((("x",), ("y",)), (("y",),), (("x",),)) * 40


def test_refusals():
    with pytest.raises(InvalidValueError, match="2 words and the phonemes of 1"):
        fit_aligner(["a", "b"], [("a",)])
    with pytest.raises(InvalidValueError, match="changed places"):
        fit_aligner([], [])
    with pytest.raises(InvalidValueError, match="give as many"):
        fit_aligner(["a"], [("a",)]).align(["a"], [])


@pytest.mark.parametrize(
    "word, expected",
    [
        ("żółw", ["ż", "ó", "ł", "w"]),
        ("z\u0307o", ["ż", "o"]),
        ("q\u0307a", ["q\u0307", "a"]),
        ("हिन्दी", ["ह", "ि", "न", "्", "द", "ी"]),
        ("שָׁלוֹם", ["ש", "ָ", "ׁ", "ל", "ו", "ֹ", "ם"]),
        ("می\u200cروم", ["م", "ی\u200c", "ر", "و", "م"]),
        ("\u0301a", ["\u0301", "a"]),
        ("", []),
    ],
)
def test_letters(word, expected):
    assert list(letters(word)) == expected


@given(st.text())
def test_letters_are_the_word(word):
    import unicodedata

    assert unicodedata.normalize("NFC", "".join(letters(word))) == unicodedata.normalize("NFC", word)
    assert all(letters(word))
