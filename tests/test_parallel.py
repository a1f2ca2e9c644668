"""Parts on several threads: each once, errors raised, on both kinds of threads, nested, and after a fork."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from tithe import parallel
from tithe.parallel import run_parts, run_parts_beside_torch

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
