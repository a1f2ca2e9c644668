"""The contract of executors, on this thread, on threads, in processes and on a Ray cluster of two nodes."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from tithe.errors import InvalidStateError, InvalidValueError, MissingExtraError, TaskFailedError
from tithe.lattice.executors import Chunk, Loss, Report, make, shelf
from tithe.lattice.executors.shelf import Folder

KINDS = ["inline", "threads", "processes", "ray"]
LARGE = 50_000  # float64, so that an array is shared and not pickled
PATIENCE = 60.0  # seconds until something that must happen is said not to


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each: one worker is on the scheduler's node, the other is not."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    store = {"num_cpus": 1, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={**store, "include_dashboard": False})
    made.add_node(**store)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module", params=KINDS)
def shared(request):
    """An executor that all tests of the contract use, one after the other; it survives what they do to it."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    executor = make(request.param, 1 if request.param == "inline" else 2, 2)
    yield executor
    executor.stop()


@pytest.fixture
def bench(shared, request):
    made = Bench(shared, request.node.callspec.params["shared"])
    yield made
    if made.open:  # the test has failed
        made.stop()


class Bench:
    """An executor that has been started, and the chunks that it was given and has not said the end of."""

    numbers = iter(range(1, 1 << 30))

    def __init__(self, executor, kind):
        self.executor, self.kind = executor, kind
        self.apart = kind in ("processes", "ray")  # whether calls are made elsewhere
        self.open = set()
        self.start()

    def start(self):
        self.executor.start()
        self.until(lambda: all(map(self.executor.available, range(self.executor.workers))))

    def stop(self):
        self.executor.stop()
        self.open.clear()

    def until(self, happened):
        """Poll until something has happened; all that was told meanwhile."""
        news, deadline = [], time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"nothing of it, but {news}"
            for event in self.executor.poll(0.05):
                news.append(event)
                assert event.chunk in self.open, f"an event of a chunk that is not there: {event}"
                if isinstance(event, Loss) or event.finished:
                    self.open.remove(event.chunk)
        return news

    def give(self, *calls, worker=0):
        """Submit a chunk; its number."""
        number = next(self.numbers)
        self.open.add(number)
        self.executor.submit(worker, Chunk(number, [(fn, args, {}) for fn, *args in calls]))
        return number

    def end(self, *chunks):
        """What became of chunks: a list of results, or a loss, each."""
        found = {chunk: [] for chunk in chunks}
        for event in self.until(lambda: self.open.isdisjoint(chunks)):
            if isinstance(event, Report):
                assert event.first == len(found[event.chunk])
                found[event.chunk] += event.results
            else:
                found[event.chunk] = event
        return [found[chunk] for chunk in chunks]

    def run(self, *calls, worker=0):
        """Results of calls in a chunk of their own."""
        (results,) = self.end(self.give(*calls, worker=worker))
        assert isinstance(results, list), results
        return results

    def value(self, fn, *args, worker=0):
        """The value of one call."""
        (result,) = self.run((fn, *args), worker=worker)
        assert result.ok, result.value
        return result.value

    @property
    def last(self):
        """The number of the last worker: on another node than this process, where there is one."""
        return self.executor.workers - 1


def begun(folder, name="call"):
    """Whether ``gate`` was called."""
    return Path(folder, f"{name}-begun").exists()


def _by_value():
    """What workers call; it goes by value, so that they need not load this module, and torch with it."""

    def gate(folder, name="call"):
        """Say that the call has begun, then wait until it may end."""
        Path(folder, f"{name}-begun").touch()
        while not Path(folder, f"{name}-end").exists():
            time.sleep(0.005)
        return name

    def die(way):
        if way == "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)

    class TwoArgumentsError(Exception):
        """Pickle gives its constructor one argument, and that is not enough."""

        def __init__(self, first, second):
            super().__init__(f"{first} and {second}")

    class Unreadable:
        """Can be pickled, but not made again from that."""

        def __reduce__(self):
            return int, ("no number",)

    return gate, die, TwoArgumentsError, Unreadable


