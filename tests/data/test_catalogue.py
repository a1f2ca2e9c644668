from __future__ import annotations

import hashlib
import importlib.resources
import re

import pytest

from tithe.data import available, describe, load, names
from tithe.data.catalogue import lexica
from tithe.data.lexicon import sample_rows
from tithe.errors import InvalidValueError


def test_every_entry_is_complete() -> None:
    for name in names():
        entry = describe(name)
        assert entry.name == name
        assert all([entry.contents, entry.source, entry.licence, entry.citation]), name
        assert str(entry).startswith(f"{name}: ")
        assert entry.embedded or all(file.urls for file in entry.files), name
        for file in entry.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256), name
            assert all(re.match("https?://", url) for url in file.urls), name


def test_names_by_kind() -> None:
    assert set(names("table")) == {"breast_cancer", "wine", "diabetes"}
    assert len(names("lexicon")) == 140
    with pytest.raises(InvalidValueError, match=r"unknown kind 'pictures'; use one of images, table"):
        names("pictures")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "near"),
    [("minst", "mnist"), ("fashion_mnist", "fashion-mnist"), ("breast-cancer", "breast_cancer"),
     ("movielens", "movielens-100k"), ("lexicon:po", "lexicon:pol")],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(given: str, near: str) -> None:
    for ask in (load, describe, available):
        with pytest.raises(InvalidValueError, match=rf"unknown data set '{given}'; did you mean .*'{near}'") as caught:
            ask(given)
        assert "tithe.data.names() lists all 148" in str(caught.value)


def test_a_name_like_no_other_is_answered_without_a_guess() -> None:
    with pytest.raises(InvalidValueError, match=r"'qqqqqqqq'; tithe\.data\.names\(\) lists"):
        load("qqqqqqqq")


def test_the_shipped_star_table_is_the_one_of_the_catalogue() -> None:
    shipped = importlib.resources.files("tithe.data").joinpath("stars.csv").read_bytes()
    assert hashlib.sha256(shipped.replace(b"\r\n", b"\n")).hexdigest() == describe("stars").files[0].sha256


def test_the_rows_of_a_lexicon_do_not_depend_on_the_python_release() -> None:
    rows = sample_rows("pol", 132558)
    assert (rows[:4], rows[-1], sum(rows)) == ([54, 60, 94, 216], 132551, 132502126)
    assert set(range(2001)) - set(sample_rows("klj", 2001)) == {1230}


def test_a_lexicon_of_few_rows_is_its_public_file() -> None:
    for entry in lexica().values():
        file, source = entry.files[0], entry.files[0].unpack.keywords["sha256_of_source"]  # type: ignore[attr-defined]
        assert (file.sha256 == source) == (int(entry.contents.split()[2]) <= 2000)
