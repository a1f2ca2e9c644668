"""Many columns, categories, classes and pixels: what matters is found, and the preset bounds the bytes."""

import numpy as np
import pytest

from tithe.errors import InvalidValueError
from tithe.hashtron.classifier import HashtronClassifier
from tithe.hashtron.encoders import ColumnBits
from tithe.hashtron.encoders.relevance import chances, relevance
from tithe.hashtron.tuples.selection import at_random

RANDOM = np.random.default_rng(0)


def quick(preset="tiny", **options):
    return HashtronClassifier(preset, **{"epochs": 2, "temperature": 6.0, "random_state": 0} | options)


@pytest.mark.parametrize("columns", [300, 1500])
def test_the_one_column_that_matters_is_found(columns):
    X = np.random.default_rng(0).normal(size=(700, columns))
    y = X[:, -1] > 0
    model = quick().fit(X[:500], y[:500])
    assert model.score(X[500:], y[500:]) > 0.9
    assert model.model_bytes_ <= 16 * 1024
    assert model.encoder_.length <= model.tables_.tuples.size
    assert len(np.unique(model.tables_.tuples)) == model.encoder_.length  # nothing is kept that is not read


@pytest.mark.parametrize(
    ("X", "classes"),
    [
        (np.array([[f"a rather long name of a category, {i:06}"] for i in range(3000)], object), 2),
        (np.array([["a" * 10**5], ["b" * 10**5]] * 20, object), 2),
        (RANDOM.normal(size=(600, 4)), 300),
        (RANDOM.integers(0, 255, (64, 64, 64)).astype(np.uint8), 2),
    ],
    ids=["categories", "long names", "classes", "pixels"],
)
def test_the_preset_bounds_the_bytes(X, classes):
    model = quick(epochs=1).fit(X, np.arange(len(X)) % classes)
    assert 1024 < model.model_bytes_ <= 16 * 1024


def test_places_among_many_bits_take_more_bytes():
    model = quick(epochs=1).fit(RANDOM.integers(0, 255, (32, 64, 64)).astype(np.uint8), np.arange(32) % 2)
    assert model.encoder_.length > 1 << 16
    tuples, width = model.tables_.tuples.shape
    cells = tuples * model.tables_.signs.shape[1] * 2 / 8
    assert model.tables_.bytes == cells + tuples * (3 * width + 4)


def test_too_many_classes_for_a_preset_are_refused_with_advice():
    X, y = RANDOM.normal(size=(1600, 2)), np.arange(1600) % 400
    with pytest.raises(InvalidValueError, match=r"400 classes: use preset=\d+ or more") as caught:
        quick(1).fit(X, y)
    advised = int(str(caught.value).split("preset=")[1].split()[0])
    assert advised <= 4
    assert quick(advised, epochs=1).fit(X, y).model_bytes_ <= advised * 1024


def test_relevance_is_mutual_information_above_chance():
    X = np.random.default_rng(1).integers(0, 2, (4000, 40)).astype(float)
    encoder = ColumnBits.fit(X)
    found = relevance(encoder, encoder.packed(X), X[:, 7].astype(np.int64), np.ones(4000, np.float32))
    assert found[7] == pytest.approx(np.log(2), rel=0.02)
    assert (np.delete(found, 7) < 1e-3).all()
    likely = chances(encoder, found, 10**6)
    assert likely[7] / likely.sum() > 0.5
    assert (likely > 0).all()
    assert np.count_nonzero(chances(encoder, found, 36)) == 3  # of 12 bytes each


def test_tuples_follow_the_chances_and_repeat_no_column():
    lengths = (3, 1, 2, 4)
    chances = np.array([1, 0, 0, 1, 4, 4, 1, 1, 1, 1], float)
    tuples = at_random(2000, 3, lengths, np.random.default_rng(0), chances)
    owners = np.repeat(np.arange(4), lengths)[tuples]
    assert all(len(set(row)) == 3 for row in owners.tolist())
    counts = np.bincount(tuples.ravel(), minlength=10)
    assert counts[1] == counts[2] == 0
    drawn = np.bincount(owners.ravel())
    assert drawn[2] > drawn[3] > max(drawn[:2])
    assert all(len(set(row)) == 8 for row in at_random(50, 8, lengths, np.random.default_rng(0)).tolist())
