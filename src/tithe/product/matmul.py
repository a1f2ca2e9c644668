"""``matmul``: the front door of approximate products."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.product import batch
from tithe.product.accounts import largest_item, plain_cost, receipt_of, seconds_of_one, seconds_since
from tithe.product.compiling import opaque
from tithe.product.estimators import Estimator
from tithe.product.gradients import differentiable
from tithe.product.operands import Shape, check_operands
from tithe.product.planner import Outcome
from tithe.product.rates import Rates, rates
from tithe.product.request import Request
from tithe.receipt import Attempt, Bound, Cost, Receipt

__all__ = ["matmul"]

_SMALL_FLOPS = 1e8  # a millisecond or two on one core
_SMALL_SECONDS = 1e-3  # a plain product under this leaves nothing to gain
_TOO_SMALL = Attempt("auto", "too small to gain anything")
_NOT_ASKED = Attempt("auto", "neither tol nor ratio allows an error")


@opaque
def matmul(
    A: Tensor,
    B: Tensor,
    *,
    tol: float | None = None,
    ratio: float | None = None,
    method: str | Estimator = "auto",
    confidence: float = 0.999,
    generator: torch.Generator | None = None,
    gradients: Literal["exact", "same"] = "exact",
) -> tuple[Tensor, Receipt]:
    """Multiply, for less where that is safe: the result carries a checked error bound, or it is the plain product.

    With ``tol`` the cheapest product whose relative Frobenius error ‖AB − C‖/‖AB‖ is certified to be at most ``tol``
    (of every item of a batch); with ``ratio`` the most accurate one for that share of the multiply–adds, its
    certificate included; with both, the latter if it keeps ``tol``, else the plain product; with neither, the plain
    product. ``method`` names one estimator in place of the planner's choice.

    Args:
        A: left operand, shape (..., m, k): float64, float32, float16, bfloat16, complex64 or complex128, any strides,
            CPU or CUDA.
        B: right operand, shape (..., k, n), of the same dtype and device; batch dimensions broadcast.
        tol: relative error allowed, > 0.
        ratio: share of the plain multiply–adds to spend, in (0, 1].
        method: ``auto``, one of ``tithe.product.METHODS``, a kind such as ``int8``, whatever a receipt calls a
            method, or an estimator. Complex operands take it for each of three real products.
        confidence: probability in (0, 1) that all bounds of this call hold.
        generator: makes random choices repeatable; it is advanced by two draws, by three for gradients of the
            same. Fresh entropy without one.
        gradients: ``exact`` for plain products in the backward pass, or ``same`` for products under the same ``tol``,
            ``ratio``, ``method`` and ``confidence`` as this one, with random choices of their own.

    Returns:
        The product, shape (..., m, n), of the operands' dtype, and a ``Receipt``: what was spent, what the plain
        product costs (its seconds an estimate from this machine's measured rates), the bound, and what was tried.

    Raises:
        InvalidValueError: shapes, devices, or any other argument that cannot be used.
        InvalidDTypeError: operands that are not floating-point tensors of one dtype.

    Gradients are those of the plain product; made by ``sampled`` products they are so on average, for whatever
    gradient arrives. ``torch.compile`` runs a call as it is, between two graphs. Under autocast, too, the operands are
    multiplied in the dtype they have. A plan costs O(n²); products under a millisecond go straight to the plain one.
    The first call on a machine measures its rates for a few seconds and keeps them in the user's cache.
    Source: MISSION M1.

    >>> A, B = torch.rand(1024, 1024), torch.rand(1024, 1024)
    >>> C, receipt = matmul(A, B, tol=0.02)
    >>> bool((A @ B - C).norm() <= 0.02 * (A @ B).norm())
    True
    """
    start = time.perf_counter()
    shape = check_operands(A, B)
    kind = "cuda" if A.is_cuda else "cpu"
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return matmul(
                A,
                B,
                tol=tol,
                ratio=ratio,
                method=method,
                confidence=confidence,
                generator=generator,
                gradients=gradients,
            )
    request = _request(tol, ratio, method, confidence)
    if gradients not in ("exact", "same"):
        raise InvalidValueError(f"gradients={gradients!r}: 'exact' or 'same' is expected")
    largest = largest_item(A, B, shape)
    known: Rates | None = None
    reason = _without_a_look(shape, largest, request)
    if reason is None:
        known = rates(A.device)
        start = time.perf_counter()  # measuring the rates, once on a machine, is no part of this product
        quick = seconds_of_one(known, A, shape, largest) < _SMALL_SECONDS
        if not known.table or (request.auto and ratio is None and quick):
            reason = _TOO_SMALL if known.table else Attempt("auto", f"nothing is known of {A.device.type} devices")
    if reason is not None or known is None:
        product, flops = A @ B, shape.flops
        spent = Cost(flops, seconds=seconds_since(start, A))
        return product, Receipt("exact", spent, Cost(flops), Bound.exact(), (reason,) if reason else ())
    outcomes: list[Outcome] = []

    def multiply(A: Tensor, B: Tensor) -> Tensor:
        product, made = batch.multiply(A, B, shape, request, known, generator)
        outcomes.extend(made)
        return product

    product = differentiable(A, B, multiply, _backward(request, gradients, generator, A.device))
    spent = Cost(sum(outcome.flops for outcome in outcomes), seconds=seconds_since(start, A))
    return product, receipt_of(outcomes, spent, plain_cost(known, A, B, shape), confidence)


def _request(tol: float | None, ratio: float | None, method: str | Estimator, confidence: float) -> Request:
    try:
        return _checked(tol, ratio, method, confidence)
    except TypeError:  # an estimator of the caller's own need not be hashable
        return Request(tol, ratio, method, confidence)


_checked: Callable[..., Request] = lru_cache(maxsize=256, typed=True)(
    Request
)  # the same few requests come again and again


def _without_a_look(shape: Shape, largest: tuple[int, int, int], request: Request) -> Attempt | None:
    """Why the plain product is taken before anything else is known; nothing where it is not."""
    if shape.flops == 0:
        return _TOO_SMALL
    if not request.auto or request.ratio is not None:
        return None
    if request.tol is None:
        return _NOT_ASKED
    return _TOO_SMALL if 2.0 * shape.products * math.prod(largest) <= _SMALL_FLOPS else None


def _backward(
    request: Request, gradients: str, generator: torch.Generator | None, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """How the products of the backward pass are made; random ones see nothing of the forward pass's choices."""
    if gradients == "exact":
        return torch.matmul
    own = None if generator is None else batch.child(generator, device)

    def again(A: Tensor, B: Tensor) -> Tensor:
        product, _ = matmul(
            A,
            B,
            tol=request.tol,
            ratio=request.ratio,
            method=request.method,
            confidence=request.confidence,
            generator=own,
            gradients="same",
        )
        return product

    return again
