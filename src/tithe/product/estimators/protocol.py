"""What an estimator is: a way to multiply two matrices, its work, and the error to be expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tithe.product.estimators.factors import Factors
from tithe.product.pair import Pair, RankOne

__all__ = ["Approximation", "Estimator", "Look", "Work", "flops"]

# Amounts of elementary work: "gemm.<kind>" in multiply–adds, everything else in elements touched.
Work = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a product before it is made: ‖A·B‖_F and ‖A'·B'‖_F, its part beyond the means."""

    norm: float
    centred: float


@dataclass(frozen=True, slots=True)
class Approximation:
    """A product as ``dense + u vᵀ``, either of which may be missing, or as ``factors`` alone."""

    dense: Tensor | None
    rank_one: RankOne | None = None
    factors: Factors | None = None

    def tensor(self, dtype: torch.dtype) -> Tensor:
        """The product as one tensor (m, n); O(mn), of factors O(mnr)."""
        if self.factors is not None:
            return self.factors.tensor().to(dtype)
        u_vt = self.rank_one
        if self.dense is None:
            assert u_vt is not None
            return torch.outer(u_vt.u, u_vt.v).to(dtype)
        dense = self.dense if u_vt is None else torch.addr(self.dense, u_vt.u.to(self.dense), u_vt.v.to(self.dense))
        return dense.to(dtype)

    def times(self, omega: Tensor) -> Tensor:
        """The product times ``omega`` (n, s), without forming it; O((mn or m + n)·s)."""
        if self.factors is not None:
            return self.factors.times(omega)
        product = None if self.dense is None else self.dense.to(omega.dtype) @ omega
        if self.rank_one is None:
            assert product is not None
            return product
        u, v = self.rank_one.u.to(omega.dtype), self.rank_one.v.to(omega.dtype)
        thin = u[:, None] * (v @ omega)
        return thin if product is None else product.add_(thin)

    def row_squares(self) -> Tensor:
        """Squared norm of each row, (m,); O(mn), O(m + n) for a mere rank-one product."""
        if self.factors is not None:
            return self.factors.row_squares()
        if self.dense is None:
            assert self.rank_one is not None
            return self.rank_one.u.double().square() * self.rank_one.v.double().square().sum()
        wide = torch.float64 if self.dense.dtype == torch.float64 else torch.float32
        norms: Tensor = torch.linalg.vector_norm(self.dense, dim=1, dtype=wide)
        return norms.double().square()


@runtime_checkable
class Estimator(Protocol):
    """A way to multiply two matrices; small, immutable, without state of its own."""

    @property
    def name(self) -> str:
        """How receipts call it; ``tithe.matmul(method=name)`` uses it again."""
        ...

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product of ``pair``, plus a rank-one matrix if one is given (estimators add it in their last pass)."""
        ...

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """Elementary work for (m, k)·(k, n) operands of ``dtype``."""
        ...

    def expected_error(self, pair: Pair, look: Look) -> float:
        """Absolute Frobenius error to be expected; infinite where nothing can be said."""
        ...


def flops(work: Work) -> float:
    """Operations of some work, a multiply–add counted as two, an element touched as one.

    >>> flops({"gemm.float32": 10.0, "outer": 4.0})
    24.0
    """
    return sum(2 * amount if step.startswith("gemm.") else amount for step, amount in work.items())
