from __future__ import annotations

import dataclasses
import gzip
import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tithe.data import available, catalogue, load
from tithe.data.catalogue import DataFile
from tithe.errors import CorruptFileError, DataUnavailableError

Install = Callable[..., DataFile]
Server = Any  # see conftest
NAME = "movielens-100k"
RATINGS = b"1\t1\t5\t874965758\n2\t7\t3\t876893171\n"


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_fetched_once_then_taken_from_the_cache(cache: Path, server: Server, ratings: Install) -> None:
    file = ratings(RATINGS, server.url("u.data"))
    server.pages["u.data"] = RATINGS
    assert not available(NAME)
    for _ in range(2):
        assert load(NAME).rating.tolist() == [5, 3]
    assert server.asked == ["/u.data"]
    assert available(NAME)
    assert [path.name for path in (cache / file.name).parent.iterdir()] == ["u.data"]


def test_the_second_mirror_is_asked_where_the_first_fails(cache: Path, server: Server, ratings: Install) -> None:
    ratings(RATINGS, server.url("gone"), server.url("portal"), server.url("u.data"))
    server.pages |= {"portal": b"<html>please log in</html>", "u.data": RATINGS}
    assert load(NAME).user.tolist() == [0, 1]
    assert server.asked == ["/gone", "/portal", "/u.data"]


def test_a_fetched_file_with_another_checksum_never_reaches_the_cache(
    cache: Path, server: Server, ratings: Install
) -> None:
    file = ratings(RATINGS, server.url("u.data"))
    server.pages["u.data"] = other = RATINGS + b"1\t2\t1\t0\n"
    with pytest.raises(CorruptFileError) as caught:
        load(NAME)
    for part in (server.url("u.data"), file.sha256, hashlib.sha256(other).hexdigest(), "try again"):
        assert part in str(caught.value)
    assert not cache.exists()


