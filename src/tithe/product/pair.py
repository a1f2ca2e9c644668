"""Two matrices about to be multiplied, with the O(n²) statistics that estimators and the planner share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pair", "RankOne"]

_ROUGH = 64  # lines that stand for all of them


@dataclass(frozen=True, slots=True)
class RankOne:
    """The matrix ``u vᵀ``, u of shape (m,), v of shape (n,)."""

    u: Tensor
    v: Tensor


class Pair:
    """A·B for A (m, k) and B (k, n), each optionally less a *shift*: a number for each row of A, each column of B.

    Shifted values are never stored; ``left`` and ``right`` make them where an estimator needs them. All statistics
    are computed when first asked for, in float32 or better, O(mk + kn) each.
    """

    def __init__(self, A: Tensor, B: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> None:
        self.A, self.B, self.a, self.b = A, B, a, b
        self.m, self.k = A.shape
        self.n = B.shape[1]

    @property
    def area(self) -> float:
        """Entries of both operands."""
        return float(self.m * self.k + self.k * self.n)

    @property
    def cube(self) -> float:
        """Multiply–adds of the plain product."""
        return float(self.m) * self.k * self.n

    @property
    def flops(self) -> float:
        """Operations of the plain product, a multiply–add counted as two."""
        return 2 * self.cube

    @property
    def wide(self) -> torch.dtype:
        """Dtype of statistics: that of the operands, at least float32."""
        return torch.float64 if self.A.dtype == torch.float64 else torch.float32

    @cached_property
    def row_means(self) -> Tensor:
        """Mean of each row of A, before the shift, (m,)."""
        return self.A.mean(1, dtype=self.wide)

    @cached_property
    def column_means(self) -> Tensor:
        """Mean of each column of B, before the shift, (n,)."""
        return self.B.mean(0, dtype=self.wide)

    @cached_property
    def finite(self) -> bool:
        """Whether all entries are finite, and small enough for their sums to be."""
        return math.isfinite(float(self.row_means.sum() + self.column_means.sum()))

    @cached_property
    def left_reach(self) -> Tensor:
        """Largest magnitude in each row of the shifted A, (m,)."""
        return _reach(self.A.amin(1), self.A.amax(1), self.a, self.wide)

    @cached_property
    def right_reach(self) -> Tensor:
        """Largest magnitude in each column of the shifted B, (n,)."""
        return _reach(self.B.amin(0), self.B.amax(0), self.b, self.wide)

    @cached_property
    def norms(self) -> tuple[float, float]:
        """Frobenius norms of the shifted A and B (the shift taken to be the means)."""
        left = float(torch.linalg.vector_norm(self.A, dtype=self.wide)) ** 2
        right = float(torch.linalg.vector_norm(self.B, dtype=self.wide)) ** 2
        if self.a is not None and self.b is not None:
            left -= self.k * float(self.a.double().square().sum())
            right -= self.k * float(self.b.double().square().sum())
        return math.sqrt(max(left, 0.0)), math.sqrt(max(right, 0.0))

    @cached_property
    def slice_weights(self) -> Tensor:
        """‖A:ₗ‖·‖Bₗ:‖ of the shifted operands for each slice l of the contraction axis, (k,), non-negative.

        The l-th outer product of the sum A·B = Σₗ A:ₗ Bₗ: has this Frobenius norm.
        """
        left = _squares(self.A, self.a, self.wide)
        right = _squares(self.B.T, self.b, self.wide)
        return (left.clamp_(min=0) * right.clamp_(min=0)).sqrt_()

    @cached_property
    def rough_slice_weights(self) -> NDArray[np.float64]:
        """``slice_weights`` as a few evenly spaced rows of A and columns of B show them, the heaviest first; O(k)."""
        rows, columns = (max(1, size // _ROUGH) for size in (self.m, self.n))
        a, b = (None if s is None else s[::step] for s, step in ((self.a, rows), (self.b, columns)))
        few = Pair(self.A[::rows], self.B[:, ::columns], a, b)
        weights = few.slice_weights.double() * math.sqrt(self.m * self.n / (few.m * few.n))
        return np.sort(weights.cpu().numpy())[::-1]

    @cached_property
    def _rough_shares(self) -> NDArray[np.float64]:
        return np.cumsum(self.rough_slice_weights**2)

    def share_of_heaviest(self, count: int) -> float:
        """Share that the ``count`` heaviest slices seem to have in the sum of all squared weights."""
        total = self._rough_shares[-1]
        return float(self._rough_shares[count - 1] / total) if total > 0 else 1.0

    @property
    def left(self) -> Tensor:
        """The shifted A, (m, k), in the operands' dtype; A itself where there is no shift."""
        return self.A if self.a is None else self.A - self.a[:, None].to(self.A.dtype)

    @property
    def right(self) -> Tensor:
        """The shifted B, (k, n), in the operands' dtype; B itself where there is no shift."""
        return self.B if self.b is None else self.B - self.b.to(self.B.dtype)

    @cached_property
    def centred(self) -> tuple[Pair, RankOne]:
        """The same product with every row of A and column of B losing its mean, and the mean part k·a·bᵀ.

        A·B = A'·B' + k·a·bᵀ exactly: the cross terms vanish because rows of A' and columns of B' sum to zero.
        """
        a, b = self.row_means, self.column_means
        shifted = Pair(self.A, self.B, a, b)
        shifted.__dict__.update(row_means=a, column_means=b)
        return shifted, RankOne(self.k * a, b)

    def take(self, index: Tensor) -> Pair:
        """The product over only those slices of the contraction axis, (c,) int64, under the same shifts."""
        return Pair(self.A.index_select(1, index), self.B.index_select(0, index), self.a, self.b)


def _reach(low: Tensor, high: Tensor, shift: Tensor | None, dtype: torch.dtype) -> Tensor:
    low, high = low.to(dtype), high.to(dtype)
    if shift is not None:
        low, high = low - shift, high - shift
    return torch.maximum(-low, high)


def _squares(X: Tensor, shift: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Sums of squares of X − shift[:, None] over the lines, without storing the difference."""
    X = X.to(dtype)
    squares = (X * X).sum(0)
    return squares if shift is None else squares - 2 * (shift @ X) + shift.square().sum()
