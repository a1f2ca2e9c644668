"""A pair of a few lines whose statistics are gathered at once: so small that calls would cost more than the work."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.product.kernels.lines import Lines, survey_lines
from tithe.product.pair import Pair, RankOne
from tithe.product.tails import tails

__all__ = ["SurveyedPair", "survey"]


def survey(rows: NDArray[Any], columns: NDArray[Any]) -> SurveyedPair:
    """The product of ``rows`` (m, k) and the transpose of ``columns`` (n, k), both C-contiguous float32 or float64.

    O(mk + kn).

    >>> survey(np.array([[3.0, 4.0]]), np.array([[0.0, 1.0]])).norms
    (5.0, 1.0)
    """
    left, right = torch.from_numpy(rows), torch.from_numpy(columns).T
    return SurveyedPair(left, right, survey_lines(rows), survey_lines(columns))


class SurveyedPair(Pair):
    """What ``Pair`` computes when it is asked, this one knows."""

    def __init__(self, A: Tensor, B: Tensor, rows: Lines, columns: Lines, *, shifted: bool = False) -> None:
        super().__init__(A, B, *((rows.means, columns.means) if shifted else ()))
        self._known, self._which = (rows, columns), int(shifted)

    @cached_property
    def row_means(self) -> Tensor:
        """Mean of each row of A, before the shift, (m,)."""
        return self._known[0].means

    @cached_property
    def column_means(self) -> Tensor:
        """Mean of each column of B, before the shift, (n,)."""
        return self._known[1].means

    @cached_property
    def norms(self) -> tuple[float, float]:
        """Frobenius norms of the shifted A and B."""
        left, right = (math.sqrt(lines.squares[self._which]) for lines in self._known)
        return left, right

    @cached_property
    def reach_norms(self) -> tuple[float, float]:
        """Euclidean norms of the largest magnitudes of A's rows and of B's columns, after the shift."""
        left, right = (float(lines.reach[self._which]) for lines in self._known)
        return left, right

    @cached_property
    def centred(self) -> tuple[SurveyedPair, RankOne]:
        """As of any pair."""
        rows, columns = self._known
        if self._which:
            return self, RankOne(torch.zeros_like(rows.means), torch.zeros_like(columns.means))
        shifted = SurveyedPair(self.A, self.B, rows, columns, shifted=True)
        shifted.whole = self.whole
        return shifted, RankOne(self.k * rows.means, columns.means)

    @cached_property
    def sign_error(self) -> float:
        """As of any pair."""
        (left, turning), (right, _) = (
            (max(lines.squares[self._which] - lines.signs[self._which, 0], 0.0) / lines.squares[1],
             lines.signs[self._which, 1] / lines.squares[1])
            if lines.squares[1] > 0 else (0.0, 0.0)
            for lines in self._known
        )  # fmt: skip
        return math.sqrt(left + turning * right)

    @cached_property
    def tails(self) -> NDArray[np.float64]:
        """Of any pair, but from all lines of this one and for all r: hopes, which a wider look has to confirm."""
        product = self.product.numpy()
        return tails(product) if np.isfinite(product).all() else np.full(1, math.inf)

    def halved_weights(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Squared weights ‖A:ₗ‖²·‖Bₗ:‖² of all slices, (k,), from one half of the lines and from the other."""
        rows, columns = (lines.weights[self._which].astype(np.float64) for lines in self._known)
        return rows[0] * columns[0], rows[1] * columns[1]
