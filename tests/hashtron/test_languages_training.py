"""One language from its lexicon to its model, and what becomes of lexica that are broken."""

import numpy as np
import pytest

from tithe.data import available, describe
from tithe.data.locate import read
from tithe.errors import CorruptFileError
from tithe.hashtron import SumCache
from tithe.hashtron.languages import parse, split_words
from tithe.hashtron.languages.pronouncer import load_pronouncer
from tithe.hashtron.languages.ranking import Settings
from tithe.hashtron.languages.rows import Row
from tithe.hashtron.languages.training import finished, model_path, train_language
from tithe.locks import lock


@pytest.fixture(scope="module")
def polish(tmp_path_factory):
    """600 words of a real lexicon."""
    if not available("lexicon:pol"):
        pytest.skip("lexicon:pol is not on this machine")
    (data,) = read(describe("lexicon:pol"))[:1]
    path = tmp_path_factory.mktemp("lexica") / "pol.tsv"
    path.write_bytes(b"\n".join(data.split(b"\n")[:600]) + b"\n")
    return path


@pytest.fixture(scope="module")
def trained(polish, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, train_language(polish, out)


def test_a_language_is_learned(polish, trained):
    """On words that were held out: more letters right than by each letter's usual phonemes, fewer phonemes wrong."""
    out, row = trained
    assert (row.language, row.rows, row.error, row.note) == ("pol", 600, "", "")
    assert row.train >= row.eval >= row.majority + 0.05 > row.prior + 0.5
    assert row.error_rate < 0.7 * row.majority_error_rate
    assert row.bytes == model_path(out, "pol").stat().st_size > 1000
    assert 0.99 < row.alignable <= 1
    assert not (out / "runs" / "pol").exists()


def test_what_was_measured_is_what_the_saved_model_says(polish, trained):
    out, row = trained
    lexicon = parse(polish.read_bytes())
    held = split_words(lexicon.words, 0.2, np.random.default_rng(0))
    words = [word for word, is_held in zip(lexicon.words, held, strict=True) if is_held]
    expected = [sounds for sounds, is_held in zip(lexicon.phonemes, held, strict=True) if is_held]
    found = load_pronouncer(model_path(out, "pol"))[0].pronounce(words)
    wrong = sum(one != two for one, two in zip(found, expected, strict=True))
    phonemes = sum(map(len, expected))
    assert wrong / phonemes <= row.error_rate <= wrong * max(map(len, expected)) / phonemes
    assert wrong < 0.5 * len(words)


def test_every_neuron_is_in_the_sum_cache_the_final_ones_first(trained):
    with SumCache(trained[0] / "sums" / "pol") as cache:
        rows = cache.records()
    assert len(rows) == 2 * (15 + 8)  # sweeps, hidden and final neurons
    for sweep in (rows[:23], rows[23:]):
        assert sweep["layer"].tolist() == [1] * 8 + [0] * 15
        assert sorted(sweep["position"][8:].tolist()) == list(range(15))
    assert rows["final"].tolist() == (rows["layer"] == 1).tolist()
    assert (rows["pivotal"] > 0).all() and np.isfinite(rows["eval"]).all()


def test_what_is_finished_is_not_trained_again(polish, trained, monkeypatch):
    out, row = trained
    before = model_path(out, "pol").stat()
    with monkeypatch.context() as patched:
        patched.setattr("tithe.hashtron.languages.training.Pipeline", None)  # training would fail
        assert train_language(polish, out) == row
    assert model_path(out, "pol").stat().st_mtime_ns == before.st_mtime_ns
    assert finished(polish, out, Settings()) == row
    assert finished(polish, out, Settings(seed=1)) is None
    assert finished(polish, out / "elsewhere", Settings()) is None


@pytest.mark.parametrize("change", ["lexicon", "settings", "damage"])
def test_what_has_changed_is_trained_again(polish, trained, tmp_path, change):
    lexicon, out, settings = tmp_path / "pol.tsv", tmp_path / "out", Settings()
    out.mkdir()
    lexicon.write_bytes(polish.read_bytes())
    model = model_path(trained[0], "pol").read_bytes()
    model_path(out, "pol").write_bytes(model)
    assert finished(lexicon, out, settings) is not None
    if change == "lexicon":
        lexicon.write_bytes(b"abba\ta b b a\n" + lexicon.read_bytes())
    elif change == "settings":
        settings = Settings(sweeps=1)
    else:
        model_path(out, "pol").write_bytes(model[:-9])
    assert finished(lexicon, out, settings) is None
    row = train_language(lexicon, out, settings)
    assert not row.error and row.seconds != trained[1].seconds
    assert finished(lexicon, out, settings) == row
    assert model_path(out, "pol").read_bytes() != model


def test_the_same_lexicon_gives_the_same_model(polish, trained, tmp_path):
    train_language(polish, tmp_path)
    one, two = (load_pronouncer(model_path(out, "pol"))[0] for out in (trained[0], tmp_path))
    assert one.network.neurons == two.network.neurons


def test_a_run_that_cannot_be_gone_on_with_begins_anew(polish, trained, tmp_path, monkeypatch):
    from tithe.hashtron.languages import training

    calls = []

    class Broken(training.Pipeline):
        def fit(self, *args, folder, **options):
            calls.append(folder.exists())
            if len(calls) == 1:
                folder.mkdir(parents=True)
                raise CorruptFileError("the journal is damaged")
            return super().fit(*args, folder=folder, **options)

    monkeypatch.setattr(training, "Pipeline", Broken)
    assert not train_language(polish, tmp_path).error
    assert calls == [False, False]
    one, two = (load_pronouncer(model_path(out, "pol"))[0] for out in (trained[0], tmp_path))
    assert one.network.neurons == two.network.neurons


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_somebody_else_at_work_is_waited_for(polish, tmp_path, monkeypatch, patience):
    monkeypatch.setattr("tithe.hashtron.languages.training._PATIENCE", patience)
    held = lock(tmp_path / "runs" / "pol")
    monkeypatch.setattr("time.sleep", lambda seconds: held.close())  # who was at work ends
    row = train_language(polish, tmp_path, Settings(sweeps=1))
    held.close()
    assert ("somebody else is at work" in row.error) == (patience == 0)
    assert model_path(tmp_path, "pol").exists() == (patience > 0)


BROKEN = {
    "empty": b"",
    "columns": b"kot k o t\nkod k o t\n",
    "three": b"kot\tk o t\t1\nkod\tk o t\t2\n",
    "encodings": "żaba\tʐ a b a\n".encode() + "łoś\two\n".encode("iso-8859-2"),
    "utf16": "żaba\tʐ a b a\n".encode("utf-16"),
    "one phoneme": b"a\ta\naa\ta a\n",
    "one word": b"ab\ta b\n",
    "no letters to align": b"a\ta b c d\nb\tb a c d\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_lexicon_says_so_in_its_row(tmp_path, kind):
    path = tmp_path / "xyz.tsv"
    path.write_bytes(BROKEN[kind])
    row = train_language(path, tmp_path / "out")
    assert row.language == "xyz" and len(row.error) > 30
    assert row.error.startswith(str(path)) or kind == "no letters to align"
    assert not model_path(tmp_path / "out", "xyz").exists()


def test_duplicates_and_other_lines_are_dropped_and_told(polish, tmp_path):
    path = tmp_path / "pol.tsv"
    path.write_bytes(polish.read_bytes() * 2 + b"kura\n\n")
    row = train_language(path, tmp_path / "out", Settings(sweeps=1))
    assert (row.rows, row.error) == (600, "")
    assert "600 duplicate (first in line 601)" in row.note and "1 columns" in row.note


def test_letters_without_a_choice_need_no_neurons(tmp_path):
    path = tmp_path / "xyz.tsv"
    path.write_text("".join(f"{a}{b}\t{a.upper()} {b.upper()}\n" for a in "abcdef" for b in "abcdef"))
    row = train_language(path, tmp_path)
    assert (row.eval, row.error_rate, row.note, row.error) == (1, 0, "no letter has a choice", "")
    assert load_pronouncer(model_path(tmp_path, "xyz"))[0].pronounce(["fade"]) == (("F", "A", "D", "E"),)


def test_a_folder_that_is_none_is_told(polish, tmp_path):
    (tmp_path / "out").write_text("a file")
    assert "out" in train_language(polish, tmp_path / "out").error


@pytest.mark.parametrize(
    "plain", [{}, {"language": 3}, {"language": "pol", "rows": "9"}, {"language": "pol", "bars": 1}], ids=str
)
def test_rows_are_checked(plain):
    with pytest.raises(CorruptFileError, match="no row of a language"):
        Row.from_plain(plain)
