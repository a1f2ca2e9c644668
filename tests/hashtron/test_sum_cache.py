import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.hashtron.backward.cache_files import CacheFiles
from tithe.hashtron.backward.frames import Head, pack_frame, pack_head
from tithe.hashtron.backward.records import ROW, Record, as_records, as_rows
from tithe.hashtron.backward.recovery import cache_files, read_folder
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.backward.staleness import StaleRule, fingerprint
from tithe.hashtron.backward.sum_cache import SumCache

SHARES = (0.0, 0.25, 0.75, 1.0)  # which float32 holds exactly


def record(layer=0, position=0, run=1, votes=0, samples=100, pivotal=100, **other):
    given = {"time": 1.0, "outputs": 0, "seconds": 0.5, "train": 0.5, "eval": 0.5, "prior": 0.5}
    return Record(layer, position, run, votes=votes, samples=samples, pivotal=pivotal, **{**given, **other})


def content(cache):
    return as_records(cache.records())


def stay(kept, history):
    """The records of a plain list that are in a list of numbers."""
    return [entry for number, entry in enumerate(history) if number in kept]


@st.composite
def records(draw):
    samples = draw(st.sampled_from([0, 1, 100, 2**31 - 1]))
    pivotal = draw(st.sampled_from([0, samples // 3, samples]))
    return Record(
        draw(st.sampled_from([0, 1, 65535])),
        draw(st.sampled_from([0, 1, 5, 300])),
        draw(st.integers(0, 6) | st.just(2**32 - 1)),
        float(draw(st.integers(0, 100))),
        votes=draw(st.integers(-pivotal, pivotal)),
        outputs=draw(st.integers(-samples, samples)),
        samples=samples,
        pivotal=pivotal,
        premodulo=draw(st.sampled_from([0, 1, 2**32 - 1])),
        seconds=draw(st.sampled_from([0.0, 0.125, 4.0])),
        train=draw(st.sampled_from(SHARES)),
        eval=draw(st.sampled_from(SHARES)),
        prior=draw(st.sampled_from(SHARES)),
        data=draw(st.sampled_from([0, 1, 2**64 - 1])),
        final=draw(st.booleans()),
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sums"


# --- against a plain list


def is_gold(entry, tau):
    votes = entry.samples if entry.final else entry.pivotal
    return entry.votes**2 > votes and abs(entry.votes) < tau * votes and not entry.stale


def expected_kept(history, retention, now):
    kept = {n for n, entry in enumerate(history) if retention.seconds is None or now - entry.time <= retention.seconds}

    def later(number):
        neuron = (history[number].layer, history[number].position)
        return sum(1 for n in kept if n > number and (history[n].layer, history[n].position) == neuron)

    if retention.last is not None:
        kept = {number for number in kept if later(number) < retention.last}
    if retention.bytes is not None:
        going = sorted(kept, key=lambda number: (later(number) == 0, number))
        kept -= set(going[: max(0, len(kept) - retention.bytes // 64)])
    return kept


def compare(cache, history, tau):
    assert content(cache) == history and len(cache) == len(history)
    neurons = sorted({(entry.layer, entry.position) for entry in history})
    latest = {neuron: [entry for entry in history if (entry.layer, entry.position) == neuron][-1] for neuron in neurons}
    assert as_records(cache.latest()) == list(latest.values())
    assert list(map(tuple, cache.gold_zone().tolist())) == [n for n in neurons if is_gold(latest[n], tau)]
    for layer in {layer for layer, _ in neurons} | {7}:
        of_layer = [n for n in neurons if n[0] == layer]
        assert list(map(tuple, cache.gold_zone(layer).tolist())) == [n for n in of_layer if is_gold(latest[n], tau)]
        assert as_records(cache.latest(layer)) == [latest[n] for n in of_layer]
        for spread in cache.margins(layer):
            assert spread.gold == sum(is_gold(latest[n], tau) for n in of_layer)
            assert spread.neurons == sum(spread.counts) == len(of_layer)
            assert spread.stale == sum(latest[n].stale for n in of_layer)
    for neuron in [*neurons, (0, 99), (9, 0), (0, -1)]:
        own = [entry for entry in history if (entry.layer, entry.position) == neuron]
        assert cache.latest_sum(*neuron) == (own[-1].votes if own else None)
        assert cache.latest_sum(*neuron, of="outputs") == (own[-1].outputs if own else None)
        assert as_records(cache.history(*neuron)) == own
        lately = sorted({entry.run for entry in own})[-2:]
        assert as_records(cache.history(*neuron, runs=2)) == [entry for entry in own if entry.run in lately]
        fresh = [entry.votes for entry in own if not entry.stale][:-4:-1]
        shares = (3, 2, 1)[: len(fresh)]
        average = sum(w * s for w, s in zip(shares, fresh, strict=True)) / sum(shares) if fresh else None
        assert cache.average_sum(*neuron) == average


STEPS = st.one_of(
    st.tuples(st.just("append"), st.lists(records(), max_size=6)),
    st.tuples(st.just("data"), st.sampled_from([0, 1, 2**64 - 1])),
    st.tuples(st.just("runs"), st.integers(1, 4)),
    st.tuples(st.just("prune"), st.builds(Retention, st.none() | st.integers(0, 2))),
    st.tuples(st.just("prune"), st.builds(Retention, seconds=st.integers(0, 100))),
    st.tuples(st.just("prune"), st.builds(Retention, bytes=st.integers(0, 640))),
    st.tuples(st.just("prune"), st.builds(Retention, st.just(2), st.just(60), st.just(320))),
    st.tuples(st.sampled_from(["sync", "snapshot", "reopen"]), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=12), st.integers(1, 7), st.sampled_from([0.8, 0.5]))
def test_it_does_what_a_plain_list_would(steps, batch, tau):
    history = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = SumCache(name, batch=batch, tau=tau)
        for step, argument in steps:
            if step == "append":
                cache.extend(argument)
                history += argument
            elif step == "data":
                marked = [entry.data != argument for entry in history]
                new = sum(mark and not entry.stale for mark, entry in zip(marked, history, strict=True))
                assert cache.mark_stale(data=argument) == new
                history = [replace(e, stale=e.stale or m) for e, m in zip(history, marked, strict=True)]
            elif step == "runs":
                newest = max((entry.run for entry in history), default=0)
                cache.mark_stale(runs=argument)
                history = [replace(e, stale=e.stale or e.run <= newest - argument) for e in history]
            elif step == "prune":
                kept = expected_kept(history, argument, now=100.0)
                assert cache.prune(argument, now=100.0) == len(history) - len(kept)
                history = stay(kept, history)
            elif step == "reopen":
                cache.close()
                cache = SumCache(name, batch=batch, tau=tau)
            else:
                getattr(cache, step)()
            compare(cache, history, tau)
        cache.close()
        with SumCache(name, tau=tau) as again:
            compare(again, history, tau)


def test_in_memory_only_it_answers_alike():
    cache = SumCache()
    cache.extend([record(0, 1, votes=50), record(1, 0, votes=5), record(0, 1, votes=-60)])
    cache.sync()
    compare(cache, content(cache), 0.8)
    assert cache.path is None and cache.recovered == ""
    assert cache.prune(Retention(last=1)) == 1
    with pytest.raises(InvalidStateError, match="memory only"):
        cache.snapshot()


def test_columns_take_few_bytes_a_record():
    cache = SumCache()
    rows = np.zeros(100_000, ROW)
    rows["position"] = np.arange(len(rows)) % 50_000
    for part in np.split(rows, 1000):
        cache.extend(part)
    assert cache.nbytes <= 100 * len(rows)
    assert len(cache.latest()) == 50_000


# --- queries


def test_trend_is_the_least_squares_slope_with_its_error():
    draw = np.random.default_rng(0)
    runs, votes = [1, 1, 2, 3, 5, 8, 8], draw.integers(-1000, 1000, 7).tolist()
    cache = SumCache()
    cache.extend([record(2, 3, run=r, votes=v, samples=9000, pivotal=1000) for r, v in zip(runs, votes, strict=True)])
    found = cache.trend(2, 3)
    reference = stats.linregress(runs, np.abs(votes) / 1000)
    assert (found.slope, found.error) == pytest.approx((reference.slope, reference.stderr))
    assert (found.records, found.runs) == (7, 5)
    assert cache.trend(2, 3, runs=3)[2:] == (4, 3)
    two = cache.trend(2, 3, runs=1)
    assert math.isnan(two.slope) and two.records == 2
    assert cache.trend(0, 0).records == 0
    with pytest.raises(InvalidValueError, match="runs"):
        cache.trend(2, 3, runs=0)


def test_two_records_have_a_slope_without_an_error():
    cache = SumCache()
    cache.extend([record(run=1, votes=20), record(run=3, votes=60)])
    assert cache.trend(0, 0).slope == pytest.approx(0.2)
    assert math.isnan(cache.trend(0, 0).error)


def test_averages_leave_out_what_is_stale():
    cache = SumCache()
    cache.extend(
        [record(data=1, votes=90), record(data=2, votes=40), record(data=1, votes=80), record(data=2, votes=10)]
    )
    assert cache.average_sum(0, 0) == pytest.approx((3 * 10 + 2 * 80 + 40) / 6)
    assert cache.mark_stale(data=2) == 2
    assert cache.average_sum(0, 0) == pytest.approx((3 * 10 + 2 * 40) / 5)
    assert cache.average_sum(0, 0, weights=(1,)) == 10
    assert cache.latest_sum(0, 0) == 10
    for weights in ((), (0,), (1, -1), (math.inf,)):
        with pytest.raises(InvalidValueError, match="weights"):
            cache.average_sum(0, 0, weights=weights)


def test_layers_have_their_spread_of_margins():
    cache = SumCache()
    cache.extend([record(1, n, votes=v) for n, v in enumerate([0, -25, 50, 75, 100])] + [record(4, 0, votes=5)])
    first, last = cache.margins(bins=4)
    assert (first.layer, first.neurons, first.gold, first.counts) == (1, 5, 3, (1, 1, 1, 2))
    assert first.quartiles == (0, 0.25, 0.5, 0.75, 1)
    assert (last.layer, last.gold, last.quartiles) == (4, 0, (0.05,) * 5)
    cache.mark_stale(runs=1)
    cache.append(record(4, 0, run=2, votes=50))
    cache.mark_stale(runs=1)
    assert [(spread.stale, spread.gold) for spread in cache.margins()] == [(5, 0), (0, 1)]


def test_the_margin_of_a_final_neuron_counts_all_samples():
    cache = SumCache()
    cache.extend([record(0, n, votes=39, samples=1000, pivotal=40, final=bool(n)) for n in (0, 1)])
    assert cache.gold_zone().tolist() == [[0, 1]]


def test_fingerprints_tell_data_apart():
    x = np.arange(6)
    others = [(x + 1,), (x.reshape(2, 3),), (x.astype(np.int32),), (x, x), (x[:3], x[3:]), (x[::-1],)]
    assert fingerprint(x) == fingerprint(x.copy()) != 0
    assert fingerprint(x[::2]) == fingerprint(x[::2].copy())
    assert len({fingerprint(*other) for other in others} | {fingerprint(x)}) == 7
    with pytest.raises(InvalidDTypeError, match="objects"):
        fingerprint(np.array([None]))


# --- what cannot be


@pytest.mark.parametrize(
    "wrong",
    [
        {"layer": 1 << 16}, {"layer": -1}, {"position": 1 << 22}, {"run": 1 << 32}, {"time": math.inf},
        {"votes": 101}, {"votes": -101}, {"outputs": 101}, {"pivotal": 101}, {"samples": -1, "pivotal": -1},
        {"samples": 1 << 31}, {"premodulo": 1 << 32}, {"seconds": -1.0}, {"seconds": math.nan}, {"train": 1.1},
        {"eval": -0.1}, {"prior": 2.0}, {"data": 1 << 64},
    ],
)  # fmt: skip
def test_records_that_cannot_be_are_refused(wrong):
    cache = SumCache()
    with pytest.raises(InvalidValueError, match=next(iter(wrong))):
        cache.append(record(**wrong))
    assert len(cache) == 0


def test_other_types_are_refused():
    cache = SumCache()
    for wrong in (record(votes=1.5), record(position="1"), (0, 1)):
        with pytest.raises(InvalidDTypeError):
            cache.append(wrong)
    with pytest.raises(InvalidDTypeError, match="ROW"):
        cache.extend(np.zeros(3))
    with pytest.raises(InvalidDTypeError, match="ROW"):
        cache.extend(np.zeros((1, 1), ROW))
    with pytest.raises(InvalidValueError, match="votes or outputs"):
        cache.latest_sum(0, 0, of="samples")
    for arguments in ({"batch": 0}, {"batch": 1.0}, {"tau": 0}, {"tau": 2}):
        with pytest.raises(InvalidValueError):
            SumCache(**arguments)
    for arguments in ({"runs": 0}, {"data": -1}, {"data": 1 << 64}):
        with pytest.raises(InvalidValueError):
            cache.mark_stale(**arguments)
    for arguments in ({"last": -1}, {"seconds": -1}, {"bytes": -1}, {"seconds": math.nan}):
        with pytest.raises(InvalidValueError):
            Retention(**arguments)
    with pytest.raises(InvalidDTypeError):
        Retention(last=1.5)


def test_accuracies_that_were_not_measured_come_back_as_nan(folder):
    with SumCache(folder) as cache:
        cache.append(Record(0, 0, 1, 0.0, votes=0, outputs=0, samples=1, pivotal=1))
    with SumCache(folder) as cache:
        assert np.isnan(cache.records()["train"]).all() and np.isnan(cache.records()["prior"]).all()


# --- files


def test_a_closed_cache_answers_and_takes_nothing(folder):
    cache = SumCache(folder)
    cache.append(record(votes=7))
    cache.close()
    cache.close()
    assert cache.latest_sum(0, 0) == 7
    for use in (lambda: cache.append(record()), cache.sync, cache.snapshot, lambda: cache.mark_stale(runs=1)):
        with pytest.raises(InvalidStateError, match="closed"):
            use()
    with pytest.raises(InvalidStateError, match="closed"):
        cache.prune(Retention(last=0))


def test_one_writer_at_a_time(folder):
    with SumCache(folder):
        with pytest.raises(InvalidStateError, match="somebody else is at work"):
            SumCache(folder)
        code = "import sys; from tithe.hashtron.backward.sum_cache import SumCache; SumCache(sys.argv[1])"
        other = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
        assert other.returncode and "InvalidStateError" in other.stderr
    SumCache(folder).close()


def test_a_batch_is_synced_when_it_is_full(folder):
    cache = SumCache(folder, batch=3)
    synced = []
    for n in range(7):
        cache.append(record(votes=n))
        synced.append(len(read_folder(folder, 0.8).table))
    assert synced == [0, 0, 3, 3, 3, 6, 6]
    cache.close()
    assert len(read_folder(folder, 0.8).table) == 7


def test_one_snapshot_and_one_backup_stay(folder):
    with SumCache(folder) as cache:
        for n in range(5):
            cache.append(record(votes=n))
            cache.snapshot()
    names = sorted(path.name for path in cache_files(folder).values())
    assert names == [f"{kind}-0000000{n}.sums" for kind in ("journal", "snapshot") for n in (4, 5)]


def test_pruning_makes_the_files_smaller(folder):
    with SumCache(folder) as cache:
        cache.extend([record(0, n % 3, votes=n) for n in range(99)])
        assert cache.prune(Retention(last=2)) == 93
        cache.snapshot()
        assert sum(path.stat().st_size for path in cache_files(folder).values()) < 2000
        assert cache.prune(Retention(last=2)) == 0
    with SumCache(folder) as cache:
        assert sorted(cache.records()["votes"].tolist()) == list(range(93, 99))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(InvalidValueError, match="is a file"):
        SumCache(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["snapshot-00000003.sums", "journal-00000000.sums"])
def test_a_foreign_file_is_refused_and_left_alone(folder, name):
    folder.mkdir()
    (folder / name).write_bytes(b"SQLite format 3\0 or anything else that is of another program")
    with pytest.raises(CorruptFileError, match="of no sum cache"):
        SumCache(folder)
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == [name]
    assert (folder / name).read_bytes().startswith(b"SQLite format 3\0")


@pytest.mark.parametrize("kind", ["snapshot", "journal"])
def test_a_newer_file_is_refused_and_left_alone(folder, kind):
    with SumCache(folder) as cache:
        cache.append(record())
    newer = folder / f"{kind}-00000001.sums"
    newer.write_bytes(pack_head(Head(kind, 1, 1), version=2) + b"of a form that is not known yet")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CorruptFileError, match=r"newer Tithe \(version 2"):
        SumCache(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_files_in_the_folder_are_of_no_concern(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "snapshot-1.sums.damaged").write_text("old")
    with SumCache(folder) as cache:
        cache.append(record())
        cache.snapshot()
        cache.snapshot()
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "snapshot-1.sums.damaged").exists()


def test_a_foreign_lock_is_an_error_of_the_file_system(folder):
    folder.mkdir()
    (folder / ".lock").write_bytes(b"no lock of SQLite " * 100)
    with pytest.raises(OSError, match="cannot lock"):
        SumCache(folder)


def test_a_full_disk_loses_nothing(folder, monkeypatch):
    cache = SumCache(folder, batch=2)
    cache.extend([record(votes=1), record(votes=2)])
    write = os.write

    def full(number, data):
        if len(data) > 40:
            return write(number, data[:40])  # a part, as a disk that is nearly full takes it
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    cache.append(record(votes=3))
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            cache.sync()
    monkeypatch.undo()
    with pytest.raises(InvalidStateError):
        SumCache(folder)
    cache.append(record(votes=4))
    cache.close()
    with SumCache(folder) as again:
        assert again.recovered == "" and again.records()["votes"].tolist() == [1, 2, 3, 4]


def test_what_a_failed_write_left_is_gone_after_a_shorter_one(folder, monkeypatch):
    files = CacheFiles(folder, 0.8)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input"):
            files.write("rows", as_rows([record()] * 9).tobytes())
    files.write("mark", StaleRule(data=1).pack())
    files.close()
    found = read_folder(folder, 0.8)
    assert (found.batches, len(found.table), found.notes) == (1, 0, [])


def test_a_snapshot_that_fails_loses_nothing(folder, monkeypatch):
    cache = SumCache(folder)
    cache.append(record(votes=1))
    cache.snapshot()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            cache.snapshot()
    sums = [1]
    replaced = Path.replace
    for n in range(2, 5):
        with monkeypatch.context() as patched:  # the journal of the new generation is made, its snapshot is not
            patched.setattr(
                Path,
                "replace",
                lambda a, b: replaced(a, b) if "journal" in b.name else (_ for _ in ()).throw(OSError(28)),
            )
            with pytest.raises(OSError):
                cache.snapshot()
        cache.append(record(votes=n))
        sums.append(n)
    cache.close()
    with SumCache(folder) as again:
        assert again.recovered == "" and again.records()["votes"].tolist() == sums
        again.snapshot()
    assert min(generation for _, generation in cache_files(folder)) == 1  # the newest snapshot before is the backup
    next(path for (kind, n), path in sorted(cache_files(folder).items())[::-1] if kind == "snapshot").write_bytes(b"x")
    with pytest.warns(RuntimeWarning, match="recovered"), SumCache(folder) as again:
        assert again.records()["votes"].tolist() == sums


# --- damage


def states_of(folder):
    """A cache with a snapshot, a backup and journals of both, and all states that it went through."""
    states = [[]]
    with SumCache(folder, batch=100) as cache:

        def done():
            cache.sync()
            states.append(content(cache))

        for generation in range(3):
            for n in range(2):
                cache.extend([record(n, 5, run=generation, votes=10 * n + generation, data=n), record(0, 2, votes=n)])
                done()
            if generation == 1:
                cache.mark_stale(data=1)
                done()
            if generation < 2:
                cache.snapshot()
        cache.mark_stale(runs=1)
        done()
    return states


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "sums"
    states = states_of(folder)
    assert len(states) == 9 and set(cache_files(folder)) == {(k, g) for k in ("snapshot", "journal") for g in (1, 2)}
    return folder, states


def damaged(raw, how, where):
    if how == "cut":
        return raw[:where]
    changed = bytearray(raw)
    changed[where // 8] ^= 1 << where % 8
    return bytes(changed)


@pytest.mark.parametrize("how", ["cut", "flip", pytest.param("every flip", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "least"), [("snapshot-00000002.sums", 8), ("journal-00000002.sums", 5)])
def test_no_cut_and_no_flipped_bit_gives_a_wrong_record(small, tmp_path, name, least, how):
    source, states = small
    folder = tmp_path / "sums"
    shutil.copytree(source, folder)
    raw = (folder / name).read_bytes()
    places = {"cut": range(len(raw)), "flip": range(0, 8 * len(raw), 29), "every flip": range(8 * len(raw))}[how]
    silent = 0
    for where in places:
        (folder / name).write_bytes(damaged(raw, how, where))
        found = read_folder(folder, 0.8)
        assert found.batches >= least
        assert as_records(found.table.columns.rows(slice(None))) == states[found.batches]
        silent += not found.notes
    # A journal that ends where one of its batches does, which nothing can tell from a shorter one.
    assert silent == (3 if how == "cut" and least == 5 else 0)


@pytest.mark.parametrize("seed", range(3))
def test_opening_repairs_what_is_damaged_and_says_so(small, tmp_path, seed):
    source, states = small
    draw = random.Random(seed)
    for number in range(60):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        path = draw.choice(sorted(cache_files(folder).values()))
        raw, how = path.read_bytes(), draw.choice(["cut", "flip"])
        path.write_bytes(damaged(raw, how, draw.randrange(len(raw) * (8 if how == "flip" else 1))))
        expected = read_folder(folder, 0.8)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            cache = SumCache(folder)
        assert content(cache) == states[expected.batches]
        assert bool(cache.recovered) == bool(told) == bool(expected.notes)
        if "-00000002" not in path.name:
            assert not cache.recovered  # what was not needed was not looked at
        kept = sorted(folder.glob("*.damaged"))
        assert [file.name for file in kept] == [f"{file.name}.damaged" for file in expected.damaged]
        cache.append(record(votes=99))
        cache.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with SumCache(folder) as again:
                assert again.recovered == ""
                assert content(again) == [*states[expected.batches], record(votes=99)]


def test_double_damage_gives_an_earlier_state_or_none(small, tmp_path):
    source, states = small
    draw, refused = random.Random(0), 0
    for number in range(300):
        folder = tmp_path / "sums"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        for path in draw.sample(sorted(cache_files(folder).values()), 2 + number % 3):
            raw, how = path.read_bytes(), draw.choice(["cut", "flip"])
            path.write_bytes(damaged(raw, how, draw.randrange(len(raw) * (8 if how == "flip" else 1))))
        try:
            found = read_folder(folder, 0.8)
        except CorruptFileError as error:
            assert "no whole state" in str(error)
            refused += 1
            with pytest.raises(CorruptFileError, match="restore a copy"):
                SumCache(folder)
            assert not list(folder.glob("*.damaged"))
        else:
            assert as_records(found.table.columns.rows(slice(None))) == states[found.batches]
    assert 0 < refused < 300


def test_the_same_damage_twice_keeps_both_files(folder):
    for n in range(2):
        with SumCache(folder) as cache:
            cache.append(record(votes=n))
        path = max(cache_files(folder).items(), key=lambda item: item[0][1])[1]
        (folder / "journal-00000000.sums.damaged").touch()
        path.write_bytes(b"\0" + path.read_bytes()[1:])
        with pytest.warns(RuntimeWarning, match="damaged head"):
            SumCache(folder).close()
    assert len(list(folder.glob("*.damaged*"))) == 3


@pytest.mark.parametrize(
    "frame",
    [
        pack_frame("rows", 1, as_rows([record()]).tobytes()),  # not its turn
        pack_frame("rows", 0, b"short"),
        pack_frame("rows", 0, np.full(1, 2**31 - 1, np.int32).repeat(16).tobytes()),  # no record that can be
        pack_frame("mark", 0, b"short"),
        pack_frame("end", 0, b""),
    ],
)
def test_a_frame_that_is_whole_and_cannot_be_is_not_believed(folder, frame):
    with SumCache(folder):
        pass
    with (folder / "journal-00000000.sums").open("ab") as file:
        file.write(frame)
    with pytest.warns(RuntimeWarning), SumCache(folder) as cache:
        assert len(cache) == 0


def test_zeros_after_a_loss_of_power_are_not_believed(folder):
    with SumCache(folder) as cache:
        cache.append(record(votes=3))
    with (folder / "journal-00000000.sums").open("ab") as file:
        file.write(bytes(4096))
    with pytest.warns(RuntimeWarning, match="damaged at byte"), SumCache(folder) as cache:
        assert cache.records()["votes"].tolist() == [3]


def test_a_lock_is_let_go_when_opening_fails(folder):
    folder.mkdir()
    (folder / "journal-00000000.sums").write_bytes(b"foreign, and longer than a head of ours")
    for _ in range(2):
        with pytest.raises(CorruptFileError):
            SumCache(folder)
    connection = sqlite3.connect(folder / ".lock", timeout=0, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    connection.close()
