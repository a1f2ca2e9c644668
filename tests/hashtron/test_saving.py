import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from tithe.errors import InvalidDTypeError, InvalidValueError, ModelFileError
from tithe.hashtron import saving
from tithe.hashtron.classifier import HashtronClassifier
from tithe.hashtron.regressor import HashtronRegressor
from tithe.hashtron.saving import packed_tables, read_model, write_model

X, Y = load_iris(return_X_y=True)


def small(**options):
    return HashtronClassifier("tiny", epochs=2, random_state=0, **options)


def images():
    samples = np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8)
    return small(deskew=True, image_shape=(8, 8)).fit(samples, np.arange(60) % 2 == 0), samples


@pytest.fixture(scope="module")
def fitted():
    mixed = np.array([[a, b] for a, b in zip(X[:, 0], np.array(["u", "v", "w"])[Y], strict=True)], object)
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    return {
        "columns": (small().fit(X, Y), X),
        "strings": (small(missing="level", categorical=[1]).fit(mixed, names), mixed),
        "objects": (small().fit(X, names.astype(object)), X),
        "images": images(),
        "calibrated": (small(calibrate=True).fit(X, Y), X),
        "regressor": (HashtronRegressor("tiny", epochs=2, random_state=0).fit(X[:, :3], X[:, 3]), X[:, :3]),
    }


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
    first, second = fitted["images"][0].save(tmp_path / "a"), images()[0].save(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


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
    [
        b"", b"PK\x03\x04", b"\x80\x04]", b"\xff" * 64, to_safetensors({"w": np.ones(3)}),
        to_safetensors({str(i): np.ones(3) for i in range(99)}), b"\x04" + bytes(7) + b"[[[[",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
    ids=["empty", "zip", "pickle", "noise", "safetensors", "many arrays", "a broken header", "a deep header"],
)  # fmt: skip
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
    "changes", [
        {"cells": 1 << 40}, {"cells": 3}, {"cells": 8.0}, {"cells": 1}, {"cells": True}, {"cells": -8},
        {"classes": 3.0}, {"classes": 0}, {"classes": 2}, {"classes": "3"}, {"classes": 1 << 60},
        {"temperature": "x"}, {"temperature": 0}, {"temperature": -1}, {"temperature": float("nan")},
        {"temperature": float("inf")}, {"temperature": 10**400}, {"temperature": 5e-324}, {"temperature": None},
        {"n_iter": -1}, {"n_iter": 1.5}, {"features": "x"}, {"features": 3}, {"features": 1 << 70},
        {"feature_names": [1, 2, 3, 4]}, {"feature_names": ["a"]}, {"feature_names": "abcd"},
        {"params": [1]}, {"params": {"colour": 1}}, {"params": {"text": {"a": 1}}}, {"params": {"text": [[[]]]}},
        {"labels": [0]}, {"labels": [0, 1, 1]}, {"labels": [2, 1, 0]}, {"labels": [0, 1, [2]]}, {"labels": 3},
        {"labels": [0, 1, 300], "dtype": "|u1"}, {"labels": [0, 0.5, 1]}, {"labels": ["a", "b", "c"]},
        {"labels": ["a", "b", "c"], "dtype": "<U200000000"}, {"labels": ["a", "b", "c"], "dtype": "<M8[D]"},
        {"dtype": {"a": 1}}, {"dtype": "V8"}, {"dtype": "i8,i8"}, {"dtype": None},
        {"encoder": [1, 2]}, {"encoder": {"kind": "?"}}, {"encoder": {}}, {"encoder": None},
        {"encoder": {"kind": "columns", "columns": 4}}, {"encoder": {"kind": "image", "seen": {"shape": ["a", 8]}}},
        {"encoder": {"kind": "image", "seen": {"shape": [[1], 1 << 30]}}},
    ], ids=str,
)  # fmt: skip
def test_what_no_model_holds(file, changes):
    model, arrays = read_model(file)
    write_model(file, {**model, **changes}, arrays)  # with a checksum that is right
    with pytest.raises(ModelFileError, match="no whole model"):
        HashtronClassifier.load(file)


@pytest.mark.parametrize(
    "name",
    ["estimator", "params", "encoder", "cells", "classes", "temperature", "n_iter", "features", "labels", "dtype"],
)
def test_a_part_that_is_missing(file, name):
    model, arrays = read_model(file)
    del model[name]
    write_model(file, model, arrays)
    with pytest.raises(ModelFileError):
        HashtronClassifier.load(file)


@pytest.mark.parametrize(
    ("name", "wrong"), [
        ("values", lambda values: values[1:]), ("values", lambda values: [str(value) for value in values]),
        ("values", lambda values: [float("nan"), *values[1:]]), ("values", lambda values: [10**400, *values[1:]]),
        ("thresholds", lambda levels: levels[1:]), ("thresholds", lambda levels: levels[::-1]),
        ("thresholds", lambda levels: None), ("thresholds", lambda levels: [levels[1], *levels[1:]]),
    ],
)  # fmt: skip
def test_what_no_regressor_holds(fitted, tmp_path, name, wrong):
    path = fitted["regressor"][0].save(tmp_path / "model")
    model, arrays = read_model(path)
    write_model(path, {**model, name: wrong(model[name])}, arrays)
    with pytest.raises(ModelFileError, match="no whole model"):
        HashtronRegressor.load(path)


