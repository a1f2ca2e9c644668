"""The contract that every estimator keeps."""

import math

import pytest
import torch
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.product import (
    Anchored,
    Centred,
    Estimator,
    Exact,
    Fourier,
    Interpolated,
    LowRank,
    MeanField,
    Reduced,
    Sampled,
    Sketched,
    Trajectory,
    Truncated,
)
from tithe.product.estimators import KINDS, METHODS, Look, flops, from_name
from tithe.product.pair import Pair, RankOne

ON_CPU = ["int8", "sign", "bfloat16", "float16", "float32"]
ALL: list[Estimator] = [
    Exact(),
    MeanField(),
    *(Reduced(kind) for kind in ON_CPU),
    Sampled(0.5),
    Truncated(0.5),
    Truncated(0.5, Reduced("int8")),
    Centred(Exact()),
    Centred(Reduced("int8")),
    Centred(Reduced("sign")),
    Centred(Truncated(0.25)),
    Centred(Sampled(0.5)),
    Centred(MeanField()),
    Sketched(0.5),
    Anchored(0.5),
    Anchored(0.5, "islands"),
    Anchored(0.5, "random"),
    Interpolated(0.5),
    Interpolated(0.5, "right"),
    LowRank(0.5),
    LowRank(0.4, 0),
    Fourier(0.5),
    Trajectory(0.5),
    Centred(Sketched(0.5)),
    Centred(Anchored(0.3)),
    Centred(Interpolated(0.3)),
    Centred(LowRank(0.3)),
    Centred(Fourier(0.4)),
    Centred(Trajectory(0.5)),
]
every = pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.name)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truth(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return A.double() @ B.double()


def look(A: torch.Tensor, B: torch.Tensor) -> Look:
    A, B = A.double(), B.double()
    rest = (A - A.mean(1, keepdim=True)) @ (B - B.mean(0))
    return Look(float((A @ B).norm()), float(rest.norm()))


@every
def test_is_an_estimator_that_its_name_brings_back(estimator: Estimator) -> None:
    assert isinstance(estimator, Estimator)
    assert from_name(estimator.name) == estimator


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_shape_and_dtype(estimator: Estimator, dtype: torch.dtype) -> None:
    A, B = torch.rand(7, 12, generator=generator()).to(dtype), torch.rand(12, 5, generator=generator(1)).to(dtype)
    product = estimator.multiply(Pair(A, B), generator=generator()).tensor(dtype)
    assert product.shape == (7, 5)
    assert product.dtype == dtype
    assert product.isfinite().all()


@every
@given(m=st.integers(1, 9), k=st.integers(1, 17), n=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_any_size(estimator: Estimator, m: int, k: int, n: int) -> None:
    A, B = torch.rand(m, k, generator=generator()), torch.rand(k, n, generator=generator(1))
    assert estimator.multiply(Pair(A, B), generator=generator()).tensor(torch.float32).shape == (m, n)
    assert flops(estimator.work(m, k, n, torch.float32)) > 0


@every
def test_strides_do_not_matter(estimator: Estimator) -> None:
    A, B = torch.rand(40, 33, generator=generator()), torch.rand(33, 21, generator=generator(1))
    views = [(A.T.contiguous().T, B.T.contiguous().T), (torch.stack([A, A], 2)[..., 0], torch.stack([B, B], 2)[..., 1])]
    plain = estimator.multiply(Pair(A, B), generator=generator()).tensor(torch.float32)
    for left, right in views:
        torch.testing.assert_close(
            estimator.multiply(Pair(left, right), generator=generator()).tensor(torch.float32),
            plain,
            rtol=1e-5,
            atol=1e-5,
        )


@every
def test_operands_are_left_alone(estimator: Estimator) -> None:
    A, B = torch.rand(16, 16, generator=generator()), torch.rand(16, 16, generator=generator(1))
    before = A.clone(), B.clone()
    estimator.multiply(Pair(A, B), generator=generator())
    assert torch.equal(A, before[0])
    assert torch.equal(B, before[1])


@every
def test_same_seed_same_product(estimator: Estimator) -> None:
    A, B = torch.randn(30, 30, generator=generator()), torch.randn(30, 30, generator=generator(1))
    first, second = (estimator.multiply(Pair(A, B), generator=generator(5)).tensor(A.dtype) for _ in range(2))
    assert torch.equal(first, second)


@every
def test_adds_a_rank_one_matrix_on_request(estimator: Estimator) -> None:
    A, B = torch.randn(20, 30, generator=generator()), torch.randn(30, 10, generator=generator(1))
    u, v = torch.randn(20), torch.randn(10)
    without = estimator.multiply(Pair(A, B), generator=generator()).tensor(torch.float32)
    with_it = estimator.multiply(Pair(A, B), generator=generator(), plus=RankOne(u, v)).tensor(torch.float32)
    torch.testing.assert_close(with_it, without + torch.outer(u, v), rtol=1e-2, atol=2e-1)


@every
def test_probing_equals_multiplying(estimator: Estimator) -> None:
    A, B = torch.rand(20, 30, generator=generator()), torch.rand(30, 10, generator=generator(1))
    product = estimator.multiply(Pair(A, B), generator=generator())
    omega = torch.randn(10, 4, generator=generator(2))
    probed, squares = product.times(omega), product.row_squares()
    dense = product.tensor(torch.float32)
    torch.testing.assert_close(probed, dense @ omega, rtol=2e-2, atol=0.2)
    torch.testing.assert_close(squares.float(), dense.square().sum(1), rtol=1e-2, atol=1e-3)


@every
@pytest.mark.parametrize("family", ["uniform", "normal", "relu", "shifted"])
def test_predicts_its_error(estimator: Estimator, family: str) -> None:
    A, B = FAMILIES[family](256, generator())
    found = float((estimator.multiply(Pair(A, B), generator=generator()).tensor(A.dtype) - truth(A, B)).norm())
    expected = estimator.expected_error(Pair(A, B), look(A, B))
    floor = 3e-6 * float(truth(A, B).norm())  # float32 rounding, which nobody predicts
    assert found <= 1.6 * expected + floor
    assert expected <= 2.5 * found + floor


def test_sampling_is_unbiased() -> None:
    A, B = torch.randn(8, 20, generator=generator()), torch.randn(20, 6, generator=generator(1))
    g = generator(2)
    mean = torch.stack([Sampled(0.3).multiply(Pair(A, B), generator=g).tensor(A.dtype) for _ in range(4000)]).mean(0)
    expected = Sampled(0.3).expected_error(Pair(A, B), look(A, B))
    assert float((mean - A @ B).norm()) <= 3 * expected / math.sqrt(4000)


def test_closed_forms() -> None:
    """1/(3√k) for the mean part of uniform operands; √(1/ratio) for sampling zero-mean ones."""
    n = 512
    A, B = FAMILIES["uniform"](n, generator())
    error = (MeanField().multiply(Pair(A, B)).tensor(A.dtype) - truth(A, B)).norm() / truth(A, B).norm()
    assert float(error) == pytest.approx(1 / (3 * math.sqrt(n)), rel=0.05)
    A, B = FAMILIES["normal"](n, generator())
    for ratio in (0.2, 0.3, 0.5):
        sampled = Sampled(ratio).multiply(Pair(A, B), generator=generator()).tensor(A.dtype)
        error = (sampled - truth(A, B)).norm() / truth(A, B).norm()
        assert float(error) == pytest.approx(math.sqrt(1 / ratio), rel=0.05)


def test_centring_is_an_exact_identity() -> None:
    A, B = FAMILIES["shifted"](128, generator())
    product = Centred(Exact()).multiply(Pair(A.double(), B.double())).tensor(torch.float64)
    assert float((product - truth(A, B)).norm() / truth(A, B).norm()) < 1e-13


def test_centring_helps_int8_on_operands_with_a_mean() -> None:
    A, B = FAMILIES["uniform"](256, generator())
    errors = [
        float((e.multiply(Pair(A, B)).tensor(A.dtype) - truth(A, B)).norm())
        for e in (Reduced("int8"), Centred(Reduced("int8")))
    ]
    assert errors[1] < errors[0] / 2


def test_truncation_keeps_the_heaviest_slices() -> None:
    A, B = FAMILIES["huge column"](128, generator())
    product = Truncated(1 / 128).multiply(Pair(A, B)).tensor(A.dtype)
    torch.testing.assert_close(product, torch.outer(A[:, 128 // 3], B[128 // 3]), rtol=1e-4, atol=1e-1)


def test_zero_operands() -> None:
    Z = torch.zeros(5, 5)
    for estimator in ALL:
        assert not estimator.multiply(Pair(Z, Z), generator=generator()).tensor(Z.dtype).any(), estimator.name


def test_every_family_of_methods_has_an_estimator() -> None:
    built = {name: from_name(name, ratio=0.25) for name in METHODS}
    assert {type(e) for e in built.values()} == {type(e) for e in ALL}
    assert [from_name(kind).name for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("exakt", "did you mean 'exact'"),
        ("sampled", "ratio="),
        ("truncated(2)", "share"),
        ("centred(int8", "brackets"),
        ("centred(int8))", "brackets"),
        ("centred(int8, int8)", "too many"),
        ("exact(int8)", "too many"),
        ("", "not known"),
        ("int8(0.5)", "too many"),
        ("centred(0.3)", "too many"),
    ],
)
def test_unknown_names_are_refused_with_a_remedy(name: str, words: str) -> None:
    with pytest.raises(InvalidValueError, match="(?s)" + words.replace("(", r"\(")):
        from_name(name)


def test_unknown_kinds_and_ratios_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="int8"):
        Reduced("int4")
    for ratio in (0, -0.1, 1.1, math.nan):
        with pytest.raises(InvalidValueError, match="share"):
            Sampled(ratio)
