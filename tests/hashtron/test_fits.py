"""A fit is whole or has not been: what fails or is interrupted leaves a model as it was."""

import numpy as np
import pytest

from tithe.hashtron.classifier import HashtronClassifier
from tithe.hashtron.regressor import HashtronRegressor
from tithe.hashtron.tuples import training

X = np.random.default_rng(0).normal(size=(200, 20))
Y = (X[:, 0] > 0).astype(int)


def quick(kind=HashtronClassifier, **options):
    return kind("tiny", **{"epochs": 2, "temperature": 6.0, "random_state": 0} | options)


@pytest.mark.parametrize("kind", [HashtronClassifier, HashtronRegressor])
def test_a_fit_that_fails_changes_nothing(kind):
    model = quick(kind).fit(X, Y)
    before, predicted = dict(vars(model)), model.predict(X)
    model.early_stopping = True
    with pytest.raises(ValueError, match="leaves one part empty"):
        model.fit(X[:5, :2], Y[:5] + 7)
    assert vars(model) == before | {"early_stopping": True}
    np.testing.assert_array_equal(model.predict(X), predicted)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", [HashtronClassifier, HashtronRegressor])
def test_an_interrupt_changes_nothing(kind, method, monkeypatch):
    model = quick(kind).partial_fit(X, Y) if kind is HashtronRegressor else quick(kind).partial_fit(X, Y, [0, 1])
    before, latent = dict(vars(model)), model._latent.copy()
    errors = training._errors
    calls = iter(range(9))

    def interrupted(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        errors(*arguments)

    monkeypatch.setattr(training, "_errors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, method)(X, Y)
    assert vars(model) == before
    np.testing.assert_array_equal(model._latent, latent)


def test_a_first_fit_that_fails_leaves_nothing():
    model = quick()
    with pytest.raises(ValueError, match="missing"):
        model.fit(np.where(X > 2, np.nan, X), Y)
    assert not [name for name in vars(model) if name.endswith("_")]
