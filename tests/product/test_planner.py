"""What the planner does with what it knows, on machines that are made up."""

import math

import pytest
import torch
from families import FAMILIES

from tithe.product import Centred, Exact, MeanField, Reduced, Truncated
from tithe.product.estimators import Estimator
from tithe.product.pair import Pair
from tithe.product.planner import Outcome, multiply_within
from tithe.product.probing import LADDER, Probing
from tithe.product.rates import Rates
from tithe.product.sample import Sample
from tithe.product.shortlist import shortlist, worth_a_look

_PASSES = ("mean", "reach", "round", "rescale", "outer", "rank one", "weights", "gather", "cast", "norm", "pack")


def machine(**speeds: float) -> Rates:
    """A machine whose float32 product does 1e11 multiply–adds a second, other kinds by the factors given."""
    table = {step: {1024: 1e-12} for step in _PASSES}
    products = {"float32": 1.0, "probe": 1.0} | speeds
    table |= {f"gemm.{kind}": {1024: 1e-11 / speed} for kind, speed in products.items()}
    return Rates(table, launch=0.0)


def multiply(family: str, tol: float, known: Rates, n: int = 512, failure: float = 1e-3) -> tuple[Pair, Outcome]:
    g = torch.Generator().manual_seed(0)
    pair = Pair(*FAMILIES[family](n, g))
    return pair, multiply_within(Probing(pair, 1, g), tol, failure, known, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("family", "tol", "speeds", "method"),
    [
        ("uniform", 0.05, {"int8": 4.0}, "mean_field"),
        ("uniform", 1e-3, {"int8": 4.0}, "int8"),
        ("uniform", 2e-4, {"int8": 4.0}, "centred(int8)"),
        ("uniform", 0.0134, {"int8": 2.0, "sign": 10.0}, "centred(sign)"),
        ("normal", 0.05, {"int8": 4.0}, "int8"),
        ("normal", 0.05, {"int8": 4.0, "bfloat16": 8.0}, "bfloat16"),
        ("normal", 2e-3, {"int8": 4.0, "bfloat16": 8.0, "float16": 2.0}, "float16"),
        ("normal", 1e-4, {"int8": 4.0}, "exact"),
        ("normal", 0.05, {"int8": 1.06}, "exact"),
        ("cancelling", 0.05, {"int8": 4.0}, "exact"),
    ],
)
def test_takes_the_cheapest_that_should_do(family: str, tol: float, speeds: dict[str, float], method: str) -> None:
    pair, outcome = multiply(family, tol, machine(**speeds))
    assert outcome.method == method
    assert outcome.bound.upper <= tol
    truth = pair.A.double() @ pair.B.double()
    assert (outcome.product - truth).norm() <= (tol + 1e-3) * truth.norm()


@pytest.mark.parametrize("family", ["huge column", "blocks"])
def test_truncates_where_few_slices_carry_the_product(family: str) -> None:
    _, outcome = multiply(family, 0.01, machine(int8=1.5))
    assert outcome.method.startswith("truncated(0.")
    assert outcome.flops < 0.7 * 2 * 512**3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 5)])
def test_says_that_operands_are_not_finite(value: float, place: tuple[int, int]) -> None:
    pair = Pair(*FAMILIES["uniform"](512, torch.Generator().manual_seed(0)))
    pair.A[place] = value
    generators = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    outcome = multiply_within(Probing(pair, 1, next(generators)), 0.1, 1e-3, machine(int8=4.0), next(generators))
    assert outcome.method == "exact"
    assert "finite" in outcome.tried[0].reason


def test_an_attempt_that_fails_is_followed_by_the_next_and_by_the_plain_product() -> None:
    """One row that the sample misses outweighs all others, and only it has no mean."""
    g = torch.Generator().manual_seed(3)
    A, B = torch.rand(512, 512, generator=g), torch.rand(512, 512, generator=g)
    A[3] = 1e4 * torch.randn(512, generator=g)
    pair = Pair(A, B)
    outcome = multiply_within(Probing(pair, 1, g), 0.05, 1e-3, machine(), g)
    assert outcome.method == "exact"
    assert outcome.tried[0].method == "mean_field"
    assert outcome.tried[0].upper is None or outcome.tried[0].upper > 0.05
    assert outcome.flops > pair.flops


def test_what_rounding_misses_along_means_is_expected_to_be_hard_to_certify() -> None:
    """Such errors lie in two directions: the bound is twice the error, or just above it, as the probes fall."""
    known, outcomes = machine(int6=4.0), []
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        pair = Pair(torch.rand(256, 2048, generator=g), torch.rand(2048, 256, generator=g))
        expected = Sample(pair).expected_error(Reduced("int6"))
        for above in (1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4):
            outcomes.append(multiply_within(Probing(pair, 1, g), above * expected, 1e-3, known, g))
    assert {outcome.method for outcome in outcomes} == {"int6", "centred(int6)"}
    assert not any(outcome.tried for outcome in outcomes)


