"""M1's judge on figures that are made up, its inputs, and its measurement on a small scale."""

import pytest
import torch

from tithe import data
from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m1_measure
from tithe.audit.claims._m1_inputs import inputs
from tithe.audit.claims.m1_products import CLAIM, judge
from tithe.errors import DataUnavailableError


def row(
    name="smooth",
    error=0.005,
    share=0.15,
    time=0.15,
    n=1024,
    role="tithe",
    upper=0.006,
    method="fourier(0.1)",
    asked="ratio=0.2",
):
    return {"input": name, "n": n, "asked": asked, "method": method, "role": role, "share": share, "error": error,
            "upper": upper, "time": time, "time_low": time and 0.9 * time,
            "time_high": time and 1.1 * time}  # fmt: skip


def evidence(*rows, limits=()):
    return Evidence({"products": Table("", rows), "limits": Table("", list(limits))})


def test_holds_where_every_input_and_size_is_reached_in_both_units():
    both = row(), row("other"), row("other", n=2048)
    assert judge(evidence(*both)).verdict == "holds"
    assert judge(evidence(*both, row(n=2048, time=None))).verdict == "holds if"


@pytest.mark.parametrize("given", [{"error": 0.011}, {"share": 0.21, "time": 0.17}, {"share": 0.21, "time": None}])
def test_what_is_not_within_the_claim(given):
    finding = judge(evidence(row(), row("other", **given)))
    assert finding.verdict == "holds if"
    assert "the cost is counted in multiply–adds and the operands are smooth" in finding.condition
    assert ("in seconds on this machine and the operands are smooth or other" in finding.condition) == (
        given.get("time") == 0.17
    )


def test_a_time_counts_with_its_interval():
    finding = judge(evidence(row(time=0.19), row("other", time=0.15)))
    assert finding.verdict == "holds if"
    assert "in seconds on this machine and the operands are other." in finding.condition


def test_sizes_that_are_needed_are_named():
    finding = judge(evidence(row(n=1024, error=0.02), row(n=2048), row("other"), row("other", n=2048)))
    assert "smooth (n = 2,048) or other" in finding.condition


def test_seconds_that_were_not_measured_are_no_claim():
    finding = judge(evidence(row(time=None)))
    assert finding.verdict == "holds if"
    assert "seconds left out" in finding.summary


def test_fails_where_no_input_is_reached_and_peers_do_not_count():
    assert judge(evidence(row(error=0.02), row(role="peer", share=0.1))).verdict == "fails"


def test_the_reason_says_what_nothing_could_do_and_what_one_would_take():
    limits = [{"input": "noise", "n": 1024, "rank": 204, "error": 0.56}]
    noise = row("noise", error=0.9, upper=None, method="sampled(0.15)")
    peer = row(role="peer", method="bfloat16", share=1.0, error=0.003, time=0.08)
    finding = judge(evidence(row(upper=None), noise, peer, limits=limits))
    assert "noise errs by 90%, and even the best matrix of rank 0.2n by 56%" in finding.reason
    assert "Of the 1 products within the claim, 0 say so themselves" in finding.reason
    assert "bfloat16 errs by 0.3% in 8% of the time at most, as claimed on 1 of 1" in finding.reason
    assert "Asked for 1%" not in finding.reason
    exact = row("noise", error=0.0, share=1.1, method="exact", asked="tol=0.01")
    assert "takes the plain product there" in judge(evidence(row(), noise, exact)).reason


def test_unmeasured_without_products_and_always_the_same():
    assert judge(Evidence()).verdict == "unmeasured"
    found = evidence(row(), row("other", error=0.5))
    assert judge(found) == judge(found)


def nowhere(name):
    raise DataUnavailableError(f"data set {name!r} is nowhere. Put it there.")


@pytest.fixture(scope="module")
def makers():
    """Without photographs where they would have to be fetched."""
    with pytest.MonkeyPatch.context() as patch:
        if not data.available("fashion-mnist"):
            patch.setattr(data, "load", nowhere)
        return inputs(Run())[0]


def test_inputs_are_repeatable_and_have_the_structure_they_are_named_after(makers):
    run = Run(seed=1)
    for name, maker in makers.items():
        A, B = _m1_measure._operands(run, maker, name, 96)
        again = _m1_measure._operands(run, maker, name, 96)
        assert torch.equal(A, again[0]) and torch.equal(B, again[1])
        assert A.shape[0] == B.shape[1] == 96 and A.dtype == B.dtype == torch.float32
        values = torch.linalg.svdvals(A.double() @ B.double())
        few = float(values[40:].norm() / values.norm())
        assert (few > 0.2) == (name in ("normal", "ReLU of normal × normal")), name


def test_without_photographs_the_other_inputs_are_left(monkeypatch):
    monkeypatch.setattr(data, "load", nowhere)
    makers, notes = inputs(Run())
    assert len(makers) == 7
    assert notes == ["Without photographs: data set 'fashion-mnist' is nowhere."]


def test_errors_and_shares_are_those_of_the_products(makers):
    run = Run(seed=3)
    rows, limits = _m1_measure._errors(run, makers["normal"], "normal", 512, best=True)
    assert [r["asked"] for r in rows] == ["ratio=0.1", "ratio=0.2", "tol=0.01"]
    for found in rows[:2]:
        assert found["share"] <= float(found["asked"][6:])
        assert found["error"] > limits[0]["error"] > 0.4
    assert (rows[2]["method"], rows[2]["upper"]) == ("exact", 0.0) and rows[2]["error"] < 1e-5
    rows, limits = _m1_measure._errors(run, makers["slow signals"], "slow signals", 512, best=True)
    assert not limits
    assert min(r["error"] for r in rows) < 1e-3


def test_only_what_is_accurate_is_timed(makers):
    run = Run(seed=4)
    rows, _ = _m1_measure._errors(run, makers["slow signals"], "slow signals", 512, best=False)
    bad = {**rows[1], "error": 0.5}
    notes = list(_m1_measure._time(run, makers, [rows[1], bad]))
    assert rows[1]["time_low"] <= rows[1]["time"] <= rows[1]["time_high"]
    assert bad["time"] is None and len(notes) == 1


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "holds if"
    assert "uniform on [0, 1]" in finding.condition and "best matrix of rank 0.2n" in finding.reason
