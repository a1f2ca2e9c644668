import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.meter import Comparison, clock, comparison, paired


@pytest.fixture
def now(monkeypatch):
    """A clock that only the work itself moves."""
    now = SimpleNamespace(wall=0.0, cpu=0.0)
    fake = SimpleNamespace(perf_counter=lambda: now.wall, process_time=lambda: now.cpu)
    monkeypatch.setattr(clock, "time", fake)
    return now


def work(now, log, name, walls, cpu=1.0):
    walls = iter(walls)

    def run():
        log.append(name)
        now.wall += next(walls)
        now.cpu += cpu

    return run


def test_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_the_medians(now):
    a = [0.5, 2.0, 9.0, 4.0, 5.0, 6.0, 7.0]
    b = [2.0, 2.0, 3.0, 8.0, 5.0, 3.0, 1.0]
    found = paired(work(now, [], "a", a, cpu=3.0), work(now, [], "b", b, cpu=4.0), repeats=7, warmup=0)
    assert found.ratios == pytest.approx([x / y for x, y in zip(a, b, strict=True)])
    assert found.ratio == pytest.approx(1.0)
    assert found.seconds == pytest.approx((5.0, 3.0))
    assert found.cpu_seconds == pytest.approx((3.0, 4.0))
    assert found.cpu_ratio == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx((0.25, 7.0))
    assert found.confidence == 1 - 2 / 2**7


def test_runs_are_interleaved_half_of_the_pairs_each_way_round(now):
    log = []
    a, b = work(now, log, "a", [1.0] * 30), work(now, log, "b", [1.0] * 30)
    paired(a, b, repeats=20, warmup=3)
    assert log[:6] == ["a", "b"] * 3
    pairs = ["".join(log[i : i + 2]) for i in range(6, 46, 2)]
    assert pairs.count("ab") == pairs.count("ba") == 10


def test_the_seed_alone_decides_the_order(now):
    def order(seed):
        log = []
        paired(work(now, log, "a", [1.0] * 12), work(now, log, "b", [1.0] * 12), repeats=12, warmup=0, seed=seed)
        return log

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_results_are_not_kept(now):
    class Result:
        pass

    last = []

    def run():
        assert all(reference() is None for reference in last)
        now.wall += 1.0
        result = Result()
        last.append(weakref.ref(result))
        return result

    paired(run, run, repeats=6)
    assert len(last) == 16


@pytest.mark.parametrize(("repeats", "rank", "coverage"), [(6, 1, 0.96875), (21, 6, 0.9733), (100, 40, 0.9648)])
def test_ranks_of_the_interval(repeats, rank, coverage):
    # David & Nagaraja, Order Statistics, table of distribution-free intervals for the median
    found = comparison._interval(repeats, 0.95)
    assert found[0] == rank
    assert found[1] == pytest.approx(coverage, abs=1e-4)


@pytest.mark.parametrize("repeats", [6, 9, 21, 40])
def test_the_interval_covers_the_median_as_often_as_it_says(repeats):
    rank, coverage = comparison._interval(repeats, 0.9)
    samples = np.sort(np.random.default_rng(0).lognormal(size=(20_000, repeats)), axis=1)  # its median is 1
    covered = np.mean((samples[:, rank - 1] <= 1) & (samples[:, repeats - rank] >= 1))
    assert coverage >= 0.9
    assert covered == pytest.approx(coverage, abs=0.01)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_too_few_pairs_are_refused_and_the_fewest_named(confidence):
    few = 1
    while True:
        try:
            comparison._interval(few, confidence)
            break
        except InvalidValueError as error:
            message = str(error)
            few += 1
    assert message.endswith(f"use at least {few}")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"repeats": 5}, InvalidValueError, "5 pairs cannot carry a confidence of 0.95; use at least 6"),
        ({"repeats": 0}, InvalidValueError, "repeats is 0"),
        ({"warmup": -1}, InvalidValueError, "warmup is -1"),
        ({"confidence": 1.0}, InvalidValueError, "confidence is 1.0"),
        ({"confidence": 95}, InvalidValueError, "confidence is 95"),
        ({"device": "tpu"}, InvalidValueError, "'tpu'"),
        ({"b": torch.ones(2)}, InvalidDTypeError, "b is a Tensor; pass a function"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(arguments, error, words):
    def never():
        raise AssertionError("must not run")

    with pytest.raises(error, match=words):
        paired(**{"a": never, "b": never, **arguments})


def test_calls_too_short_for_the_clock_are_refused(now):
    with pytest.raises(InvalidStateError, match="more work per call"):
        paired(lambda: None, lambda: None, repeats=6)


def test_a_cpu_clock_that_stood_still_gives_no_cpu_ratio(now):
    found = paired(work(now, [], "a", [1.0] * 8, cpu=0.0), work(now, [], "b", [1.0] * 8), repeats=6)
    assert found.cpu_ratio is None
    assert found.ratio == 1.0


def test_an_exception_of_the_work_comes_through():
    def fail():
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        paired(fail, fail)


def test_load_is_recorded_or_unknown(now, monkeypatch):
    def compare():
        return paired(work(now, [], "a", [1.0] * 6), work(now, [], "b", [1.0] * 6), repeats=6, warmup=0)

    loads = iter([(0.5, 0.0, 0.0), (1.5, 0.0, 0.0)])
    monkeypatch.setattr(comparison.os, "getloadavg", lambda: next(loads), raising=False)
    assert compare().load == (0.5, 1.5)
    monkeypatch.delattr(comparison.os, "getloadavg")
    assert compare().load is None
    assert "load" not in str(compare())


def test_it_reads_as_one_line_and_as_json():
    found = Comparison(
        names=("int8", "float32"), repeats=21, seconds=(0.0009997, 0.0123), cpu_seconds=(0.002, 0.02), ratio=0.0812,
        low=0.08, high=0.083, confidence=0.973, cpu_ratio=None, ratios=(0.08,) * 21, load=(0.1, 0.25), device="cpu",
    )  # fmt: skip
    assert str(found) == (
        "int8 / float32: 0.0812 of the time (97% interval 0.08 to 0.083, 21 pairs), 1 ms against 12.3 ms on cpu, "
        "load 0.1 to 0.2"
    )
    data = json.loads(json.dumps(found.to_dict()))
    assert list(data) == [
        "names", "repeats", "seconds", "cpu_seconds", "ratio", "low", "high", "confidence", "cpu_ratio", "ratios",
        "load", "device",
    ]  # fmt: skip
    assert data == found.to_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_larger_product_takes_longer():
    small, large = torch.ones(1024, 1024, device="cuda"), torch.ones(4096, 4096, device="cuda")
    found = paired(lambda: small @ small, lambda: large @ large, device="cuda")
    assert found.device == "cuda:0"
    assert found.high < 1
