from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tithe.data import Labelled, available, load, names
from tithe.data.lexicon import parse_lexicon
from tithe.data.movielens import parse_ratings
from tithe.data.stars import parse_stars
from tithe.data.tables import stratified_split
from tithe.errors import CorruptFileError


def need(name: str) -> None:
    if not available(name):
        pytest.skip(f"{name} is neither in TITHE_DATA_DIR nor in the cache")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_image_sets(name: str) -> None:
    need(name)
    train_x, train_y, test_x, test_y = load(name)
    assert (train_x.shape, test_x.shape, train_x.dtype) == ((60000, 28, 28), (10000, 28, 28), np.uint8)
    assert (train_y.shape, test_y.shape, train_y.dtype) == ((60000,), (10000,), np.int64)
    assert set(test_y.tolist()) == set(range(10))
    assert 30 < test_x.mean() < 80
    if name == "mnist":
        assert train_y[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize(
    ("name", "rows", "columns", "classes", "test_y"),
    [
        ("digits", 1797, (8, 8), 10, "8d3aeb2e624dc637"),
        ("breast_cancer", 569, (30,), 2, "496594403050521f"),
        ("wine", 178, (13,), 3, "d3aeeafaafba2fce"),
        ("diabetes", 442, (10,), None, "6dbeba0d8bd780be"),
    ],
)
def test_bundled_sets(name: str, rows: int, columns: tuple[int, ...], classes: int | None, test_y: str) -> None:
    data = load(name)
    assert isinstance(data, Labelled)
    assert len(data.train_x) + len(data.test_x) == rows
    assert len(data.train_x) == len(data.train_y)
    assert data.train_x.shape[1:] == data.test_x.shape[1:] == columns
    assert abs(len(data.test_x) / rows - 0.3) < 0.01
    assert hashlib.sha256(data.test_y.tobytes()).hexdigest().startswith(test_y), "the documented split has changed"
    if classes:
        np.testing.assert_allclose(
            np.bincount(data.test_y) / len(data.test_y), np.bincount(data.train_y) / len(data.train_y), atol=0.02
        )
        assert len(np.bincount(data.test_y)) == classes
    else:
        assert abs(data.test_y.mean() - data.train_y.mean()) < 5


def test_two_loads_do_not_share_memory() -> None:
    first = load("digits")
    first.train_x[:] = 0
    assert load("digits").train_x.any()


def test_the_split_takes_every_row_once_and_depends_on_the_seed() -> None:
    strata = np.arange(50) % 3
    parts = [stratified_split(strata, 0.2, seed) for seed in (0, 0, 1)]
    for train, test in parts:
        assert sorted([*train, *test]) == list(range(50))
    assert parts[0][1].tolist() == parts[1][1].tolist() != parts[2][1].tolist()


def test_stars() -> None:
    stars = load("stars")
    assert {column.shape for column in stars} == {(5001,)}
    assert (stars.hip[0], stars.magnitude[0], stars.constellation[0]) == (0, -26.74, "")
    assert len(set(stars.hip.tolist())) == 5001
    assert (np.diff(stars.magnitude) >= 0).all()
    assert ((stars.ra >= 0) & (stars.ra < 360) & (abs(stars.dec) <= 90) & (stars.distance > 0)).all()
    assert np.isnan(stars.b_v).sum() < 1000
    assert len(set(stars.constellation.tolist())) == 89
    assert 1.3 < stars.distance[stars.hip == 71683].item() < 1.4  # Alpha Centauri A


def test_stars_alone_on_a_machine(cache: Path) -> None:
    assert len(load("stars").hip) == 5001


def test_a_foreign_table_is_no_star_table() -> None:
    with pytest.raises(CorruptFileError, match="its first line is a,b, expected hip,ra_degrees"):
        parse_stars(b"a,b\n1,2\n")


def test_lexica() -> None:
    here = [name for name in names("lexicon") if available(name)]
    if not here:
        pytest.skip("no lexicon is in TITHE_DATA_DIR or in the cache")
    for name in here:
        rows = load(name)
        assert 700 < len(rows) <= 2000, name
        assert all(word and phonemes and all(phonemes) for word, phonemes in rows), name
        assert [word for word, _ in rows] == sorted(word for word, _ in rows), name


def test_polish() -> None:
    need("lexicon:pol")
    assert load("lexicon:pol")[0] == ("Abramowicz", ("a", "b", "r", "a", "m", "ɔ", "v", "i", "t͡ʂ"))


@pytest.mark.parametrize("line", ["kot", "kot\t", "kot\tk ɔ\tt", "\tk", ""])
def test_a_line_that_is_no_pronunciation_is_named(line: str) -> None:
    with pytest.raises(CorruptFileError, match=r"line 2 is .*expected a word, one tab"):
        parse_lexicon(f"ten\tt ɛ n\n{line}\nsum\ts\n".encode())


def test_movielens() -> None:
    need("movielens-100k")
    data = load("movielens-100k")
    assert {column.shape for column in data} == {(100000,)}
    assert (data.user.min(), data.user.max(), data.item.min(), data.item.max()) == (0, 942, 0, 1681)
    assert np.bincount(data.rating).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    assert (data.user[0], data.item[0], data.rating[0], data.timestamp[0]) == (195, 241, 3, 881250949)


@pytest.mark.parametrize("data", [b"", b"1\t2\t3\n", b"1\t2\t3\t4\n1\t2\t3\n", b"1\t2\tfive\t4\n", b"<html>"])
def test_a_foreign_table_holds_no_ratings(data: bytes) -> None:
    with pytest.raises(CorruptFileError, match="not a table of four integers"):
        parse_ratings(data)
