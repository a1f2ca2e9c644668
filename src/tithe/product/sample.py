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
from tithe.product.survey import SurveyedPair, survey

__all__ = ["Sample"]

_LINES = 64
_RUNS = 4
_RUN = _LINES // _RUNS  # adjacent columns taken together: they share cache lines


class Sample:
    """Evenly spaced lines of a pair, on the CPU, with the relative errors they let one expect; O(k) to make.

    >>> sample = Sample(Pair(torch.ones(100, 30), torch.ones(30, 100)))
    >>> sample.look.centred
    0.0
    """

    def __init__(self, pair: Pair) -> None:
        wide = pair.wide
        # Two halves of equal size, each of every other line.
        step, half = max(1, pair.m // _LINES), max(1, min(pair.m, _LINES) // 2)
        rows = [pair.A[i :: 2 * step][:half] for i in (0, step if pair.m > 1 else 0)]
        if pair.n > _LINES:
            starts = [(pair.n - _RUN) * i // (_RUNS - 1) for i in range(_RUNS)]
            columns = [pair.B[:, s : s + _RUN] for s in starts[::2] + starts[1::2]]
        else:
            columns = [pair.B[:, i::2][:, : max(1, pair.n // 2)] for i in (0, 1 if pair.n > 1 else 0)]
        right = torch.cat(columns, 1).to("cpu", wide).numpy()  # row by row: transposed at once it would miss the cache
        self.pair = survey(torch.cat(rows).to("cpu", wide).numpy(), np.ascontiguousarray(right.T))
        self.pair.whole = pair.whole
        halved = pair.A.dtype != wide  # a result in half precision is rounded once more
        self._rounding = 0.205 * torch.finfo(pair.A.dtype).eps if halved else 0.0
        self.entries = pair.m * pair.n / (self.pair.m * self.pair.n)  # that one entry of the sample stands for

    @cached_property
    def look(self) -> Look:
        """Norms of the sampled product and of what its means leave."""
        pair, (_, means) = self.pair, self.pair.centred
        norm = torch.linalg.vector_norm(pair.product)
        rest = torch.linalg.vector_norm(torch.addr(pair.product, means.u, means.v, alpha=-1))
        both = torch.stack((norm, rest)).tolist()
        return Look(*both)

    @property
    def norm(self) -> float:
        """The Frobenius norm to be expected of the whole product."""
        return self.look.norm * math.sqrt(self.entries)

    @property
    def operand_norms(self) -> float:
        """The product of both operands' Frobenius norms to be expected."""
        left, right = self.pair.norms
        return left * right * math.sqrt(self.entries)

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
        shares = self._centred_shares if centred else self._shares
        return float(1 + np.searchsorted(shares, 1 - room)) / len(shares)

    def weigh(self, pair: Pair, *, centred: bool) -> None:
        """Learn from all lines of the ``pair`` what its slices weigh: few may owe it to chance. O(mk + kn)."""
        whole = pair.centred[0] if centred else pair
        self.__dict__["_centred_shares" if centred else "_shares"] = whole.shares_of_heaviest

    def _truncated(self, centred: bool) -> tuple[SurveyedPair, float]:
        return (self.pair.centred[0], self.look.centred) if centred else (self.pair, self.look.norm)

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        return _shares_of_heaviest(self.pair)

    @cached_property
    def _centred_shares(self) -> NDArray[np.float64]:
        return _shares_of_heaviest(self.pair.centred[0])


def _shares_of_heaviest(pair: SurveyedPair) -> NDArray[np.float64]:
    """Share of all squared weights that the i + 1 heaviest slices have, (k,), rising to 1.

    One half of the lines says which slices are heavy and the other how heavy those are: the same lines would take
    their own chance fluctuations for weight.
    """
    order, weight = pair.halved_weights()
    sums = np.cumsum(weight[np.argsort(-order)])
    return sums / sums[-1] if sums[-1] > 0 else np.ones_like(sums)
