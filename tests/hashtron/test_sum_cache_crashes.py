"""Processes that write to a sum cache are killed at random moments; what they had synced is there, and nothing else."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from tithe.hashtron.backward.records import Record, as_records
from tithe.hashtron.backward.recovery import cache_files
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.backward.sum_cache import SumCache

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

STEPS = [(os, "write"), (os, "fsync"), (os, "ftruncate"), (Path, "replace"), (Path, "unlink")]
WRITER = """
import sys
from tithe.hashtron.backward.records import Record
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.backward.sum_cache import SumCache

folder, first, pruned = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "pruned"
cache = SumCache(folder, batch=3)
print("ready", flush=True)
for n in range(first, first + 1_000_000):
    cache.append(Record(n % 3, n % 7, n // 10, float(n), votes=n % 101, outputs=0, samples=100, pivotal=100,
                        seconds=0.5, train=0.5, eval=0.5, prior=0.5, data=n))
    if n % 5 == 4:
        cache.sync()
        print(n + 1, flush=True)
    if n % 40 == 39:
        cache.prune(Retention(last=3), now=0.0) if pruned else cache.snapshot()
"""


def written(n):
    """The record number n."""
    measures = {"seconds": 0.5, "train": 0.5, "eval": 0.5, "prior": 0.5}
    return Record(n % 3, n % 7, n // 10, float(n), n % 101, 0, 100, 100, **measures, data=n)


def numbers(rows):
    """The numbers of records, each of which is as it was written."""
    found = rows["data"].tolist()
    assert as_records(rows) == [written(n) for n in found]
    return found


def kill_after(folder, first, seconds, pruned=False):
    """Let a process write from a number on, kill it so long after it began, and say up to where it had synced."""
    arguments = [str(folder), str(first), "pruned" if pruned else "all"]
    command = [sys.executable, "-W", "ignore", "-c", WRITER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
        lines = process.stdout.read().split("\n")[:-1]  # the last may be a part of one
    return int(lines[-1]) if lines else first


def check(folder, synced, pruned):
    """Open what is left: nothing is lost that was synced, nothing is there that was not written, all is in order."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with SumCache(folder) as cache:
            rows = cache.records()
            recovered = cache.recovered
            latest = {neuron: cache.latest_sum(*neuron) for neuron in {(n % 3, n % 7) for n in range(21)}}
    found = numbers(rows)
    assert bool(told) == bool(recovered)
    assert "damaged" not in recovered  # a kill tears the end off, it damages nothing
    assert not list(folder.glob("*.damaged*"))
    assert found == sorted(set(found))
    following = found[-1] + 1 if found else 0
    assert following >= synced
    if pruned:
        assert {n % 21 for n in range(following)} == {n % 21 for n in found}
        newest = range(max(0, following - 40), following)  # never pruned since: at most two a neuron
        assert set(newest) <= set(found)
    else:
        assert found == list(range(following))
    for layer, position in latest:
        own = [n for n in found if (n % 3, n % 7) == (layer, position)]
        assert latest[layer, position] == (own[-1] % 101 if own else None)
    return following


def crashes(folder, times, pruned, seed):
    draw, following = random.Random(seed), 0
    for _ in range(times):
        synced = kill_after(folder, following, draw.choice([0.0, draw.uniform(0, 0.02), draw.uniform(0, 0.3)]), pruned)
        following = check(folder, synced, pruned)
    return following


class Crash(BaseException):
    """The end of a process, after which it does nothing any more."""


@contextlib.contextmanager
def crashing(steps):
    """The process ends after so many changes to files; says whether it did."""
    left = [steps]

    def step(original):
        def stepped(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            return original(*arguments, **named)

        return stepped

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, step(getattr(owner, name)))
        with contextlib.suppress(Crash):
            yield lambda: left[0] < 0


def use(folder, what):
    """Open a cache, do something with it, and close it; a crash anywhere leaves all as it is."""
    cache = SumCache(folder, batch=2)
    try:
        if what == "append":
            cache.extend([written(n) for n in range(len(cache), len(cache) + 3)])
        elif what == "mark":
            cache.mark_stale(runs=1)
        elif what == "prune":
            cache.prune(Retention(last=1), now=0.0)
        elif what == "snapshot":
            cache.snapshot()
    finally:
        cache.close()


def state(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with SumCache(folder) as cache:
            return as_records(cache.records())


@pytest.mark.parametrize(
    ("what", "damage"),
    [(what, None) for what in ("append", "mark", "prune", "snapshot", "open")]
    + [(what, f"{kind}-00000002.sums") for what in ("append", "open") for kind in ("snapshot", "journal")],
)
def test_after_a_crash_between_any_two_steps_the_state_is_the_one_before_or_after(tmp_path, what, damage):
    source, after = tmp_path / "source", tmp_path / "after"
    for n in range(3):
        with SumCache(source) as cache:
            cache.extend([written(n) for n in range(30 * n, 30 * n + 30)])
            if n < 2:
                cache.snapshot()
    if damage:
        raw = bytearray((source / damage).read_bytes())
        raw[50] ^= 4
        (source / damage).write_bytes(raw)
    shutil.copytree(source, after)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use(after, what)
        allowed = [state(after)]
        shutil.copytree(source, tmp_path / "before")
        allowed.append(state(tmp_path / "before"))
        assert len(allowed[1]) == (60 if damage == "journal-00000002.sums" else 90)
        steps, crashed = 0, True
        while crashed:
            folder = tmp_path / str(steps)
            shutil.copytree(source, folder)
            with crashing(steps) as did:
                use(folder, what)
            crashed = did()
            assert state(folder) in allowed
            if not crashed:
                assert state(folder) == allowed[0]
            use(folder, "snapshot")
            assert not list(folder.glob(".*part"))
            newest = max(generation for _, generation in cache_files(folder))
            (folder / f"snapshot-{newest:08}.sums").write_bytes(b"TitheSum")
            assert state(folder) in allowed  # the backup is one
            steps += 1
    assert steps > (4 if damage else 1)


@pytest.mark.parametrize("pruned", [False, True])
def test_three_kills_lose_nothing_that_was_synced(tmp_path, pruned):
    assert crashes(tmp_path / "sums", 3, pruned, seed=pruned) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_fifteen_kills_one_after_the_other_lose_nothing_that_was_synced(tmp_path, pruned, seed):
    assert crashes(tmp_path / "sums", 15, pruned, seed) > 100
