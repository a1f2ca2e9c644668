"""Epochs: every task has exactly one outcome, whatever happens, and the receipt says what did."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tithe.errors import (
    InvalidDTypeError,
    InvalidStateError,
    InvalidValueError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerLostError,
)
from tithe.lattice import Lattice, Spawn, Task


def failing(message="no", kind=ValueError):
    raise kind(message)


class TestEpochs:
    def test_results_come_in_the_order_given(self, lattice):
        epoch = lattice.run_epoch([Task(pow, 2, n, data=n % 3) for n in range(200)])
        assert epoch.results == [2**n for n in range(200)] and epoch.ok and epoch.check() is epoch
        assert epoch.receipt.tasks == {"done": 200} and epoch.receipt.worked > 0

    def test_no_tasks_at_all(self, lattice):
        epoch = lattice.run_epoch([])
        assert epoch.results == [] and epoch.ok and "no tasks" in str(epoch.receipt)

    def test_values_of_tasks_are_handed_on(self, lattice):
        two = Task(int, "2", key="two")
        eight = Task(pow, two, 3)
        total = Task(sum, [1, 2], kwargs={"start": eight})
        assert lattice.run_epoch([total, eight, two]).results == [11, 8, 2]

    def test_needs_by_key_are_waited_for(self, lattice):
        epoch = lattice.run_epoch([Task(int, "1", needs="later"), Task(int, "2", key="later")])
        assert epoch.results == [1, 2]

    def test_a_failure_says_which_task_and_takes_only_those_along_that_need_it(self, lattice):
        bad = Task(failing, "broken", name="bad")
        middle = Task(abs, bad)
        epoch = lattice.run_epoch([bad, middle, Task(abs, middle), Task(abs, -5)])
        assert [outcome.status for outcome in epoch.outcomes] == ["failed", "cancelled", "cancelled", "done"]
        assert isinstance(epoch.outcomes[0].error, ValueError) and str(epoch.outcomes[0].error) == "broken"
        assert any("in the task bad('broken')" in note for note in epoch.outcomes[0].error.__notes__)
        assert "needs" in str(epoch.outcomes[1].error) and isinstance(epoch.outcomes[1].error, TaskCancelledError)
        with pytest.raises(ExceptionGroup, match="3 of 4 tasks have no value"):
            epoch.check()

    def test_retries(self, lattice, tmp_path):
        def sometimes(path):
            with open(path, "a+") as file:  # noqa: PTH123
                file.write("x")
                file.seek(0)
                if len(file.read()) < 3:
                    raise OSError("not yet")
            return "at last"

        epoch = lattice.run_epoch([
            Task(sometimes, str(tmp_path / "a"), retries=2), Task(sometimes, str(tmp_path / "b"), retries=1),
        ])  # fmt: skip
        assert epoch.results == ["at last", None] and epoch.receipt.retried == 3
        assert [outcome.attempts for outcome in epoch.outcomes] == [3, 2]

    def test_sub_tasks_are_run_and_told_of(self, lattice):
        def split(n):
            return Spawn([Task(split, n - 1), Task(abs, -n)], value=n) if n else 0

        epoch = lattice.run_epoch([Task(split, 3), Task(abs, -9)])
        assert epoch.results == [3, 9]
        assert sorted(outcome.value for outcome in epoch.spawned) == [0, 1, 1, 2, 2, 3]
        assert all(outcome.parent is not None for outcome in epoch.spawned)
        assert epoch.receipt.tasks == {"done": 8}

    def test_a_task_that_spawns_nonsense_fails_alone(self, threads):
        twin = Task(int, "1", key="here")
        for spawned in ([Task(int)] * 2, [Task(int, key="k"), Task(int, key="k")], [Task(int, key="here")]):
            epoch = threads.run_epoch([twin, Task(Spawn, spawned)])
            assert [outcome.status for outcome in epoch.outcomes] == ["done", "failed"] and not epoch.spawned
            assert isinstance(epoch.outcomes[1].error, InvalidValueError)

    def test_a_second_epoch_and_tasks_that_run_again(self, lattice):
        one = Task(int, "1", key="k")
        tasks = [one, Task(pow, one, 2)]
        assert lattice.run_epoch(tasks).results == lattice.run_epoch(tasks).results == [1, 1]

    def test_large_arrays_go_in_and_out(self, lattice):
        block = np.arange(40_000.0)
        epoch = lattice.run_epoch([Task(np.add, block, n, data=block) for n in range(8)]).check()
        assert all(np.array_equal(value, block + n) for n, value in enumerate(epoch.results))


class TestRefusals:
    def test_what_is_no_task(self, lattice):
        with pytest.raises(InvalidDTypeError, match="got a int"):
            lattice.run_epoch([Task(int), 3])
        assert lattice.run_epoch([Task(abs, -1)]).results == [1]

    def test_a_task_twice_and_a_key_twice(self, lattice):
        one = Task(int)
        for tasks in ([one, one], [Task(int, key="k"), Task(int, key="k")]):
            with pytest.raises(InvalidValueError, match="twice"):
                lattice.run_epoch(tasks)

    def test_a_circle_is_refused_before_anything_runs(self, lattice, tmp_path):
        mark = tmp_path / "ran"
        tasks = [Task(mark.touch), Task(print, key="a", needs="b"), Task(print, key="b", needs="a")]
        with pytest.raises(InvalidValueError, match="circle"):
            lattice.run_epoch(tasks)
        assert not mark.exists()
        with pytest.raises(InvalidValueError, match="circle"):
            lattice.run_epoch(iter(tasks))

    def test_a_need_that_is_not_there(self, lattice):
        with pytest.raises(InvalidValueError, match="needs 'x', which is not in this epoch"):
            lattice.run_epoch([Task(int, needs="x")])
        with pytest.raises(InvalidValueError, match="not in this epoch"):
            lattice.run_epoch([Task(abs, Task(int))])
        assert lattice.run_epoch([Task(abs, -1)]).results == [1]

    @pytest.mark.parametrize(
        "wrong", [{"workers": 0}, {"executor": "gpu"}, {"chunk": 0}, {"queue": 0}, {"budget": 0}, {"backoff": -1}]
    )
    def test_hostile_settings(self, wrong):
        with pytest.raises(InvalidValueError):
            Lattice(**wrong)

    def test_epochs_do_not_overlap(self, threads):
        inner = []

        def overlap():
            try:
                threads.run_epoch([Task(int)])
            except InvalidStateError as error:
                inner.append(str(error))

        threads.run_epoch([Task(overlap)])
        assert "an epoch is running" in inner[0]
        threads.close()
        with pytest.raises(InvalidStateError, match="closed"):
            threads.run_epoch([Task(int)])


class TestNothingLost:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_every_task_of_any_graph_has_one_outcome(self, data):
        count = data.draw(st.integers(1, 40))
        tasks, bad = [], []
        for number in range(count):
            needs = data.draw(st.lists(st.sampled_from(tasks), max_size=3, unique=True)) if tasks else []
            fails = data.draw(st.booleans()) and data.draw(st.booleans())
            fn = failing if fails else abs
            tasks.append(Task(fn, -number, needs=needs, retries=data.draw(st.integers(0, 1)), data=number % 4))
            bad.append(fails or any(bad[tasks.index(need)] for need in needs))
        order = data.draw(st.permutations(range(count)))
        with Lattice(2, "threads", backoff=0.0, chunk=data.draw(st.sampled_from([None, 1, 3])), queue=5) as made:
            given_order = [tasks[i] for i in order]
            epoch = made.run_epoch(given_order if data.draw(st.booleans()) else iter(given_order))
        assert [outcome.task for outcome in epoch.outcomes] == given_order
        assert [outcome.ok for outcome in epoch.outcomes] == [not bad[i] for i in order]

    def test_workers_that_die_are_replaced_and_their_task_is_put_into_quarantine(self):
        def deadly():
            os.kill(os.getpid(), signal.SIGKILL)

        with Lattice(2, "processes") as made:
            epoch = made.run_epoch(
                [Task(abs, -n) for n in range(40)] + [Task(deadly)] + [Task(abs, n) for n in range(40)]
            )
        assert [outcome.ok for outcome in epoch.outcomes] == [True] * 40 + [False] + [True] * 40
        lost = epoch.outcomes[40]
        assert lost.status == "quarantined" and lost.attempts == 2 and isinstance(lost.error, WorkerLostError)
        assert epoch.receipt.lost_workers == 2

    def test_processes_are_killed_when_time_is_up_and_others_in_the_chunk_are_not_blamed(self):
        with Lattice(1, "processes", chunk=4) as made:
            epoch = made.run_epoch([Task(abs, -1), Task(time.sleep, 60, timeout=0.2), Task(abs, -2), Task(abs, -3)])
        assert epoch.results == [1, None, 2, 3] and [o.attempts for o in epoch.outcomes] == [1, 1, 1, 1]
        assert isinstance(epoch.outcomes[1].error, TaskTimeoutError)

    def test_threads_cannot_be_killed_and_it_is_said(self, threads):
        with pytest.warns(RuntimeWarning, match=r"sleep\(0.3\) takes longer than its 0.05 s"):
            epoch = threads.run_epoch([Task(time.sleep, 0.3, timeout=0.05), Task(abs, -1, timeout=9.0)])
        assert [outcome.late for outcome in epoch.outcomes] == [True, False] and epoch.receipt.late == 1

    def test_what_cannot_be_sent_fails_alone(self):
        with Lattice(1, "processes", chunk=3) as made:
            epoch = made.run_epoch([Task(abs, -1), Task(bool, threading.Lock()), Task(abs, -2)])
        assert epoch.results == [1, None, 2] and "pickle" in str(epoch.outcomes[1].error)

    def test_cancelling_settles_everything(self, threads):
        begun = threading.Event()

        def first():
            begun.set()
            time.sleep(0.2)

        def canceller():
            begun.wait()
            threads.cancel("enough")

        other = threading.Thread(target=canceller)
        other.start()
        epoch = threads.run_epoch([Task(first) for _ in range(500)])
        other.join()
        assert len(epoch.outcomes) == 500 and epoch.receipt.tasks["cancelled"] > 400
        assert "enough" in str(epoch.failures()[0].error)
        assert threads.run_epoch([Task(abs, -1)]).results == [1]

    def test_an_endless_iterator_is_read_only_as_there_is_room(self):
        made = 0

        def endless():
            nonlocal made
            while True:
                made += 1
                yield Task(abs, -made)

        with Lattice(2, queue=50) as lattice:
            stream = lattice.as_completed(endless())
            seen = [next(stream).value for _ in range(300)]
            assert len(set(seen)) == 300 and made <= 300 + 50 + 51  # yielded, settled by then, and unsettled
            stream.close()
            assert lattice.run_epoch([Task(abs, -1)]).results == [1]

    def test_tasks_that_wait_may_fill_the_queue(self):
        tasks = [Task(abs, -n, needs="last") for n in range(100)] + [Task(int, key="last")]
        with Lattice(2, queue=10) as lattice:
            assert lattice.run_epoch(iter(tasks)).ok

    def test_a_long_chain(self, threads):
        tasks = [Task(int, "0")]
        for _ in range(3000):
            tasks.append(Task(abs, tasks[-1]))
        assert threads.run_epoch(tasks).ok
        tasks[0] = Task(failing)
        tasks[1] = Task(abs, tasks[0])
        for n in range(2, len(tasks)):
            tasks[n] = Task(abs, tasks[n - 1])
        assert threads.run_epoch(tasks).receipt.tasks == {"failed": 1, "cancelled": 3000}

    def test_ctrl_c_ends_the_epoch_and_the_workers(self, tmp_path):
        script = textwrap.dedent("""
            import signal, time
            from tithe.lattice import Lattice, Task
            if __name__ == "__main__":
                signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it puts behind
                with Lattice(2, "processes") as lattice:
                    lattice.run_epoch([Task(print, "begun", kwargs={"flush": True})])
                    lattice.run_epoch([Task(time.sleep, 60) for _ in range(9)])
        """)
        (tmp_path / "script.py").write_text(script)
        process = subprocess.Popen(
            [sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout.readline() == b"begun\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert b"KeyboardInterrupt" in errors and process.returncode != 0
        assert not list(_folders(process.pid))


def _folders(pid):
    return Path("/dev/shm").glob(f"tithe-lattice-{pid}-*")


class TestOrder:
    def test_a_task_without_coherence_begins_within_the_stated_bound_under_a_steady_stream(self):
        """Coherent work without end: the other one begins after at most the queue and ``overtaking`` more."""
        begun = []

        def stream(lattice):
            for number in range(100):
                yield Task(begun.append, number, data=("coherent", 0))
            yield Task(begun.append, "low", data=("low", 0))
            for number in range(100, 4000):
                yield Task(begun.append, number, data=("coherent", 0))

        score = {"coherent": 0.9, "low": 0.1}
        with Lattice(1, "inline", score=lambda data: score[data[0]], patience=200, queue=64, chunk=1) as lattice:
            lattice.run_epoch(stream(lattice))
            place = begun.index("low")
            assert place > 150  # it was overtaken
            assert sum(number > 100 for number in begun[:place]) <= lattice.overtaking
            assert place <= 100 + 64 + lattice.overtaking

    def test_tasks_that_share_data_run_back_to_back(self, threads):
        ran = {0: [], 1: []}
        workers = {}

        def note(block):
            worker = workers.setdefault(threading.get_ident(), len(workers))
            ran[worker].append(block)

        with Lattice(2, chunk=8) as lattice:
            lattice.run_epoch([Task(note, n % 10, data=n % 10) for n in range(400)])
        changes = sum(a != b for blocks in ran.values() for a, b in itertools.pairwise(blocks))
        assert changes < 100  # 400 in the order given

    def test_scores_cost_little_and_are_asked_once(self):
        asked = Counter()

        def score(data):
            asked[data] += 1
            return 0.5

        with Lattice(1, "inline", score=score) as lattice:
            for _ in range(2):
                epoch = lattice.run_epoch([Task(time.sleep, 0.0005, data=f"block {n % 5}") for n in range(50)])
                assert epoch.receipt.scoring < 0.1
        assert max(asked.values()) <= 2

    def test_scores_found_while_tasks_wait_for_others_count(self):
        begun = []
        score = {"low": 0.1, "high": 0.9}
        gate = Task(time.sleep, 0.01, key="gate")
        names = ["low", "high", "low", "high", "low", "high"]
        tasks = [gate, *(Task(begun.append, name, data=name, needs="gate") for name in names)]
        with Lattice(1, "inline", score=score.__getitem__, chunk=1) as lattice:
            lattice.run_epoch(tasks)
            lattice.run_epoch([Task(begun.append, name, data=name) for name in names])
        assert begun == (["high"] * 3 + ["low"] * 3) * 2

    def test_sub_tasks_are_pruned_by_the_policy_that_was_given(self):
        seen = []

        def prune(task, score):
            seen.append(score)
            return score < 0.3

        def parent():
            return Spawn([Task(abs, -1, data="low"), Task(abs, -2, data="high")])

        with Lattice(1, "inline", score=lambda data: {"low": 0.1, "high": 0.9}[data], prune=prune) as lattice:
            epoch = lattice.run_epoch([Task(parent)])
        assert sorted(seen) == [0.1, 0.9] and epoch.receipt.tasks == {"done": 2, "pruned": 1} and epoch.ok
        assert [(o.status, o.value) for o in epoch.spawned if o.status == "pruned"] == [("pruned", None)]

    def test_deadlines_that_were_missed_are_counted(self):
        tasks = [Task(time.sleep, 0.03), Task(abs, -1, deadline=0.001), Task(abs, -1, deadline=60.0)]
        with Lattice(1, "inline", chunk=1) as lattice:
            assert lattice.run_epoch(tasks).receipt.missed_deadlines in (0, 1)
            tasks = [Task(time.sleep, 0.03, urgency=1.0), Task(abs, -1, deadline=0.001)]
            assert lattice.run_epoch(tasks).receipt.missed_deadlines == 1


def test_nothing_is_warned_of_without_reason(threads):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads.run_epoch([Task(abs, -1, timeout=30.0)])