def test_every_attempt_that_may_be_made_is_charged_for() -> None:
    _, outcome = multiply("uniform", 0.05, machine(int8=4.0), failure=1e-3)
    assert 1 - outcome.bound.confidence == pytest.approx(1e-3 / 2, rel=1e-6)


def test_the_shortlist_is_sorted_affordable_and_settled_without_a_probe() -> None:
    g = torch.Generator().manual_seed(0)
    pair, known = Pair(*FAMILIES["uniform"](512, g)), machine(int8=4.0, bfloat16=2.0)
    first, again = (shortlist(pair, Sample(pair), 0.02, 1e-3, known) for _ in range(2))
    assert first == again
    assert first
    seconds = [option.seconds for option in first]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 0.9 * pair.cube * 1e-11
    assert all(option.probes in LADDER for option in first)


def test_a_plan_that_costs_too_much_of_the_product_is_not_made() -> None:
    pair, quick = Pair(torch.rand(256, 256), torch.rand(256, 256)), machine()
    assert worth_a_look(pair, quick)
    slow = Rates(quick.table | {"plan": {128: 0.2 * pair.cube * 1e-11}}, launch=0.0)
    assert not worth_a_look(pair, slow)


def test_nothing_is_worth_a_look_on_a_machine_without_shortcuts() -> None:
    pair = Pair(torch.rand(16, 16), torch.rand(16, 16))
    assert not worth_a_look(pair, Rates({"gemm.float32": {16: 1e-11}}))
    _, outcome = multiply("uniform", 0.5, Rates({"gemm.float32": {16: 1e-11}}))
    assert outcome.method == "exact"
    assert "size" in outcome.tried[0].reason


@pytest.mark.parametrize("family", ["uniform", "normal", "relu", "shifted", "low rank", "smooth"])
def test_a_sample_tells_what_to_expect_of_all(family: str) -> None:
    pair = Pair(*FAMILIES[family](768, torch.Generator().manual_seed(5)))
    truth, sample = pair.A.double() @ pair.B.double(), Sample(pair)
    assert sample.norm == pytest.approx(float(truth.norm()), rel=0.5)
    estimators: list[Estimator] = [MeanField(), Reduced("int8"), Centred(Reduced("int8")), Truncated(0.5)]
    for estimator in estimators:
        found = float((estimator.multiply(pair).tensor(pair.A.dtype) - truth).norm() / truth.norm())
        assert sample.expected_error(estimator) == pytest.approx(found, rel=0.6, abs=1e-5)


def test_a_share_found_in_a_sample_keeps_the_error_on_the_whole() -> None:
    pair = Pair(*FAMILIES["uniform"](1024, torch.Generator().manual_seed(5)))
    truth, sample = pair.A.double() @ pair.B.double(), Sample(pair)
    share = sample.share_to_keep(0.008, centred=True, inner_error=0.0)
    product = Centred(Truncated(share, Exact())).multiply(pair).tensor(torch.float32)
    assert 0.3 < share < 0.6
    assert float((product - truth).norm() / truth.norm()) == pytest.approx(0.008, rel=0.05)
    assert sample.share_to_keep(1e-9, centred=True, inner_error=1e-3) > 1


def test_samples_of_nothing_and_of_nan_expect_the_worst() -> None:
    for value in (0.0, float("nan"), float("inf")):
        sample = Sample(Pair(torch.full((70, 70), value), torch.ones(70, 70)))
        assert sample.expected_error(Reduced("int8")) == float("inf")
        assert sample.share_to_keep(0.1, centred=False, inner_error=0.0) > 1


def test_operations_of_everything_are_counted() -> None:
    pair, outcome = multiply("uniform", 0.05, machine())
    assert outcome.method == "mean_field"
    n, probes = 512, outcome.bound.probes
    least = 2 * probes * 2 * n * n  # probing both operands
    assert least < outcome.flops < 3 * least
    assert outcome.flops < pair.flops


def test_float64_probes_judge_what_float32_ones_cannot() -> None:
    """The probes' own rounding must not pass for error, nor hide it, where the product cancels."""
    g = torch.Generator().manual_seed(0)
    X, Y = torch.randn(256, 128, generator=g), torch.randn(128, 256, generator=g)
    A, B = torch.cat((X, -X + 1e-5 * torch.randn(256, 128, generator=g)), 1), torch.cat((Y, Y))
    pair = Pair(A, B)
    probing, sample = Probing(pair, 1, g), Sample(pair)
    judge = probing.for_tolerance(1e-3, sample)
    assert judge is not probing
    assert judge.dtype == torch.float64
    assert probing.for_tolerance(1e4, sample) is probing
