"""Contexts, candidates and the ranking of candidates, on real words and against plain Python."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.data import available, describe
from tithe.data.locate import read
from tithe.errors import InvalidValueError
from tithe.hashtron import Network
from tithe.hashtron.languages import UNALIGNED, letter_samples, parse
from tithe.hashtron.languages.candidates import Candidates, best, seen_candidates
from tithe.hashtron.languages.contexts import INTERVALS, ORDERS, Contexts, seen_contexts
from tithe.hashtron.languages.ranking import NEURONS, TOPOLOGY, features, questions, scores


@pytest.fixture(scope="module")
def french():
    if not available("lexicon:fra"):
        pytest.skip("lexicon:fra is not on this machine")
    return letter_samples(parse(*read(describe("lexicon:fra")), "fra"), seed=0, width=7)


def test_orders_grow_by_one_letter_to_either_side():
    assert len(set(ORDERS)) == 8
    for order in ORDERS:
        assert [before + after for before, after in order] == [1, 2, 3]
        steps = zip([(0, 0), *order], order, strict=False)
        assert all(b >= a and d >= c for (a, c), (b, d) in steps)
    assert len(INTERVALS) == 9


def test_a_key_is_the_longest_context_that_was_seen_often(french):
    """Two letters have the same key if and only if the longest known contexts around them are the same letters."""
    train, asked = french.train.windows, french.held_out.windows
    seen = {
        interval: Counter(tuple(row) for row in train[:, 3 - interval[0] : 4 + interval[1]].tolist())
        for interval in INTERVALS
    }
    found = seen_contexts(train, least=3).keys(asked)
    for column, order in enumerate(ORDERS):
        expected = []
        for row in asked.tolist():
            key = (0, 0, row[3])
            for before, after in order:
                letters = tuple(row[3 - before : 4 + after])
                if seen[before, after][letters] >= 3:
                    key = (before, after, *letters)
            expected.append(key)
        pairs = set(zip(expected, found[:, column].tolist(), strict=True))
        assert len(pairs) == len(set(expected)) == len(set(found[:, column].tolist()))


@pytest.mark.parametrize("width, least", [(5, 3), (7, 0)])
def test_contexts_that_cannot_be(width, least):
    with pytest.raises(InvalidValueError):
        seen_contexts(np.zeros((2, width), np.uint32), least)


def test_contexts_of_another_number():
    with pytest.raises(InvalidValueError, match="there are 9"):
        Contexts((np.zeros(1, np.uint32),))


def test_candidates_are_what_a_letter_had_the_most_frequent_first(french):
    train = french.train
    found = seen_candidates(train, len(french.alphabet.letters) + 2, most=4)
    for code in range(2, len(found.edges) - 1):
        labels = train.labels[(train.windows[:, 3] == code) & (train.labels >= 0)]
        counts = Counter(labels.tolist())
        expected = sorted(counts, key=lambda label: (-counts[label], label))[:4]
        assert found.labels[found.edges[code] : found.edges[code + 1]].tolist() == (expected or [0])
    with pytest.raises(InvalidValueError, match="1 candidate or more"):
        seen_candidates(train, 9, most=0)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 15), min_size=1, max_size=6), min_size=1, max_size=9), st.integers(0, 99))
def test_the_best_candidate_has_the_highest_score_and_then_the_lowest_rank(per_letter, first):
    labels = [np.arange(len(each)) + first for each in per_letter]
    candidates = Candidates(np.concatenate(labels), np.cumsum([0, *map(len, per_letter)]))
    pairs = candidates.of(np.arange(len(per_letter), dtype=np.uint32))
    found = best(pairs, np.array([score for each in per_letter for score in each]))
    assert found.tolist() == [first + each.index(max(each)) for each in per_letter]


def test_nothing_asked_is_nothing_answered():
    pairs = Candidates(np.array([0]), np.array([0, 1])).of(np.empty(0, np.uint32))
    assert best(pairs, np.empty(0, np.int64)).tolist() == []


def test_questions_are_asked_where_there_is_a_choice(french):
    candidates = seen_candidates(french.train, len(french.alphabet.letters) + 2, most=16)
    contexts = seen_contexts(french.train.windows, 3)
    X, y = questions(contexts, candidates, french.train)
    choices = np.diff(candidates.edges)[french.train.windows[:, 3]]
    asked = (choices > 1) & (french.train.labels != UNALIGNED)
    assert X.shape == (choices[asked].sum(), NEURONS) and X.dtype == np.uint32
    assert set(y.tolist()) == {0, 255}
    assert asked.sum() * 0.99 < (y == 255).sum() <= asked.sum()  # some labels are beyond the 16 most frequent


def test_scores_count_the_neurons_that_say_yes(french, monkeypatch):
    monkeypatch.setattr("tithe.hashtron.languages.ranking._TOGETHER", 100)  # several blocks
    candidates = seen_candidates(french.train, len(french.alphabet.letters) + 2, most=16)
    contexts = seen_contexts(french.train.windows, 3)
    windows = french.held_out.windows[:60]
    pairs = candidates.of(windows[:, 3])
    network = Network.random(TOPOLOGY, np.random.default_rng(0))
    X = features(contexts, pairs, windows)
    expected = sum(neuron.forward(X[:, i]).astype(int) for i, neuron in enumerate(network.neurons[:NEURONS]))
    assert scores(network, contexts, pairs, windows).tolist() == expected.tolist()
