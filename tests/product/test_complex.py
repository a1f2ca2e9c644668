"""Complex products by three real ones: values, certificates, receipts."""

import math

import pytest
import torch
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

import tithe
from tithe.errors import InvalidDTypeError
from tithe.product import Sampled, certify
from tithe.product.complex_products import karatsuba, real_pairs
from tithe.product.estimators import Exact


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def operands(family: str, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(seed)
    (A, B), (C, D) = (FAMILIES[family](n, g) for _ in range(2))
    return torch.complex(A, C), torch.complex(B, D)


def unitary(n: int, seed: int = 0) -> torch.Tensor:
    Q, R = torch.linalg.qr(torch.randn(n, n, dtype=torch.complex128, generator=generator(seed)))
    return (Q * (R.diagonal() / R.diagonal().abs())).to(torch.complex64)


def relative_error(C: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> float:
    truth = A.to(torch.complex128) @ B.to(torch.complex128)
    return float((C - truth).norm() / truth.norm())


@given(m=st.integers(1, 9), k=st.integers(1, 12), n=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_three_real_products_are_one_complex(m: int, k: int, n: int) -> None:
    A, B = (torch.randn(*s, dtype=torch.complex128, generator=generator(m)) for s in ((m, k), (k, n)))
    torch.testing.assert_close(karatsuba(real_pairs(A, B), (Exact(),) * 3), A @ B)


@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-5])
@pytest.mark.parametrize("family", ["uniform", "normal", "low rank", "huge column"])
def test_never_above_tol(family: str, tol: float) -> None:
    A, B = operands(family, 256)
    for method in ("auto", "mean_field", "truncated(0.5)", "centred(int8)", "bfloat16"):
        C, receipt = tithe.matmul(A, B, tol=tol, method=method, generator=generator(1))
        assert C.dtype == torch.complex64
        assert receipt.bound is not None and receipt.bound.upper <= tol
        assert relative_error(C, A, B) <= receipt.bound.upper + 1e-6


def test_the_receipt_counts_three_real_products_against_four() -> None:
    U, V = unitary(256), unitary(256, 1)
    C, receipt = tithe.matmul(U, V, tol=0.05, method="bfloat16", generator=generator())
    assert receipt.method == "bfloat16 ×3"
    assert receipt.plain.flops == 8 * 256**3
    assert receipt.plain.seconds is not None and receipt.plain.estimated == ("seconds",)
    ratio = receipt.ratio("flops")
    assert ratio is not None and 0.75 < ratio < 1
    assert receipt.bound is not None and receipt.bound.confidence == 0.999 and receipt.bound.scope == "checked"
    assert relative_error(C, U, V) <= receipt.bound.upper < 3 * relative_error(C, U, V)


def test_the_bound_is_of_the_complex_product_and_not_of_its_parts() -> None:
    """Three parts of large norm whose product nearly cancels: what each errs by is small, what they make is not."""
    g = generator()
    A, B = torch.rand(128, 128, generator=g), torch.rand(128, 128, generator=g)
    left, right = torch.complex(A, A), torch.complex(B, B)
    left, right = left, right + 0.01 * torch.randn(128, 128, generator=g)
    C, receipt = tithe.matmul(left, right, method="bfloat16", generator=g)
    assert receipt.bound is not None
    error = relative_error(C, left, right)
    assert error <= receipt.bound.upper
    parts = [float((torch.view_as_real(C)[..., i]).norm()) for i in range(2)]
    assert parts[0] < 0.1 * parts[1]


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_bounds_hold_as_often_as_they_say(confidence: float) -> None:
    U, V = unitary(32), unitary(32, 1)
    missed = 0
    for seed in range(200):
        C, receipt = tithe.matmul(U, V, method=Sampled(0.5), confidence=confidence, generator=generator(seed))
        assert receipt.bound is not None
        missed += relative_error(C, U, V) > receipt.bound.upper
    assert missed <= 200 * (1 - confidence) + 3 * math.sqrt(200 * (1 - confidence))


def test_sampled_products_are_unbiased() -> None:
    U, V = unitary(24), unitary(24, 1)
    mean = sum(tithe.matmul(U, V, method=Sampled(0.5), generator=generator(s))[0] for s in range(600)) / 600
    assert relative_error(mean, U, V) < 3 * math.sqrt(2 / 600)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.74, 0.9])
@pytest.mark.parametrize("family", ["uniform", "normal", "huge column"])
def test_a_ratio_is_kept_certificate_included(family: str, ratio: float) -> None:
    A, B = operands(family, 384)
    C, receipt = tithe.matmul(A, B, ratio=ratio, generator=generator())
    spent = receipt.ratio("flops")
    assert spent is not None and spent <= ratio + 1e-9
    assert receipt.bound is not None and relative_error(C, A, B) <= receipt.bound.upper
    assert receipt.method != "exact"


def test_more_than_three_quarters_pay_for_three_exact_products() -> None:
    A, B = operands("normal", 384)
    C, receipt = tithe.matmul(A, B, ratio=0.9, generator=generator())
    assert receipt.method == "exact ×3"
    assert relative_error(C, A, B) < 1e-5


