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


class Probing:
    """A·(B·Ω) for Gaussian Ω, made as far as it is asked for.

    Args:
        pair: the operands.
        groups: the rows fall into that many items of equal size; a bound holds for each of them.
        generator: of the probes; no estimator may see it.
        first: probes made for a first look.
    """

    def __init__(self, pair: Pair, groups: int, generator: torch.Generator, first: int = LADDER[0]) -> None:
        self.pair, self.groups, self.first, self._generator = pair, groups, first, generator
        self._omega = pair.A.new_empty(pair.n, 0, dtype=pair.wide)
        self._image = pair.A.new_empty(pair.m, 0, dtype=pair.wide)

    @property
    def count(self) -> int:
        """Probes made so far."""
        return self._omega.shape[1]

    @cached_property
    def _wide(self) -> tuple[Tensor, Tensor]:
        return self.pair.A.to(self.pair.wide), self.pair.B.to(self.pair.wide)

    @cached_property
    def _rounding(self) -> float:
        """Absolute error that the arithmetic of the probes may have, rounding errors adding up like √k."""
        left, right = self.pair.norms
        unit = torch.finfo(self.pair.wide).eps / 2
        return unit * (math.sqrt(self.pair.k) + 2 * math.sqrt(self.pair.n)) * left * right

    def resolves(self, tol: float) -> bool:
        """Whether a relative error of ``tol`` stands out from the rounding of the probes themselves."""
        return self.look.norm > 0 and self._rounding <= tol * self.look.norm / 4

    def extend(self, count: int) -> None:
        """Have at least ``count`` probes."""
        if count > self.count:
            A, B = self._wide
            fresh = gaussian(self.pair.n, count - self.count, self.pair.wide, A.device, self._generator)
            self._omega = torch.cat((self._omega, fresh), 1)
            self._image = torch.cat((self._image, A @ (B @ fresh)), 1)

    @cached_property
    def look(self) -> Look:
        """Estimates of ‖A·B‖ and of what its means leave, from the first probes."""
        self.extend(self.first)
        omega, image = self._omega[:, : self.first], self._image[:, : self.first]
        mean_part = self.pair.centred()[1]
        rest = image - mean_part.u[:, None] * (mean_part.v @ omega)
        return Look(*(float(torch.linalg.vector_norm(x)) / math.sqrt(self.first) for x in (image, rest)))

    def bound(self, product: Approximation, count: int, failure: float) -> Bound:
        """The bound that ``count`` probes give for ``product``, the largest over the groups; ``failure`` is for all."""
        self.extend(count)
        residual = self._image[:, :count] - product.times(self._omega[:, :count])
        norms = product.row_squares().view(self.groups, -1).sum(1).sqrt()
        rounding = 2 * torch.finfo(self.pair.wide).eps  # of writing a rank-one product down
        worst = Bound.exact()
        for rows, norm in zip(residual.view(self.groups, -1, count), norms.tolist(), strict=True):
            slack = self._rounding + rounding * norm
            item = relative_bound(rows, norm, confidence=1 - failure / self.groups, slack=slack)
            worst = max(worst, item, key=lambda bound: bound.upper)
        return worst

    def work(self, count: int) -> Work:
        """Work of ``count`` probes of the operands."""
        return {"probe": count * self.pair.area, "norm": self.pair.area}

    def result_work(self, count: int) -> Work:
        """Work of checking a dense result with them."""
        entries = float(self.pair.m * self.pair.n)
        return {"probe result": count * entries, "norm result": entries}
