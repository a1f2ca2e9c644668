"""A few rows of A and columns of B, multiplied exactly: what they show is what the planner expects of all.

Nothing here reads the probes that certify a result, so a choice made from a sample does not weaken the certificate. A
sample that is not representative costs an attempt that fails, never a wrong result.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from tithe.product.estimators import Estimator, Look
from tithe.product.pair import Pair

__all__ = ["Sample"]

_LINES = 64
_RUN = 16  # adjacent columns taken together: they share cache lines


class Sample:
    """Evenly spaced lines of a pair, with the relative errors they let one expect; O(k) to make.

    >>> sample = Sample(Pair(torch.ones(100, 30), torch.ones(30, 100)))
    >>> sample.look.centred
    0.0
    """

    def __init__(self, pair: Pair) -> None:
        wide = pair.wide
        A = pair.A[:: max(1, pair.m // _LINES)].to(wide)
        runs = max(1, _LINES // _RUN)
        starts = [(pair.n - _RUN) * i // max(1, runs - 1) for i in range(runs)] if pair.n > _LINES else []
        B = torch.cat([pair.B[:, s : s + _RUN] for s in starts], 1) if starts else pair.B
        self.pair = Pair(A, B.to(wide))
        half = pair.A.dtype != wide  # a result in half precision is rounded once more
        self._rounding = 0.205 * torch.finfo(pair.A.dtype).eps if half else 0.0
        self._known_shares: dict[bool, NDArray[np.float64]] = {}
        self.entries = pair.m * pair.n / (self.pair.m * self.pair.n)  # that one entry of the sample stands for

    @cached_property
    def look(self) -> Look:
        """Norms of the sampled product and of what its means leave."""
        pair, (_, means) = self.pair, self.pair.centred
        product = pair.A @ pair.B
        norm = torch.linalg.vector_norm(product, dtype=torch.float64)
        rest = torch.linalg.vector_norm(product.sub_(torch.outer(means.u, means.v)), dtype=torch.float64)
        both = torch.stack((norm, rest)).tolist()
        return Look(*both)

    @property
    def norm(self) -> float:
        """The Frobenius norm to be expected of the whole product."""
        return self.look.norm * math.sqrt(self.entries)

    def expected_error(self, estimator: Estimator) -> float:
        """The relative error to be expected of ``estimator``; infinite for a sample that is zero or not finite."""
        if not 0 < self.look.norm < math.inf:
            return math.inf
        return math.hypot(estimator.expected_error(self.pair, self.look) / self.look.norm, self._rounding)

    def inner_error(self, inner: Estimator, *, centred: bool) -> float:
        """The relative error of ``inner`` on the product that is truncated, all slices kept."""
        pair, norm = self._truncated(centred)
        return inner.expected_error(pair, Look(norm, self.look.centred)) / norm if 0 < norm < math.inf else math.inf

    def share_to_keep(self, allowed: float, *, centred: bool, inner_error: float) -> float:
        """The smallest share of slices with which a truncated product's relative error stays within ``allowed``.

        The dropped slices and the inner estimator (relative error ``inner_error``, of the product that is truncated)
        share the error in square. Infinite where no share will do.
        """
        norm = self._truncated(centred)[1]
        if not 0 < norm < math.inf:
            return math.inf
        room = (allowed**2 - self._rounding**2) * (self.look.norm / norm) ** 2 - inner_error**2
        if room <= 0:
            return math.inf
        shares = self._shares(centred)
        return float(1 + np.searchsorted(shares, 1 - room)) / len(shares)

    def _shares(self, centred: bool) -> NDArray[np.float64]:
        """Share of all squared weights that the i + 1 heaviest slices have, (k,), rising to 1.

        One half of the lines says which slices are heavy and the other how heavy those are: the same lines would take
        their own chance fluctuations for weight.
        """
        if (known := self._known_shares.get(centred)) is None:
            pair = self._truncated(centred)[0]
            order, squares = (_weights(pair, half) ** 2 for half in (0, 1))
            squares = squares[np.argsort(-order)]
            total = squares.sum()
            known = np.cumsum(squares) / total if total > 0 else np.ones_like(squares)
            self._known_shares[centred] = known
        return known

    def _truncated(self, centred: bool) -> tuple[Pair, float]:
        return (self.pair.centred[0], self.look.centred) if centred else (self.pair, self.look.norm)


def _weights(pair: Pair, half: int) -> NDArray[np.float64]:
    """Weights of the slices as every other line shows them."""
    lines = slice(half, None, 2) if min(pair.m, pair.n) > 1 else slice(None)
    a, b = (None if shift is None else shift[lines] for shift in (pair.a, pair.b))
    return Pair(pair.A[lines], pair.B[:, lines], a, b).slice_weights.double().cpu().numpy()