def test_the_planner_takes_each_part_by_itself() -> None:
    """Means differ from part to part, so a product of non-negative entries needs no more than them."""
    A, B = operands("uniform", 1024)
    C, receipt = tithe.matmul(A, B, tol=0.03, generator=generator())
    assert relative_error(C, A, B) <= 0.03
    ratio = receipt.ratio("flops")
    assert receipt.method == "exact" or (ratio is not None and ratio < 0.75)


@pytest.mark.parametrize(("left", "right"), [((3,), (3,)), ((2, 1), (3,)), ((3,), ()), ((), (2,))])
def test_batches_broadcast_and_every_item_is_certified(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    A, B = (
        torch.complex(torch.rand(*s, generator=generator(i)), torch.rand(*s, generator=generator(i + 2)))
        for i, s in enumerate(((*left, 20, 30), (*right, 30, 10)))
    )
    C, receipt = tithe.matmul(A, B, tol=0.6, method="mean_field", generator=generator())
    truth = A @ B
    assert C.shape == truth.shape
    errors = ((C - truth).flatten(-2).norm(dim=-1) / truth.flatten(-2).norm(dim=-1)).max()
    assert receipt.bound is not None and float(errors) <= receipt.bound.upper <= 0.6


def test_one_bad_item_of_a_batch_is_not_hidden_by_the_others() -> None:
    A, B = operands("uniform", 96)
    A = torch.stack([100 * A, torch.randn(96, 96, dtype=torch.complex64, generator=generator())])
    C, receipt = tithe.matmul(A, B, tol=0.05, method="mean_field", generator=generator())
    assert receipt.method == "exact" and [attempt.method for attempt in receipt.tried] == ["mean_field ×3"]
    torch.testing.assert_close(C, A @ B)


def test_conjugates_and_strides_do_not_matter() -> None:
    A, B = operands("normal", 64)
    for left, right in ((A.mH, B), (A, B.conj()), (A[::2], B[:, 1::2]), (A.mT, B.mT)):
        C, receipt = tithe.matmul(left, right, method="float32", generator=generator())
        assert receipt.method == "float32 ×3"
        torch.testing.assert_close(C, left @ right, rtol=1e-4, atol=1e-3)


def test_complex128_may_be_multiplied_in_float32() -> None:
    A, B = (X.to(torch.complex128) for X in operands("normal", 128))
    C, receipt = tithe.matmul(A, B, tol=1e-5, method="float32", generator=generator())
    assert C.dtype == torch.complex128 and receipt.method == "float32 ×3"
    assert 1e-9 < relative_error(C, A, B) <= receipt.bound.upper <= 1e-5  # type: ignore[union-attr]


def test_operands_that_are_not_finite_get_the_plain_product() -> None:
    A, B = operands("uniform", 64)
    A[3, 5] = complex(1.0, math.inf)
    C, receipt = tithe.matmul(A, B, tol=0.1, method="mean_field")
    assert receipt.method == "exact" and "finite" in receipt.tried[0].reason
    torch.testing.assert_close(C, A @ B, equal_nan=True)


def test_real_and_imaginary_operands() -> None:
    A, B = operands("uniform", 64)
    for left, right in ((A.real + 0j, B), (1j * A.real, 1j * B.real), (0 * A, B)):
        C, receipt = tithe.matmul(left, right, tol=0.2, method="bfloat16", generator=generator())
        assert receipt.bound is not None and receipt.bound.upper <= 0.2
        assert float((C - left @ right).norm()) <= 0.2 * float((left @ right).norm())


def test_small_and_unasked_products_are_plain() -> None:
    A, B = operands("uniform", 64)
    for given_, reason in (({"tol": 0.5}, "small"), ({}, "neither")):
        C, receipt = tithe.matmul(A, B, **given_)  # type: ignore[arg-type]
        assert torch.equal(C, A @ B) and receipt.method == "exact" and reason in receipt.tried[0].reason
        assert receipt.ratio("flops") == 1


def test_certify_covers_complex_errors() -> None:
    A, B = operands("uniform", 48)
    C = A @ B
    for error in (0.02j, 0.02, 0.02 * (1 + 1j)):
        bound = certify(C * (1 + error), A, B, generator=generator(3))
        assert abs(error) / (1 + abs(error)) <= bound.upper <= 3 * abs(error)
    assert certify(C.real, A, B, generator=generator(3)).upper > 0.5  # a real tensor is a product, and a wrong one


def test_dtypes_that_cannot_be_used_are_refused() -> None:
    A = torch.ones(4, 4, dtype=torch.complex64)
    with pytest.raises(InvalidDTypeError, match="same dtype"):
        tithe.matmul(A, A.real)
    with pytest.raises(InvalidDTypeError, match="complex64"), pytest.warns(UserWarning, match="experimental"):
        tithe.matmul(*[torch.ones(4, 4, dtype=torch.complex32)] * 2)
    with pytest.raises(InvalidDTypeError, match="only where"):
        certify(A, A.real, A.real)
