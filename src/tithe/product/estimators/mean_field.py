"""The mean part of a product alone: k·(row means of A)·(column means of B)ᵀ, rank one, O(n²)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.pair import Pair, RankOne

__all__ = ["MeanField"]


@dataclass(frozen=True, slots=True)
class MeanField:
    """Every row of A and column of B replaced by its mean.

    The relative error for entries uniform on [0, 1] is 1/(3√k): 1.04 % at k = 1024. For zero-mean entries nothing is
    left and the error is 100 %. Source: MISSION M2, where it explains why the claimed error falls with size.

    >>> pair = Pair(torch.ones(2, 3), torch.ones(3, 2))
    >>> MeanField().multiply(pair).tensor(torch.float32)
    tensor([[3., 3.],
            [3., 3.]])
    """

    name: str = "mean_field"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """Rank one, never formed as a matrix before it is asked for."""
        part = pair.centred[1]
        if plus is None:
            return Approximation(None, part)
        return Approximation(torch.outer(part.u, part.v).addr_(plus.u.to(part.u), plus.v.to(part.u)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """Two reading passes and one writing pass."""
        return {"mean": float(m * k + k * n), "outer": float(m * n)}

    def expected_error(self, pair: Pair, look: Look) -> float:
        """What lies beyond the means: ‖A'·B'‖."""
        return look.centred
