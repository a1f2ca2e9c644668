"""A sum cache whose user presses Ctrl-C before any line of it, and goes on."""

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tithe.hashtron.backward import sum_cache
from tithe.hashtron.backward.records import Record, as_records
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.backward.sum_cache import SumCache

PACKAGE = str(Path(sum_cache.__file__).parent)
MEASURES = {"seconds": 0.5, "train": 0.5, "eval": 0.5, "prior": 0.5}


def number(n):
    return Record(n % 2, n % 3, n // 8, float(n), votes=10 * n % 100, outputs=n, samples=100, pivotal=100, **MEASURES)


def interrupted(run, lines):
    """Run with a KeyboardInterrupt before the line of the package that comes after so many; whether there was one."""
    left = lines

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def assert_consistent(cache):
    """It answers as one does that was given the same records without an interruption."""
    fresh = SumCache()
    fresh.extend(cache.records())
    assert cache.latest().tolist() == fresh.latest().tolist()
    assert cache.gold_zone().tolist() == fresh.gold_zone().tolist()
    assert cache.margins() == fresh.margins()
    for neuron in np.ndindex(2, 3):
        assert cache.history(*neuron).tolist() == fresh.history(*neuron).tolist()
        assert cache.average_sum(*neuron) == fresh.average_sum(*neuron)


CALLS = {
    "append": lambda cache: cache.extend([number(20), number(21), number(26)]),
    "mark": lambda cache: cache.mark_stale(runs=1),
    "prune": lambda cache: cache.prune(Retention(last=1), now=0.0),
    "snapshot": lambda cache: cache.snapshot(),
    "sync": lambda cache: cache.sync(),
}


# A file may be left to the garbage collector where the interruption comes between opening and closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("call", CALLS)
def test_an_interruption_before_any_line_leaves_records_whole(tmp_path, call, stride):
    source = tmp_path / "source"
    with SumCache(source) as cache:
        cache.extend([number(n) for n in range(18)])
        cache.snapshot()

    def opened(folder):
        cache = SumCache(folder, batch=3)
        cache.extend([number(18), number(19)])  # not synced yet
        return cache

    reference = shutil.copytree(source, tmp_path / "reference")
    with opened(reference) as cache:
        allowed = [as_records(cache.records())]
        CALLS[call](cache)
        allowed.append(as_records(cache.records()))
    lines, was = 0, True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while was:
            folder = shutil.copytree(source, tmp_path / str(lines))
            cache = opened(folder)
            was = interrupted(lambda cache=cache: CALLS[call](cache), lines)
            assert as_records(cache.records()) in (allowed if was else allowed[1:])
            assert_consistent(cache)
            cache.append(number(30))
            assert_consistent(cache)
            cache.close()
            with SumCache(folder) as again:
                assert [*as_records(again.records())] in [[*state, number(30)] for state in allowed]
                assert again.recovered == ""
            shutil.rmtree(folder)
            lines += stride
    assert lines > 20
