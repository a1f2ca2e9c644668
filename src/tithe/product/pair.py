"""Two matrices about to be multiplied, with the O(n²) statistics that estimators and the planner share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.golden import golden_indices
from tithe.product.kernels.lines import line_sums
from tithe.product.tails import tails

__all__ = ["Pair", "RankOne"]

_LINES = 96  # that show how a product decays
_BEFORE_THE_SHIFT = ("row_means", "column_means", "_row_sums", "_column_sums", "_row_ends", "_column_ends")


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
        self.whole = self.m, self.k, self.n  # sizes of the product that this one is a sample of: its own
        self._noted: dict[str, Tensor] = {}

    def note_squares(self, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
        """Keep sums of squares of the rows of A, (m,), or the columns of B, (n,), that a pass has met on its way."""
        for side, squares in (("rows", rows), ("columns", columns)):
            if squares is not None:
                self._noted[side] = squares

    @property
    def met_squares(self) -> tuple[Tensor | None, Tensor | None]:
        """Sums of squares of the rows of A, (m,), and of the columns of B, (n,), where a pass has met them already."""
        rows = self._row_sums[1] if "_row_sums" in self.__dict__ else self._noted.get("rows")
        columns = self._column_sums[1] if "_column_sums" in self.__dict__ else self._noted.get("columns")
        return rows, columns

    def note_tails(self, tails: NDArray[np.float64]) -> None:
        """Keep the ``tails`` that a wider look at the product has found."""
        self.__dict__["tails"] = tails

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
        return self._mean(self._row_sums if self.A.is_cpu else None, self.A)

    @cached_property
    def column_means(self) -> Tensor:
        """Mean of each column of B, before the shift, (n,)."""
        return self._mean(self._column_sums if self.B.is_cpu else None, self.B.T)

    def _mean(self, sums: tuple[Tensor, Tensor] | None, lines: Tensor) -> Tensor:
        return lines.mean(1, dtype=self.wide) if sums is None else (sums[0] / self.k).to(self.wide)

    @cached_property
    def _row_sums(self) -> tuple[Tensor, Tensor]:
        """Sum, and sum of squares, of each row of A before the shift, float64 (m,): on a CPU one pass for both."""
        return line_sums(self.A)

    @cached_property
    def _column_sums(self) -> tuple[Tensor, Tensor]:
        return line_sums(self.B.T)

    @cached_property
    def finite(self) -> bool:
        """Whether all entries are finite, and small enough for their sums to be."""
        return math.isfinite(float(self.row_means.sum() + self.column_means.sum()))

    @cached_property
    def left_reach(self) -> Tensor:
        """Largest magnitude in each row of the shifted A, (m,)."""
        return _reach(*self._row_ends, self.a)

    @cached_property
    def right_reach(self) -> Tensor:
        """Largest magnitude in each column of the shifted B, (n,)."""
        return _reach(*self._column_ends, self.b)

    @cached_property
    def reach_norms(self) -> tuple[float, float]:
        """Euclidean norms of ``left_reach`` and ``right_reach``."""
        both = [torch.linalg.vector_norm(reach, dtype=torch.float64) for reach in (self.left_reach, self.right_reach)]
        left, right = torch.stack(both).tolist()
        return left, right

    @cached_property
    def _row_ends(self) -> tuple[Tensor, Tensor]:
        return self.A.amin(1).to(self.wide), self.A.amax(1).to(self.wide)

    @cached_property
    def _column_ends(self) -> tuple[Tensor, Tensor]:
        return self.B.amin(0).to(self.wide), self.B.amax(0).to(self.wide)

    @cached_property
    def norms(self) -> tuple[float, float]:
        """Frobenius norms of the shifted A and B (the shift taken to be the means)."""
        squares = [
            self._noted[side].sum() if side in self._noted
            else getattr(self, sums)[1].sum() if X.is_cpu
            else torch.linalg.vector_norm(X, dtype=self.wide).double() ** 2
            for side, sums, X in (("rows", "_row_sums", self.A), ("columns", "_column_sums", self.B))
        ]  # fmt: skip
        if self.a is not None and self.b is not None:
            squares = [s - self.k * x.double().square().sum() for s, x in zip(squares, (self.a, self.b), strict=True)]
        left, right = torch.stack(squares).clamp_(min=0).sqrt_().tolist()
        return left, right

    @cached_property
    def sign_error(self) -> float:
        """Error of multiplying signs, times each line's mean magnitude, as a share of what lies beyond the means.

        A line x is s + r with s those signs and r ⟂ s. A·B − S·T = R·B + S·R: if entries are independent, each part
        meets only what the other side has beyond its means.
        """
        rest = self.centred[0].norms
        parts = []
        for lines, norm, beyond in zip((self.left, self.right.T), self.norms, rest, strict=True):
            magnitude, sign = lines.abs().mean(1, dtype=self.wide), lines.sign().mean(1, dtype=self.wide)
            signs, turning = (self.k * float(x.square().sum()) for x in (magnitude, magnitude * (1 - sign**2).sqrt()))
            parts.append((max(norm**2 - signs, 0.0) / beyond**2, turning / beyond**2) if beyond > 0 else (0.0, 0.0))
        (left, turning), (right, _) = parts
        return math.sqrt(left + turning * right)

    @cached_property
    def slice_weights(self) -> Tensor:
        """‖A:ₗ‖·‖Bₗ:‖ of the shifted operands for each slice l of the contraction axis, (k,), non-negative.

        The l-th outer product of the sum A·B = Σₗ A:ₗ Bₗ: has this Frobenius norm.
        """
        A, B = self.A.to(self.wide), self.B.to(self.wide)
        left, right = (A * A).sum(0), torch.linalg.vector_norm(B, dim=1).square_()
        if self.a is not None and self.b is not None:  # Σ(x − s)² = Σx² − 2Σsx + Σs², without storing x − s
            left += self.a.square().sum() - 2 * (self.a @ A)
            right += self.b.square().sum() - 2 * (B @ self.b)
        weights: Tensor = (left.clamp_(min=0) * right.clamp_(min=0)).sqrt_()
        return weights

    @cached_property
    def shares_of_heaviest(self) -> NDArray[np.float64]:
        """Share that the i + 1 heaviest slices have in the sum of all squared weights, (k,), rising to 1."""
        squares = np.sort(self.slice_weights.double().cpu().numpy() ** 2)[::-1]
        total = squares.sum()
        return np.cumsum(squares) / total if total > 0 else np.ones_like(squares)

    @cached_property
    def product(self) -> Tensor:
        """The product of the shifted operands, (m, n), in ``wide``; O(mkn), for pairs that are samples."""
        return self.left.to(self.wide) @ self.right.to(self.wide)

    @cached_property
    def tails(self) -> NDArray[np.float64]:
        """Mean square of the product's entries beyond its first r directions, as at most 96 lines of each side show."""
        return self.closeup(_LINES, _LINES).decay

    def closeup(self, rows: int, columns: int) -> Pair:
        """The product of at most so many golden rows and columns."""
        sizes = (self.m, rows), (self.n, columns)
        I, J = (torch.from_numpy(golden_indices(n, min(n, some))).to(self.A.device) for n, some in sizes)  # noqa: E741
        shifts = (None, None) if self.a is None or self.b is None else (self.a[I], self.b[J])
        return Pair(self.A.index_select(0, I), self.B.index_select(1, J), *shifts)

    @cached_property
    def decay(self) -> NDArray[np.float64]:
        """What ``tails`` are, from all lines: for pairs that are close-ups. O(mn·min(m, n)).

        For r up to half of the lines that weigh something: of mere noise, the last directions of a block are far
        lighter than the first, and a few lines among many of zeros have no more directions than they are.
        """
        if not bool(self.product.isfinite().all()):
            return np.full(1, math.inf)
        squares = self.product.double().square()
        weighty = min(
            float(s.sum() ** 2 / s.square().sum().clamp_(min=1e-300)) for s in (squares.sum(1), squares.sum(0))
        )
        return tails(self.product.cpu().numpy())[: 1 + int(weighty / 2)]

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

        A·B = A'·B' + k·a·bᵀ exactly: the cross terms vanish because rows of A' and columns of B' sum to zero. Of a
        pair that is shifted already, a and b are what the shift has left of the means.
        """
        a, b = self.row_means, self.column_means
        shifted = Pair(self.A, self.B, a, b)
        read = {name: value for name, value in self.__dict__.items() if name in _BEFORE_THE_SHIFT}
        shifted.__dict__.update(read)
        shifted.whole = self.whole
        part = RankOne(self.k * (a if self.a is None else a - self.a), b if self.b is None else b - self.b)
        return shifted, part

    def take(self, index: Tensor) -> Pair:
        """The product over only those slices of the contraction axis, (c,) int64, under the same shifts."""
        return Pair(self.A.index_select(1, index), self.B.index_select(0, index), self.a, self.b)


def _reach(low: Tensor, high: Tensor, shift: Tensor | None) -> Tensor:
    return torch.maximum(-low, high) if shift is None else torch.maximum(shift - low, high - shift)
