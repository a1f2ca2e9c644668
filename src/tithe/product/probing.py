"""Random probes of one product: drawn once, read by the planner, and what every attempt is certified with.

Each candidate of a list that was fixed before the probes were drawn, at each number of probes that it may be judged
with, is charged its share of the failure probability. So the planner may look at the probes, and choose, without
making the certificate any weaker than it says.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from tithe.product.certificate import gaussian, relative_bound
from tithe.product.estimators import Approximation, Look, Work
from tithe.product.pair import Pair
from tithe.receipt import Bound

__all__ = ["LADDER", "Probing"]

LADDER = (16, 32, 64)  # numbers of probes that a result may be judged with
_DOUBLE = 3  # what a probe in float64 costs, conversion included


class Probing:
    """A·(B·Ω) for Gaussian Ω, made as far as it is asked for.

    Args:
        pair: the operands.
        groups: the rows fall into that many items of equal size; a bound holds for each of them.
        generator: of the probes; no estimator may see it.
        first: probes made for a first look.
        dtype: what they are computed in; that of the operands, at least float32, unless given.
    """

    def __init__(
        self,
        pair: Pair,
        groups: int,
        generator: torch.Generator,
        first: int = LADDER[0],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.pair, self.groups, self.first, self.dtype = pair, groups, first, dtype or pair.wide
        self._generator = generator
        self._omega = pair.A.new_empty(pair.n, 0, dtype=self.dtype)
        self._image = pair.A.new_empty(pair.m, 0, dtype=self.dtype)

    @property
    def count(self) -> int:
        """Probes made so far."""
        return self._omega.shape[1]

    @cached_property
    def _wide(self) -> tuple[Tensor, Tensor]:
        return self.pair.A.to(self.dtype), self.pair.B.to(self.dtype)

    def rounding(self, norm: float) -> float:
        """Absolute error that the arithmetic of the probes may have for a product of that norm.

        Rounding errors are taken to add up like √k (Higham and Mary 2019), those of like sign included.
        """
        left, right = self.pair.norms
        operands = (math.sqrt(self.pair.k) + math.sqrt(self.pair.n)) * left * right
        return torch.finfo(self.dtype).eps / 2 * (operands + math.sqrt(self.pair.n) * norm)

    def for_tolerance(self, tol: float) -> Probing:
        """These probes, or fresh ones in float64 if an error of ``tol`` would not stand out from their rounding."""
        if self.rounding(self.look.norm) <= tol * self.look.norm / 4:
            return self
        return Probing(self.pair, self.groups, self._generator, self.first, torch.float64)

    def extend(self, count: int) -> None:
        """Have at least ``count`` probes."""
        if count > self.count:
            A, B = self._wide
            fresh = gaussian(self.pair.n, count - self.count, self.dtype, A.device, self._generator)
            self._omega = torch.cat((self._omega, fresh), 1)
            self._image = torch.cat((self._image, A @ (B @ fresh)), 1)

    @cached_property
    def look(self) -> Look:
        """Estimates of ‖A·B‖ and of what its means leave, from the first probes."""
        self.extend(self.first)
        mean_part = self.pair.centred[1]
        u, v = mean_part.u.to(self.dtype), mean_part.v.to(self.dtype)
        rest = self._image[:, : self.first] - u[:, None] * (v @ self._omega[:, : self.first])
        centred = float(torch.linalg.vector_norm(rest)) / math.sqrt(self.first)
        # the norm of the mean part is known: probing something of rank one would tell less
        return Look(math.hypot(float(u.norm() * v.norm()), centred), centred)

    def bound(self, product: Approximation, count: int, failure: float) -> Bound:
        """The bound that ``count`` probes give for ``product``, the largest over the groups; ``failure`` is for all."""
        self.extend(count)
        residual = self._image[:, :count] - product.times(self._omega[:, :count])
        norms = product.row_squares().view(self.groups, -1).sum(1).sqrt()
        rounding = 2 * torch.finfo(self.pair.wide).eps  # of writing a rank-one product down
        worst = Bound.exact()
        for rows, norm in zip(residual.view(self.groups, -1, count), norms.tolist(), strict=True):
            slack = self.rounding(norm) + rounding * norm
            item = relative_bound(rows, norm, confidence=1 - failure / self.groups, slack=slack)
            worst = max(worst, item, key=lambda bound: bound.upper)
        return worst

    def work(self, count: int) -> Work:
        """Work of ``count`` probes of the operands."""
        cost = count if self.dtype == self.pair.wide else _DOUBLE * count
        return {"gemm.probe": cost * self.pair.area, "norm": self.pair.area}

    def work_done(self, other: Probing) -> Work:
        """Work of the probes made so far, here and, if it is not the same, in ``other``."""
        done = self.work(self.count)
        return done if other is self else {s: n + done[s] for s, n in other.work(other.count).items()}

    def result_work(self, count: int) -> Work:
        """Work of checking a dense result with them."""
        entries = float(self.pair.m * self.pair.n)
        cost = count if self.dtype == self.pair.wide else _DOUBLE * count
        return {"gemm.probe result": cost * entries, "norm result": entries}
