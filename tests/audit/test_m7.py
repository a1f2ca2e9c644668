"""M7's judge on figures that are made up, its circuits against their matrices, and its measurement on a small scale."""

import math

import pytest
import torch

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m7_measure
from tithe.audit.claims._m7_circuits import apply_gate, cross_entropy, embedded, fidelities, gate_share, haar
from tithe.audit.claims.m7_quantum import CLAIM, judge


def row(method="sampled at 0.5", role="product", share=0.5, fidelity=0.3, qubits=10, depth=16, error=1.7):
    return {
        "qubits": qubits, "depth": depth, "method": method, "role": role, "share": share, "error": error,
        "fidelity": fidelity, "low": None, "high": None, "isotropic": 1 / (1 + error**2), "xeb": 0.1, "xeb_one": 1.02,
        "states": 8,
    }  # fmt: skip


def around(fidelity=1.0, **given):
    return row("gates by reshaping", "structured", 0.004, fidelity, error=1e-6, **given)


def evidence(*rows):
    isotropy = [
        {"kind": "isotropic", "error": 1.1, "fidelity": 0.451, "theory": 0.4525},
        {"kind": "proportional", "error": 2.0, "fidelity": 1.0, "theory": 1.0},
    ]
    times = [{"qubits": 9, "method": "int8", "time": 0.8}]
    return Evidence({"states": Table("", rows), "isotropy": Table("", isotropy), "times": Table("", times)})


def test_holds_where_a_product_keeps_the_state_at_every_size():
    kept = [row(fidelity=1.0, qubits=q) for q in (10, 11)]
    assert judge(evidence(*kept, around())).verdict == "holds"
    assert judge(evidence(kept[0], row(qubits=11), around())).verdict == "holds if"


def test_holds_if_the_way_around_is_exact():
    finding = judge(evidence(row(), around()))
    assert finding.verdict == "holds if"
    assert "by reshaping" in finding.condition
    assert "0.4% of the work" in finding.summary
    assert "F at most 0.300" in finding.summary


def test_fails_where_nothing_keeps_the_state():
    assert judge(evidence(row(), around(fidelity=0.9999))).verdict == "fails"
    assert judge(evidence(row())).verdict == "fails"


def test_more_than_half_of_the_work_and_shallower_products_do_not_count():
    assert judge(evidence(row(fidelity=1.0, share=0.75))).verdict == "fails"
    assert judge(evidence(row(fidelity=1.0, depth=1), row())).verdict == "fails"


def test_the_reason_says_what_an_isotropic_error_leaves():
    reduced = [row("int8", "reduced", 0.75, 0.9961, error=0.06), row("int8", "reduced", 0.75, error=0.015, depth=1)]
    reason = judge(evidence(row(), *reduced, around())).reason
    assert "F = 1/(1 + ε²)" in reason and "at 110% that is 0.45" in reason
    assert "no more than 0.07% of the state" in reason
    assert "int8 errs by 6% (1.5% after one product) and keeps F = 0.996100 (80% of the time)" in reason


def test_unmeasured_without_states_and_always_the_same():
    assert judge(Evidence()).verdict == "unmeasured"
    found = evidence(row(), around())
    assert judge(found) == judge(found)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_gates_by_reshaping_are_the_products_of_their_matrices(k):
    states = torch.randn(32, 7, dtype=torch.complex64, generator=generator())
    gate = haar(2**k, generator(1))
    for first in range(6 - k):
        by_product = embedded(gate, first, 5) @ states
        torch.testing.assert_close(apply_gate(states, gate, first), by_product)


def test_gates_cost_their_share():
    assert gate_share(3, 12) * 4.0**12 == 2.0 ** (12 + 3)


def test_haar_unitaries_have_the_moments_of_haar():
    """|entries|² have mean 1/n and, as Haar measure says, second moment 2/(n(n + 1)); phases of the trace are even."""
    drawn = torch.stack([haar(8, generator(seed)) for seed in range(400)])
    squares = drawn.abs().square()
    assert float(squares.mean()) == pytest.approx(1 / 8, rel=1e-4)
    assert float(squares.square().mean()) == pytest.approx(2 / 72, rel=0.03)
    assert float(drawn.diagonal(dim1=1, dim2=2).sum(1).mean().abs()) < 0.15
    assert float(drawn.diagonal(dim1=1, dim2=2).sum(1).abs().square().mean()) == pytest.approx(1, rel=0.2)


def test_fidelity_and_xeb_of_what_they_are_known_for():
    U = haar(512, generator())
    noise = haar(512, generator(1))
    assert fidelities(2j * U, U).sub(1).abs().max() < 1e-6
    assert float(fidelities(noise, U).mean()) == pytest.approx(1 / 512, rel=0.2)
    assert float(cross_entropy(U, U).mean()) == pytest.approx(1, abs=0.03)
    assert float(cross_entropy(noise, U).mean()) == pytest.approx(0, abs=0.03)


def test_isotropic_errors_leave_what_theory_says_and_proportional_ones_all():
    rows = list(_m7_measure._isotropy(Run(seed=3), haar(256, generator())[:, :128]))
    for found in rows:
        assert found["fidelity"] == pytest.approx(found["theory"], abs=0.015)
    assert min(r["fidelity"] for r in rows if r["kind"] == "proportional") > 1 - 1e-9
    assert max(r["error"] for r in rows if r["kind"] == "proportional") == 2.0


@pytest.fixture(scope="module")
def measured():
    run = Run(seed=1)
    drawn = [haar(64, run.generator(i)) for i in range(3)]
    return [*_m7_measure._dense(run, 6, drawn, 64), *_m7_measure._gates(run, 6, 64)]


def test_reduced_products_keep_what_their_isotropic_error_leaves(measured):
    rows = [r for r in measured if r["role"] == "reduced"]
    assert {r["method"] for r in rows} == {"float16", "bfloat16", "int8"}
    for found in rows:
        assert found["fidelity"] == pytest.approx(1 / (1 + found["error"] ** 2), abs=0.1 * found["error"] ** 2 + 1e-7)
        assert found["error"] > 1e-4
    errors = {r["depth"]: r["error"] for r in rows if r["method"] == "bfloat16"}
    assert errors[16] / errors[1] == pytest.approx(4, rel=0.25)  # they add in square


def test_sampling_loses_the_state_and_structured_ways_do_not(measured):
    for found in measured:
        if found["role"] == "structured":
            assert found["fidelity"] > 0.9999995
            assert found["share"] in (1 / 64, 4 / 64)
        if found["method"] == "sampled at 0.5" and found["depth"] == 1:
            assert found["error"] == pytest.approx(math.sqrt(3), rel=0.15)  # shares of 2/3 in each of three products
            assert found["fidelity"] == pytest.approx(0.25, abs=0.05)


def test_shares_are_those_that_the_methods_are_called_after(measured):
    for found in measured:
        if found["role"] == "product":
            assert found["share"] == pytest.approx(float(found["method"].split()[-1]), rel=0.1)


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "holds if"
    assert "F = 1/(1 + ε²)" in finding.reason
