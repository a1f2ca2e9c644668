import json

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from tithe.errors import InvalidDTypeError, ModelFileError
from tithe.hashtron.classifier import HashtronClassifier
from tithe.hashtron.regressor import HashtronRegressor
from tithe.hashtron.saving import read_model, write_model

X, Y = load_iris(return_X_y=True)


def small(**options):
    return HashtronClassifier("tiny", epochs=2, random_state=0, **options)


def models():
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8)
    mixed = np.array([[a, b] for a, b in zip(X[:, 0], np.array(["u", "v", "w"])[Y], strict=True)], object)
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    return {
        "columns": (small().fit(X, Y), X),
        "strings": (small(missing="level", categorical=[1]).fit(mixed, names), mixed),
        "objects": (small().fit(X, names.astype(object)), X),
        "images": (small(deskew=True, image_shape=(8, 8)).fit(images, np.arange(60) % 2 == 0), images),
        "calibrated": (small(calibrate=True).fit(X, Y), X),
        "regressor": (HashtronRegressor("tiny", epochs=2, random_state=0).fit(X[:, :3], X[:, 3]), X[:, :3]),
    }


@pytest.fixture(scope="module")
def fitted():
    return models()


@pytest.fixture
def file(tmp_path, fitted):
    return fitted["columns"][0].save(tmp_path / "model.tithe")


@pytest.mark.parametrize("name", ["columns", "strings", "objects", "images", "calibrated", "regressor"])
def test_a_loaded_model_is_the_same(name, fitted, tmp_path):
    model, samples = fitted[name]
    path = model.save(tmp_path / "model.tithe")
    loaded = type(model).load(path)
    np.testing.assert_array_equal(loaded.predict(samples), model.predict(samples))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(loaded.predict_proba(samples), model.predict_proba(samples))
        assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.get_params() == model.get_params()
    assert loaded.model_bytes_ == model.model_bytes_
    assert loaded.save(tmp_path / "again").read_bytes() == path.read_bytes()
    assert path.stat().st_size < 4 * model.model_bytes_


def test_the_same_seed_gives_the_same_bytes(fitted, tmp_path):
    files = [m["images"][0].save(tmp_path / name) for name, m in (("a", fitted), ("b", models()))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_it_can_learn_on_after_loading(file):
    loaded = HashtronClassifier.load(file).partial_fit(X, Y)
    assert loaded.n_iter_ == 3
    assert loaded.score(X, Y) > 0.9


def test_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError):
        HashtronClassifier().save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_generator_is_not_saved(tmp_path):
    path = small().set_params(random_state=np.random.RandomState(1)).fit(X, Y).save(tmp_path / "model")
    assert HashtronClassifier.load(path).random_state is None


def test_what_cannot_be_saved_is_named(tmp_path, fitted):
    model = HashtronClassifier("tiny", epochs=1).fit(X, Y).set_params(categorical=[object()])
    with pytest.raises(InvalidDTypeError, match="categorical is"):
        model.save(tmp_path / "model")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999])
def test_truncated(file, share):
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(ModelFileError, match="truncated"):
        HashtronClassifier.load(file)


def test_every_changed_byte_is_noticed(file):
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ModelFileError):
            HashtronClassifier.load(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x80\x04]", b"\xff" * 64, to_safetensors({"w": np.ones(3)})],
    ids=["empty", "zip", "pickle", "noise", "safetensors"],
)
def test_foreign_files(tmp_path, content):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="no model of tithe"):
        HashtronClassifier.load(path)


def test_another_estimator_or_version(tmp_path, fitted, file):
    path = fitted["regressor"][0].save(tmp_path / "regressor")
    with pytest.raises(ModelFileError, match="holds a HashtronRegressor, not a HashtronClassifier"):
        HashtronClassifier.load(path)
    head = json.dumps({"format": "tithe.hashtron", "version": 99, "model": "{}", "sha256": ""})
    path.write_bytes(to_safetensors({}, {"tithe": head}))
    with pytest.raises(ModelFileError, match="version 99"):
        HashtronClassifier.load(path)


@pytest.mark.parametrize(
    "break_", [
        lambda m, a: m.pop("classes"),
        lambda m, a: m.update(cells=1 << 40),
        lambda m, a: m.update(cells=3),
        lambda m, a: m.update(params={"colour": 1}),
        lambda m, a: m.update(encoder={"kind": "?"}),
        lambda m, a: a.update(tuples=a["tuples"] + 10**6),
        lambda m, a: a.update(tuples=a["tuples"] - 10**6),
        lambda m, a: a.update(salts=a["salts"][1:]),
        lambda m, a: a.update(signs=a["signs"][1:]),
        lambda m, a: a.pop("signs"),
    ],
)  # fmt: skip
def test_a_file_whose_parts_do_not_fit_never_reaches_the_kernels(file, break_):
    model, arrays = read_model(file)
    break_(model, arrays)
    write_model(file, model, arrays)  # with a checksum that is right
    with pytest.raises(ModelFileError, match="no whole model"):
        HashtronClassifier.load(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        HashtronClassifier.load(tmp_path / "model")
