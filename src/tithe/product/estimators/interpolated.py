"""A few rows of the product made exactly, all the others combined from them as the rows of the left operand are."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from tithe.errors import InvalidValueError
from tithe.product.estimators.anchors import places
from tithe.product.estimators.budget import affordable, thin, wide
from tithe.product.estimators.factors import Factors
from tithe.product.estimators.propagation import held_out, propagated, with_surplus
from tithe.product.estimators.protocol import Approximation, Look, Work, flops
from tithe.product.estimators.sampled import check_share
from tithe.product.kernels.lines import fold_lines
from tithe.product.pair import Pair, RankOne

__all__ = ["SIDES", "Interpolated"]

SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Interpolated:
    """C ≈ W·C[I, :] with A ≈ W·A[I, :], I evenly spread rows: an interpolative decomposition of the left operand.

    W is fitted to A folded along the contraction axis into a few numbers for each row, which costs one pass: two thin
    products remain, where ``anchored`` makes three and a third. It needs an operand that is of low rank itself; a
    product may be of low rank without that.

    Args:
        ratio: share of the multiply–adds; the number of rows is what it pays for.
        side: the operand of low rank; ``right`` exchanges rows and columns.

    Raises ``InvalidValueError`` for a ratio outside (0, 1] or an unknown side. Source: Cheng, Gimbutas, Martinsson and
    Rokhlin 2005, SIAM J. Sci. Comput. 26(4); folded operands: Clarkson and Woodruff 2017, J. ACM 63(6).

    >>> A = torch.outer(torch.ones(50), torch.arange(50.0))
    >>> torch.allclose(Interpolated(0.5).multiply(Pair(A, A)).tensor(torch.float32), A @ A, rtol=1e-4)
    True
    """

    ratio: float
    side: str = "left"

    def __post_init__(self) -> None:
        check_share(self.ratio)
        if self.side not in SIDES:
            raise InvalidValueError(f"side={self.side!r}: one of {', '.join(SIDES)} is expected")

    @property
    def name(self) -> str:
        """``interpolated(ratio)``, with the side where it is not the left one."""
        return f"interpolated({self.ratio:g}{'' if self.side == 'left' else ', right'})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product; nothing in it is random."""
        count = self._count(pair.m, pair.k, pair.n, pair.A.dtype)
        A, B = pair.left.to(pair.wide), pair.right.to(pair.wide)
        of_low_rank, other = (A, B) if self.side == "left" else (B.mT, A.mT)
        lines = of_low_rank.shape[0]
        index = places("golden", lines, with_surplus(count, lines), A.device, None)
        folded, squares = fold_lines(of_low_rank, count)
        known = of_low_rank.index_select(0, index) @ other
        left, right = propagated(folded, folded.index_select(0, index), known)
        factors = Factors(left, right, index, known) if self.side == "left" else Factors(right.mT, left.mT)
        if pair.a is None:
            pair.note_squares(**{"rows" if self.side == "left" else "columns": squares})
        if plus is None:
            return Approximation(None, factors=factors)
        dense = factors.tensor()
        return Approximation(dense.addr_(plus.u.to(dense), plus.v.to(dense)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """``ratio`` of the multiply–adds, two thin products nearly all of them, and a pass over one operand."""
        lines, others = (m, n) if self.side == "left" else (n, m)
        return _work(self._count(m, k, n, dtype), lines, k, others, dtype)

    @classmethod
    def of(cls, count: int, m: int, k: int, n: int, dtype: torch.dtype, side: str = "left") -> Interpolated:
        """The one that folds to so many numbers for (m, k)·(k, n) operands.

        >>> Interpolated.of(48, 2048, 2048, 2048, torch.float32).name
        'interpolated(0.0564)'
        """
        lines, others = (m, n) if side == "left" else (n, m)
        share = flops(_work(count, lines, k, others, dtype)) / (2.0 * m * k * n)
        return cls(min(1.0, math.ceil(1e4 * share) / 1e4), side)

    def expected_error(self, pair: Pair, look: Look) -> float:
        """What the first of the pair's lines make of the others, measured; infinite where too few would be left."""
        m, k, n = pair.whole
        lines = m if self.side == "left" else n
        count = self._count(m, k, n, pair.A.dtype)
        norm, missed = float(torch.linalg.vector_norm(pair.product)), self.rehearsed(pair, count, lines, self.side)
        return norm * missed * math.sqrt(1 - with_surplus(count, lines) / lines) if missed > 0 else 0.0

    @staticmethod
    def rehearsed(pair: Pair, count: int, lines: int, side: str) -> float:
        """Relative error to be expected of so many numbers for each of ``lines``, from a ``pair`` of a few of them."""
        operand, product = (pair.left, pair.product) if side == "left" else (pair.right.mT, pair.product.mT)
        return held_out(fold_lines(operand.to(pair.wide), count)[0], product, with_surplus(count, lines))

    def _count(self, m: int, k: int, n: int, dtype: torch.dtype) -> int:
        lines, others = (m, n) if self.side == "left" else (n, m)
        return _affordable(self.ratio, lines, k, others, dtype)


@functools.lru_cache(maxsize=4096)  # the same few shapes come again and again
def _affordable(ratio: float, lines: int, k: int, others: int, dtype: torch.dtype) -> int:
    cube = float(lines) * k * others
    return affordable(ratio, cube, min(lines, k), lambda count: _work(count, lines, k, others, dtype))


def _work(count: int, lines: int, k: int, others: int, dtype: torch.dtype) -> Work:
    """Of a product of so many ``lines`` by ``others``, the lines those of the operand of low rank."""
    known = with_surplus(count, lines)
    work = {
        "gather": float(known * k),
        "weights": float(lines * k),
        thin(dtype): float(known * k * others + count * (known * others + lines * count + lines * others)),
        "gemm.factor": 8.0 * known * count**2,
    }
    return work if dtype == wide(dtype) else work | {"cast": float(lines * k + k * others)}
