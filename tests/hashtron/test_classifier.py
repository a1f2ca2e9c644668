import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron import classifier, fits
from tithe.hashtron.classifier import HashtronClassifier
from tithe.receipt import Receipt


@parametrize_with_checks([HashtronClassifier("tiny", epochs=3, temperature=6.0)])
def test_conforms_to_scikit_learn(estimator, check):
    check(estimator)


def split(load):
    X, y = load(return_X_y=True)
    return train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)


def quick(**options):
    return HashtronClassifier(**{"preset": "tiny", "random_state": 0, "epochs": 4} | options)


@pytest.fixture(scope="module")
def digits():
    return split(load_digits)


@pytest.mark.parametrize(("load", "least"), [(load_breast_cancer, 0.94), (load_wine, 0.94)])
def test_learns_tables(load, least):
    X, test_x, y, test_y = split(load)
    model = HashtronClassifier("tiny", random_state=0).fit(X, y)
    assert model.score(test_x, test_y) > least
    assert model.model_bytes_ <= 16 * 1024


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_presets_bound_the_bytes(preset, digits):
    X, test_x, y, test_y = digits
    for shape in (None, (8, 8)):
        model = HashtronClassifier(preset, epochs=2, temperature=3.0, image_shape=shape, random_state=0).fit(X, y)
        assert 0.8 < model.model_bytes_ / ({"tiny": 16, "small": 64}[preset] * 1024) <= 1
        assert model.score(test_x, test_y) > 0.9


def test_images_in_rows_or_as_they_are(digits):
    X, test_x, y, _ = digits
    flat = quick(image_shape=(8, 8)).fit(X, y)
    cubes = quick().fit(X.reshape(-1, 8, 8), y)
    np.testing.assert_array_equal(flat.predict(test_x), cubes.predict(test_x.reshape(-1, 8, 8)))
    np.testing.assert_array_equal(flat.predict(test_x), flat.predict(test_x.reshape(-1, 8, 8)))
    assert flat.n_features_in_ == cubes.n_features_in_ == 64
    with pytest.raises(InvalidValueError, match="expected"):
        flat.predict(np.zeros((2, 4, 16)))
    with pytest.raises(ValueError, match="dim 3"):
        quick().fit(X, y).predict(test_x.reshape(-1, 8, 8))


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        (np.zeros((4, 60)), InvalidValueError, "needs 64 columns, X has 60"),
        (np.full((4, 64), np.nan), InvalidValueError, "cannot be missing"),
        (np.full((4, 64), "a"), InvalidDTypeError, "not grey values"),
    ],
)
def test_what_is_no_image(X, error, match):
    with pytest.raises(error, match=match):
        quick(image_shape=(8, 8)).fit(X, [0, 1, 0, 1])


def test_several_columns_act_together():
    random = np.random.default_rng(0)
    X = random.random((1200, 4))
    y = (X[:, 0] > 0.5) ^ (X[:, 1] > 0.5)
    model = quick(tuple_bits=5).fit(X[:800], y[:800])
    assert model.score(X[800:], y[800:]) > 0.9


def test_strings_categories_and_unseen_ones():
    random = np.random.default_rng(0)
    kind = random.choice(["oak", "elm", "ash"], 300)
    X = np.column_stack((kind, random.random(300))).astype(object)
    X[:, 1] = X[:, 1].astype(float)
    names = np.where(kind == "oak", "hard", "soft")
    model = quick().fit(X, names)
    assert model.score(X, names) == 1
    assert model.classes_.tolist() == ["hard", "soft"]
    assert model.predict([["fir", 0.5]])[0] in ("hard", "soft")
    lists = quick().fit(X.tolist(), names.tolist())
    np.testing.assert_array_equal(lists.predict_proba(X.tolist()), model.predict_proba(X))


def test_text():
    words = [["walking"], ["talked"], ["singing"], ["jumped"], ["reading"], ["worked"]] * 10
    y = ["now", "then"] * 30
    assert quick(text=[0]).fit(words, y).predict([["eating"], ["baked"]]).tolist() == ["now", "then"]


def test_missing_values():
    X = np.array([[1.0], [np.nan], [2.0], [np.nan]] * 20)
    y = np.isnan(X[:, 0])
    with pytest.raises(InvalidValueError, match="missing='level'"):
        quick().fit(X, y)
    assert quick(missing="level").fit(X, y).score(X, y) == 1


def test_one_class_one_sample_and_constants():
    assert quick().fit(np.eye(3), ["a"] * 3).predict_proba(np.eye(3)).tolist() == [[1]] * 3
    assert quick().fit([[1.0, 2.0]], [5]).predict([[3.0, 4.0]]).tolist() == [5]
    assert quick().fit(np.ones((9, 2)), [0, 1, 1] * 3).predict(np.ones((1, 2))).tolist() == [1]


