"""Measures of compatibility: the table of the docstring by simulation, invariances, and hostile tensors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.tether.compatibility import MEASURES, compatibility, matched, null_distribution

ANGLES = ["cosine", "centred", "update", "cka"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def simulated(measure, make, *shape, draws=300):
    found = [compatibility(make(*shape, seed=2 * i), make(*shape, seed=2 * i + 1), measure) for i in range(draws)]
    return torch.tensor(found, dtype=torch.float64)


def test_the_dot_product_of_uniform_tethers_passes_any_threshold():
    found = simulated("dot", uniform, 64, 64)
    assert found.mean() == pytest.approx(1024, abs=3) and found.std() == pytest.approx(14, abs=2)
    assert found.min() > 900


def test_cosine_of_uniform_tethers_is_three_quarters():
    found = simulated("cosine", uniform, 64, 64)
    assert found.mean() == pytest.approx(0.75, abs=0.002) and found.std() < 0.008


@pytest.mark.parametrize(
    ("measure", "make"), [("cosine", normal), ("centred", normal), ("centred", uniform), ("update", normal)]
)
def test_chance_gives_one_over_the_root_of_the_entries(measure, make):
    found = simulated(measure, make, 1600)
    assert found.mean() == pytest.approx(0, abs=0.006) and found.std() == pytest.approx(1 / 40, rel=0.15)
    assert (found > 0.1).float().mean() < 0.01


@pytest.mark.parametrize("features", [5, 50, 200])
def test_cka_by_chance_is_nothing_however_many_features(features):
    found = simulated("cka", normal, 50, features, draws=150)
    assert found.mean() == pytest.approx(0, abs=0.015) and found.max() < 0.3


@pytest.mark.parametrize("measure", ANGLES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), samples=st.integers(4, 12), features=st.integers(1, 6))
def test_ranges_symmetry_and_self(measure, seed, samples, features):
    a, b = normal(samples, features, seed=seed), normal(samples, features, seed=seed + 1)
    found = compatibility(a, b, measure)
    assert -1 <= found <= 1 and found == pytest.approx(compatibility(b, a, measure), abs=1e-12)
    assert compatibility(a, a, measure) == pytest.approx(1, abs=1e-6)
    assert compatibility(a, -3 * a, measure) == pytest.approx(1 if measure == "cka" else -1, abs=1e-6)


@pytest.mark.parametrize("measure", ANGLES)
@settings(max_examples=20, deadline=None)
@given(scale=st.floats(-280, 280))
def test_scale_does_not_matter(measure, scale):
    a, b = normal(8, 3), normal(8, 3, seed=1)
    assert compatibility(a * 10**scale, b, measure) == pytest.approx(compatibility(a, b, measure), abs=1e-9)


def test_cka_is_invariant_to_rotation_shift_and_width():
    a, b = normal(20, 6), normal(20, 4, seed=1)
    rotation = torch.linalg.qr(normal(6, 6, seed=2)).Q
    expected = compatibility(a, b, "cka")
    for other in (a @ rotation, a + 1000 * normal(6, seed=3), torch.cat([a, a], 1), a[:, [3, 1, 0, 2, 5, 4]]):
        assert compatibility(other, b, "cka") == pytest.approx(expected, abs=1e-9)
    assert compatibility(a @ rotation, a, "cka") == pytest.approx(1)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_one_permutation_of_both_does_not_matter(measure):
    a, b = uniform(20, 6), uniform(20, 6, seed=1)
    order = torch.randperm(20, generator=generator())
    assert compatibility(a[order], b[order], measure) == pytest.approx(compatibility(a, b, measure), abs=1e-9)
    assert abs(compatibility(a[order], b, measure) - compatibility(a, b, measure)) > 1e-6


def test_centred_is_invariant_to_shift():
    a, b = normal(200), normal(200, seed=1)
    assert compatibility(a + 1e4, b, "centred") == pytest.approx(compatibility(a, b, "centred"), abs=1e-6)


def test_unbiased_hsic_against_its_sum_over_quadruples():
    """Song et al. 2012: the mean over ordered quadruples of different samples."""
    a, b = normal(6, 2), normal(6, 3, seed=1)

    def hsic(x, y):
        k, m = x @ x.T, y @ y.T
        places = [(i, j, q, r) for i in range(6) for j in range(6) for q in range(6) for r in range(6)]
        found = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in places if len({i, j, q, r}) == 4]
        return float(torch.stack(found).mean())

    expected = hsic(a, b) / math.sqrt(hsic(a, a) * hsic(b, b))
    assert compatibility(a, b, "cka") == pytest.approx(expected)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_zeros_constants_and_nan(measure):
    a, zero = normal(8, 3), torch.zeros(8, 3)
    assert compatibility(a, zero, measure) == compatibility(zero, a, measure) == compatibility(zero, zero, measure) == 0
    for bad in (math.nan, math.inf):
        spoilt = a.clone()
        spoilt[2, 1] = bad
        assert not math.isfinite(compatibility(spoilt, a, measure))
    if measure in ("centred", "cka"):  # what is left of a constant is rounding
        constant = torch.full((8, 3), 0.1)
        assert compatibility(constant, constant, measure) == compatibility(constant, a, measure) == 0


@pytest.mark.parametrize("measure", ["cosine", "centred", "update", "dot"])
def test_empty_tensors_have_nothing_in_common(measure):
    assert compatibility(torch.ones(0, 3), torch.ones(0, 3), measure) == 0
    assert compatibility({"w": torch.ones(0)}, {"w": torch.ones(0)}, measure) == 0


@pytest.mark.parametrize("measure", ANGLES)
def test_half_precision_does_not_overflow(measure):
    a, b = (1000 * normal(64, 64, seed=i) for i in range(2))
    found = compatibility(a.half(), b.half(), measure)
    assert found == pytest.approx(compatibility(a, b, measure), abs=1e-3)
    assert compatibility(a.half(), a.half(), measure) == pytest.approx(1)


def test_integers_are_numbers_too():
    a, b = torch.tensor([2**53 - 1, 1]), torch.tensor([0, 3])
    assert compatibility(a, b, "dot") == 3 and compatibility(a, a) == pytest.approx(1)
    assert compatibility(torch.tensor([True, False]), torch.tensor([True, True])) == pytest.approx(0.5**0.5)


def test_gradients_are_not_in_the_way():
    a = normal(3).requires_grad_()
    assert compatibility(a, a) == pytest.approx(1)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_complex_tensors_are_refused(measure):
    a = torch.ones(8, 2, dtype=torch.complex64)
    with pytest.raises(InvalidDTypeError, match="complex"):
        compatibility(a, a, measure)
    with pytest.raises(InvalidDTypeError, match="complex"):
        compatibility({"w": a, "v": a.real}, {"w": a, "v": a.real}, measure)


@pytest.mark.parametrize(
    ("a", "b", "options", "error"),
    [
        (torch.ones(3), torch.ones(4), {}, InvalidValueError),
        (torch.ones(3, 2), torch.ones(2, 3), {}, InvalidValueError),
        (torch.ones(3, 1), torch.ones(1, 3), {"measure": "centred"}, InvalidValueError),
        (torch.ones(3, 2), torch.ones(3, 2), {"measure": "cka"}, InvalidValueError),
        (torch.ones(4, 2), torch.ones(5, 2), {"measure": "cka"}, InvalidValueError),
        (torch.tensor(1.0), torch.tensor(1.0), {"measure": "cka"}, InvalidValueError),
        (torch.ones(3), torch.ones(3), {"measure": "euclid"}, InvalidValueError),
        ({"w": torch.ones(3)}, {"w": torch.ones(3)}, {"part": "input"}, InvalidValueError),
        (torch.ones(3), {"w": torch.ones(3)}, {}, InvalidDTypeError),
        ({}, {}, {}, InvalidValueError),
        ({"w": torch.ones(3)}, {"v": torch.ones(3)}, {}, InvalidValueError),
        ({"n": torch.ones(3, dtype=torch.long)}, {"n": torch.ones(3, dtype=torch.long)}, {}, InvalidValueError),
    ],
)
def test_what_cannot_be_compared(a, b, options, error):
    with pytest.raises(error):
        compatibility(a, b, **options)


def test_errors_say_why():
    with pytest.raises(InvalidValueError, match=r"w: shapes \(3,\) and \(4,\)"):
        compatibility({"w": torch.ones(3)}, {"w": torch.ones(4)})
    with pytest.raises(InvalidValueError, match=r"n: torch\.int64"):
        compatibility({"n": torch.ones(3, dtype=torch.long)}, {"n": torch.ones(3, dtype=torch.long)})


def test_parts():
    a = {
        "in": torch.tensor([[3.0, 0.0]]),
        "out": torch.tensor([[4.0]]),
        "bias": torch.tensor([0.0]),
        "n": torch.ones(1).long(),
    }
    b = {
        "in": torch.tensor([[0.0, 3.0]]),
        "out": torch.tensor([[4.0]]),
        "bias": torch.tensor([1.0]),
        "n": torch.ones(1).long(),
    }
    assert compatibility(a, b) == pytest.approx(16 / (5 * math.sqrt(26)))
    assert compatibility(a, b, part="output") == pytest.approx(1)
    assert compatibility(a, b, part="layers") == pytest.approx(1 / 3)
    vectors = {"first": torch.ones(2), "last": torch.tensor([0.0, 2.0])}
    assert compatibility(vectors, {"first": -torch.ones(2), "last": torch.tensor([0.0, 1.0])}, part="output") == 1


def test_unequal_architectures_compare_what_they_share():
    a = {"shared": normal(3, 2), "wide": normal(5, 2), "only": normal(1)}
    b = {"wide": normal(6, 2), "other": normal(1), "shared": a["shared"] * 2}
    found = matched(a, b)
    assert found.names == ("shared",)
    assert found.left_out == {
        "wide": "shapes (5, 2) and (6, 2)", "only": "only in the first", "other": "only in the second"
    }  # fmt: skip
    assert compatibility(a, b) == pytest.approx(1) and compatibility(b, a) == pytest.approx(1)


def test_cka_of_named_representations_is_the_mean():
    a, b = ({name: normal(12, 3, seed=seed + i) for i, name in enumerate("xy")} for seed in (0, 5))
    expected = sum(compatibility(a[name], b[name], "cka") for name in "xy") / 2
    assert compatibility(a, b, "cka") == pytest.approx(expected)


@pytest.mark.parametrize(("measure", "make"), [("cosine", normal), ("cka", normal), ("dot", uniform)])
def test_threshold_has_the_stated_confidence(measure, make):
    below = []
    for trial in range(50):
        a, b = make(15, 4, seed=trial), make(15, 4, seed=trial + 500)
        null = null_distribution(a, b, measure, confidence=0.9, draws=49, generator=generator(trial))
        fresh = null_distribution(a, b, measure, confidence=0.5, draws=2, generator=generator(trial + 900))
        other = [fresh.mean + sign * fresh.std / math.sqrt(2) for sign in (-1, 1)]  # the two draws themselves
        below += [value <= null.threshold for value in other]
    assert sum(below) / len(below) == pytest.approx(0.9, abs=0.09)  # ± 3 standard deviations


def test_null_finds_what_uniform_entries_have_in_common():
    a, b = uniform(64, 64), uniform(64, 64, seed=1)
    null = null_distribution(a, b, generator=generator())
    assert null.mean == pytest.approx(0.75, abs=0.01) and compatibility(a, b) < null.threshold < 0.78
    assert compatibility(a, a) > null.threshold


def test_null_is_drawn_by_the_generator():
    a, b = normal(30), normal(30, seed=1)
    assert null_distribution(a, b, generator=generator(1)) == null_distribution(a, b, generator=generator(1))
    assert null_distribution(a, b, generator=generator(1)) != null_distribution(a, b, generator=generator(2))


@pytest.mark.parametrize("options", [{"confidence": 1}, {"confidence": 0}, {"draws": 1}, {"draws": 98}, {"draws": 0}])
def test_null_refuses(options):
    with pytest.raises(InvalidValueError):
        null_distribution(normal(5), normal(5), **options)
    with pytest.raises(InvalidValueError):
        null_distribution(normal(5), normal(6))


def test_the_highest_of_ninety_nine_is_enough_for_a_confidence_of_99():
    assert null_distribution(normal(5), normal(5, seed=1), draws=99).std > 0
