"""The file of a model: what is written is read again, and what is anything else is refused."""

import hashlib
import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import ModelFileError
from tithe.hashtron import Network
from tithe.hashtron.languages import Alphabet
from tithe.hashtron.languages.candidates import Candidates
from tithe.hashtron.languages.contexts import INTERVALS, Contexts
from tithe.hashtron.languages.pronouncer import Pronouncer, load_pronouncer, save_pronouncer
from tithe.hashtron.languages.ranking import TOPOLOGY


@pytest.fixture(scope="module")
def model():
    known = tuple(np.array([3, 9, 1 << 31, (1 << 32) - 1], np.uint32)[: i % 5] for i in range(len(INTERVALS)))
    candidates = Candidates(np.array([0, 0, 2, 1, 0]), np.array([0, 1, 2, 4, 5]))
    network = Network.random(TOPOLOGY, np.random.default_rng(3))
    return Pronouncer(Alphabet(("a", "ł"), 7), (("a",), (), ("t", "s")), candidates, Contexts(known), network)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "xyz.pronouncer"
    assert save_pronouncer(model, path, {"row": 3}) == path.stat().st_size
    return path


def rewritten(path, target, **changes):
    """The file with other content, and a checksum that is right."""
    content = json.loads(zlib.decompress(path.read_bytes().split(b"\n", 1)[1])) | changes
    body = zlib.compress(json.dumps(content).encode())
    head = {"format": "tithe.pronouncer", "version": 1, "sha256": hashlib.sha256(body).hexdigest()}
    target.write_bytes(json.dumps(head).encode() + b"\n" + body)
    return target


def test_what_is_written_is_read_again(model, saved, tmp_path):
    found, about = load_pronouncer(saved)
    assert about == {"row": 3}
    assert (found.alphabet, found.chunks, found.network.neurons) == (
        model.alphabet,
        model.chunks,
        model.network.neurons,
    )
    assert found.candidates.labels.tolist() == model.candidates.labels.tolist()
    assert found.candidates.edges.tolist() == model.candidates.edges.tolist()
    for one, two in zip(found.contexts.known, model.contexts.known, strict=True):
        assert one.dtype == two.dtype and one.tolist() == two.tolist()
    words = ["Łał", "", "x", "aałła"]
    assert found.pronounce(words) == model.pronounce(words)
    save_pronouncer(found, tmp_path / "again", about)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_letters_have_but_their_candidates(model):
    assert {model.pronounce(["x" * n + "a"])[0][n:] for n in range(5)} <= {("t", "s"), ()}
    assert model.pronounce(["", "?"]) == ((), ("a",))
    assert {model.pronounce(["ł" * n]) for n in range(1, 6)} == {(("a",) * n,) for n in range(1, 6)}
    assert model.pronounce([]) == ()


@settings(deadline=None)
@given(st.data())
def test_a_file_that_is_cut_or_changed_is_refused(saved, tmp_path_factory, data):
    whole = saved.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + data.draw(st.sampled_from([b"", bytes([whole[place] ^ 1]) + whole[place + 1 :]]))
    path = tmp_path_factory.mktemp("changed") / "xyz.pronouncer"
    path.write_bytes(changed)
    with pytest.raises(ModelFileError, match="pronouncer"):
        load_pronouncer(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"word\tw o r d\n", b"[1]\n", b'{"format": "other", "version": 1, "sha256": ""}\n']
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ModelFileError):
        load_pronouncer(tmp_path / "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"letters": ["a"]}, {"width": 5}, {"width": "7"}, {"width": 8}, {"chunks": [["a"]]}, {"chunks": 3},
        {"contexts": []}, {"contexts": ["€"] * 9}, {"neurons": []}, {"neurons": [[[[1, -2]], ""]] * 23},
        {"candidates": []}, {"about": None}, {"letters": None},
    ],
    ids=str,
)  # fmt: skip
def test_content_that_does_not_fit_is_refused(saved, tmp_path, changes):
    assert load_pronouncer(rewritten(saved, tmp_path / "same"))[1] == {"row": 3}
    with pytest.raises(ModelFileError, match="train it again"):
        load_pronouncer(rewritten(saved, tmp_path / "xyz", **changes))


def test_a_file_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tithe.hashtron.languages.pronouncer._MOST_BYTES", 1000)
    body = zlib.compress(b'{"letters": "' + b"a" * 100_000 + b'"}')
    head = {"format": "tithe.pronouncer", "version": 1, "sha256": hashlib.sha256(body).hexdigest()}
    (tmp_path / "x").write_bytes(json.dumps(head).encode() + b"\n" + body)
    with pytest.raises(ModelFileError, match="damaged"):
        load_pronouncer(tmp_path / "x")


def test_no_file_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pronouncer(tmp_path / "none")
