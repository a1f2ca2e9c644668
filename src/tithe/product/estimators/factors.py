"""A product as two thin matrices, judged without being formed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Factors"]


@dataclass(frozen=True, eq=False)
class Factors:
    """The matrix ``left``·``right``, some of whose rows may be known better.

    Args:
        left: (m, r), float32 or float64.
        right: (r, n), of the same dtype.
        index: int64, the rows that are known better; none without.
        rows: what they are, (len(index), n).

    >>> Factors(torch.ones(2, 1), torch.ones(1, 3), torch.tensor([1]), torch.zeros(1, 3)).tensor()
    tensor([[1., 1., 1.],
            [0., 0., 0.]])
    """

    left: Tensor
    right: Tensor
    index: Tensor | None = None
    rows: Tensor | None = None

    def tensor(self) -> Tensor:
        """The matrix, (m, n); O(mnr)."""
        return self._with_rows(self.left @ self.right, self.rows)

    def times(self, omega: Tensor) -> Tensor:
        """The matrix times ``omega`` (n, s); O((m + n)·rs)."""
        rows = None if self.rows is None else self.rows.to(omega.dtype) @ omega
        return self._with_rows(self.left.to(omega.dtype) @ (self.right.to(omega.dtype) @ omega), rows)

    def row_squares(self) -> Tensor:
        """Squared norm of each row, float64 (m,); O((m + n)·r²)."""
        squares = ((self.left @ (self.right @ self.right.mT)) * self.left).sum(1).clamp_(min=0)
        norms = None if self.rows is None else torch.linalg.vector_norm(self.rows, dim=1).square_()
        return self._with_rows(squares, norms).double()

    @cached_property
    def size(self) -> float:
        """‖left‖·‖right‖, which rounding errors of the product are relative to."""
        left, right = (float(torch.linalg.vector_norm(X)) for X in (self.left, self.right))
        return left * right

    def rounding(self, probes: torch.dtype) -> float:
        """Absolute error of forming the matrix, and of multiplying it by vectors in the dtype of ``probes``.

        Rounding errors are taken to add up like the root of their number (Higham and Mary 2019).
        """
        inner, n = math.sqrt(self.left.shape[1]), math.sqrt(self.right.shape[1])
        formed, probed = (torch.finfo(dtype).eps / 2 for dtype in (self.left.dtype, probes))
        return self.size * (formed * inner + probed * (inner + n))

    def work(self, probes: int) -> dict[str, float]:
        """Work of judging it with so many probes."""
        m, rank = self.left.shape
        known = 0 if self.index is None else len(self.index)
        return {"gemm.thin": float((probes + rank) * rank * (m + self.right.shape[1]) + known * self.right.shape[1])}

    def _with_rows(self, whole: Tensor, rows: Tensor | None) -> Tensor:
        return whole if self.index is None or rows is None else whole.index_copy_(0, self.index, rows)
