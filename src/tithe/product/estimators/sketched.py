"""The contraction axis folded at random into fewer slices: a CountSketch of both operands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tithe.product.estimators.budget import affordable, wide
from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.estimators.sampled import check_share
from tithe.product.pair import Pair, RankOne

__all__ = ["Sketched"]


@dataclass(frozen=True, slots=True)
class Sketched:
    """Every slice gets a random sign and falls into one of c buckets; what is in a bucket is added up.

    Unbiased, and one pass over the operands whatever they hold. Its expected squared error is
    (‖A‖²‖B‖² + ‖AB‖² − 2 Σ ‖A:ₗ‖²‖Bₗ:‖²)/c: never much less than that of ``sampled``, which looks at the weights of
    the slices first. It is here as the baseline that sketches are, not because it wins. Source: Clarkson and Woodruff
    2017, J. ACM 63(6); Pagh 2013, ACM TOCT 5(3).

    >>> pair = Pair(torch.eye(2), torch.eye(2))
    >>> Sketched(1.0).multiply(pair, generator=torch.Generator().manual_seed(0)).tensor(torch.float32).diagonal()
    tensor([1., 1.])
    """

    ratio: float

    def __post_init__(self) -> None:
        check_share(self.ratio)

    @property
    def name(self) -> str:
        """``sketched(ratio)``."""
        return f"sketched({self.ratio:g})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product of both operands' sketches; a generator makes them repeatable."""
        count = self._buckets(pair.m, pair.k, pair.n, pair.A.dtype)
        device = pair.A.device if generator is None else generator.device
        drawn = torch.randint(2 * count, (pair.k,), generator=generator, device=device).to(pair.A.device)
        bucket, sign = drawn // 2, (1 - 2 * (drawn % 2)).to(pair.wide)
        left = torch.zeros(pair.m, count, dtype=pair.wide, device=pair.A.device)
        right = torch.zeros(count, pair.n, dtype=pair.wide, device=pair.A.device)
        left.index_add_(1, bucket, pair.left * sign)
        right.index_add_(0, bucket, pair.right * sign[:, None])
        dense = left @ right
        return Approximation(dense if plus is None else dense.addr_(plus.u.to(dense), plus.v.to(dense)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """Two passes, and the product of the sketches; all of it is ``ratio`` of the multiply–adds."""
        return _work(self._buckets(m, k, n, dtype), m, k, n, dtype)

    def expected_error(self, pair: Pair, look: Look) -> float:
        """Closed form, see above."""
        left, right = pair.norms
        slices = float(pair.slice_weights.double().square().sum())
        square = (left * right) ** 2 + look.norm**2 - 2 * slices
        return math.sqrt(max(0.0, square) / self._buckets(*pair.whole, pair.A.dtype))

    def _buckets(self, m: int, k: int, n: int, dtype: torch.dtype) -> int:
        return affordable(self.ratio, float(m) * k * n, k, lambda count: _work(count, m, k, n, dtype))


def _work(count: int, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
    gemm = f"gemm.{str(wide(dtype)).removeprefix('torch.')}"
    return {"sketch": 2.0 * (m * k + k * n), gemm: float(m) * count * n}
