"""A few rows and columns of the product made exactly, all the others propagated from them through their core."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.product.estimators.anchors import STRATEGIES, pivots, places
from tithe.product.estimators.budget import affordable, thin, wide
from tithe.product.estimators.factors import Factors
from tithe.product.estimators.propagation import propagated, with_surplus
from tithe.product.estimators.protocol import Approximation, Look, Work, flops
from tithe.product.estimators.sampled import check_share
from tithe.product.pair import Pair, RankOne
from tithe.product.tails import beyond

__all__ = ["Anchored"]


@dataclass(frozen=True, slots=True)
class Anchored:
    """C ≈ C[:, J]·C[I, J]⁺·C[I, :], exact where I and J reach as far as the product's rank.

    A third more anchor rows I than anchor columns J make the propagation a least-squares fit (see ``propagated``).

    Args:
        ratio: share of the multiply–adds; the number of anchors is what it pays for.
        strategy: where the anchors lie. ``golden`` is evenly spread; ``exterior``, ``ring`` and ``random`` are there
            to compare; ``islands`` exchanges them for the columns and rows that the greedy, rank-revealing choice
            takes, which costs a quarter of the anchors and pays where few lines carry what is special.

    Raises ``InvalidValueError`` for a ratio outside (0, 1] or an unknown strategy. Source: MISSION M5 and M8;
    Goreinov, Tyrtyshnikov and Zamarashkin 1997, Linear Algebra Appl. 261 (skeleton approximation).

    >>> A = torch.outer(torch.ones(50), torch.arange(50.0))
    >>> torch.allclose(Anchored(0.5).multiply(Pair(A, A)).tensor(torch.float32), A @ A, rtol=1e-4)
    True
    """

    ratio: float
    strategy: str = "golden"

    def __post_init__(self) -> None:
        check_share(self.ratio)
        if self.strategy not in STRATEGIES:
            raise InvalidValueError(f"strategy={self.strategy!r}: one of {', '.join(STRATEGIES)} is expected")

    @property
    def name(self) -> str:
        """``anchored(ratio)``, with the strategy where it is not golden."""
        return f"anchored({self.ratio:g}{'' if self.strategy == 'golden' else f', {self.strategy}'})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product; a generator makes random anchors repeatable.

        Its anchor rows are exact, its anchor columns up to the singular values that count as zero.
        """
        count = self._columns(pair.m, pair.k, pair.n, pair.A.dtype)
        A, B = pair.left.to(pair.wide), pair.right.to(pair.wide)
        islands, some = self.strategy == "islands", with_surplus(count, pair.m)
        J = places(self.strategy, pair.n, count, A.device, generator)
        if islands:
            I = pivots((A @ B.index_select(1, J)).mT, some)  # noqa: E741  (the letters of the formula)
        else:
            I = places(self.strategy, pair.m, some, A.device, generator)  # noqa: E741
        rows = A.index_select(0, I) @ B
        if islands:
            J = pivots(rows, count)
        columns = A @ B.index_select(1, J)
        factors = Factors(*propagated(columns, rows[:, J], rows), I, rows)
        if plus is None:
            return Approximation(None, factors=factors)
        dense = factors.tensor()
        return Approximation(dense.addr_(plus.u.to(dense), plus.v.to(dense)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """``ratio`` of the multiply–adds, thin products nearly all of them."""
        return self._work(self._columns(m, k, n, dtype), m, k, n, dtype)

    @classmethod
    def of(cls, columns: int, m: int, k: int, n: int, dtype: torch.dtype) -> Anchored:
        """The golden one with that many anchor columns for (m, k)·(k, n) operands.

        >>> Anchored.of(48, 2048, 2048, 2048, torch.float32).name
        'anchored(0.0796)'
        """
        share = flops(cls(1.0)._work(columns, m, k, n, dtype)) / (2.0 * m * k * n)
        return cls(min(1.0, math.ceil(1e4 * share) / 1e4))

    def expected_error(self, pair: Pair, look: Look) -> float:
        """What lies beyond the rank, enlarged by what the columns miss and the propagation adds to it.

        Anchors are taken to be as good as random ones, whatever the strategy.
        """
        m, k, n = pair.whole
        columns = self._columns(m, k, n, pair.A.dtype)
        return math.sqrt(pair.m * pair.n * self.missed(pair.tails, columns, m, n))

    @staticmethod
    def missed(tails: NDArray[np.float64], columns: int, m: int, n: int) -> float:
        """Mean square of an entry's error with that many anchor columns, given the ``tails`` of an (m, n) product."""
        return beyond(tails, columns, min(m, n), fitted=with_surplus(columns, m))

    def _columns(self, m: int, k: int, n: int, dtype: torch.dtype) -> int:
        return affordable(self.ratio, float(m) * k * n, min(m, n), lambda count: self._work(count, m, k, n, dtype))

    def _work(self, columns: int, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        rows, islands = with_surplus(columns, m), self.strategy == "islands"
        exact = float(rows * k * n + (2 if islands else 1) * columns * m * k)
        choice = 2.0 * (columns**2 * m + rows**2 * n) if islands else 0.0
        work = {
            "gather": float(rows * (k + n) + columns * (k + m)),
            thin(dtype): exact + columns * (rows * n + m * columns + m * n),
            "gemm.factor": 8.0 * rows * columns**2 + choice,
        }
        return work if dtype == wide(dtype) else work | {"cast": float(m * k + k * n)}
