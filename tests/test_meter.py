import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from tithe.errors import InvalidStateError, InvalidValueError, TitheError
from tithe.files import write_atomically
from tithe.meter import Meter, clock, energy, memory
from tithe.meter import meter as meter_module
from tithe.meter.energy import Energy, open_rapl
from tithe.meter.flops import FlopCount
from tithe.meter.memory import PeakMemory
from tithe.receipt import UNITS

MEGABYTE = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def flops_of(work):
    with Meter(flops=True) as meter:
        work()
    return meter.cost.flops


def test_a_cost_has_no_figure_that_was_not_read():
    with Meter() as meter:
        pass
    cost = meter.cost
    assert cost.seconds > 0 and cost.cpu_seconds >= 0
    assert cost.flops is None
    assert cost.joules is None or cost.joules > 0
    assert (cost.joules is None) == (meter.joules_source is None)
    assert cost.estimated == ()


def test_seconds_are_the_difference_of_the_clocks(monkeypatch):
    now = SimpleNamespace(wall=100.0, cpu=7.0)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now.wall, process_time=lambda: now.cpu))
    with Meter() as meter:
        now.wall += 2.5
        now.cpu += 10.0
    assert (meter.cost.seconds, meter.cost.cpu_seconds) == (2.5, 10.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts no context switches")
def test_waiting_for_a_thread_is_a_context_switch():
    with Meter() as meter:
        thread = threading.Timer(0.001, lambda: None)
        thread.start()
        thread.join()
    assert meter.cost.context_switches >= 1


def test_without_resource_context_switches_are_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    with Meter() as meter:
        pass
    assert meter.cost.context_switches is None


def test_every_unit_of_a_cost_is_read_by_some_instrument():
    meter = Meter(flops=True)
    with meter:
        pass
    assert set(meter._readings) == set(UNITS)


# --- the block and its state


def test_cost_cannot_be_read_before_the_end():
    meter = Meter()
    with pytest.raises(InvalidStateError, match="has not ended"):
        _ = meter.cost
    with meter, pytest.raises(InvalidStateError, match="after the `with`"):
        _ = meter.cost
    assert meter.cost.seconds > 0
    assert issubclass(InvalidStateError, RuntimeError) and issubclass(InvalidStateError, TitheError)


def test_a_meter_measures_once():
    meter = Meter()
    with meter, pytest.raises(InvalidStateError, match="another Meter"):
        meter.__enter__()
    cost = meter.cost
    with pytest.raises(InvalidStateError, match="another Meter"):
        meter.__enter__()
    assert meter.cost == cost


def test_a_block_that_raises_is_measured_and_everything_restored():
    modes = _get_current_dispatch_mode_stack()
    with pytest.raises(ZeroDivisionError), Meter(flops=True) as meter:
        _ = torch.ones(2, 3) @ torch.ones(3, 5)
        _ = 1 / 0
    assert meter.cost.flops == 60
    assert meter.cost.seconds > 0
    assert _get_current_dispatch_mode_stack() == modes
    assert memory._OPEN == []


@pytest.mark.parametrize("broken", ["start", "stop"])
def test_an_instrument_that_fails_leaves_nothing_running(monkeypatch, broken):
    def fail(self):
        raise RuntimeError("device lost")

    monkeypatch.setattr(meter_module.Clock, broken, fail)
    modes = _get_current_dispatch_mode_stack()
    meter = Meter(flops=True)
    with pytest.raises(RuntimeError, match="device lost"), meter:
        _ = torch.ones(2, 3) @ torch.ones(3, 5)
    assert _get_current_dispatch_mode_stack() == modes
    assert memory._OPEN == []
    if broken == "stop":
        assert meter.cost.flops == 60
        assert meter.cost.seconds is None


@pytest.mark.parametrize("device", ["mps", "cuda:x", "", "gpu"])
def test_devices_that_cannot_be_measured_are_named(device):
    with pytest.raises(InvalidValueError, match=f"{device!r}"):
        Meter(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused():
    with pytest.raises(InvalidValueError, match="no CUDA device here; use device='cpu'"):
        Meter(torch.device("cuda"))


def test_overhead_is_the_median_of_whole_blocks(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(meter_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert Meter.overhead(3) == 2.0
    with pytest.raises(InvalidValueError, match="repeats is 0"):
        Meter.overhead(0)


# --- operations


def test_flops_of_a_product_count_a_multiply_add_as_two():
    assert flops_of(lambda: torch.ones(4, 6) @ torch.ones(6, 8)) == 2 * 4 * 6 * 8


def test_products_that_torch_does_not_count_are_counted():
    matrix, vector = torch.ones(4, 6), torch.ones(6)
    bytes_ = torch.ones(32, 32, dtype=torch.int8)
    assert flops_of(lambda: torch._int_mm(bytes_, bytes_)) == 2 * 32**3
    assert flops_of(lambda: matrix @ vector) == 2 * 4 * 6
    assert flops_of(lambda: vector @ vector) == 2 * 6
    assert flops_of(lambda: torch.addmv(torch.ones(4), matrix, vector)) == 2 * 4 * 6
    batch = torch.ones(3, 4, 6), torch.ones(3, 6, 8)
    assert flops_of(lambda: torch.addbmm(torch.ones(4, 8), *batch)) == 2 * 3 * 4 * 6 * 8


def test_the_backward_pass_is_counted():
    weight = torch.ones(6, 8, requires_grad=True)
    forward = flops_of(lambda: torch.ones(4, 6) @ weight)
    assert flops_of(lambda: (torch.ones(4, 6) @ weight).sum().backward()) == 2 * forward


def test_a_block_without_any_product_has_no_count():
    assert flops_of(lambda: torch.ones(3) + 1) is None


def test_counting_nests():
    with Meter(flops=True) as outer:
        with Meter(flops=True) as inner:
            _ = torch.ones(2, 3) @ torch.ones(3, 5)
        _ = torch.ones(2, 3) @ torch.ones(3, 5)
    assert (inner.cost.flops, outer.cost.flops) == (60, 120)


def test_the_counter_can_be_used_again():
    count = FlopCount()
    for _ in range(2):
        count.start()
        _ = torch.ones(2, 3) @ torch.ones(3, 5)
        assert count.stop() == {"flops": 60}


# --- memory


class Gauge:
    """A high-water mark to play with."""

    name = "fake"

    def __init__(self, may_reset=True):
        self.now = self.peak = 100
        self.may_reset = may_reset

    def hold(self, amount):
        self.now = amount
        self.peak = max(self.peak, amount)

    def read(self):
        return self.now, self.peak

    def reset(self):
        if self.may_reset:
            self.peak = self.now
        return self.may_reset


def test_peak_is_what_was_added_at_most():
    gauge = Gauge()
    gauge.hold(900)
    gauge.hold(100)
    reading = PeakMemory("cpu", gauge=gauge)
    reading.start()
    for amount in (150, 400, 50):
        gauge.hold(amount)
    assert reading.stop() == {"bytes": 300}


def test_shrinking_adds_nothing():
    gauge = Gauge()
    reading = PeakMemory("cpu", gauge=gauge)
    reading.start()
    gauge.hold(20)
    assert reading.stop() == {"bytes": 0}


def test_an_inner_reading_does_not_hide_the_peak_of_the_outer_one():
    gauge = Gauge()
    outer, inner = PeakMemory("cpu", gauge=gauge), PeakMemory("cpu", gauge=gauge)
    outer.start()
    gauge.hold(500)
    gauge.hold(120)
    inner.start()
    gauge.hold(170)
    assert inner.stop() == {"bytes": 50}
    assert outer.stop() == {"bytes": 400}


def test_readings_of_two_gauges_do_not_mix():
    one, other = Gauge(), Gauge()
    other.name = "other"
    outer, inner = PeakMemory("cpu", gauge=one), PeakMemory("cpu", gauge=other)
    outer.start()
    other.hold(900)
    inner.start()
    assert inner.stop() == {"bytes": 0}
    assert outer.stop() == {"bytes": 0}


def test_a_mark_that_cannot_be_reset_tells_only_when_it_rises():
    gauge = Gauge(may_reset=False)
    gauge.hold(900)
    gauge.hold(100)
    for amount, expected in ((800, None), (1000, 900)):
        reading = PeakMemory("cpu", gauge=gauge)
        reading.start()
        gauge.hold(amount)
        gauge.hold(100)
        assert reading.stop() == {"bytes": expected}


def test_memory_that_cannot_be_read_is_unknown(tmp_path):
    for text in (None, "", "VmHWM: 5 kB\n", "VmHWM:\nVmRSS: x kB\n"):
        if text is not None:
            (tmp_path / "status").write_text(text)
        reading = PeakMemory("cpu", gauge=memory._ProcessGauge(tmp_path))
        reading.start()
        assert reading.stop() == {"bytes": None}
    assert memory._OPEN == []


def test_status_is_read_in_kilobytes_and_clear_refs_told_to_reset(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    7 kB\nVmRSS:\t    3 kB\n")
    gauge = memory._ProcessGauge(tmp_path)
    assert gauge.read() == (3 * 1024, 7 * 1024)
    assert gauge.reset()
    assert (tmp_path / "clear_refs").read_text() == "5"


@linux
def test_the_growth_of_this_process_is_seen():
    with Meter() as outer:
        block = b"x" * (64 * MEGABYTE)
        del block
        with Meter() as inner:
            pass
    if outer.cost.bytes is None:
        pytest.skip("the kernel lets nobody set back the mark here")
    assert 60 * MEGABYTE <= outer.cost.bytes <= 100 * MEGABYTE
    assert inner.cost.bytes <= 8 * MEGABYTE


# --- energy


@pytest.fixture
def powercap(tmp_path):
    def add(folder, name, microjoules, wraps_at=1000_000):
        domain = tmp_path / folder
        domain.mkdir()
        (domain / "name").write_text(name + "\n")
        (domain / "max_energy_range_uj").write_text(f"{wraps_at}\n")
        (domain / "energy_uj").write_text(f"{microjoules}\n")
        return domain / "energy_uj"

    return tmp_path, add


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in Windows file names")
class TestRapl:
    def test_packages_and_memories_add_up_and_parts_do_not(self, powercap):
        root, add = powercap
        counters = [
            add("intel-rapl:0", "package-0", 100_000),
            add("intel-rapl:1", "package-1", 200_000),
            add("intel-rapl:0:0", "core", 0),
            add("intel-rapl:0:1", "dram", 0),
            add("intel-rapl:2", "psys", 0),
            add("intel-rapl-mmio:0", "package-0", 0),
        ]
        reading = Energy("cpu", powercap=root)
        reading.start()
        for counter in counters:
            counter.write_text("300000")
        assert reading.stop() == {"joules": pytest.approx(0.2 + 0.1 + 0.3)}
        assert reading.source == "rapl"

    def test_a_counter_that_begins_anew(self, powercap):
        root, add = powercap
        counter = add("intel-rapl:0", "package-0", 900_000, wraps_at=1000_000)
        reading = Energy("cpu", powercap=root)
        reading.start()
        counter.write_text("50000")
        assert reading.stop() == {"joules": pytest.approx(0.15)}

    def test_many_turns_are_counted_by_the_samples_in_between(self, powercap):
        root, add = powercap
        counter = add("intel-rapl:0", "package-0", 0)
        rapl = open_rapl(root)
        rapl._sample_seconds = 0.001
        rapl.start()
        for turn in range(1, 4):
            for value in (500_000, turn):
                write_atomically(counter, str(value))
                while rapl._last != [value]:
                    assert rapl._thread.is_alive()
        assert rapl.stop() == pytest.approx(3.000_003)
        assert not rapl._thread.is_alive()

    def test_a_counter_that_did_not_move_is_no_reading(self, powercap):
        root, add = powercap
        add("intel-rapl:0", "package-0", 100_000)
        reading = Energy("cpu", powercap=root)
        reading.start()
        assert reading.stop() == {"joules": None}
        assert reading.source is None

    def test_what_may_not_be_read_is_unknown(self, powercap):
        root, add = powercap
        add("intel-rapl:0", "package-0", 100_000)
        counter = add("intel-rapl:1", "package-1", 100_000)
        counter.unlink()
        counter.mkdir()  # an OSError also for root, whom no permission stops
        assert open_rapl(root) is None

    def test_what_fails_on_the_way_is_unknown(self, powercap):
        root, add = powercap
        counter = add("intel-rapl:0", "package-0", 100_000)
        reading = Energy("cpu", powercap=root)
        reading.start()
        counter.unlink()
        assert reading.stop() == {"joules": None}

    def test_no_counters_at_all(self, powercap):
        root, add = powercap
        assert open_rapl(root) is None
        assert open_rapl(root / "missing") is None
        add("intel-rapl:0", "psys", 100_000)
        assert open_rapl(root) is None


class TestNvml:
    @pytest.fixture
    def board(self, monkeypatch):
        class NVMLError(Exception):
            pass

        board = SimpleNamespace(millijoules=5000, NVMLError=NVMLError)

        def read(handle):
            assert handle == "handle"
            if board.millijoules is None:
                raise NVMLError("lost")
            return board.millijoules

        board.nvmlDeviceGetTotalEnergyConsumption = read
        monkeypatch.setitem(sys.modules, "pynvml", board)
        monkeypatch.setattr(energy, "_nvml_handle", lambda device: "handle")
        return board

    def test_millijoules_become_joules(self, board):
        outer, inner = Energy("cuda:0"), Energy("cuda:0")
        outer.start()
        board.millijoules += 1000
        inner.start()
        board.millijoules += 2500
        assert inner.stop() == {"joules": 2.5}
        assert outer.stop() == {"joules": 3.5}
        assert outer.source == "nvml"

    @pytest.mark.parametrize("last", [5000, 4000, None])
    def test_a_counter_that_stood_still_fell_or_was_lost_is_unknown(self, board, last):
        reading = Energy("cuda:0")
        reading.start()
        board.millijoules = last
        assert reading.stop() == {"joules": None}
        assert reading.source is None

    def test_without_the_library_or_the_board(self, board, monkeypatch):
        monkeypatch.setattr(energy, "_nvml_handle", lambda device: None)
        assert energy.open_nvml("cuda:0") is None
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert energy.open_nvml("cuda:0") is None


# --- CUDA


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    def test_a_block_on_the_device(self):
        left = torch.ones(4096, 4096, device="cuda")
        with Meter("cuda", flops=True) as meter:
            for _ in range(100):
                product = left @ left
        cost = meter.cost
        assert cost.flops == 100 * 2 * 4096**3
        assert cost.bytes >= 4 * 4096**2
        assert cost.seconds > 0 and cost.cpu_seconds > 0
        assert cost.joules is None or (cost.joules > 0 and meter.joules_source == "nvml")
        assert product[0, 0].item() == 4096

    def test_queued_work_is_waited_for(self):
        with Meter("cuda"):
            torch.cuda._sleep(200_000_000)
        assert torch.cuda.current_stream().query()

    def test_peaks_nest(self):
        with Meter("cuda:0") as outer:
            block = torch.ones(16 * MEGABYTE, dtype=torch.uint8, device="cuda:0")
            del block
            with Meter("cuda:0") as inner:
                small = torch.ones(MEGABYTE, dtype=torch.uint8, device="cuda:0")
                del small
        assert (outer.cost.bytes, inner.cost.bytes) == (16 * MEGABYTE, MEGABYTE)

    def test_a_device_that_is_not_there(self):
        with pytest.raises(InvalidValueError, match="cuda:99"):
            Meter("cuda:99")
