"""M6's judge on figures that are made up, its liquid against what is known, and its products against the pair sum."""

import math

import numpy as np
import pytest
import torch

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m6_measure
from tithe.audit.claims._m6_liquid import (
    CUT,
    DENSITY,
    PUBLISHED,
    TAIL,
    Chain,
    pair_sum,
    run_chain,
    side_of,
    standard_error,
    start,
    try_moves,
)
from tithe.audit.claims._m6_products import along_curve, energy_of_square, energy_of_waves, sixth_powers, waves
from tithe.audit.claims.m6_monte_carlo import CLAIM, CLAIMED, judge
from tithe.product.estimators import from_name
from tithe.product.pair import Pair


def rows(factor=1.0, run=None, role="fourier", share=0.5, low=1.0, method="fourier(0.5)", **given):
    """One method at every size: ratios as factors of the claimed ones, their lower ends as factors of these."""
    return [
        {"n": n, "over": "particles", "method": method, "role": role, "share": share, "matrix": 0.4, "bias": -2.5,
         "bias_low": -2.6, "bias_high": -2.4, "rms": 2.5, "one": factor * claimed, "one_low": low * factor * claimed,
         "run": (run or factor) * claimed, "run_low": low * (run or factor) * claimed, "corrected": 0.7, "spread": 13.0,
         **given}
        for n, claimed in CLAIMED.items()
    ]  # fmt: skip


def evidence(*methods):
    liquid = [{"n": n, "one": 0.07, "run": 0.01} for n in CLAIMED]
    times = [{"n": 512, "way": "sum over pairs", "share": 0.01, "time": 0.1}]
    tables = {"errors": [row for method in methods for row in method], "liquid": liquid, "times": times}
    return Evidence({name: Table("", found) for name, found in tables.items()}, facts={"drift": 1e-13})


def test_holds_where_a_fourier_basis_reaches_every_figure_for_the_run():
    assert judge(evidence(rows(1.1))).verdict == "holds"


def test_holds_if_only_a_configuration_hides_the_error():
    finding = judge(evidence(rows(1.1, run=0.2)))
    assert finding.verdict == "holds if"
    assert finding.condition == "the noise is that of a single configuration and the energy comes from a Fourier basis."


def test_holds_if_another_product_reaches_them():
    finding = judge(evidence(rows(0.01), rows(1.1, role="product", method="a")))
    assert finding.verdict == "holds if"
    assert "other than by a Fourier basis" in finding.condition


@pytest.mark.parametrize("given", [{"share": 0.51}, {"low": 0.8}, {"role": "weights"}, {"role": "reduced"}])
def test_fails_where_it_costs_more_is_unsure_or_is_no_such_product(given):
    found = evidence(rows(0.01), rows(1.1, **given))
    assert judge(found).verdict == "fails"


def test_the_reason_says_what_hides_and_what_does_not():
    weights = rows(1e6, role="weights", method="sampled(0.18)", matrix=1.24, rms=2e-7)
    reduced = rows(role="reduced", method="int8", share=1.0, one=54.0)
    found = evidence(rows(0.001), rows(0.002, over="waves", method="0.5·N slices"), weights, reduced)
    finding = judge(found)
    assert finding.summary.endswith("errs by 7.8 times the noise of a configuration or more.")
    assert (
        "int8 (all multiply–adds in fewer bits, N = 512) has 54 for a configuration and 1 for a run" in finding.reason
    )
    assert "a run 424 times too short" in finding.reason
    assert "sampled(0.18) errs by 124% of the matrix and 2e-07 in the energy" in finding.reason
    assert "0.5·N slices −2.5" in finding.reason
    assert "sum over pairs 1% of the multiply–adds and 10% of the seconds" in finding.reason


def test_unmeasured_without_errors_and_always_the_same():
    assert judge(Evidence()).verdict == "unmeasured"
    found = evidence(rows(0.01))
    assert judge(found) == judge(found)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return run_chain(128, 400, 120, 10, generator())


def summed(positions, side):
    """The energy of all pairs, written down once more."""
    distance = positions[:, :, None] - positions[:, None, :]
    r = np.sqrt(((distance - side * np.rint(distance / side)) ** 2).sum(0))[np.triu_indices(positions.shape[1], 1)]
    return float((4 * (r**-12 - r**-6))[r < CUT].sum())


@pytest.mark.parametrize("n", [128, 256])
def test_the_pair_sum_and_the_differences_of_moves_agree(n):
    rng = np.random.default_rng(0)
    positions, side = start(n, rng), side_of(n)
    before = pair_sum(positions, side)
    assert before == pytest.approx(summed(positions, side))
    change, accepted = try_moves(positions, side, 20 * n, rng)
    assert 0 < accepted < 20 * n
    assert pair_sum(positions, side) - before == pytest.approx(change, abs=1e-8)
    assert positions.min() >= 0 and positions.max() < side


