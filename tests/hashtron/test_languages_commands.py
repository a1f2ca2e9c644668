"""A folder of lexica: the command, its table, and a kill in the middle of it."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from tithe.cli import main
from tithe.data import available, describe
from tithe.data.locate import read
from tithe.errors import CorruptFileError, DataUnavailableError, InvalidValueError
from tithe.hashtron import SumCache
from tithe.hashtron.languages.commands import lexica, pronounce, train_languages
from tithe.hashtron.languages.pronouncer import load_pronouncer
from tithe.hashtron.languages.training import model_path, train_language

CODES = ("ita", "pol", "tur")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Some hundred words of three real lexica, and files that are no lexica."""
    if not all(available(f"lexicon:{code}") for code in CODES):
        pytest.skip("the lexica are not on this machine")
    folder = tmp_path_factory.mktemp("lexica")
    for code in CODES:
        data = read(describe(f"lexicon:{code}"))[0]
        (folder / f"{code}.tsv").write_bytes(b"\n".join(data.split(b"\n")[:400]))
    (folder / "MANIFEST.json").write_text("{}")
    (folder / "README").write_text("no lexicon\n")
    (folder / ".hidden.tsv").write_text("no lexicon\n")
    (folder / "folder.tsv").mkdir()
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "models"
    return out, train_languages(folder, out, executor="inline")


def test_files_that_end_in_tsv_are_lexica(folder):
    assert list(lexica(folder)) == list(CODES)
    assert list(lexica(folder, ["tur", "ita", "tur"])) == ["ita", "tur"]
    with pytest.raises(InvalidValueError, match=r"no deu.tsv, no fra.tsv in .*; it has ita, pol, tur"):
        lexica(folder, ["deu", "ita", "fra"])


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_lexica(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataUnavailableError, match="files that end in"):
        lexica(tmp_path / name)
    assert main(["hashtron", "languages", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    assert "there are no lexica" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_each_lexicon_has_a_row_and_a_model(trained):
    out, rows = trained
    assert [row.language for row in rows] == list(CODES)
    assert all(row.eval > row.majority and row.error_rate < row.majority_error_rate for row in rows)
    assert [row["language"] for row in json.loads((out / "languages.json").read_bytes())] == list(CODES)
    lines = (out / "languages.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["language", *CODES]
    assert {len(line.split("\t")) for line in lines} == {13}


def test_a_broken_lexicon_stops_nothing(folder, trained, tmp_path, capsys):
    """Finished ones are taken over, and the table keeps what was there."""
    out, lexicons = tmp_path / "out", tmp_path / "lexica"
    shutil.copytree(trained[0], out)
    shutil.copytree(folder, lexicons)
    before = model_path(out, "pol").stat().st_mtime_ns
    (lexicons / "aaa.tsv").write_text("no tab\n")
    (lexicons / "xyz.tsv").write_bytes((folder / "pol.tsv").read_bytes()[:6000].rsplit(b"\n", 1)[0])
    arguments = ["hashtron", "languages", str(lexicons), "--only", "aaa, pol,xyz", "--out", str(out)]
    arguments += ["--executor", "inline"]
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert "aaa has no model" in told.err and "no tab" in told.err
    assert [line.split()[0] for line in told.out.splitlines()[1:4]] == ["aaa", "pol", "xyz"]
    assert model_path(out, "pol").stat().st_mtime_ns == before
    rows = {row["language"]: row for row in json.loads((out / "languages.json").read_bytes())}
    assert sorted(rows) == ["aaa", *CODES, "xyz"]
    assert rows["aaa"]["error"] and not rows["xyz"]["error"]
    (lexicons / "aaa.tsv").unlink()
    assert main([*arguments[:4], "pol,xyz", *arguments[5:]]) == 0


def test_a_worker_that_fails_is_told_in_the_row(folder, tmp_path, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr("tithe.hashtron.languages.commands.train_language", broken)
    rows = train_languages(folder, tmp_path, only=["pol"], executor="inline")
    assert "no room" in rows[0].error


def test_a_table_that_is_none_is_not_overwritten(folder, tmp_path):
    (tmp_path / "languages.json").write_text('{"mine": 1}')
    with pytest.raises(CorruptFileError, match="holds no rows"):
        train_languages(folder, tmp_path, executor="inline")
    assert (tmp_path / "languages.json").read_text() == '{"mine": 1}'


def test_pronounce(trained, capsys):
    out, _ = trained
    expected = load_pronouncer(model_path(out, "pol"))[0].pronounce(["kot", "mama"])
    assert pronounce("pol", ["kot", "mama"], out) == expected
    assert expected[1] == ("m", "a", "m", "a")
    assert main(["hashtron", "pronounce", "pol", "kot", "mama", "--models", str(out)]) == 0
    assert capsys.readouterr().out == f"kot\t{' '.join(expected[0])}\nmama\tm a m a\n"


@pytest.mark.parametrize("name", ["deu", "../models/pol", ""])
def test_pronounce_without_a_model(trained, capsys, name):
    assert main(["hashtron", "pronounce", name, "Haus", "--models", str(trained[0])]) == 1
    error = capsys.readouterr().err
    assert "there is no model" in error and "which has ita, pol, tur" in error


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_after_a_kill_what_is_finished_stays_and_what_was_begun_goes_on(folder, trained, tmp_path):
    """Killed while the second language is in training: the first stays as it is, all end in the same models."""
    out = tmp_path / "out"
    _killed(
        [folder, out, "--executor", "inline"],
        lambda: list(out.glob("*.pronouncer")) and list(out.glob("runs/*/*/steps.db")),
    )
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.pronouncer")}
    assert 1 <= len(done) <= 2
    rows = train_languages(folder, out, executor="inline")
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    for row, undisturbed in zip(rows, trained[1], strict=True):
        models = [load_pronouncer(model_path(where, row.language))[0] for where in (out, trained[0])]
        assert models[0].network.neurons == models[1].network.neurons
        assert row.error_rate == undisturbed.error_rate
        with SumCache(out / "sums" / row.language) as cache:
            assert set(cache.records()["run"].tolist()) == {1}  # the run went on; it was not begun again
            assert len(cache) == 46
    assert not list(out.glob("runs/*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_worker_that_outlives_its_scheduler_is_waited_for(folder, tmp_path):
    """Only the scheduler is killed: its worker ends the language that it has, and nothing is trained by two."""
    out = tmp_path / "out"
    _killed([folder, out, "-j", "1"], lambda: list(out.glob("runs/*/*/steps.db")))
    (begun,) = [path.name for path in out.glob("runs/*")]
    row = train_language(folder / f"{begun}.tsv", out)
    assert not row.error
    with SumCache(out / "sums" / begun) as cache:
        assert len(cache) == 46


def _killed(arguments, when):
    """Run the command and kill it as soon as something holds."""
    lexicons, out, *others = map(str, arguments)
    command = [sys.executable, "-m", "tithe", "hashtron", "languages", lexicons, "--out", out, *others]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 60
            while not when():
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.005)
        finally:
            process.kill()
