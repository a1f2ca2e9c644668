"""What sample weights mean: repetition, absence, and the same in learning, selecting, stopping and calibrating."""

import numpy as np
import pytest

from tithe.errors import InvalidValueError
from tithe.hashtron.classifier import HashtronClassifier
from tithe.hashtron.samples import Samples, copies, folds, held_out, some
from tithe.hashtron.tuples.selection import purest


def quick(**options):
    return HashtronClassifier(**{"preset": "tiny", "random_state": 0, "epochs": 4} | options)


def data(rows, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 4))
    return X, ((X[:, 0] > 0) ^ (X[:, 1] > 0)).astype(int)


def test_weights_decide_where_targets_contradict_each_other():
    X = np.repeat([[0.0], [1.0]], 30, axis=0)
    y = np.arange(60) % 2
    heavy = np.where(y == (X[:, 0] > 0.5), 2.5, 0.5)
    assert quick().fit(X, y, heavy).predict([[0.0], [1.0]]).tolist() == [0, 1]
    with pytest.raises(InvalidValueError, match="negative"):
        quick().fit(X, y, -heavy)
    with pytest.raises(ValueError, match=r"zero|is 0"):
        quick().fit(X, y, np.zeros(60))


@pytest.mark.parametrize("options", [{}, {"calibrate": True, "early_stopping": True, "validation_fraction": 0.3}])
def test_whole_weights_are_repetitions(options):
    X, y = data(120)
    weight = np.random.default_rng(1).integers(0, 4, 120)
    weighted = quick(epochs=2, **options).fit(X, y, weight)
    repeated = quick(epochs=2, **options).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal(weighted.predict_proba(X), repeated.predict_proba(X))


def test_what_weighs_next_to_nothing_changes_next_to_nothing():
    X, y = data(400)
    noise, targets = np.random.default_rng(1).normal(size=(1500, 4)) * 50, np.random.default_rng(2).integers(0, 2, 1500)
    test_x, test_y = data(1000, seed=3)
    rows, classes = np.vstack((X, noise)), np.r_[y, targets]
    weights = [np.r_[np.ones(400), np.full(1500, w)] for w in (0, 1e-9)]
    accuracies = [quick().fit(rows, classes, weight).score(test_x, test_y) for weight in weights]
    assert min(accuracies) > 0.8
    assert abs(accuracies[0] - accuracies[1]) < 0.06


def test_no_copy_of_a_sample_tells_how_sure_a_model_may_be():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 6)), random.integers(0, 2, 200)  # nothing can be learned
    for weight in (1.0, 3.0):
        model = quick(calibrate=True, validation_fraction=0.3, temperature=3.0).fit(X, y, np.full(200, weight))
        assert model.predict_proba(random.normal(size=(300, 6))).max(1).mean() < 0.6


def samples(packed):
    packed = np.array(packed, np.uint8)[:, None]
    return Samples(packed, packed[:, 0].astype(np.int64) % 2, np.ones(len(packed), np.float32))


def test_copies_stay_together():
    found = samples(np.repeat(np.arange(30), 3))
    out = held_out(found, 0.4, np.random.default_rng(0)).reshape(30, 3)
    assert (out.all(1) | ~out.any(1)).all()
    for rows, left_out in folds(found, 3, 60, np.random.default_rng(0)):
        assert len(rows) + len(left_out) == 60
        assert not set(found.packed[rows, 0]) & set(found.packed[left_out, 0])


def test_where_few_samples_differ_each_stands_for_itself():
    assert copies(samples([0] * 6 + [1] * 4).packed).tolist() == list(range(10))


def test_some_samples_add_up_to_all():
    weight = np.random.default_rng(0).random(2000).astype(np.float32) ** 8
    total = weight[::2].sum() / weight.sum()
    found = []
    for seed in range(100, 200):
        rows, weights = some(weight, 200, np.random.default_rng(seed))
        assert len(rows) == 200
        found.append(weights[rows % 2 == 0].sum() / weight.sum())
    assert np.mean(found) == pytest.approx(total, rel=0.03)


def test_the_purest_tuples_are_those_of_the_weight():
    bits = np.random.default_rng(0).integers(0, 2, (160, 2)).astype(np.uint8)
    heavy_ones = np.arange(160) < 40  # follow bit 0, the others bit 1
    y = np.where(heavy_ones, bits[:, 0], bits[:, 1]).astype(np.int64)
    blocks = np.ascontiguousarray(bits.reshape(10, 16, 2).transpose(0, 2, 1))
    tuples, salts = np.array([[0], [1]], np.int32), np.zeros(2, np.uint32)
    for heavy, kept in ((1.0, 1), (100.0, 0)):
        weight = np.where(heavy_ones, heavy, 1.0).astype(np.float32)
        assert purest(tuples, salts, 1, 1, blocks, y, weight, 2).tolist() == [kept]
        assert purest(tuples, salts, 1, 1, blocks, y, weight, 2, in_turn=True).tolist() == [kept]
