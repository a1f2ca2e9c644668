import math

import pytest
import torch
from families import ERRORS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product import certify
from tithe.product.certificate import norm_bounds, relative_bound, safety_factor


@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("shape", ERRORS)
def test_bound_covers_every_shape_of_error(shape: str, confidence: float) -> None:
    g = torch.Generator().manual_seed(sum(map(ord, shape)))
    E, trials = ERRORS[shape](48, g), 400
    norm = float(E.norm())
    missed = sum(norm_bounds(E @ torch.randn(48, 16, generator=g), 1 - confidence)[1] < norm for _ in range(trials))
    assert missed <= stats.binom.ppf(0.999, trials, 1 - confidence)


def test_bound_is_tight_enough_to_use() -> None:
    g = torch.Generator().manual_seed(0)
    for shape, most in (("rank one", 2.1), ("dense", 1.6)):
        E = ERRORS[shape](256, g)
        ratios = [norm_bounds(E @ torch.randn(256, 16, generator=g), 1e-3)[1] / float(E.norm()) for _ in range(200)]
        assert torch.tensor(ratios).median() <= most


def test_estimate_is_unbiased_in_its_square() -> None:
    g = torch.Generator().manual_seed(1)
    E = ERRORS["dense"](32, g)
    squares = torch.tensor([norm_bounds(E @ torch.randn(32, 8, generator=g), 0.01)[0] ** 2 for _ in range(2000)])
    assert squares.mean() == pytest.approx(float(E.norm()) ** 2, rel=0.03)


@given(st.integers(1, 80), st.floats(1e-9, 0.2), st.floats(1, 1e4))
@settings(max_examples=60, deadline=None)
def test_safety_factor_never_exceeds_rank_one(probes: int, failure: float, directions: float) -> None:
    worst = safety_factor(probes, failure, directions=1)
    assert 1 <= safety_factor(probes, failure, directions=directions) <= worst * (1 + 1e-6)
    assert worst >= math.sqrt(probes / stats.chi2.ppf(failure, probes)) * (1 - 1e-9)


def test_certify_covers_the_true_error_and_names_its_scope() -> None:
    g = torch.Generator().manual_seed(2)
    A, B = torch.rand(3, 40, 50, generator=g), torch.rand(50, 30, generator=g)
    C = A @ B
    C[1] += 0.02 * C[1] * torch.randn(40, 30, generator=g)
    bound = certify(C, A, B, confidence=0.99, probes=24, generator=g)
    true = float((C[1] - A[1] @ B).norm() / (A[1] @ B).norm())
    assert true <= bound.upper <= 3 * true
    assert (bound.confidence, bound.probes, bound.scope) == (0.99, 24, "checked")


def test_certify_is_repeatable_with_a_generator() -> None:
    A, B = torch.rand(20, 20), torch.rand(20, 20)
    bounds = [certify(A @ B * 1.1, A, B, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert bounds[0] == bounds[1]


def test_mean_dominated_products_are_divided_by_what_is_known_of_them() -> None:
    """Dividing by a probed norm of the product would read 0.65 to 1.2 % for a true 1 %."""
    g = torch.Generator().manual_seed(3)
    A, B = torch.rand(128, 128, generator=g), torch.rand(128, 128, generator=g)
    C = A @ B
    E = torch.randn(128, 128, generator=g)
    C = C + E * (0.01 * C.norm() / E.norm())
    assert all(certify(C, A, B, confidence=0.99, probes=16, generator=g).upper >= 0.00995 for _ in range(50))


def test_exact_zero_and_hopeless_products() -> None:
    Z = torch.zeros(8, 8)
    assert certify(Z, Z, Z).upper == 0
    assert certify(Z, torch.eye(8), torch.eye(8)).upper == math.inf
    assert certify(torch.full((8, 8), math.nan), torch.eye(8), torch.eye(8)).upper == math.inf


def test_slack_is_part_of_the_bound() -> None:
    residual = torch.ones(4, 16)
    assert relative_bound(residual, 100.0, failure=0.01, slack=1.0).upper > (
        relative_bound(residual, 100.0, failure=0.01).upper + 0.009
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"C": torch.ones(3, 3)}, InvalidValueError),
        ({"probes": 0}, InvalidValueError),
        ({"confidence": 1.0}, InvalidValueError),
        ({"C": torch.ones(2, 4, dtype=torch.complex64)}, InvalidDTypeError),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], error: type[Exception]) -> None:
    arguments = {"C": torch.ones(2, 4), "A": torch.ones(2, 3), "B": torch.ones(3, 4)} | change
    with pytest.raises(error):
        certify(**arguments)  # type: ignore[arg-type]


def test_squares_that_vanish_or_overflow_do_not_pass_for_accuracy() -> None:
    for size in (1e-100, 1e160):
        A = torch.full((8, 8), size, dtype=torch.float64)
        assert certify(torch.zeros(8, 8, dtype=torch.float64), A, A).upper == math.inf


def test_extreme_confidence_in_a_batch() -> None:
    A = torch.rand(8, 6, 6)
    assert certify(A @ A, A, A, confidence=1 - 2e-16).upper < 1e-3


def test_empty_and_foreign_input_is_refused_clearly() -> None:
    assert certify(torch.ones(0, 4), torch.ones(0, 3), torch.ones(3, 4)).upper == 0
    with pytest.raises(InvalidDTypeError, match="list"):
        certify([[1.0]], torch.ones(1, 1), torch.ones(1, 1))  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="whole number"):
        certify(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1), probes=2.5)  # type: ignore[arg-type]
