"""Products on a CUDA device: every estimator, the planner on every family, and what a caller sees."""

import pytest
import torch
from families import FAMILIES

import tithe
from tithe.product import Centred, Estimator, Exact, MeanField, Reduced, Sampled, Truncated
from tithe.product.estimators import Look
from tithe.product.pair import Pair

pytestmark = pytest.mark.gpu

ALL: list[Estimator] = [
    Exact(),
    MeanField(),
    *(Reduced(kind) for kind in ("int8", "float8", "bfloat16", "float16", "tf32", "float32")),
    Sampled(0.5),
    Truncated(0.5),
    Centred(Reduced("int8")),
    Centred(Reduced("float8")),
    Centred(Truncated(0.25)),
]


def operands(family: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    A, B = FAMILIES[family](n, torch.Generator().manual_seed(0))
    return A.cuda(), B.cuda()


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.name)
@pytest.mark.parametrize("family", ["uniform", "normal", "relu", "shifted"])
def test_predicts_its_error(estimator: Estimator, family: str) -> None:
    A, B = operands(family, 512)
    truth = A.double() @ B.double()
    rest = (A.double() - A.double().mean(1, keepdim=True)) @ (B.double() - B.double().mean(0))
    found = float((estimator.multiply(Pair(A, B), generator=torch.Generator("cuda")).tensor(A.dtype) - truth).norm())
    expected = estimator.expected_error(Pair(A, B), Look(float(truth.norm()), float(rest.norm())))
    floor = 3e-6 * float(truth.norm())
    if family == "shifted" and estimator == Reduced("float8"):
        return  # nearly equal entries are all rounded the same way, so their errors add up: the certificate's business
    assert found <= 1.7 * expected + floor
    assert expected <= 2.5 * found + floor


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.name)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 50, 7), (17, 33, 129), (130, 64, 16)])
def test_any_size_and_order_in_memory(estimator: Estimator, sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    A, B = torch.rand(k, m, device="cuda").T, torch.rand(n, k, device="cuda").T
    product = estimator.multiply(Pair(A, B), generator=torch.Generator("cuda")).tensor(torch.float32)
    assert product.shape == (m, n)
    assert product.isfinite().all()


@pytest.mark.parametrize("tol", [0.1, 2e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("family", FAMILIES)
def test_never_above_tol(family: str, tol: float) -> None:
    A, B = operands(family, 4096)
    C, receipt = tithe.matmul(A, B, tol=tol, generator=torch.Generator().manual_seed(1))
    truth = A.double() @ B.double()
    plain = float((A @ B - truth).norm() / truth.norm())
    assert receipt.bound is not None and receipt.bound.upper <= tol
    assert float((C - truth).norm() / truth.norm()) <= receipt.bound.upper + 2 * plain


def test_the_setting_for_tf32_is_restored() -> None:
    A, B = operands("normal", 512)
    before = torch.backends.cuda.matmul.allow_tf32
    tithe.matmul(A, B, method="tf32")
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_certify_and_half_precision() -> None:
    A, B = (x.bfloat16() for x in operands("uniform", 2048))
    C, receipt = tithe.matmul(A, B, tol=0.02)
    assert C.dtype == torch.bfloat16 and C.is_cuda
    bound = tithe.product.certify(C, A, B)
    truth = A.double() @ B.double()
    assert float((C - truth).norm() / truth.norm()) <= bound.upper
    assert receipt.spent.seconds is None  # the work may not have ended when the receipt is written
