import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from sklearn.utils.estimator_checks import parametrize_with_checks

from tithe.hashtron.regressor import HashtronRegressor


@parametrize_with_checks([HashtronRegressor("tiny", epochs=5, temperature=3.0)])
def test_conforms_to_scikit_learn(estimator, check):
    check(estimator)


def quick(**options):
    return HashtronRegressor("tiny", **{"random_state": 0, "epochs": 6} | options)


@pytest.fixture(scope="module")
def friedman():
    return make_friedman1(900, noise=0.5, random_state=0)


def test_learns_a_curved_surface(friedman):
    X, y = friedman
    assert quick().fit(X[:600], y[:600]).score(X[600:], y[600:]) > 0.75


def test_thresholds_are_quantiles_and_values_means():
    y = np.arange(200.0)
    model = quick().fit(y[:, None], y)
    counts = np.bincount(np.searchsorted(model.thresholds_, y))
    assert counts.min() >= counts.max() - 1
    assert (np.diff(model.values_) > 0).all()
    np.testing.assert_allclose(model.values_.mean(), y.mean(), atol=1)


def test_predictions_stay_in_range(friedman):
    X, y = friedman
    model = quick().fit(X, y)
    far = model.predict(X * 100 - 50)
    assert model.values_[0] <= far.min() <= far.max() <= model.values_[-1]


def test_constants_one_sample_and_two_values():
    assert quick().fit(np.eye(3), [7.0] * 3).predict(np.eye(3)).tolist() == [7.0] * 3
    assert quick().fit([[1.0]], [5.0]).predict([[3.0]]).tolist() == [5.0]
    two = quick().fit(np.repeat([[0.0], [1.0]], 50, axis=0), np.repeat([-1.0, 1.0], 50))
    assert two.predict([[0.0], [1.0]]) == pytest.approx([-1, 1], abs=0.3)


def test_weights_draw_the_prediction():
    X, y = np.zeros((100, 1)), np.repeat([0.0, 1.0], 50)
    assert quick().fit(X, y, np.where(y == 1, 1.7, 0.1)).predict(X[:1])[0] > 0.6


def test_the_scale_of_weights_is_of_no_importance(friedman):
    X, y = friedman
    alone = quick(epochs=2).fit(X[:300], y[:300])
    for weight in (0.001, 0.999999, 1000.0):
        model = quick(epochs=2).fit(X[:300], y[:300], np.full(300, weight))
        np.testing.assert_array_equal(model.predict(X), alone.predict(X))


@pytest.mark.parametrize("scale", [1e308, 1e-310])
def test_targets_at_the_ends_of_float64(scale):
    x = np.linspace(-1, 1, 200)
    model = quick().fit(x[:, None], x * scale)
    assert np.abs(model.predict(x[:, None]) / scale - x).max() < 0.3


def test_the_network_answers_with_the_value_that_most_vote_for(friedman):
    X, y = friedman
    model = quick(epochs=1, temperature=3.0).fit(X, y)
    expected = model._votes(X[:40]).argmax(1)
    np.testing.assert_array_equal(model.to_network().predict(model.features(X[:40])), expected)


def test_images_and_early_stopping():
    images = np.random.default_rng(0).random((120, 8, 8))
    images[:, :, 4:] *= np.linspace(0, 1, 120)[:, None, None]
    y = np.linspace(0, 1, 120)
    assert quick(early_stopping=True, epochs=12, augment=False).fit(images, y).score(images, y) > 0.7


def test_partial_fit(friedman):
    X, y = friedman
    model = quick()
    for _ in range(4):
        model.partial_fit(X, y)
    assert model.n_iter_ == 4
    assert model.score(X, y) > 0.6