def test_the_model_depends_neither_on_the_order_of_samples_nor_on_threads(digits):
    X, test_x, y, _ = digits
    X, y, test_x = X[:400], y[:400], test_x[:200]
    order = np.random.default_rng(0).permutation(len(X))
    before = torch.get_num_threads()
    for options in ({"temperature": None}, {"early_stopping": True, "calibrate": True}):
        shared = {"epochs": 2, "temperature": 6.0} | options
        one = quick(n_jobs=1, **shared).fit(X, y).predict_proba(test_x)
        two = quick(n_jobs=2, **shared).fit(X[order], y[order]).predict_proba(test_x)
        np.testing.assert_array_equal(one, two)
    assert torch.get_num_threads() == before


def test_a_loaded_model_does_not_tell_with_how_many_threads_it_was_made(tmp_path):
    X, y = make_classification(100, random_state=0)
    files = [quick(n_jobs=n, verbose=n - 1, epochs=1).fit(X, y).save(tmp_path / str(n)) for n in (1, 2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_random_state(digits):
    X, test_x, y, _ = digits
    X, y = X[:300], y[:300]
    seeds = [0, 1, np.random.RandomState(0), np.random.default_rng(0)]
    shared = {"epochs": 1, "temperature": 6.0}
    first = [quick(random_state=seed, **shared).fit(X, y).predict_proba(test_x) for seed in seeds]
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(first[0], first[2])
    again = quick(random_state=np.random.default_rng(0), **shared).fit(X, y).predict_proba(test_x)
    np.testing.assert_array_equal(first[3], again)


def test_calibration_lowers_the_log_loss():
    X, y = make_classification(1200, flip_y=0.3, random_state=0)
    losses = []
    for calibrate in (False, True):
        model = quick(calibrate=calibrate, temperature=1.5).fit(X[:600], y[:600])
        losses.append(-np.log(model.predict_proba(X[600:])[np.arange(600), y[600:]]).mean())
    assert losses[1] < losses[0]


def test_early_stopping_keeps_the_best_and_stops(monkeypatch):
    X, y = make_classification(300, flip_y=0.4, random_state=0)
    after = []  # the signs after each epoch
    learn = fits.learn
    losses = iter([0.5, 0.3, 0.4, 0.4, 0.4, 0.4, 0.2])

    def watched(*arguments, report, **options):
        return learn(*arguments, report=lambda e, now: after.append(now.signs.copy()) or report(e, now), **options)

    monkeypatch.setattr(fits, "learn", watched)
    monkeypatch.setattr(classifier, "log_loss", lambda *_: next(losses))
    model = quick(epochs=100, temperature=3.0, early_stopping=True, validation_fraction=0.3).fit(X, y)
    assert len(after) == 6  # four in vain
    assert model.n_iter_ == 2
    np.testing.assert_array_equal(model.tables_.signs, after[1])
    assert (model.tables_.signs != after[-1]).any()


def test_partial_fit_learns_batch_by_batch(digits):
    X, test_x, y, test_y = digits
    model = quick(temperature=3.0)
    for start in range(0, len(X), 300):
        model.partial_fit(X[start : start + 300], y[start : start + 300], classes=range(10))
    first = model.score(test_x, test_y)
    for _ in range(3):
        model.partial_fit(X, y)
    assert model.n_iter_ == 8
    assert model.score(test_x, test_y) > max(0.93, first)


def test_partial_fit_asks_for_what_it_needs(digits):
    X, _, y, _ = digits
    with pytest.raises(InvalidValueError, match="needs classes"):
        quick().partial_fit(X, y)
    with pytest.raises(InvalidValueError, match="did not name"):
        quick().partial_fit(X, y, classes=[0, 1])
    model = quick(temperature=3.0).partial_fit(X, y, classes=range(10))
    with pytest.raises(InvalidValueError, match="in the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    for option in ("early_stopping", "calibrate"):
        with pytest.raises(InvalidValueError, match="set both to False"):
            quick(**{option: True}).partial_fit(X, y, classes=range(10))
    with pytest.warns(UserWarning, match="first batch of partial_fit has 1 samples"):
        quick().partial_fit(X[:1], y[:1], classes=range(10))


def test_works_in_pipelines_and_searches(digits):
    X, _, y, _ = digits
    model = make_pipeline(StandardScaler(), quick(temperature=3.0))
    assert cross_val_score(model, X, y, cv=2).min() > 0.9


def test_pickle_and_receipt(digits):
    X, test_x, y, _ = digits
    model = quick(verbose=1).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(test_x), model.predict(test_x))
    assert isinstance(model.receipt_, Receipt)
    assert model.receipt_.spent.seconds > 0
    assert "hashtrons" in str(model.receipt_)
