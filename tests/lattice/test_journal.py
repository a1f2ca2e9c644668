"""The journal: an epoch that was broken off goes on, even after kill -9, and does nothing twice that it knows of."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from tithe.errors import CorruptFileError
from tithe.lattice import Lattice, Task
from tithe.lattice.journal import Journal
from tithe.lattice.outcome import Outcome
from tithe.ledger import Ledger


def repr_of(value):
    return type(value).__name__


def noting(path, value):
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{value}\n")
    return value


def test_what_is_in_the_journal_does_not_run_again(tmp_path):
    log = tmp_path / "log"
    for count in (5, 8, 8):
        with Lattice(2, journal=tmp_path / "journal.db") as lattice:
            epoch = lattice.run_epoch([Task(noting, str(log), n, key=f"task {n}") for n in range(count)])
        assert epoch.results == list(range(count))
    assert sorted(map(int, log.read_text().split())) == list(range(8))
    assert epoch.receipt.resumed == 8 and all(outcome.resumed for outcome in epoch.outcomes)


def test_failures_and_tasks_without_a_key_run_again(tmp_path):
    log = tmp_path / "log"

    def fails():
        noting(str(log), "failed")
        raise ValueError

    for _ in range(2):
        with Lattice(1, journal=tmp_path / "journal.db") as lattice:
            lattice.run_epoch([Task(fails, key="f"), Task(noting, str(log), "no key")])
    assert sorted(log.read_text().splitlines()) == ["failed", "failed", "no key", "no key"]


def test_epochs_of_other_names_are_others(tmp_path):
    for name in ("one", "two"):
        with Lattice(1, journal=tmp_path / "journal.db") as lattice:
            assert lattice.run_epoch([Task(int, "3", key="k")], name=name).receipt.resumed == 0


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, float("nan"), float("inf"), "text", [1, [2]], (1, ("a", None)), {"a": (1, {"b": 2})},
        np.float32(2.5), np.int64(7),
    ],
)  # fmt: skip
def test_values_come_back_as_they_were(tmp_path, value):
    with Journal(tmp_path / "j.db", "run") as journal:
        journal.write([Outcome(Task(int, key="k"), "done", value)])
    with Journal(tmp_path / "j.db", "run") as journal:
        (found,) = journal.known("k")
        assert journal.known("other") is None and journal.known(None) is None
    assert found == value or (found != found and value != value)
    assert type(found) is type(value.item() if isinstance(value, np.generic) else value)


@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.bool_, np.uint8])
def test_arrays_come_back_as_they_were(tmp_path, dtype):
    block = np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1).astype(dtype)
    with Journal(tmp_path / "j.db", "run") as journal:
        journal.write([Outcome(Task(int, key="k"), "done", {"x": block})])
    with Journal(tmp_path / "j.db", "run") as journal:
        found = journal.known("k")[0]["x"]
    assert found.dtype == dtype and np.array_equal(found, block) and found.flags.writeable


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"$array": 1}, np.array([object()]), {1, 2}, 1 << 5000], ids=repr_of
)
def test_values_that_cannot_be_kept_leave_no_trace_and_keep_no_other_out(tmp_path, value):
    with Journal(tmp_path / "j.db", "run") as journal:
        journal.write([Outcome(Task(int, key="a"), "done", value), Outcome(Task(int, key="b"), "done", 1)])
    with Journal(tmp_path / "j.db", "run") as journal:
        assert journal.known("a") is None and journal.known("b") == (1,)


def test_a_foreign_entry_is_refused(tmp_path):
    with Ledger(tmp_path / "j.db") as ledger:
        ledger.append("run", "lattice", "done", {"name": "x"})
    with pytest.raises(CorruptFileError, match="entry without"):
        Journal(tmp_path / "j.db", "run")


def test_an_epoch_goes_on_after_kill_9(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from tithe.lattice import Lattice, Task

        def work(path, n):
            time.sleep(0.01)
            with open(path, "a") as file:
                file.write(f"{n}\\n")
            return n * n

        if __name__ == "__main__":
            folder = sys.argv[1]
            with Lattice(2, "threads", journal=f"{folder}/journal.db", chunk=1) as lattice:
                epoch = lattice.run_epoch([Task(work, f"{folder}/log", n, key=str(n)) for n in range(100)])
            print(epoch.results == [n * n for n in range(100)], epoch.receipt.resumed)
    """)
    )
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, script, tmp_path])
    while not log.exists() or log.read_text().count("\n") < 30:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = log.read_text().count("\n")
    told = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True).stdout.split()
    assert told[0] == "True" and 20 <= int(told[1]) <= before
    ran = [int(line) for line in log.read_text().split()]
    assert set(ran) == set(range(100)) and len(ran) - 100 <= before - int(told[1])
