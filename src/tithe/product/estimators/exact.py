"""The plain product: the baseline, the last resort, and the inner part of truncated products."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.pair import Pair, RankOne

__all__ = ["Exact"]


@dataclass(frozen=True, slots=True)
class Exact:
    """``A @ B`` in the operands' own dtype, as the user's torch settings say; O(mkn).

    >>> pair = Pair(torch.ones(2, 3), torch.ones(3, 2))
    >>> Exact().multiply(pair).tensor(torch.float32)
    tensor([[3., 3.],
            [3., 3.]])
    """

    name: str = "exact"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The plain product of the (shifted) operands."""
        dense = pair.left @ pair.right
        return Approximation(dense if plus is None else dense.addr_(plus.u.to(dense), plus.v.to(dense)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """All m·k·n multiply–adds."""
        return {f"gemm.{str(dtype).removeprefix('torch.')}": float(m) * k * n}

    def expected_error(self, pair: Pair, look: Look) -> float:
        """Zero: this is what errors are measured against."""
        return 0.0
