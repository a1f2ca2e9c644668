"""The guard of a plan: a few entries of each product, made exactly and compared, so that a drift does not go unseen."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["Guard", "Squares"]

Squares = tuple[Tensor | None, Tensor | None]  # sums of squares of A's rows, (m,), and B's columns, (n,), if known

_ROWS, _COLUMNS = 32, 16  # that are looked at, drawn afresh for each product
_SLICES = 16  # of the contraction axis, from which lines' sizes are guessed
_SHARE = 0.9  # of the tolerance, at which it takes alarm: so few entries show an error to a few percent


class Guard:
    """Estimates the error of a product from 32 of its rows and 16 of its columns.

    One half of the draws takes every line with the same odds, the other half each by its share of all squares; each
    line then counts for as many as its odds say, so what is estimated are the squared norms of the error and of the
    product.

    It catches an error that is spread over the product, as a stream's change of distribution, of scale or of
    correlation makes it: where entries err independently it sees the relative error to 4 %, where a single direction
    errs to about 25 %. It also catches an error in a single line that is far heavier than the others, in whichever
    entries where sums of squares are known, else where 16 adjacent slices show it.

    It does not catch an error in few lines of ordinary size, but with the odds that one of them is drawn, nor one
    that is only just above the tolerance, nor what goes wrong in single items of a batch that share an operand and
    are few of many. The scheduled checks do.

    It takes alarm at 0.9 tol, or above the most that it has seen on a call whose check then held. So of N calls that
    are alike, no more than about ln N + 1 alarm for nothing.

    Args:
        tol: relative error allowed.
        generator: of the lines, on the CPU.
    """

    def __init__(self, tol: float, generator: torch.Generator) -> None:
        self._tol, self._generator = tol, generator
        self.reset()

    def reset(self) -> None:
        """Forget what has been excused: another estimator makes the products now."""
        self.level = _SHARE * self._tol

    def excuse(self, seen: float) -> None:
        """A call of which that was ``seen`` has kept the tolerance."""
        if math.isfinite(seen):
            self.level = max(self.level, seen)

    def look(self, A: Tensor, B: Tensor, C: Tensor, squares: Squares = (None, None)) -> float:
        """The relative error of ``C`` (m, n) as a product of ``A`` (m, k) and ``B`` (k, n), as a few entries show it.

        ``squares`` are the sums of squares of A's rows, (m,), and B's columns, (n,), where those are known. Not a
        number, or infinite, where something is not finite. O(k + m + n).

        >>> A = torch.ones(100, 100)
        >>> round(Guard(0.1, torch.Generator()).look(A, A, 1.2 * (A @ A)), 3)
        0.2
        """
        wide = torch.promote_types(A.dtype, torch.float64)
        left, right = (
            self._guessed(lines, wide) if known is None else known
            for known, lines in zip(squares, (A, B.mT), strict=True)
        )
        (rows, r), (columns, c) = self._draw(left, _ROWS), self._draw(right, _COLUMNS)
        exact = A.index_select(0, rows).to(wide) @ B.index_select(1, columns).to(wide)
        both = torch.stack((exact - C[rows[:, None], columns], exact)).abs().square()
        error, whole = ((both @ c) @ r).tolist()
        if whole > 0:
            return math.sqrt(error / whole)
        return 0.0 if error == whole == 0 else math.inf

    @staticmethod
    def operations(k: int) -> float:
        """What a look takes."""
        return 2.0 * _ROWS * _COLUMNS * k

    def _guessed(self, lines: Tensor, wide: torch.dtype) -> Tensor:
        """Sums of squares of ``lines`` (h, k) over a few adjacent slices."""
        k = lines.shape[1]
        start = int(torch.randint(max(1, k - _SLICES + 1), (), generator=self._generator))
        return lines[:, start : start + _SLICES].to(wide).abs().square().sum(1)

    def _draw(self, squares: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """So many lines, drawn with replacement, and how much each stands for (up to a factor common to all)."""
        weights = squares.double().cpu().numpy()
        total = float(weights.sum())
        if not math.isfinite(total):
            weights, total = np.full(len(weights), math.nan), 1.0  # so that nothing compares
        odds = weights / (total or 1.0) + 1 / len(weights)
        places = np.cumsum(odds)
        drawn = torch.rand(count, dtype=torch.float64, generator=self._generator).numpy() * places[-1]
        lines = np.minimum(np.searchsorted(places, drawn), len(odds) - 1)
        chosen, times = torch.from_numpy(lines), torch.from_numpy(1 / odds[lines])
        return chosen.to(squares.device), times.to(squares.device)