@pytest.mark.parametrize(
    "break_", [
        lambda a: a.update(tuples=a["tuples"] + 10**6),
        lambda a: a.update(tuples=a["tuples"] - 10**6),
        lambda a: a.update(tuples=a["tuples"].astype(np.int64)),
        lambda a: a.update(tuples=a["tuples"].ravel()),
        lambda a: a.update(tuples=a["tuples"][:0], salts=a["salts"][:0], signs=a["signs"][:0]),
        lambda a: a.update(tuples=np.zeros((len(a["tuples"]), 17), np.int32)),
        lambda a: a.update(salts=a["salts"][1:]),
        lambda a: a.update(salts=a["salts"].astype(np.float32)),
        lambda a: a.update(signs=a["signs"][1:]),
        lambda a: a.update(signs=a["signs"].view(np.int8)),
        lambda a: a.pop("signs"),
        lambda a: a.update(more=a["signs"]),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_never_reach_the_kernels(file, break_):
    model, arrays = read_model(file)
    break_(arrays)
    write_model(file, model, arrays)
    with pytest.raises(ModelFileError, match="no whole model"):
        HashtronClassifier.load(file)


def test_tuples_stay_within_the_bits_in_every_window(fitted, tmp_path):
    model, samples = fitted["images"]
    path = model.save(tmp_path / "model")
    down, across, stride = model.encoder_.sharing
    last = model.encoder_.length - 1 - (down - 1) * stride - (across - 1)
    saved, arrays = read_model(path)
    write_model(path, saved, {**arrays, "tuples": np.full_like(arrays["tuples"], last)})
    assert len(HashtronClassifier.load(path).predict(samples)) == len(samples)
    write_model(path, saved, {**arrays, "tuples": np.full_like(arrays["tuples"], last + 1)})
    with pytest.raises(ModelFileError, match="no whole model"):
        HashtronClassifier.load(path)


def test_how_it_was_run_is_not_read(file):
    model, arrays = read_model(file)
    write_model(file, {**model, "params": {**model["params"], "n_jobs": "x", "verbose": "y"}}, arrays)
    loaded = HashtronClassifier.load(file)
    assert (loaded.n_jobs, loaded.verbose) == (None, 0)


@pytest.mark.parametrize(
    "text", ["[" * 100_000 + "]" * 100_000, "[" + "9" * 5000 + "]", "{", "", "null", "[]", '"\\ud800"'],
    ids=lambda text: text[:9],
)  # fmt: skip
def test_json_that_is_no_model(tmp_path, text):
    head = {"format": "tithe.hashtron", "version": 1, "model": text, "sha256": saving._checksum(text, {})}
    path = tmp_path / "model"
    path.write_bytes(to_safetensors({}, {"tithe": json.dumps(head)}))
    with pytest.raises(ModelFileError, match="no whole model"):
        HashtronClassifier.load(path)


@pytest.mark.parametrize(
    "head", ["[" * 100_000, "null", "{}", json.dumps({"format": [], "version": 1, "model": "\ud800", "sha256": ""})]
)
def test_heads_that_are_none(tmp_path, head):
    path = tmp_path / "model"
    path.write_bytes(to_safetensors({}, {"tithe": head}))
    with pytest.raises(ModelFileError, match="no model of tithe"):
        HashtronClassifier.load(path)


def peak_while_refused(path, message):
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=message):
            HashtronClassifier.load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_file_of_large_tables_takes_no_memory(file):
    model, _ = read_model(file)
    count, cells = 1025, 1 << 15  # of one class, which is filled up to 16
    arrays = {
        "tuples": np.zeros((count, 16), np.int32),
        "salts": np.zeros(count, np.uint32),
        "signs": np.zeros(count * cells // 8, np.uint8),
    }
    write_model(file, {**model, "cells": cells, "classes": 1, "labels": [0]}, arrays)
    assert peak_while_refused(file, "1025 tables of 32768 cells") < 20e6


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_file_without_an_end():
    assert peak_while_refused("/dev/zero", "no model of tithe") < 1e6


def test_what_is_too_large_is_neither_written_nor_read(file, fitted, tmp_path, monkeypatch):
    for limit, value, message in (("_MOST_BYTES", 1000, "1000 at most"), ("_MOST_HEADER", 100, "a header of")):
        with monkeypatch.context() as patch:
            patch.setattr(saving, limit, value)
            with pytest.raises(InvalidValueError, match="take a smaller preset"):
                fitted["columns"][0].save(tmp_path / "other")
            with pytest.raises(ModelFileError, match=message):
                read_model(file)
    tables = fitted["columns"][0].tables_
    monkeypatch.setattr(saving, "_MOST_SIGNS", tables.signs.nbytes)
    assert packed_tables(tables)["salts"] is tables.salts
    monkeypatch.setattr(saving, "_MOST_SIGNS", tables.signs.nbytes - 1)
    with pytest.raises(InvalidValueError, match="take a smaller preset"):
        packed_tables(tables)
    assert not (tmp_path / "other").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        HashtronClassifier.load(tmp_path / "model")
