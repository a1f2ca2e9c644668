"""What an epoch says that it took, and the cores that it may take."""

import json
import os
import time

import pytest

from tithe.errors import (
    InvalidValueError,
)
from tithe.lattice import Lattice, Task
from tithe.lattice.cache_misses import CacheMisses
from tithe.lattice.usage import cores


class TestReceipt:
    def test_what_it_says(self, threads):
        epoch = threads.run_epoch([Task(time.sleep, 0.01) for _ in range(10)])
        receipt = epoch.receipt
        assert receipt.cost.seconds > 0.04 and receipt.worked >= 0.1 and receipt.cost.context_switches > 0
        assert receipt.cost.context_switches == receipt.voluntary + receipt.involuntary
        assert receipt.waits.count == 10 and receipt.receipt is None
        assert json.loads(json.dumps(receipt.to_dict()))["tasks"] == {"done": 10}
        assert "10 done" in str(receipt) and "context switches" in str(receipt)

    def test_a_baseline_is_measured_on_a_part(self, threads):
        epoch = threads.run_epoch([Task(time.sleep, 0.002) for _ in range(40)], baseline=10)
        assert epoch.receipt.plain.estimated and epoch.receipt.receipt.ratio("seconds") > 0
        assert "first come, first served" in str(epoch.receipt)
        with pytest.raises(InvalidValueError, match="as a list"):
            threads.run_epoch(iter([Task(int)]), baseline=1)
        with pytest.raises(InvalidValueError, match="need no others"):
            threads.run_epoch([Task(abs, Task(int))], baseline=1)

    def test_a_progress_bar(self, capsys):
        with Lattice(2, progress=True) as lattice:
            lattice.run_epoch([Task(abs, -n) for n in range(5)], name="squares")
        assert "squares" in capsys.readouterr().err

    def test_torch_gets_its_threads_back(self):
        torch = pytest.importorskip("torch")
        before = torch.get_num_threads()
        with Lattice(2) as lattice:
            inside = lattice.run_epoch([Task(torch.get_num_threads) for _ in range(4)]).results
        assert set(inside) == {max(1, lattice._cores // 2)} and torch.get_num_threads() == before


class TestCores:
    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"cpu.max": "max 100000"}, None), ({"cpu.max": "150000 100000"}, 2), ({"cpu.max": "50000 100000"}, 1),
            ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
            ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
            ({"cpu.max": "nonsense"}, None), ({}, None),
        ],
    )  # fmt: skip
    def test_a_quota_of_the_control_group_counts(self, tmp_path, files, expected):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        available = len(os.sched_getaffinity(0))
        assert cores(tmp_path) == (available if expected is None else min(available, expected))

    def test_affinity_counts(self, tmp_path):
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(before)})
            assert cores(tmp_path) == 1
        finally:
            os.sched_setaffinity(0, before)

    def test_cache_misses_are_summed_over_threads(self, monkeypatch, tmp_path):
        numbers = iter((5).to_bytes(8, "little") for _ in range(1000))

        def opened(thread):
            path = tmp_path / str(thread)
            path.write_bytes(next(numbers))
            return os.open(path, os.O_RDONLY)

        monkeypatch.setattr("tithe.lattice.cache_misses._opened", opened)
        with CacheMisses() as misses:
            pass
        assert misses.count >= 5 and misses.count % 5 == 0
        monkeypatch.setattr("tithe.lattice.cache_misses._opened", lambda thread: None)
        with CacheMisses() as misses:
            pass
        assert misses.count is None
