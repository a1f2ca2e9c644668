"""Means taken out, the rest multiplied by any other estimator, the mean part put back: an exact identity."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tithe.product.estimators.protocol import Approximation, Estimator, Look, Work
from tithe.product.pair import Pair, RankOne

__all__ = ["Centred"]


@dataclass(frozen=True, slots=True)
class Centred:
    """A·B = A'·B' + k·a·bᵀ with A'·B' left to ``inner``: whatever inner gets wrong, it gets wrong on less.

    Pays on operands with a mean (non-negative data, activations after ReLU); costs two passes more elsewhere.

    >>> from tithe.product.estimators.exact import Exact
    >>> Centred(Exact()).name
    'centred(exact)'
    """

    inner: Estimator

    @property
    def name(self) -> str:
        """``centred(inner)``."""
        return f"centred({self.inner.name})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The inner estimator's product of the centred operands, plus the mean part."""
        shifted, mean_part = pair.centred
        product = self.inner.multiply(shifted, generator=generator, plus=mean_part)
        return product if plus is None else Approximation(product.tensor(pair.wide), plus)

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """The inner work, the means, and the passes that subtract them and add them back."""
        total = {"mean": float(m * k + k * n), "rank one": float(m * n)}
        for step, amount in self.inner.work(m, k, n, dtype).items():
            total[step] = total.get(step, 0.0) + amount
        return total

    def expected_error(self, pair: Pair, look: Look) -> float:
        """The inner estimator's on the centred operands."""
        return self.inner.expected_error(pair.centred[0], Look(look.centred, look.centred))
