"""A product of low rank, found by multiplying it with a few random vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.product.estimators.budget import affordable, thin, wide
from tithe.product.estimators.factors import Factors
from tithe.product.estimators.protocol import Approximation, Look, Work, flops
from tithe.product.estimators.sampled import check_share
from tithe.product.pair import Pair, RankOne
from tithe.product.tails import beyond

__all__ = ["Factored", "LowRank", "range_basis"]


@dataclass(frozen=True, slots=True)
class LowRank:
    """Q·((Qᵀ·A)·B) with Q an orthonormal basis of what A·B makes of r random vectors.

    The product has a low rank wherever one of the operands has. Each power iteration multiplies by (A·B)(A·B)ᵀ once
    more, which separates the directions that matter from the rest; two thin products more for each of them.

    Args:
        ratio: share of the multiply–adds; r is what it pays for.
        iterations: power iterations; 0 is cheapest, 1 errs about as little as the best matrix of that rank.

    Raises ``InvalidValueError`` for a ratio outside (0, 1] or a negative number of iterations. Source: Halko,
    Martinsson and Tropp 2011, SIAM Review 53(2).

    >>> A = torch.outer(torch.ones(50), torch.arange(50.0))
    >>> product = LowRank(0.5).multiply(Pair(A, A), generator=torch.Generator().manual_seed(0)).tensor(torch.float32)
    >>> torch.allclose(product, A @ A, rtol=1e-4, atol=1e-2)
    True
    """

    ratio: float
    iterations: int = 1

    def __post_init__(self) -> None:
        check_share(self.ratio)
        if self.iterations != int(self.iterations) or self.iterations < 0:
            raise InvalidValueError(f"iterations={self.iterations}: a whole number of power iterations is expected")

    @property
    def name(self) -> str:
        """``low_rank(ratio)``, with the number of power iterations where it is not 1."""
        return f"low_rank({self.ratio:g}{'' if self.iterations == 1 else f', {self.iterations}'})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product's part in the space that was found; a generator makes the vectors repeatable."""
        A, B = pair.left.to(pair.wide), pair.right.to(pair.wide)
        basis = range_basis(A, B, self._rank(pair.m, pair.k, pair.n, pair.A.dtype), self.iterations, generator)
        return _plus(Factors(basis, (basis.mT @ A) @ B), plus)

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """``ratio`` of the multiply–adds, thin products all of them."""
        return self._work(self._rank(m, k, n, dtype), m, k, n, dtype)

    @classmethod
    def of(cls, rank: int, m: int, k: int, n: int, dtype: torch.dtype) -> LowRank:
        """The one with that rank and no power iteration for (m, k)·(k, n) operands.

        >>> LowRank.of(48, 2048, 2048, 2048, torch.float32).name
        'low_rank(0.1183, 0)'
        """
        share = flops(cls(1.0, 0)._work(rank, m, k, n, dtype)) / (2.0 * m * k * n)
        return cls(min(1.0, math.ceil(1e4 * share) / 1e4), 0)

    def expected_error(self, pair: Pair, look: Look) -> float:
        """What lies beyond the rank, and what random vectors miss of that which does not."""
        m, k, n = pair.whole
        rank = self._rank(m, k, n, pair.A.dtype)
        return math.sqrt(pair.m * pair.n * beyond(pair.tails, rank, min(m, n), iterations=self.iterations))

    @staticmethod
    def missed(tails: NDArray[np.float64], rank: int, m: int, n: int) -> float:
        """Mean square of an entry's error without power iterations, given the ``tails`` of an (m, n) product."""
        return beyond(tails, rank, min(m, n))

    def prepared(self, B: Tensor, *, generator: torch.Generator | None = None) -> Factored:
        """A static right operand (k, n) factorised once: every product with it then costs two thin ones.

        Of ``Factored``'s products, ``ratio`` is the share of the multiply–adds for a square left operand. O(kn·r).

        >>> estimator = LowRank(0.5).prepared(torch.ones(20, 10))
        >>> estimator.multiply(Pair(torch.ones(3, 20), torch.ones(20, 10))).tensor(torch.float32)[0, 0].round()
        tensor(20.)
        """
        k, n = B.shape
        rank = affordable(self.ratio, float(k) * k * n, min(k, n), lambda r: _factored_work(r, k, k, n, B.dtype))
        X = B.to(wide(B.dtype))
        basis = range_basis(X, None, rank, self.iterations, generator)
        return Factored(basis, basis.mT @ X)

    def _rank(self, m: int, k: int, n: int, dtype: torch.dtype) -> int:
        return affordable(self.ratio, float(m) * k * n, min(m, k, n), lambda rank: self._work(rank, m, k, n, dtype))

    def _work(self, rank: int, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        area, bases = float(m * k + k * n), 1 + self.iterations * 2
        products = rank * (2 * (1 + self.iterations) * area + m * n)
        work = {thin(dtype): products, "gemm.factor": 2.0 * bases * max(m, n) * rank**2, "random": float(n * rank)}
        return work if dtype == wide(dtype) else work | {"cast": area}


@dataclass(frozen=True, eq=False)
class Factored:
    """Products with one static right operand B ≈ ``tall``·``flat``, made by ``LowRank.prepared``.

    Args:
        tall: (k, r), orthonormal columns.
        flat: (r, n).
    """

    tall: Tensor
    flat: Tensor

    @property
    def name(self) -> str:
        """``factored(r)``; it cannot be asked for by name, for it holds its operand."""
        return f"factored({self.tall.shape[1]})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """(A·``tall``)·``flat``; ``InvalidValueError`` where the right operand has another shape or shift."""
        expected = (self.tall.shape[0], self.flat.shape[1])
        if tuple(pair.B.shape) != expected or pair.b is not None:
            raise InvalidValueError(
                f"B has shape {tuple(pair.B.shape)}, and {expected} uncentred was prepared; prepare this operand"
            )
        return _plus(Factors(pair.left.to(self.tall) @ self.tall, self.flat), plus)

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """Two thin products: the operand was factorised before."""
        return _factored_work(self.tall.shape[1], m, k, n, dtype)

    def expected_error(self, pair: Pair, look: Look) -> float:
        """That of the same product of the pair's lines, measured."""
        return float((self.multiply(pair).tensor(pair.wide) - pair.product).norm())


def _plus(factors: Factors, plus: RankOne | None) -> Approximation:
    if plus is None:
        return Approximation(None, factors=factors)
    dense = factors.tensor()
    return Approximation(dense.addr_(plus.u.to(dense), plus.v.to(dense)))


def _factored_work(rank: int, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
    return {thin(dtype): float(rank) * (m * k + m * n)}


def range_basis(A: Tensor, B: Tensor | None, rank: int, iterations: int, generator: torch.Generator | None) -> Tensor:
    """An orthonormal basis, (m, rank), of what A·B (A alone without B) makes of random vectors."""
    width, device = A.shape[1] if B is None else B.shape[1], A.device if generator is None else generator.device
    vectors = torch.randn(width, rank, dtype=A.dtype, device=device, generator=generator).to(A.device)

    def image(directions: Tensor) -> Tensor:
        basis: Tensor = torch.linalg.qr(A @ (directions if B is None else B @ directions)).Q
        return basis

    basis = image(vectors)
    for _ in range(int(iterations)):
        back = A.mT @ basis
        basis = image(torch.linalg.qr(back if B is None else B.mT @ back).Q)
    return basis