gate, die, TwoArgumentsError, Unreadable = _by_value()


class TestCalls:
    def test_results_are_in_the_order_of_the_calls(self, bench):
        before = time.monotonic()
        results = bench.run(*[(pow, n, 2) for n in range(100)])
        after = time.monotonic()
        assert [result.value for result in results] == [n**2 for n in range(100)]
        starts = [result.started for result in results]
        assert starts == sorted(starts) and before - 0.1 <= starts[0] <= starts[-1] <= after + 0.1
        assert all(result.ok and result.seconds >= 0 for result in results)

    def test_long_calls_are_timed(self, bench):
        results = bench.run((time.sleep, 0.12), (abs, -1), (time.sleep, 0.06), worker=bench.last)
        assert results[0].seconds >= 0.12 and results[1].seconds < 0.1 and results[2].started >= results[0].started

    def test_chunks_of_a_worker_are_made_one_behind_the_other(self, bench):
        chunks = [bench.give(*[(pow, n, 2) for n in range(k)], worker=k % bench.executor.workers) for k in range(1, 9)]
        results = bench.end(*chunks)
        assert [[result.value for result in part] for part in results] == [
            [n**2 for n in range(k)] for k in range(1, 9)
        ]
        for first, second in zip(results, results[bench.executor.workers :], strict=False):
            assert first[-1].started + first[-1].seconds <= second[0].started + 1e-3

    def test_keyword_arguments(self, bench):
        number = next(Bench.numbers)
        bench.open.add(number)
        bench.executor.submit(0, Chunk(number, [(int, ("ff",), {"base": 16})]))
        assert bench.end(number)[0][0].value == 255

    def test_lambdas_closures_and_local_classes(self, bench):
        offset = 40

        class Local:
            def __init__(self, value):
                self.value = value

        results = bench.run(
            (lambda value: value + offset, 2), (Local, 3), (lambda local: local.value, Local(4)), worker=bench.last
        )
        assert results[0].value == 42 and results[2].value == 4
        assert isinstance(results[1].value, Local) and results[1].value.value == 3

    def test_many_chunks_on_all_workers(self, bench):
        given = {}
        for k in range(200):
            given[bench.give(*[(divmod, k, n) for n in range(1, 4)], worker=k % bench.executor.workers)] = k
        for k, results in zip(given.values(), bench.end(*given), strict=True):
            assert [result.value for result in results] == [divmod(k, n) for n in range(1, 4)]


