"""Gradients through ``tithe.matmul``: exact, under the same policy, unbiased; and compiled callers."""

import math
import warnings

import pytest
import torch
from families import FAMILIES

import tithe
from tithe.errors import InvalidValueError
from tithe.product import Sampled

SHAPES = [((5, 6), (6, 4)), ((3, 5, 6), (6, 4)), ((5, 6), (3, 6, 4)), ((2, 1, 5, 6), (3, 6, 4)), ((1, 5, 6), (2, 6, 4)),
          ((3, 5, 6), (1, 6, 4))]  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=generator(seed)).requires_grad_()


def gradients_of(product: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weights = torch.randn(product.shape, dtype=product.dtype, generator=generator(9))
    return torch.autograd.grad((product * weights).abs().square().sum(), (A, B))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("policy", ["exact", "same"])
def test_of_the_plain_product(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, policy: str) -> None:
    """By a method that errs by rounding alone, all shapes of batches are right under either policy."""
    A, B = (draw(shape, dtype, seed) for seed, shape in enumerate(shapes))
    C, _ = tithe.matmul(A, B, method="truncated(1)", gradients=policy)  # type: ignore[arg-type]
    for found, plain in zip(gradients_of(C, A, B), gradients_of(A @ B, A, B), strict=True):
        torch.testing.assert_close(found, plain)


def test_pass_the_check_by_differences() -> None:
    A, B = draw((4, 5), torch.complex128, 0), draw((5, 3), torch.complex128, 1)
    assert torch.autograd.gradcheck(lambda A, B: tithe.matmul(A, B, method="truncated(1)")[0], (A, B))


def test_second_derivatives() -> None:
    A, B = draw((4, 5), torch.float64, 0), draw((5, 3), torch.float64, 1)
    assert torch.autograd.gradgradcheck(lambda A, B: tithe.matmul(A, B, method="truncated(1)")[0], (A, B))


def test_only_those_asked_for() -> None:
    A, B = draw((4, 5), torch.float32, 0), draw((5, 3), torch.float32, 1).detach()
    tithe.matmul(A, B, method="mean_field")[0].sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(A.grad, B.sum(1).expand(4, 5))
    assert B.grad is None


def test_exact_gradients_do_not_follow_the_estimator() -> None:
    A, B = (X.requires_grad_() for X in FAMILIES["uniform"](40, generator()))
    C, _ = tithe.matmul(A, B, method="mean_field")
    A_grad, B_grad = torch.autograd.grad(C.sum(), (A, B))
    torch.testing.assert_close(A_grad, B.sum(1).expand(40, 40).detach())
    torch.testing.assert_close(B_grad, A.sum(0)[:, None].expand(40, 40).detach())


def test_the_same_policy_keeps_its_tolerance_in_every_gradient() -> None:
    A, B = (X.requires_grad_() for X in FAMILIES["uniform"](96, generator()))
    weights = torch.rand(96, 96, generator=generator(1))
    plain = torch.autograd.grad((A @ B * weights).sum(), (A, B))
    for method, tol in (("mean_field", 0.1), ("mean_field", 0.001), ("bfloat16", 0.02)):
        C, _ = tithe.matmul(A, B, tol=tol, method=method, generator=generator(2), gradients="same")
        found = torch.autograd.grad((C * weights).sum(), (A, B))
        errors = [float((f - p).norm() / p.norm()) for f, p in zip(found, plain, strict=True)]
        assert max(errors) <= tol + 1e-6
        if (method, tol) != ("mean_field", 0.001):  # then it is the estimator's, not the plain product
            assert min(errors) > 1e-4


def test_items_that_share_an_operand_keep_it_in_the_sum() -> None:
    A = torch.rand(3, 20, 30, generator=generator()).requires_grad_()
    B = torch.rand(30, 10, generator=generator(1)).requires_grad_()
    C, _ = tithe.matmul(A, B, tol=0.2, method="mean_field", generator=generator(2), gradients="same")
    weights = torch.rand(3, 20, 10, generator=generator(3))
    plain = torch.autograd.grad((A @ B * weights).sum(), B)[0]
    found = torch.autograd.grad((C * weights).sum(), B)[0]
    assert 1e-4 < float((found - plain).norm() / plain.norm()) <= 0.2


def test_sampled_gradients_are_unbiased() -> None:
    A, B = (torch.randn(8, 8, generator=generator(i)).requires_grad_() for i in range(2))
    weights = torch.randn(8, 8, generator=generator(2))
    plain = torch.autograd.grad((A @ B * weights).sum(), (A, B))
    sums, times, spread = [torch.zeros(8, 8), torch.zeros(8, 8)], 400, [0.0, 0.0]
    g = generator(3)
    for _ in range(times):
        C, _ = tithe.matmul(A, B, method=Sampled(0.5), generator=g, gradients="same")
        found = torch.autograd.grad((C * weights).sum(), (A, B))
        sums = [s + f for s, f in zip(sums, found, strict=True)]
        spread = [v + float((f - p).square().sum()) for v, f, p in zip(spread, found, plain, strict=True)]
    for total, p, squares in zip(sums, plain, spread, strict=True):
        standard_error = math.sqrt(squares / times / times)
        assert squares / times > 0.1 * float(p.square().sum())  # they were sampled
        assert float((total / times - p).norm()) < 1.5 * standard_error


def test_sampled_gradients_see_nothing_of_the_forward_draw() -> None:
    """Of L = ‖C‖²/2 the gradient is C·Bᵀ: its mean is that of the plain one only if both draws are independent."""
    A, B = (torch.randn(6, 6, generator=generator(i)).requires_grad_() for i in range(2))
    plain = torch.autograd.grad((A @ B).square().sum() / 2, A)[0]
    g, times, total, squares = generator(4), 600, torch.zeros(6, 6), 0.0
    for _ in range(times):
        C, _ = tithe.matmul(A, B, method=Sampled(0.5), generator=g, gradients="same")
        found = torch.autograd.grad(C.square().sum() / 2, A)[0]
        total, squares = total + found, squares + float((found - plain).square().sum())
    assert float((total / times - plain).norm()) < 1.5 * math.sqrt(squares) / times


def test_the_same_generator_gives_the_same_gradients() -> None:
    A, B = (torch.randn(8, 8, generator=generator(i)).requires_grad_() for i in range(2))
    runs = []
    for _ in range(2):
        C, _ = tithe.matmul(A, B, method=Sampled(0.5), generator=generator(5), gradients="same")
        runs.append(torch.autograd.grad(C.sum(), (A, B)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_unknown_policies_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="'exact' or 'same'"):
        tithe.matmul(torch.ones(2, 2), torch.ones(2, 2), gradients="sampled")  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"tol": 0.2, "method": "mean_field"}, {"method": Sampled(0.5)}], ids=str)
def test_compiled_callers_call_it_as_it_is(given: dict[str, object]) -> None:
    receipts = []

    def step(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        C, receipt = tithe.matmul(x.relu(), w, generator=generator(6), **given)  # type: ignore[arg-type]
        receipts.append(receipt)
        return (C + 1).relu()

    A, B = (X.requires_grad_() for X in FAMILIES["uniform"](48, generator()))
    plain, plain_grad = step(A, B), torch.autograd.grad(step(A, B).sum(), B)[0]
    torch._dynamo.reset()
    compiled = torch.compile(step, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Dynamo")  # cannot trace this, ignores that
        found = compiled(A, B)
        again = compiled(A, B)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(again, plain)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), B)[0], plain_grad)
    assert len({receipt.method for receipt in receipts}) == 1 and len(receipts) == 4
