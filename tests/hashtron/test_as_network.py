"""A fitted classifier is a network of hashtrons, and can say why it answers as it does."""

import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine

from tithe.errors import InvalidValueError
from tithe.hashtron import HashtronClassifier, load, save
from tithe.hashtron.tuples.as_network import addresses
from tithe.hashtron.tuples.tables import Sharing
from tithe.hashtron.tuples.training import blank


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return HashtronClassifier("tiny", epochs=3, random_state=0).fit(X, y), X


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return HashtronClassifier(4, image_shape=(8, 8), epochs=1, random_state=0).fit(X[:600], y[:600]), X


@pytest.mark.parametrize("model", ["wine", "digits"])
def test_the_network_answers_as_the_classifier(model, request, tmp_path):
    classifier, X = request.getfixturevalue(model)
    rows = X[::7][:60]
    network = classifier.to_network()
    features = classifier.features(rows)
    expected = np.searchsorted(classifier.classes_, classifier.predict(rows))
    np.testing.assert_array_equal(network.predict(features), expected)
    again = load(save(network, tmp_path / "model.json.t.zlib"))
    np.testing.assert_array_equal(again.predict(features), expected)


def test_tables_with_hashed_addresses_become_programs(digits):
    classifier, _ = digits
    assert classifier.tables_.tuples.shape[1] > classifier.tables_.log_size
    assert all(len(neuron.program) == 1 for neuron in classifier.to_network().neurons)


def test_the_features_of_one_row_take_no_more_memory_than_they_need():
    rng = np.random.default_rng(0)
    tuples = rng.integers(0, 90, (500, 16)).astype(np.int32)
    tables = blank(tuples, np.zeros(500, np.uint32), 4, 2, Sharing(1, 3, 0))
    blocks = rng.integers(0, 2, (1, 99, 16)).astype(np.uint8)
    tracemalloc.start()
    try:
        found = addresses(tables, blocks, 3)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    windows = tuples[:, None] + np.arange(3)[:, None]
    expected = (blocks[0, windows].astype(int) << np.arange(16)[:, None]).sum(2).reshape(-1, 16)[:, :3].T
    np.testing.assert_array_equal(found, np.tile(expected, (1, 2)))


@pytest.mark.parametrize("model", ["wine", "digits"])
def test_reasons_add_up_to_the_votes(model, request):
    classifier, X = request.getfixturevalue(model)
    found = classifier.explain(X[3])
    assert found.answer == classifier.predict(X[3:4])[0]
    others = [votes for label, votes in found.votes.items() if label != found.answer]
    margin = found.votes[found.answer] - sum(others) / len(others)
    assert sum(reason.support for reason in found.reasons) == pytest.approx(margin)
    supports = [reason.support for reason in found.reasons]
    assert supports == sorted(supports, reverse=True)
    assert str(found.answer) in str(found)
    assert found.plot().get_axes()[1].get_title() == "votes"


def test_the_heat_of_an_image_has_its_shape_and_most_of_the_support(digits):
    classifier, X = digits
    found = classifier.explain(X[3])
    assert found.heat.shape == found.image.shape == (8, 8)
    against = classifier.explain(X[3], target=next(label for label in found.votes if label != found.answer))
    assert against.heat.sum() < found.heat.sum()


def test_columns_are_called_by_their_names(wine):
    classifier, X = wine
    assert any("column 12 >" in name for reason in classifier.explain(X[0]).reasons for name in reason.inputs)


def test_a_class_that_is_none(wine):
    classifier, X = wine
    with pytest.raises(InvalidValueError, match="the classes are"):
        classifier.explain(X[0], target=7)