class TestFailures:
    def test_an_exception_is_the_result_of_its_call_alone(self, bench):
        results = bench.run((abs, -1), (int, "seven"), (abs, -2))
        assert [result.ok for result in results] == [True, False, True]
        error = results[1].value
        assert type(error) is ValueError and "seven" in str(error)
        if bench.apart:
            assert "Traceback" in error.__notes__[0]

    def test_exceptions_that_do_not_survive_pickling_leave_their_text(self, bench):
        class LocalError(Exception):
            pass

        def fail(kind):
            if kind == 0:
                raise TwoArgumentsError("this", "that")
            if kind == 1:
                raise LocalError(threading.Lock())
            raise LocalError("plain") from KeyError("cause")

        errors = [result.value for result in bench.run((fail, 0), (fail, 1), (fail, 2))]
        assert type(errors[0]) is (TaskFailedError if bench.apart else TwoArgumentsError)
        assert "this and that" in str(errors[0])
        assert type(errors[1]) is (TaskFailedError if bench.apart else LocalError) and "lock" in str(errors[1])
        assert type(errors[2]) is LocalError and str(errors[2]) == "plain"
        assert "KeyError: 'cause'" in errors[2].__notes__[0] if bench.apart else errors[2].__cause__

    def test_exceptions_that_are_no_errors_end_the_call_and_not_the_worker(self, bench):
        def stop(kind):
            raise kind(3)

        kinds = [SystemExit, asyncio.CancelledError, GeneratorExit] + [KeyboardInterrupt] * (bench.kind != "inline")
        results = bench.run(*[(stop, kind) for kind in kinds], (abs, -1))
        assert [type(result.value) for result in results[:-1]] == kinds and results[-1].value == 1
        assert not any(result.ok for result in results[:-1])
        if bench.kind == "inline":
            bench.give((stop, KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                bench.executor.poll(None)
            bench.open.clear()

    def test_what_cannot_be_sent_is_told_and_the_worker_lives(self, bench):
        lock = threading.Lock()
        first, second = bench.end(bench.give((abs, -1), (str, lock)), bench.give((abs, -2)))
        if bench.apart:
            assert isinstance(first, Loss) and first.running is None
            assert isinstance(first.unsendable, TypeError) and "lock" in str(first.unsendable)
        else:
            assert first[0].value == 1 and "lock" in first[1].value
        assert second[0].value == 2

    @pytest.mark.parametrize("what", ["value", "function"])
    def test_what_the_worker_cannot_read_is_told_and_it_lives(self, bench, what, monkeypatch):
        if what == "value":
            call = (type, Unreadable())
        else:
            module = types.ModuleType("only_here")
            exec("def double(value=3): return 2 * value", module.__dict__)
            monkeypatch.setitem(sys.modules, "only_here", module)
            call = (module.double,)
        first, second = bench.end(bench.give((abs, -1), call), bench.give((abs, -2)))
        if bench.apart:
            kind = ValueError if what == "value" else ModuleNotFoundError
            assert isinstance(first, Loss) and first.running is None and isinstance(first.unsendable, kind)
        else:
            assert first[1].value in (Unreadable, 6)
        assert second[0].value == 2

    def test_a_value_that_cannot_be_sent_is_a_failure_of_its_call_alone(self, bench):
        results = bench.run((abs, -1), (threading.Lock,), (np.ones, LARGE))
        assert results[0].value == 1 and results[2].value.sum() == LARGE
        assert results[1].ok is not bench.apart
        if bench.apart:
            assert type(results[1].value) is TaskFailedError and "lock" in str(results[1].value)

    def test_a_value_that_cannot_be_read_is_told_and_the_worker_lives(self, bench):
        first, second = bench.end(bench.give((Unreadable,), (np.ones, LARGE)), bench.give((abs, -2)))
        if bench.apart:
            assert isinstance(first, Loss) and isinstance(first.unsendable, ValueError)
        else:
            assert isinstance(first[0].value, Unreadable)
        assert second[0].value == 2


class TestArrays:
    def test_large_arrays_go_and_come(self, bench):
        given = np.arange(2.0 * LARGE).reshape(2, -1)
        record = np.zeros(LARGE, dtype=[("a", "f4"), ("b", "i8")])
        record["b"] = np.arange(LARGE)
        for worker in {0, bench.last}:
            for array in (given, given.T, given[:, ::2], given.astype(">f4"), given > 3, record, record["b"]):
                back = bench.value(lambda array: (array, array.shape, array.dtype), array, worker=worker)
                np.testing.assert_array_equal(back[0], array)
                assert back[1:] == (array.shape, array.dtype) and back[0].dtype == array.dtype

    def test_a_call_cannot_change_the_data_of_another(self, bench):
        def change(array):
            before = float(array[0])
            try:
                array[:] = 7
            except ValueError:
                return before, "read-only"
            return before, "changed"

        array, tensor = np.zeros(LARGE), torch.zeros(LARGE)
        for worker in (0, bench.last):
            chunks = [bench.give((change, data), worker=worker) for data in (array, tensor) * 2]  # at the same time
            values = [results[0].value for results in bench.end(*chunks)]
            if bench.apart:
                assert values == [(0.0, "read-only"), (0.0, "changed")] * 2
        assert (array[0], float(tensor[0])) == ((0, 0) if bench.apart else (7, 7))

    def test_arrays_that_come_are_ones_own(self, bench):
        array = np.zeros(LARGE)
        first, second, third = (result.value for result in bench.run(*[(lambda a: a, array)] * 2, (np.zeros, LARGE)))
        third += 1
        assert third.sum() == LARGE
        if bench.apart:
            first += 1
            assert array.sum() == 0 and first.sum() == LARGE and second is first  # as in the worker
            assert bench.value(np.sum, array) == 0

    def test_an_array_that_was_changed_between_chunks_is_sent_again(self, bench):
        array = np.zeros(LARGE)
        for n in range(3):
            array[:] = n
            assert bench.value(np.sum, array, worker=n % bench.executor.workers) == n * LARGE

    def test_many_calls_share_an_array(self, bench):
        array = np.ones(LARGE)
        chunks = [bench.give(*[(np.sum, array)] * 3, worker=k % bench.executor.workers) for k in range(20)]
        for results in bench.end(*chunks):
            assert [result.value for result in results] == [LARGE] * 3
        if bench.apart:
            assert len(set(bench.value(lambda *arrays: list(map(id, arrays)), array, array, np.ones(LARGE)))) == 2

    def test_tensors(self, bench):
        wave = torch.polar(torch.ones(LARGE), torch.linspace(0, 6, LARGE))
        given = [
            torch.arange(3.0), torch.arange(2.0 * LARGE).reshape(2, -1).T, wave, wave.conj(), wave.conj().imag,
            torch.ones(LARGE, dtype=torch.bfloat16), torch.ones(LARGE, requires_grad=True), torch.eye(300).to_sparse(),
        ]  # fmt: skip
        results = bench.run(*[(lambda tensor: tensor * 2, tensor) for tensor in given], worker=bench.last)
        for tensor, result in zip(given, results, strict=True):
            assert result.ok, result.value
            assert result.value.dtype == tensor.dtype and torch.equal(result.value.to_dense(), (tensor * 2).to_dense())

    def test_large_things_that_are_no_arrays(self, bench):
        text = "ab" * 300_000
        chunks = [bench.give((str.upper, text), worker=worker) for worker in (0, bench.last, 0)]
        assert [results[0].value for results in bench.end(*chunks)] == [text.upper()] * 3


class TestWorkers:
    def test_running_tells_the_call_and_since_when(self, bench, tmp_path):
        executor = bench.executor
        if bench.kind == "inline":
            number = bench.give((abs, -1), (lambda: executor.running(0),))
            found = bench.end(number)[0][1].value
            assert found[:2] == (number, 1) and executor.running(0) is None
            return
        for worker in range(executor.workers):
            assert executor.running(worker) is None
            before = time.monotonic()
            number = bench.give((abs, -1), (gate, tmp_path, worker), (abs, -2), worker=worker)
            bench.until(lambda: begun(tmp_path, worker))  # noqa: B023
            after = time.monotonic()
            bench.until(lambda: executor.running(worker) is not None)  # noqa: B023
            found = executor.running(worker)
            assert found[:2] == (number, 1) and before - 0.1 <= found.since <= after + 0.1
            Path(tmp_path, f"{worker}-end").touch()
            assert [result.value for result in bench.end(number)[0]] == [1, worker, 2]
            assert executor.running(worker) is None

    def test_poll_waits_no_longer_than_it_is_told(self, bench):
        start = time.monotonic()
        assert bench.executor.poll(0.05) == [] and time.monotonic() - start < 5
        assert bench.executor.poll(0) == []

    def test_wake_ends_a_poll_of_another_thread(self, bench):
        start = time.monotonic()
        timer = threading.Timer(0.1, bench.executor.wake)
        timer.start()
        assert bench.executor.poll(PATIENCE) == [] and time.monotonic() - start < PATIENCE / 2
        timer.join()
        bench.executor.poll(0)
        bench.executor.wake()  # before a poll, it ends the next one
        assert bench.executor.poll(PATIENCE) == [] and time.monotonic() - start < PATIENCE / 2

    def test_kill_ends_the_call_and_what_was_behind_it_is_lost_too(self, bench, tmp_path):
        executor = bench.executor
        if not executor.kills:
            executor.kill(0)
            assert bench.value(abs, -1) == 1
            return
        for worker in range(executor.workers):
            number = bench.give((abs, -1), (gate, tmp_path, worker), (abs, -2), worker=worker)
            behind = bench.give((abs, -3), worker=worker)
            bench.until(lambda: begun(tmp_path, worker))  # noqa: B023
            executor.kill(worker)
            first, second = bench.end(number, behind)
            assert (first.worker, first.running, first.oldest, first.unsendable) == (worker, 1, True, None)
            assert (second.worker, second.running, second.oldest, second.unsendable) == (worker, None, False, None)
            assert first.reason
            bench.until(lambda: executor.available(worker))  # noqa: B023
            assert bench.value(abs, -4, worker=worker) == 4

    @pytest.mark.parametrize("way", ["signal", "exit"])
    def test_a_worker_that_dies_is_replaced(self, bench, way):
        if not bench.apart:
            pytest.skip("it would take this process along")
        array = np.ones(LARGE)
        for worker in range(bench.executor.workers):
            other = bench.give((np.sum, array), worker=1 - worker)
            number = bench.give((abs, -1), (np.sum, array), (die, way), (abs, -2), worker=worker)
            behind = bench.give((np.sum, array), worker=worker)
            found, first, second = bench.end(other, number, behind)
            assert found[0].value == LARGE
            assert isinstance(first, Loss) and (first.running, first.oldest, first.unsendable) == (2, True, None)
            assert isinstance(second, Loss) and (second.running, second.oldest) == (None, False)
            bench.until(lambda: bench.executor.available(worker))  # noqa: B023
            assert bench.value(np.sum, array, worker=worker) == LARGE

    def test_usage_counts_what_workers_use(self, bench):
        def burn():
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass

        for worker in {0, bench.last}:
            before = bench.executor.usage()
            bench.value(burn, worker=worker)
            used = bench.executor.usage().since(before)
            assert used.cpu_seconds >= 0.29 and used.voluntary >= 0 and used.involuntary >= 0

    def test_libraries_of_a_worker_have_its_share_of_threads(self, bench):
        if bench.kind == "inline":
            pytest.skip("it is this process")

        def threads():
            np.ones((4, 4)) @ np.ones((4, 4))
            return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

        for worker in range(bench.executor.workers):
            assert set(bench.value(threads, worker=worker)) <= {1}


class TestEnds:
    def test_stop_and_start_again(self, bench, tmp_path):
        executor = bench.executor
        for turn in range(2):
            executor.start()  # again, which does nothing
            pid = bench.value(os.getpid)
            assert (pid == os.getpid()) is not bench.apart
            if bench.apart:
                bench.give((abs, -1), (gate, tmp_path, turn))
                bench.give((np.sum, np.ones(LARGE)))
                bench.until(lambda: begun(tmp_path, turn))  # noqa: B023
            start = time.monotonic()
            bench.stop()
            bench.stop()
            assert time.monotonic() - start < 10
            assert not bench.apart or ended(pid)
            bench.start()
        assert executor.usage().cpu_seconds > 0 and bench.value(abs, -1) == 1

    def test_threads_end_after_their_call_and_begin_no_other(self, tmp_path):
        executor = make("threads", 1, 1)
        bench = Bench(executor, "threads")
        bench.give((gate, tmp_path), (abs, -1))
        bench.give((gate, tmp_path, "other"))
        bench.until(lambda: begun(tmp_path))
        threading.Timer(0.1, Path(tmp_path, "call-end").touch).start()
        executor.stop()
        assert not begun(tmp_path, "other")

    def test_nothing_is_left_behind(self, bench):
        pids, array = {os.getpid()}, np.ones(LARGE)
        for worker in range(bench.executor.workers):
            bench.run((np.sum, array), (np.ones, LARGE), (str.upper, "ab" * 100_000), worker=worker)
            pids.add(bench.value(os.getpid, worker=worker))
            if bench.apart:
                assert folders(pids)
                bench.end(bench.give((np.ones, LARGE), (die, "signal"), worker=worker))
                bench.until(lambda: bench.executor.available(worker))  # noqa: B023
                pids.add(bench.value(os.getpid, worker=worker))
        for worker in range(bench.executor.workers):
            bench.give((np.ones, LARGE), (np.sum, array), worker=worker)  # whose results nobody takes
        bench.stop()
        assert all(map(ended, pids - {os.getpid()})) and not zombies()
        assert not folders(pids)

    @pytest.mark.slow
    def test_workers_that_die_before_they_can_work_are_no_accident(self, bench, monkeypatch):
        if bench.kind != "ray":
            pytest.skip("of processes, tests of epochs show it")
        from tithe.lattice.executors import on_ray

        class Stillborn:
            def begin(self):
                os._exit(3)

        bench.stop()
        monkeypatch.setattr(on_ray, "Worker", Stillborn)
        bench.executor.start()
        with pytest.raises(InvalidStateError, match="die before they can work"):
            bench.until(lambda: False)
        bench.stop()


def folders(pids):
    """What processes have put into memory."""
    return [path for pid in pids for path in Path("/dev/shm").glob(f"tithe-lattice-{pid}-*")]


def state(pid):
    """One letter, and the parent."""
    letter, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return letter, int(parent)


def zombies():
    """Children of this process that have ended, and that it has not looked at."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if state(path.name) == ("Z", os.getpid()):
                found.append(path.name)
    return found


def ended(pid):
    """Whether a process ends within some time, or has and waits for its parent to look at it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if state(pid)[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


class TestFolders:
    def test_a_folder_goes_with_its_process_and_not_before(self):
        text = (
            "import time; from tithe.lattice.executors.shelf import Folder; f = Folder(); print(f.path, flush=True); "
        )
        other = subprocess.Popen([sys.executable, "-c", text + "time.sleep(600)"], stdout=subprocess.PIPE, text=True)
        with other, contextlib.closing(other.stdout):
            path = Path(other.stdout.readline().strip())
            Folder().remove()  # takes away what is left behind
            assert path.is_dir()
            other.kill()
            other.wait()
            Folder().remove()
            assert not path.exists() or not path.is_relative_to("/dev/shm")

    def test_a_shelf_keeps_what_was_used_last(self, monkeypatch):
        monkeypatch.setattr(shelf, "_MOST_IDLE", 200)
        put, removed = itertools.count(), []
        made = shelf.Shelf(lambda array: next(put), removed.append)
        arrays = [np.zeros(10) for _ in range(4)]  # of 80 bytes
        assert [made.use(array) for array in (*arrays, arrays[0])] == [0, 1, 2, 3, 0]
        for place in (0, 1, 2, 3):
            made.release(place)
        assert removed == [1] and made.use(arrays[2]) == 2  # the first still has a user
        made.release(2)
        made.release(0)
        assert removed == [1, 3]
        made.forget_idle()
        assert sorted(removed) == [0, 1, 2, 3] and made.use(arrays[0]) == 4


class TestMake:
    def test_unknown_kinds_and_no_workers_are_refused(self):
        with pytest.raises(InvalidValueError, match="'inline', 'threads', 'processes', 'ray'"):
            make("fibres", 1, 1)
        with pytest.raises(InvalidValueError, match="at least 1"):
            make("threads", 0, 1)

    def test_ray_that_is_not_installed_is_asked_for(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        for name in list(sys.modules):
            if name.startswith(("ray.", "tithe.lattice.executors.ray_", "tithe.lattice.executors.on_ray")):
                monkeypatch.delitem(sys.modules, name)
        with pytest.raises(MissingExtraError, match=r"pip install 'tithe\[ray\]'"):
            make("ray", 1, 1)

    def test_workers_of_ray_are_as_many_as_the_cpus_of_its_cluster(self, cluster):
        assert make("ray", None, 1).workers == 2
