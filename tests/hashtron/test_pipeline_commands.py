"""The commands migrate and ab, from a shell's words to tables and exit codes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import tithe
from tithe.cli import main
from tithe.hashtron import SumCache, load
from tithe.hashtron.pipeline.ab import PAIR
from tithe.hashtron.pipeline.commands import read_samples, read_sets, read_topology
from tithe.hashtron.topology import TOPOLOGIES
from tithe.ledger import Ledger

VECTORS = Path(__file__).parent / "vectors"

SETS = """
import numpy as np
import tithe

def digits():
    found = tithe.data.load("digits")
    pixels = (found.train_x.reshape(-1, 64) > 7).astype(int)
    for digit in range(6):
        is_it = found.train_y == digit
        rows = np.concatenate([np.flatnonzero(is_it)[:60], np.flatnonzero(~is_it)[:60]])
        yield f"digit {digit}", pixels[rows], (found.train_y[rows] == digit).astype(int)

def roots():
    return np.arange(256), np.sqrt(np.arange(256)).astype(int)

def number():
    return 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a module of data sets and two settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_sets_of_digits.py").write_text(SETS)
    (tmp_path / "good.toml").write_text('final = "majority"\n[policy]\nname = "constant"\npremodulo = 256\n')
    (tmp_path / "bad.toml").write_text('final = "majority"\n[policy]\nname = "constant"\npremodulo = 1\n')
    return tmp_path


def test_migrate_moves_a_model_of_the_reference(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(VECTORS / "squareroot_medium.json.t.zlib", here)
    words = "hashtron migrate squareroot_medium.json.t.zlib new --topology squareroot --samples my_sets_of_digits:roots"
    assert main(words.split()) == 0
    told = capsys.readouterr().out
    assert "455 neurons" in told and "on all of 256 samples" in told and "layer 2" in told
    assert load(here / "new" / "model.json.t.zlib").topology == TOPOLOGIES["squareroot"]
    with SumCache(here / "new" / "cache") as cache:
        assert len(cache) == 455
    assert main(words.split()) == 1 and "not empty" in capsys.readouterr().err


def test_migrate_without_samples_says_that_the_cache_is_empty(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "squares.json").write_text(TOPOLOGIES["squareroot"].to_json())
    old = str(VECTORS / "squareroot_medium.json.t.zlib")
    assert main(["hashtron", "migrate", old, "new", "--topology", "squares.json"]) == 0
    assert "empty, no samples" in capsys.readouterr().out


def test_ab_stops_a_worse_setting_and_goes_on_from_its_ledger(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "hashtron ab good.toml bad.toml --data my_sets_of_digits:digits --ledger runs.db --stages 90 --stages 100"
    assert main(words.split()) == 1
    told = capsys.readouterr().out
    assert "digit 3" in told and "worse: stopped" in told and "after 6 of 6 data sets" in told
    assert main(words.split()) == 1
    with Ledger(here / "runs.db") as ledger:
        assert len(ledger.read(kind=PAIR)) == 6  # none was trained again


def test_ab_of_equal_settings_ends_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "hashtron ab good.toml good.toml --data my_sets_of_digits:digits --ledger runs.db"
    assert main(words.split()) == 0
    told = capsys.readouterr().out
    assert "not shown to be worse" in told and "+0.00 [+0.00, +0.00]" in told


def test_a_folder_of_lexica_is_a_set_each_and_broken_ones_are_told(here: Path) -> None:
    folder = here / "lexica"
    folder.mkdir()
    for code in ("pol", "ita"):
        if not tithe.data.available(f"lexicon:{code}"):
            pytest.skip("needs the lexica")
        rows = tithe.data.load(f"lexicon:{code}")
        (folder / f"{code}.tsv").write_text("".join(f"{word}\t{' '.join(said)}\n" for word, said in rows))
    (folder / "xxx.tsv").write_bytes(b"")
    sets, wrong = read_sets(str(folder))
    assert [each.name for each in sets] == ["ita", "pol"] and len(wrong) == 1 and "xxx.tsv is left out" in wrong[0]
    assert len(sets[1].make(0).wanted) > 500


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("hashtron ab good.toml slow --data my_sets_of_digits:digits", "no template 'slow'"),
        ("hashtron ab good.toml bad.toml --data nowhere", "give a folder of lexica"),
        ("hashtron ab good.toml bad.toml --data my_sets_of_digits:number", "returned a int"),
        ("hashtron ab good.toml bad.toml --data .", "no lexicon that can be used"),
        ("hashtron migrate none.json.t.zlib new", "none.json.t.zlib"),
        ("hashtron migrate good.toml new", "a model file is"),
        ("hashtron migrate good.toml new --samples my_sets_of_digits:number", "let it return X and y"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    here: Path, words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 1
    shown = capsys.readouterr().err
    assert told in " ".join(shown.split()) and "Traceback" not in shown and not (here / "new").exists()


def test_samples_may_be_a_file(here: Path) -> None:
    np.savez(here / "a.npz", X=[1, 2], y=[0, 1])
    np.savez(here / "b.npz", X=[1, 2])
    (here / "c.npz").write_bytes(b"PK no archive")
    assert read_samples("a.npz")[1].tolist() == [0, 1]
    for name in ("b.npz", "c.npz"):
        with pytest.raises(tithe.errors.CorruptFileError, match=name):
            read_samples(name)
    assert read_topology(None) is None