def test_the_folder_of_the_user_comes_first(
    cache: Path, tmp_path: Path, ratings: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ratings(RATINGS, "http://127.0.0.1:1/never-asked")
    put(cache, file.name, b"not looked at")
    put(tmp_path / "mine", file.name, RATINGS)
    monkeypatch.setenv("TITHE_DATA_DIR", str(tmp_path / "mine"))
    assert load(NAME).item.tolist() == [0, 6]
    monkeypatch.setenv("TITHE_DATA_DIR", "")
    with pytest.raises(CorruptFileError):
        load(NAME)


def test_the_file_of_recbole_is_the_public_file_behind_one_line(
    tmp_path: Path, cache: Path, ratings: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings(RATINGS, "http://127.0.0.1:1/never-asked")
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    put(tmp_path, "movielens-100k/ml-100k.inter", header + RATINGS)
    monkeypatch.setenv("TITHE_DATA_DIR", str(tmp_path))
    assert load(NAME).timestamp.tolist() == [874965758, 876893171]


@pytest.mark.parametrize("place", ["cache", "folder"])
def test_a_wrong_file_names_both_checksums_and_the_remedy(
    place: str, cache: Path, tmp_path: Path, ratings: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ratings(RATINGS, "http://127.0.0.1:1/u.data")
    monkeypatch.setenv("TITHE_DATA_DIR", str(tmp_path / "mine"))
    path = put(cache if place == "cache" else tmp_path / "mine", file.name, b"other")
    remedy = {"cache": "delete it, and the next load fetches it anew",
              "folder": "delete it or replace it with the one at http://127.0.0.1:1/u.data"}[place]  # fmt: skip
    with pytest.raises(CorruptFileError) as caught:
        load(NAME)
    for part in (str(path), file.sha256, hashlib.sha256(b"other").hexdigest(), remedy):
        assert part in str(caught.value)


def test_a_changed_file_is_noticed_at_the_next_load(cache: Path, ratings: Install) -> None:
    file = ratings(RATINGS, "http://127.0.0.1:1/u.data")
    path = put(cache, file.name, RATINGS)
    load(NAME)
    path.write_bytes(RATINGS.replace(b"5", b"4"))
    with pytest.raises(CorruptFileError):
        load(NAME)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-9], lambda raw: raw[:3], lambda raw: raw[:12] + bytes(9) + raw[21:]]
)
def test_a_damaged_gzip_file_is_named(
    damage: Callable[[bytes], bytes], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITHE_DATA_DIR", str(tmp_path))
    first = catalogue.SETS["mnist"].files[0]
    path = put(tmp_path, first.name, damage(gzip.compress(bytes(range(256)) * 40)))
    with pytest.raises(
        CorruptFileError, match=r"is damaged and cannot be unpacked: .*; expected content of sha256"
    ) as caught:
        load("mnist")
    assert str(path) in str(caught.value)
    assert first.sha256 in str(caught.value)


def test_another_packing_of_the_same_content_is_as_good(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.SETS["mnist"]
    images, labels = bytes([0, 0, 8, 3, *[0, 0, 0, 1] * 3, 9]), bytes([0, 0, 8, 1, 0, 0, 0, 1, 4])
    packers = (gzip.compress, lambda raw: gzip.compress(raw, 1), lambda raw: gzip.compress(raw, mtime=7), bytes)
    files = []
    for file, content, pack in zip(entry.files, (images, labels) * 2, packers, strict=True):
        files.append(dataclasses.replace(file, sha256=hashlib.sha256(content).hexdigest()))
        put(cache, file.aliases[0] if pack is bytes else file.name, pack(content))
    monkeypatch.setitem(catalogue.SETS, "mnist", dataclasses.replace(entry, files=tuple(files)))
    assert load("mnist").test_y.tolist() == [4]


@pytest.mark.parametrize(
    ("folder", "said"), [(None, "it is not set"), (".", "which has none"), ("no-such-folder", "no folder")]
)
def test_offline_the_error_names_all_three_ways(
    folder: str | None, said: str, cache: Path, tmp_path: Path, ratings: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder:
        monkeypatch.setenv("TITHE_DATA_DIR", str(tmp_path / folder))
    url = f"http://127.0.0.1:{closed_port()}/u.data"
    file = ratings(RATINGS, url)
    with pytest.raises(DataUnavailableError) as caught:
        load(NAME)
    for part in (
        "set TITHE_DATA_DIR to",
        said,
        f"put the file at {cache / file.name}",
        f"fetched from {url}",
        "Connection",
    ):
        assert part in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_never_answers_is_given_up(
    cache: Path, ratings: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tithe.data.locate._TIMEOUT", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ratings(RATINGS, f"http://127.0.0.1:{silent.getsockname()[1]}/u.data")
        with pytest.raises(DataUnavailableError, match="ReadTimeout"):
            load(NAME)


def test_a_cache_that_cannot_be_written_costs_a_warning_not_the_data(
    cache: Path, server: Server, ratings: Install
) -> None:
    ratings(RATINGS, server.url("u.data"))
    server.pages["u.data"] = RATINGS
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be written, so .* is fetched at every load"):
        assert len(load(NAME).user) == 2


def test_a_fetched_lexicon_is_cut_to_the_rows_of_the_local_one(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"word{n:04}\tw {n}\n".encode() for n in range(2001)]
    source, kept = b"".join(lines), b"".join(lines[:1230] + lines[1231:])
    digest = {key: hashlib.sha256(content).hexdigest() for key, content in {"source": source, "kept": kept}.items()}
    row = {
        "code": "klj",
        "source": "klj",
        "rows_of_source": "2001",
        "sha256_of_source": digest["source"],
        "sha256": digest["kept"],
    }
    entry = catalogue._lexicon(row)
    file = dataclasses.replace(entry.files[0], urls=(server.url("klj.tsv"),))
    monkeypatch.setitem(catalogue.lexica(), "lexicon:klj", dataclasses.replace(entry, files=(file,)))
    server.pages["klj.tsv"] = source
    fetched = load("lexicon:klj")
    assert (len(fetched), fetched[1230]) == (2000, ("word1231", ("w", "1231")))
    put(cache, file.name, kept)
    assert load("lexicon:klj") == fetched
    put(cache, file.name, kept + lines[0])
    with pytest.raises(CorruptFileError, match=digest["kept"]):
        load("lexicon:klj")


PROCESS = """
import dataclasses, pathlib, sys
from tithe.data import catalogue, load, locate
url, sha256, folder = sys.argv[1:]
locate.cache_dir = lambda: pathlib.Path(folder)
entry = catalogue.SETS["movielens-100k"]
file = dataclasses.replace(entry.files[0], urls=(url,), sha256=sha256)
catalogue.SETS["movielens-100k"] = dataclasses.replace(entry, files=(file,))
locate._TIMEOUT = (30, 30)
assert len(load("movielens-100k").user) == 20000
"""


def test_processes_that_fetch_at_once_do_not_harm_each_other(cache: Path, server: Server, ratings: Install) -> None:
    content = RATINGS * 10000
    file = ratings(content, server.url("u.data"))
    server.pages["u.data"] = content
    server.gate = threading.Barrier(3)
    command = [sys.executable, "-c", PROCESS, server.url("u.data"), file.sha256, str(cache)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert len(server.asked) == 3
    assert load(NAME).user.shape == (20000,)
    assert [path.name for path in (cache / file.name).parent.iterdir()] == ["u.data"]