def test_the_liquid_has_its_published_energy(chain):
    """To within its own noise and what cut-offs of 2.5 and 3 make of it."""
    assert float(chain.energies.mean()) == pytest.approx(PUBLISHED, abs=0.05)
    assert 0.2 < chain.accepted < 0.5
    assert 0.04 < chain.energies.std() < 0.1
    assert chain.energies[:60].mean() == pytest.approx(chain.energies[60:].mean(), abs=0.06)  # nothing drifts


def test_chains_are_repeatable_and_differ_by_seed(chain):
    again, other = (run_chain(128, 400, 1, 10, generator(seed)) for seed in (0, 1))
    assert again.energies[0] == chain.energies[0]
    assert other.energies[0] != chain.energies[0]


def test_the_tail_is_the_integral_beyond_the_cut_off():
    r = CUT / (1 - (np.arange(100_000) + 0.5) / 100_000)  # r = cut/(1 − t), dr = r²/cut dt
    integral = 2 * math.pi * DENSITY * float((4 * (r**-12 - r**-6) * r**2 * r**2 / CUT).mean())
    assert pytest.approx(integral, rel=1e-6) == TAIL


def test_the_standard_error_sees_what_values_remember():
    values = np.random.default_rng(0).standard_normal(4000)
    assert standard_error(values) == pytest.approx(1 / math.sqrt(4000), rel=0.15)
    assert standard_error(np.repeat(values[:400], 10)) == pytest.approx(1 / math.sqrt(400), rel=0.15)


def test_the_square_of_sixth_powers_holds_the_energy(chain):
    for positions, energy in zip(chain.configurations[::40], chain.energies[::40], strict=True):
        W = sixth_powers(positions)
        assert energy_of_square(W @ W, W) == pytest.approx(energy, abs=1e-5)
        ordered = along_curve(positions)
        assert sorted(map(tuple, ordered.T)) == sorted(map(tuple, positions.T))
        assert np.linalg.norm(np.diff(ordered), axis=0).mean() < np.linalg.norm(np.diff(positions), axis=0).mean()


def test_waves_come_near_the_energy_as_they_get_many(chain):
    positions, energy = chain.configurations[-1], chain.energies[-1]
    found = []
    for share in (1, 10, 200):
        A, B = waves(positions, share * 128)
        assert (A.shape, B.shape) == ((128, share * 128), (share * 128, 128))
        found.append(abs(energy_of_waves(A @ B) - energy))
    assert found[0] > 10 > 3 > found[1] > found[2]
    assert found[2] < 0.3


def test_pairs_of_waves_depend_on_their_distance_alone(chain):
    positions = chain.configurations[0]
    shifted = np.ascontiguousarray((positions + np.array([[0.3], [1.1], [2.2]])) % side_of(128))
    A, B = waves(positions, 1280)
    C, D = waves(shifted, 1280)
    torch.testing.assert_close(A @ B, C @ D, rtol=1e-3, atol=1e-2)


def test_dropped_frequencies_are_always_missing_and_weights_hold_the_trace(chain):
    for positions, energy in zip(chain.configurations[::30], chain.energies[::30], strict=True):
        W = sixth_powers(along_curve(positions))
        by = {
            name: energy_of_square(from_name(name).multiply(Pair(W, W), generator=generator()).tensor(W.dtype), W)
            for name in ("fourier(0.5)", "fourier(0.2)", "truncated(0.5)", "sampled(0.2)")
        }
        assert by["fourier(0.2)"] < by["fourier(0.5)"] < energy - 1
        assert by["truncated(0.5)"] < energy - 1
        assert by["sampled(0.2)"] == pytest.approx(energy, abs=1e-5)


def test_rows_of_errors_are_what_they_are_called(chain):
    few = Chain(chain.energies, chain.configurations[::40], chain.accepted)
    method = _m6_measure._Method("particles", "m", "product", 0.5)
    errors = np.array([0.3, 0.5, 0.4])
    found = _m6_measure._error_row(128, method, [_m6_measure._Errors(errors, 0.1)] * 2, [few, few])
    assert found["bias"] == pytest.approx(0.4) and found["rms"] == pytest.approx(math.sqrt((errors**2).mean()))
    assert found["one"] == pytest.approx(few.energies.std(ddof=1) / found["rms"])
    assert found["run"] == pytest.approx(standard_error(few.energies) / 0.4)
    assert found["corrected"] == pytest.approx(few.energies.std(ddof=1) / 0.1)
    assert found["spread"] == pytest.approx(0.1 * 128 / 0.85)


def test_every_method_looks_at_the_same_configurations(chain):
    looks = dict(_m6_measure._looks(Run(), chain, 30, 0))
    errors = {method.name: some.errors for method, some in looks.items()}
    assert len(errors["exact"]) == 4 and np.abs(errors["exact"]).max() < 1e-5
    assert {"fourier", "product", "weights", "reduced", "exact"} == {method.role for method in looks}
    for method in looks:
        if method.role in ("product", "weights") or method.name.endswith(("(0.5)", "(0.48))")):
            assert method.share <= 0.5


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "fails"
    assert "a sum of squares over frequencies" in finding.reason
