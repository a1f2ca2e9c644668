"""Random slices of the contraction axis, rescaled so that the product is unbiased."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tithe.errors import InvalidValueError
from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.pair import Pair, RankOne

__all__ = ["Sampled", "check_share", "slices"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """``ratio·k`` slices drawn with the optimal probabilities p ∝ ‖A:ₗ‖·‖Bₗ:‖, with replacement.

    Unbiased. Its expected squared error is ((Σ ‖A:ₗ‖‖Bₗ:‖)² − ‖AB‖²)/(ratio·k): about 1/ratio of the product's own
    square on zero-mean data, so it loses there by construction. Source: Drineas, Kannan and Mahoney 2006, SIAM J.
    Comput. 36(1); the baseline of MISSION M2.

    >>> pair = Pair(torch.ones(2, 8), torch.ones(8, 2))
    >>> Sampled(0.5).multiply(pair, generator=torch.Generator().manual_seed(0)).tensor(torch.float32)
    tensor([[8., 8.],
            [8., 8.]])
    """

    ratio: float

    def __post_init__(self) -> None:
        check_share(self.ratio)

    @property
    def name(self) -> str:
        """``sampled(ratio)``."""
        return f"sampled({self.ratio:g})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The rescaled product over the drawn slices; a generator makes the draw repeatable."""
        weights, count = pair.slice_weights, slices(self.ratio, pair.k)
        total = weights.sum()
        if not total > 0:  # nothing to draw from: the product is zero
            dense = pair.A.new_zeros(pair.m, pair.n)
        else:
            source = weights if generator is None else weights.to(generator.device)
            index = torch.multinomial(source, count, replacement=True, generator=generator).to(pair.A.device)
            drawn = pair.take(index)
            factor = (total / (count * weights[index])).to(pair.A.dtype)
            dense = (drawn.left * factor) @ drawn.right
        return Approximation(dense if plus is None else dense.addr_(plus.u.to(dense), plus.v.to(dense)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """A ``ratio`` of the multiply–adds, after a pass for the probabilities."""
        count = slices(self.ratio, k)
        gemm = f"gemm.{str(dtype).removeprefix('torch.')}"
        return {"weights": float(m * k + k * n), "gather": float(count * (2 * m + n)), gemm: float(m) * count * n}

    def expected_error(self, pair: Pair, look: Look) -> float:
        """Closed form, see above."""
        total = float(pair.slice_weights.sum())
        return math.sqrt(max(0.0, total**2 - look.norm**2) / slices(self.ratio, pair.k))


def slices(ratio: float, k: int) -> int:
    """Number of slices of a contraction axis of length ``k`` that a share of ``ratio`` pays for; at least one."""
    return max(1, math.floor(ratio * k + 1e-9))


def check_share(ratio: float) -> None:
    """Raise ``InvalidValueError`` unless 0 < ratio ≤ 1."""
    if not 0 < ratio <= 1:
        raise InvalidValueError(f"ratio={ratio}: a share of the multiply–adds in (0, 1] is expected, such as 0.2")
