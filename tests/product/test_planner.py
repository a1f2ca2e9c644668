"""What the planner does with what it knows, on machines that are made up."""

import pytest
import torch
from families import FAMILIES

from tithe.product.pair import Pair
from tithe.product.planner import candidates, multiply_within
from tithe.product.probing import LADDER, Probing
from tithe.product.rates import Rates

_PASSES = ("mean", "reach", "quantise", "rescale", "outer", "rank one", "weights", "gather", "cast", "norm")


def machine(**speeds: float) -> Rates:
    """A machine whose float32 product does 1e11 multiply–adds a second, other kinds by the factors given."""
    table = {step: {1024: 1e-12} for step in _PASSES}
    table |= {
        f"gemm.{kind}": {1024: 1e-11 / speed} for kind, speed in ({"float32": 1.0, "probe": 1.0} | speeds).items()
    }
    return Rates(table, launch=0.0)


def multiply(family: str, tol: float, known: Rates, n: int = 512, failure: float = 1e-3):
    g = torch.Generator().manual_seed(0)
    pair = Pair(*FAMILIES[family](n, g))
    return pair, multiply_within(Probing(pair, 1, g), tol, failure, known, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("family", "tol", "speeds", "method"),
    [
        ("uniform", 0.05, {"int8": 4.0}, "mean_field"),
        ("uniform", 1e-3, {"int8": 4.0}, "centred(int8)"),
        ("normal", 0.05, {"int8": 4.0}, "int8"),
        ("normal", 0.05, {"int8": 4.0, "bfloat16": 8.0}, "bfloat16"),
        ("normal", 2e-3, {"int8": 4.0, "bfloat16": 8.0, "float16": 2.0}, "float16"),
        ("huge column", 0.01, {}, "truncated(0.125)"),
        ("normal", 1e-4, {"int8": 4.0}, "exact"),
        ("normal", 0.05, {"int8": 1.05}, "exact"),
        ("cancelling", 0.05, {"int8": 4.0}, "exact"),
    ],
)
def test_takes_the_cheapest_that_should_do(family: str, tol: float, speeds: dict[str, float], method: str) -> None:
    pair, outcome = multiply(family, tol, machine(**speeds))
    assert outcome.method == method
    assert outcome.bound.upper <= tol
    truth = pair.A.double() @ pair.B.double()
    assert (outcome.product - truth).norm() <= (tol + 1e-3) * truth.norm()


def test_an_attempt_that_fails_is_followed_by_the_next() -> None:
    g = torch.Generator().manual_seed(3)
    A = torch.randn(512, 512, generator=g)
    A[1] *= 3e4  # a row that evenly spaced looks miss: slices seem alike, and are not
    A[1, 7] *= 1e3
    pair = Pair(A, torch.randn(512, 512, generator=g))
    outcome = multiply_within(Probing(pair, 1, g), 0.9, 1e-3, machine(), g)
    assert outcome.bound.upper <= 0.9
    assert all(attempt.upper is None or attempt.upper > 0.9 for attempt in outcome.tried)


def test_every_possible_attempt_is_charged_for() -> None:
    """The confidence of one attempt grows with what could have been tried, so that a choice costs nothing."""
    _, outcome = multiply("uniform", 0.05, machine(int8=4.0), failure=1e-3)
    able = candidates("cpu", machine(int8=4.0).kinds)
    assert 1 - outcome.bound.confidence == pytest.approx(1e-3 / (len(able) * len(LADDER)), rel=1e-6)


def test_the_list_of_candidates_does_not_depend_on_the_operands() -> None:
    assert candidates("cpu", ("int8", "float32")) is candidates("cpu", ("int8", "float32"))
    names = [e.name for e in candidates("cuda", ("float8", "bfloat16", "tf32"))]
    assert len(names) == len(set(names))
    assert "centred(float8)" in names


def test_operations_of_everything_are_counted() -> None:
    pair, outcome = multiply("normal", 0.01, machine(int8=1.05))
    assert outcome.method == "exact"
    assert pair.flops < outcome.flops < 1.2 * pair.flops


def test_float64_probes_judge_what_float32_ones_cannot() -> None:
    """bfloat16-like tolerances on a product that cancels: the probes' own rounding must not pass for error."""
    g = torch.Generator().manual_seed(0)
    X, Y = torch.randn(256, 128, generator=g), torch.randn(128, 256, generator=g)
    A, B = torch.cat((X, -X + 1e-5 * torch.randn(256, 128, generator=g)), 1), torch.cat((Y, Y))
    probing = Probing(Pair(A, B), 1, g)
    judge = probing.for_tolerance(1e-3)
    assert judge is not probing
    assert judge.dtype == torch.float64
    assert probing.for_tolerance(1e4) is probing
