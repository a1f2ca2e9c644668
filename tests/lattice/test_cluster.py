"""Epochs that lose what they run on: worker processes, actors, and whole nodes of a Ray cluster."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tithe.errors import TaskTimeoutError, WorkerLostError
from tithe.lattice import Lattice, Task

ray = pytest.importorskip("ray")
STORE = {"object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster():
    """A node of one CPU, to which tests add others."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE})
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def node(cluster):
    """Another node of one CPU."""
    made = cluster.add_node(num_cpus=1, **STORE)
    yield made
    if made in cluster.worker_nodes:
        cluster.remove_node(made)


def work(number, array):
    """Some 20 ms of it; its process and node, and what is too large for a message."""
    time.sleep(0.02)
    return number, os.getpid(), ray.get_runtime_context().get_node_id(), array * number


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


class TestRay:
    def test_a_node_that_is_removed_takes_nothing_along(self, cluster, node):
        array = np.arange(20_000.0)
        tasks, outcomes, nodes = [Task(work, number, array) for number in range(200)], [], set()
        with Lattice(executor="ray") as lattice:
            assert lattice.workers == 2
            for outcome in lattice.as_completed(tasks):
                outcomes.append(outcome)
                nodes.add(outcome.value[2])
                if len(outcomes) >= 50 and len(nodes) == 2 and node in cluster.worker_nodes:
                    cluster.remove_node(node, allow_graceful=False)
            lost = lattice.receipt.lost_workers
        assert node not in cluster.worker_nodes and lost >= 1
        assert Counter(map(id, tasks)) == Counter(id(outcome.task) for outcome in outcomes)
        assert all(outcome.ok for outcome in outcomes)
        for outcome in outcomes:
            assert outcome.value[0] == outcome.task.args[0]
            np.testing.assert_array_equal(outcome.value[3], array * outcome.value[0])

    @pytest.mark.slow
    def test_workers_without_room_do_not_hold_the_others_up_and_come_when_there_is(self, cluster):
        with Lattice(2, "ray") as lattice:  # on one CPU
            assert lattice.run_epoch([Task(abs, -n) for n in range(50)]).results == list(range(50))
            made = cluster.add_node(num_cpus=1, **STORE)
            pids, deadline = set(), time.monotonic() + 60
            while len(pids) < 2 and time.monotonic() < deadline:
                pids |= set(lattice.run_epoch([Task(pid_after, 0.02) for _ in range(10)]).check().results)
            assert len(pids) == 2
        cluster.remove_node(made)

    def test_a_timeout_ends_the_call_on_whatever_node_it_is(self, node):
        hanging = [Task(time.sleep, 600, timeout=0.3), Task(pow, 3, 10**9, timeout=0.3)]  # pow keeps the GIL
        with Lattice(2, "ray") as lattice:
            epoch = lattice.run_epoch([*hanging, *(Task(abs, -n) for n in range(30))])
        assert [type(outcome.error) for outcome in epoch.outcomes[:2]] == [TaskTimeoutError] * 2
        assert epoch.results[2:] == list(range(30)) and epoch.receipt.lost_workers == 2

    @pytest.mark.slow
    def test_a_task_that_kills_its_workers_is_put_into_quarantine(self, node):
        tasks = [Task(abs, -n) for n in range(60)]
        tasks[30] = Task(os._exit, 3)
        with Lattice(2, "ray", chunk=10) as lattice:
            epoch = lattice.run_epoch(tasks)
        assert epoch.outcomes[30].status == "quarantined" and epoch.outcomes[30].attempts == 2
        assert isinstance(epoch.outcomes[30].error, WorkerLostError)
        assert [outcome.task.args[0] for outcome in epoch.outcomes if not outcome.ok] == [3]


class TestKills:
    @pytest.mark.parametrize("kind", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
    def test_workers_that_are_killed_in_mid_epoch_lose_nothing(self, kind, request):
        if kind == "ray":
            request.getfixturevalue("node")
        tasks, outcomes, killed = [Task(pid_after, 0.01) for _ in range(300)], [], set()
        with Lattice(2, kind, crash_retries=10, chunk=5) as lattice:
            for outcome in lattice.as_completed(tasks):
                outcomes.append(outcome)
                if len(outcomes) % 60 == 0 and outcome.value not in killed and len(outcomes) < 300:
                    killed.add(outcome.value)
                    os.kill(outcome.value, signal.SIGKILL)
            lost = lattice.receipt.lost_workers
        assert len(killed) >= 2 and lost >= 2
        assert Counter(map(id, tasks)) == Counter(id(outcome.task) for outcome in outcomes)
        assert all(outcome.ok for outcome in outcomes)


def script(text, folder, **environment):
    """A Python process of its own, in a process group of its own."""
    path = Path(folder, "script.py")
    path.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.slow
class TestScripts:
    def test_a_cluster_of_ones_own_is_started_and_ended_also_by_control_c(self, tmp_path):
        process = script(
            """
            import os, sys, time
            import ray
            from tithe.lattice import Lattice, Task

            def double(value):  # of the script, which workers do not run
                return 2 * value

            def main():
                lattice = Lattice(2, "ray")
                assert not ray.is_initialized()
                for _ in range(2):
                    assert lattice.run_epoch([Task(double, n) for n in range(20)]).check().results[-1] == 38
                lattice.close()
                assert not ray.is_initialized()
                with Lattice(2, "ray") as lattice:
                    pids = lattice.run_epoch([Task(os.getpid) for _ in range(20)]).check().results
                    print(*set(pids), flush=True)
                    lattice.run_epoch([Task(time.sleep, 600) for _ in range(20)])

            if __name__ == "__main__":
                main()
            """,
            tmp_path,
        )
        pids = process.stdout.readline().split()
        assert pids, process.communicate()
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0 and "KeyboardInterrupt" in errors
        deadline = time.monotonic() + 30
        while any(Path("/proc", pid).exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(Path("/proc", pid).exists() for pid in pids)
        assert not [path for pid in pids for path in Path("/dev/shm").glob(f"tithe-lattice-{pid}-*")]

    def test_the_cluster_of_the_environment_is_used_and_left_running(self, tmp_path, cluster, node):
        process = script(
            """
            import ray
            from tithe.lattice import Lattice, Task

            with Lattice(executor="ray") as lattice:
                print(lattice.workers, *lattice.run_epoch([Task(lambda n=n: n + 1) for n in range(3)]).results)
            print(ray.is_initialized())
            """,
            tmp_path,
            RAY_ADDRESS=cluster.address,
        )
        output, errors = process.communicate(timeout=120)
        assert output.split() == ["2", "1", "2", "3", "True"], errors
        assert len([found for found in ray.nodes() if found["Alive"]]) == 2
