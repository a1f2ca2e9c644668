"""Parts on several threads: each once, errors raised, on both kinds of threads, nested, and after a fork."""

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numba
import numpy as np
import pytest

from tithe import parallel
from tithe.parallel import run_compiled, run_parts, run_parts_beside_torch
from tithe.simd import address_of, floats_at, take_ticket

Runner = Callable[[Callable[[int], None], int], None]
BOTH = pytest.mark.parametrize("run", [run_parts, run_parts_beside_torch])


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel.torch, "get_num_threads", lambda: 3)


@BOTH
@pytest.mark.parametrize("with_openmp", [True, False])
def test_every_part_runs_once(run: Runner, with_openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_openmp:
        monkeypatch.setattr(parallel, "_gomp", lambda: None)
    done: list[int] = []
    run(done.append, 50)
    assert sorted(done) == list(range(50))
    run(done.append, 0)
    assert len(done) == 50


@BOTH
def test_errors_are_raised(run: Runner) -> None:
    def fail(i: int) -> None:
        if i == 7:
            raise KeyError(i)

    with pytest.raises(KeyError):
        run(fail, 50)


@BOTH
def test_parts_run_at_the_same_time(run: Runner) -> None:
    meeting = threading.Barrier(2, timeout=20)  # one thread alone would wait here until it breaks
    run(lambda _: meeting.wait() and None, 2)


def test_parts_of_parts() -> None:
    done: list[int] = []
    run_parts(lambda i: run_parts(lambda j: done.append(10 * i + j), 4), 6)
    assert sorted(done) == sorted(10 * i + j for i in range(6) for j in range(4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork() -> None:
    code = (
        "import os, torch; from tithe.parallel import run_parts\n"
        "torch.set_num_threads(2); run_parts(lambda i: None, 4); child = os.fork()\n"
        "done = []; run_parts(done.append, 4)\n"
        "os._exit(len(done) != 4) if child == 0 else print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "0"


@pytest.mark.parametrize("with_openmp", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_work_is_shared(threads: int, with_openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_openmp:
        monkeypatch.setattr(parallel, "_gomp", lambda: None)
    done = np.zeros(1000, np.int32)
    job = (ctypes.c_int64 * 2)(0, done.ctypes.data)  # tickets that were taken, and where to put a mark for each
    run_compiled(_mark_all.address, job, threads)
    assert job[0] == len(done) + threads  # each has found once that none is left
    assert (done == np.float32(1).view(np.int32)).all()


@numba.cfunc(numba.types.void(numba.types.CPointer(numba.types.int64)))
def _mark_all(at):  # type: ignore[no-untyped-def]
    done = numba.carray(floats_at(numba.carray(at, 2)[1]), 1000)
    while True:
        i = take_ticket(address_of(at))
        if i >= done.size:
            break
        done[i] += np.float32(1)
