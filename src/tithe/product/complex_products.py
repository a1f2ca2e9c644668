"""Complex products: three real ones in place of four, judged as the one complex product that they make.

(A + iA')(B + iB') = P − Q + i(S − P − Q) with P = AB, Q = A'B' and S = (A + A')(B + B'): Karatsuba's way. Each of the
three may be made by another estimator, so its errors are not those of a real product: they cancel and add up. Nothing
is carried over from the parts; real Gaussian probes of the complex result bound its error, for the real and imaginary
rows of an error matrix are a real matrix of the same Frobenius norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from tithe.product.certificate import gaussian, relative_bound
from tithe.product.estimators import Estimator, Exact, flops
from tithe.product.kernels.floats import float32_is_exact
from tithe.product.pair import Pair
from tithe.product.planner import Outcome, missed, most_accurate
from tithe.product.probing import LADDER
from tithe.product.rates import Rates
from tithe.product.request import Request
from tithe.product.sample import Sample
from tithe.product.shortlist import shortlist, worth_a_look
from tithe.receipt import Attempt, Bound, join_methods

__all__ = ["attempt_complex", "karatsuba", "multiply_complex", "operations", "real_pairs", "real_parts"]

Three = tuple[Estimator, Estimator, Estimator]
_ADDED = math.sqrt(5)  # errors e of P, Q and S make √(2e² + 2e² + e²) if they are independent
_WORTH = 0.9  # of the plain product's seconds: what costs more is not tried
_FEW = 4  # probes where more would eat up the ratio
_PLAIN = "no shortcut of its three real products is expected to keep tol={:g} for less than the plain product"


@dataclass(frozen=True, slots=True)
class _Way:
    """How to make the three real products, and with how many probes to judge what they make."""

    estimators: Three
    probes: int

    @property
    def name(self) -> str:
        """As receipts of several products call it."""
        return reduce(join_methods, (estimator.name for estimator in self.estimators))


def multiply_complex(
    A: Tensor,
    B: Tensor,
    groups: int,
    request: Request,
    failure: float,
    known: Rates,
    drawing: torch.Generator,
    judging: torch.Generator,
) -> Outcome:
    """What ``tithe.matmul`` makes of one pair of complex matrices.

    Args:
        A: left operand, shape (m, k), complex64 or complex128.
        B: right operand, shape (k, n), of the same dtype.
        groups: the rows of A fall into that many items of equal size; the bound holds for each.
        request: tolerance, ratio and method, which is that of the three real products.
        failure: probability that the certificate may fail with, over all attempts.
        known: what real products cost here.
        drawing: for estimators that draw at random.
        judging: of the probes.

    The plain product where nothing keeps the tolerance, nothing is cheaper or an entry is not finite. Source: M7.
    """
    A, B = A.resolve_conj(), B.resolve_conj()
    if request.ratio is not None and request.ratio >= 1 and request.auto:
        return _plain(A, B)
    pairs = real_pairs(A, B)
    if not all(pair.finite for pair in pairs):
        return _plain(A, B, Attempt("auto", "the operands are not finite, or too large to be summed"))
    ways, reason = _ways(pairs, request, failure, known)
    made: Three | None = None
    product, spent, tried = A.new_empty(0), 0.0, dict[str, Attempt]()
    for way in ways:
        if way.estimators != made:
            made, product = way.estimators, karatsuba(pairs, way.estimators, drawing)
            spent += operations(pairs[0], way.estimators)
        bound = _bound(A, B, product, pairs, groups, way.probes, failure / len(ways), judging, request.tol)
        spent += _checking(pairs[0], way.probes)
        if request.tol is None or bound.upper <= request.tol:
            return Outcome(product, way.name, bound, spent, tuple(tried.values()), way.estimators)
        tried[way.name] = missed(way.name, bound, request.tol)
    return _plain(A, B, *([Attempt("auto", reason)] if reason else []), *tried.values(), spent=spent)


def attempt_complex(
    A: Tensor,
    B: Tensor,
    groups: int,
    by: Three,
    tol: float,
    failure: float,
    drawing: torch.Generator,
    judging: torch.Generator,
) -> tuple[Tensor, Bound, float]:
    """The product by three given estimators, its bound by as many probes as it takes, and the operations of both."""
    A, B = A.resolve_conj(), B.resolve_conj()
    pairs, rungs = real_pairs(A, B), (LADDER[0], LADDER[-1])
    product, spent = karatsuba(pairs, by, drawing), operations(pairs[0], by)
    bound = Bound.exact()
    for probes in rungs:
        bound = _bound(A, B, product, pairs, groups, probes, failure / len(rungs), judging, tol)
        spent += _checking(pairs[0], probes)
        if bound.upper <= tol:
            break
    return product, bound, spent


def real_pairs(A: Tensor, B: Tensor) -> tuple[Pair, Pair, Pair]:
    """The operands of P, Q and S, from complex A (m, k) and B (k, n).

    >>> A = torch.tensor([[1 + 2j]])
    >>> [(pair.A.item(), pair.B.item()) for pair in real_pairs(A, A)]
    [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    """
    P, Q, S = map(Pair, real_parts(A), real_parts(B))
    return P, Q, S


def real_parts(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Real part, imaginary part and their sum: what an operand gives to each of the three, contiguous.

    >>> [part.item() for part in real_parts(torch.tensor([[1 + 2j]]))]
    [1.0, 2.0, 3.0]
    """
    X = X.resolve_conj()
    real, imaginary = X.real.contiguous(), X.imag.contiguous()
    return real, imaginary, real + imaginary


def karatsuba(pairs: tuple[Pair, Pair, Pair], by: Three, generator: torch.Generator | None = None) -> Tensor:
    """The complex product (m, n) from three real ones, each by its own estimator: three quarters of the operations.

    >>> A = torch.tensor([[1 + 2j]])
    >>> karatsuba(real_pairs(A, A), (Exact(),) * 3)
    tensor([[-3.+4.j]])
    """
    made = (e.multiply(pair, generator=generator).tensor(pair.A.dtype) for e, pair in zip(by, pairs, strict=True))
    P, Q, S = made
    return torch.complex(P - Q, (S - P).sub_(Q))


def _ways(pairs: tuple[Pair, Pair, Pair], request: Request, failure: float, known: Rates) -> tuple[list[_Way], str]:
    """What to try, settled before the first probe is drawn; and why that is nothing."""
    if not request.auto:
        estimator = request.estimator(known.fastest_kind)
        rungs = LADDER[:1] if request.tol is None else (LADDER[0], LADDER[-1])
        return [] if isinstance(estimator, Exact) else [_Way((estimator,) * 3, probes) for probes in rungs], ""
    if request.ratio is not None:
        return _at_ratio(pairs, request.ratio)
    assert request.tol is not None
    found = list(_within(pairs, request.tol, failure / 2, known))
    return found, "" if found else _PLAIN.format(request.tol)


def _at_ratio(pairs: tuple[Pair, Pair, Pair], ratio: float) -> tuple[list[_Way], str]:
    first = pairs[0]
    plain, entries = 4 * first.flops, first.area + first.m * first.n
    probes = LADDER[0] if _checking(first, LADDER[0]) <= ratio / 3 * plain else _FEW
    share = (ratio * plain - _checking(first, probes) - 17 * entries) / (3 * first.flops)
    if share < 1 / first.k:
        return [], f"for operands of this size a certificate alone costs more than ratio={ratio:g}"
    if share >= 1:
        return [_Way((Exact(),) * 3, probes)], ""
    P, Q, S = (most_accurate(pair, share) for pair in pairs)
    return [_Way((P, Q, S), probes)], ""


def _within(pairs: tuple[Pair, Pair, Pair], tol: float, failure: float, known: Rates) -> Iterator[_Way]:
    """The two cheapest ways that should keep ``tol``, each part being allowed a like share of the error."""
    first = pairs[0]
    if not worth_a_look(first, known):
        return
    samples = [Sample(pair) for pair in pairs]
    P, Q, S = (sample.pair.A @ sample.pair.B for sample in samples)
    whole = math.hypot(float((P - Q).norm()), float((S - P - Q).norm()))
    parts = [float(part.norm()) for part in (P, Q, S)]
    if not (0 < whole < math.inf and all(map(math.isfinite, parts))):
        return
    lists = [
        shortlist(pair, sample, tol * whole / (_ADDED * part) if part > 0 else 1.0, failure, known)
        for pair, sample, part in zip(pairs, samples, parts, strict=True)
    ]
    exact = known.plain_seconds(first.A.dtype, first.cube)
    for rank in range(2):
        options = [options[rank] if rank < len(options) else None for options in lists]
        seconds = sum(exact if option is None else option.seconds for option in options)
        if any(options) and seconds < _WORTH * 4 * exact:
            P_by, Q_by, S_by = (Exact() if option is None else option.estimator for option in options)
            yield _Way((P_by, Q_by, S_by), max(option.probes for option in options if option is not None))


def _bound(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    pairs: tuple[Pair, Pair, Pair],
    groups: int,
    probes: int,
    failure: float,
    judging: torch.Generator,
    tol: float | None,
) -> Bound:
    """The bound that fresh probes give, the largest over the groups; in complex128 where rounding could hide tol."""
    rows = torch.linalg.vector_norm(torch.view_as_real(C).flatten(1), dim=1).double().square()
    norms = rows.view(groups, -1).sum(1).sqrt().tolist()
    operands = math.prod(math.hypot(*sides) for sides in zip(*(pair.norms for pair in pairs[:2]), strict=True))
    (k, n), dtype = B.shape, A.dtype if float32_is_exact() else torch.complex128

    def rounding(norm: float) -> float:  # as for real products of twice the contraction length
        sums = (math.sqrt(2 * k) + math.sqrt(n)) * operands + math.sqrt(n) * norm
        return torch.finfo(dtype).eps / 2 * sums

    if tol is not None and any(rounding(norm) > tol * norm / 4 for norm in norms):
        dtype = torch.complex128
    omega = gaussian(n, probes, dtype.to_real(), A.device, judging).to(dtype)
    residual = A.to(dtype) @ (B.to(dtype) @ omega) - C.to(dtype) @ omega
    worst = Bound.exact()
    for item_rows, norm in zip(residual.view(groups, -1, probes), norms, strict=True):
        item = relative_bound(item_rows, norm, failure=failure / groups, slack=rounding(norm))
        worst = max(worst, item, key=lambda bound: bound.upper)
    return worst


def operations(pair: Pair, by: Three) -> float:
    """Of the three products and the sums before and after them."""
    parts = sum(flops(estimator.work(pair.m, pair.k, pair.n, pair.A.dtype)) for estimator in by)
    return parts + pair.area + 3 * pair.m * pair.n


def _checking(pair: Pair, probes: int) -> float:
    return 8 * probes * (pair.area + pair.m * pair.n) + 2 * (pair.area + pair.m * pair.n)


def _plain(A: Tensor, B: Tensor, *reasons: Attempt, spent: float = 0.0) -> Outcome:
    operations = 8.0 * A.shape[0] * A.shape[1] * B.shape[1]
    return Outcome(A @ B, "exact", Bound.exact(), spent + operations, reasons)
