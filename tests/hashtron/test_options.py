"""Options and values that cannot be: one error, which names them, before anything is learned."""

import numpy as np
import pytest

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.classifier import HashtronClassifier


def quick(**options):
    return HashtronClassifier(**{"preset": "tiny", "random_state": 0, "epochs": 1, "temperature": 6.0} | options)


@pytest.mark.parametrize(
    "options", [
        {"preset": "huge"}, {"preset": 0}, {"preset": 1.5}, {"loss": "square"}, {"loss": ["hinge"]}, {"epochs": 0},
        {"epochs": True}, {"epochs": 2.0}, {"tuple_bits": 17}, {"missing": "zero"}, {"missing": ["level"]},
        {"n_jobs": 0}, {"n_jobs": "2"}, {"n_jobs": 1.5}, {"temperature": "a"}, {"temperature": float("nan")},
        {"temperature": 0}, {"validation_fraction": 1.5}, {"validation_fraction": "a"}, {"early_stopping": "yes"},
        {"calibrate": 1}, {"deskew": None}, {"augment": "x"}, {"augment": 1}, {"verbose": "loud"},
        {"categorical": 3}, {"categorical": "ab"}, {"categorical": [True]}, {"text": [0.5]}, {"text": [None]},
        {"image_shape": 64}, {"image_shape": (8,)}, {"image_shape": (8, 8, 1)}, {"image_shape": (8.0, 8.0)},
        {"image_shape": (-8, -8)}, {"image_shape": ("a", 8)}, {"image_shape": "88"}, {"image_shape": (0, 0)},
    ], ids=str,
)  # fmt: skip
def test_options_that_cannot_be(options):
    with pytest.raises(InvalidValueError, match=f"{next(iter(options))} is .*; use "):
        quick(**options).fit(np.zeros((4, 64)), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("options", "match"),
    [({"categorical": [3]}, "no column 3"), ({"text": ["name"]}, "'name'"), ({"image_shape": (8, 9)}, "72 columns")],
)
def test_columns_that_are_not_there(options, match):
    with pytest.raises(InvalidValueError, match=match):
        quick(**options).fit(np.zeros((4, 3)), [0, 1, 0, 1])


def test_columns_and_shapes_in_other_guises(tmp_path):
    X = np.random.default_rng(0).integers(0, 4, (60, 64))
    y = np.arange(60) % 2
    for options in ({"categorical": range(2)}, {"categorical": np.array([1])}, {"image_shape": np.array([8, 8])}):
        model = quick(augment=np.True_, **options).fit(X, y)
        loaded = HashtronClassifier.load(model.save(tmp_path / "model"))
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("dtype", ["m8[D]", "M8[D]"])
def test_dates_and_times_are_refused(dtype):
    with pytest.raises(InvalidDTypeError, match="dates or times"):
        quick().fit(np.arange(40).astype(dtype)[:, None], np.arange(40) % 2)


def test_classes_of_a_long_type_can_be_saved(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    model = quick().fit(X, np.array([1, 2], np.longdouble)[y])
    assert model.classes_.dtype == np.float64
    np.testing.assert_array_equal(HashtronClassifier.load(model.save(tmp_path / "model")).predict(X), model.predict(X))


def test_a_hinge_needs_no_search_for_a_temperature(monkeypatch):
    from tithe.hashtron import fits

    monkeypatch.setattr(fits, "fitting_temperature", None)
    X = np.random.default_rng(0).normal(size=(200, 3))
    model = quick(loss="hinge", temperature=None, epochs=4).fit(X, X[:, 0] > 0)
    assert model.score(X, X[:, 0] > 0) > 0.9
