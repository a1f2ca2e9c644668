import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tithe.product import rates as module
from tithe.product.rates import Rates, rates


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(module, "_SIZES", {"cpu": (64, 128)})
    module._rates.cache_clear()
    yield tmp_path / "tithe"
    module._rates.cache_clear()


def test_measured_once_and_kept(cache: Path) -> None:
    first = rates(torch.device("cpu"))
    (file,) = cache.glob("rates-cpu-*.json")
    before = file.stat().st_mtime_ns
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"load": 0.0}))
    module._rates.cache_clear()
    again = rates(torch.device("cpu"))
    assert again.table == first.table
    assert before <= file.stat().st_mtime_ns
    assert all(seconds > 0 for points in first.table.values() for seconds in points.values())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": -1, "load": 0, "rates": {}}', '{"version": 1}'])
def test_a_file_that_cannot_be_used_is_replaced(cache: Path, content: str) -> None:
    rates(torch.device("cpu"))
    (file,) = cache.glob("rates-cpu-*.json")
    file.write_text(content)
    module._rates.cache_clear()
    assert "gemm.float32" in rates(torch.device("cpu")).table
    assert "gemm.float32" in json.loads(file.read_text())["rates"]


def test_a_file_measured_on_a_busy_machine_is_replaced_on_a_quiet_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_load", lambda: 5.0)
    rates(torch.device("cpu"))
    (file,) = cache.glob("rates-cpu-*.json")
    assert json.loads(file.read_text())["load"] == 5.0
    for load, kept in ((5.0, 5.0), (0.1, 0.1), (5.0, 0.1)):
        monkeypatch.setattr(module, "_load", lambda load=load: load)
        module._rates.cache_clear()
        rates(torch.device("cpu"))
        assert json.loads(file.read_text())["load"] == kept


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache: Path) -> None:
    cache.parent.joinpath("tithe").write_text("a file where the folder should be")
    assert "gemm.float32" in rates(torch.device("cpu")).table


def test_rates_interpolate_and_end_flat() -> None:
    known = Rates({"gemm.float32": {100: 2e-10, 400: 0.5e-10}}, launch=0.0)
    work = {"gemm.float32": 1.0}
    assert known.seconds(work, 100.0**3) == pytest.approx(2e-10)
    assert known.seconds(work, 200.0**3) == pytest.approx(1e-10)
    assert known.seconds(work, 10.0**3) == pytest.approx(2e-10)
    assert known.seconds(work, 4000.0**3) == pytest.approx(0.5e-10)
    assert known.seconds({"gemm.int8": 1.0}, 1.0) == math.inf


def test_kinds_are_those_that_are_faster() -> None:
    table = {"gemm.float32": {64: 1.0, 128: 1.0}, "gemm.int8": {64: 2.0, 128: 0.5}, "gemm.bfloat16": {64: 50.0}}
    known = Rates(table)
    assert known.kinds == ("float32", "int8")
    assert known.fastest_kind == "int8"
    assert Rates({}).kinds == ()


def test_other_devices_have_no_rates() -> None:
    assert rates(torch.device("meta")).table == {}


def test_processes_that_measure_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from tithe.product import rates as m; m._SIZES = {'cpu': (64,)}\n"
        "assert 'gemm.float32' in m.rates(torch.device('cpu')).table"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    runs = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    (file,) = tmp_path.rglob("rates-cpu-*.json")
    assert "gemm.float32" in json.loads(file.read_text())["rates"]
    assert not list(tmp_path.rglob(".rates*"))
