"""The heaviest slices of the contraction axis, the rest dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from tithe.product.estimators.exact import Exact
from tithe.product.estimators.protocol import Approximation, Estimator, Look, Work
from tithe.product.estimators.sampled import check_share, slices
from tithe.product.pair import Pair, RankOne

__all__ = ["Truncated"]


@dataclass(frozen=True, slots=True)
class Truncated:
    """The ``ratio·k`` slices with the largest ‖A:ₗ‖·‖Bₗ:‖, multiplied by ``inner``; the others count as zero.

    Where slices are alike it errs by √(1 − ratio) of the product, less than rescaled sampling, which errs by up to
    √(1/ratio); where few slices carry the product it is nearly exact. Most useful inside ``Centred``.

    >>> A = torch.tensor([[1.0, 100.0]])
    >>> Truncated(0.5).multiply(Pair(A, A.T)).tensor(torch.float32)
    tensor([[10000.]])
    """

    ratio: float
    inner: Estimator = field(default_factory=Exact)

    def __post_init__(self) -> None:
        check_share(self.ratio)

    @property
    def name(self) -> str:
        """``truncated(ratio)`` or ``truncated(ratio, inner)``."""
        inner = "" if isinstance(self.inner, Exact) else f", {self.inner.name}"
        return f"truncated({self.ratio:g}{inner})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The inner estimator's product over the heaviest slices."""
        index = _heaviest(pair, slices(self.ratio, pair.k))
        return self.inner.multiply(pair.take(index), generator=generator, plus=plus)

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """The inner work on a ``ratio`` of the contraction axis, after a pass for the weights."""
        count = slices(self.ratio, k)
        total = {"weights": float(m * k + k * n), "gather": float(count * (m + n))}
        for step, amount in self.inner.work(m, count, n, dtype).items():
            total[step] = total.get(step, 0.0) + amount
        return total

    def expected_error(self, pair: Pair, look: Look) -> float:
        """The share of the product that the dropped slices carry, as if slices were orthogonal, and inner's error."""
        dropped = 1 - float(pair.shares_of_heaviest[slices(self.ratio, pair.k) - 1])
        inner = self.inner.expected_error(pair, look)
        return math.sqrt(max(dropped, 0.0) * look.norm**2 + (1 - dropped) * inner**2)


def _heaviest(pair: Pair, count: int) -> torch.Tensor:
    return torch.topk(pair.slice_weights, count, sorted=False).indices.sort().values
