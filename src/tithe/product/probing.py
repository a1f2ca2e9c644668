"""Random probes of one product: drawn as far as they are needed, shared by all attempts at it.

No estimator sees them, and the planner settles what to try before the first is drawn. So a bound fails with no more
than the probability it was given, and the attempts at one product need only share theirs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tithe.product.certificate import gaussian, relative_bound
from tithe.product.estimators import Approximation, Work
from tithe.product.kernels.floats import float32_is_exact
from tithe.product.pair import Pair
from tithe.product.sample import Sample
from tithe.receipt import Bound

__all__ = ["LADDER", "Probing", "checking_work"]

_CONVERTED = 1 << 16  # entries at once
LADDER = (16, 32, 48, 64)  # numbers of probes that a result may be judged with


class Probing:
    """A·(B·Ω) for Gaussian Ω, made as far as it is asked for.

    Args:
        pair: the operands.
        groups: the rows fall into that many items of equal size; a bound holds for each of them.
        generator: of the probes; no estimator may see it.
        dtype: what they are computed in. Unless given, that of the operands, at least float32, or float64 where
            torch is set to multiply float32 in fewer bits.
    """

    def __init__(
        self,
        pair: Pair,
        groups: int,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.pair, self.groups, self.dtype = pair, groups, dtype or _arithmetic(pair)
        self._generator = generator
        self._omega = pair.A.new_empty(pair.n, 0, dtype=self.dtype)
        self._image = pair.A.new_empty(pair.m, 0, dtype=self.dtype)

    @property
    def count(self) -> int:
        """Probes made so far."""
        return self._omega.shape[1]

    def rounding(self, norm: float, operand_norms: float) -> float:
        """Absolute error that the arithmetic of the probes may have, given ‖C‖ and ‖A‖·‖B‖.

        Rounding errors are taken to add up like √k (Higham and Mary 2019), those of like sign included.
        """
        operands = (math.sqrt(self.pair.k) + math.sqrt(self.pair.n)) * operand_norms
        return torch.finfo(self.dtype).eps / 2 * (operands + math.sqrt(self.pair.n) * norm)

    def for_tolerance(self, tol: float, sample: Sample) -> Probing:
        """These probes, or others in float64 if an error of ``tol`` would not stand out from their rounding.

        The sample only helps to choose: the bounds themselves reckon with the norms of the whole operands.
        """
        if self.rounding(sample.norm, sample.operand_norms) <= tol * sample.norm / 4:
            return self
        return Probing(self.pair, self.groups, self._generator, torch.float64)

    def extend(self, count: int) -> None:
        """Have at least ``count`` probes."""
        if count > self.count:
            A, B = self.pair.A, self.pair.B
            fresh = gaussian(self.pair.n, count - self.count, self.dtype, A.device, self._generator)
            self._omega = torch.cat((self._omega, fresh), 1)
            self._image = torch.cat((self._image, _times(A, _times(B, fresh))), 1)

    def bound(self, product: Approximation, count: int, failure: float) -> Bound:
        """The bound that ``count`` probes give for ``product``, the largest over the groups; ``failure`` is for all."""
        self.extend(count)
        residual = self._image[:, :count] - product.times(self._omega[:, :count])
        norms = product.row_squares().view(self.groups, -1).sum(1).sqrt()
        rounding = 2 * torch.finfo(self.pair.wide).eps  # of writing a rank-one product down
        thin = 0.0 if product.factors is None else product.factors.rounding(self.dtype)
        left, right = self.pair.norms
        worst = Bound.exact()
        for rows, norm in zip(residual.view(self.groups, -1, count), norms.tolist(), strict=True):
            slack = self.rounding(norm, left * right) + rounding * norm + thin
            item = relative_bound(rows, norm, failure=failure / self.groups, slack=slack)
            worst = max(worst, item, key=lambda bound: bound.upper)
        return worst

    def work(self) -> Work:
        """Work of the probes of the operands that were made so far."""
        return checking_work(self.pair.m, self.pair.k, self.pair.n, self.count, dense=False)

    def result_work(self, product: Approximation, count: int) -> Work:
        """Work of checking a result with ``count`` of them."""
        if product.factors is not None:
            return product.factors.work(count)
        return {} if product.dense is None else self.dense_work(count)

    def dense_work(self, count: int) -> Work:
        """Work of checking a result that is formed."""
        return _result_work(self.pair.m, self.pair.n, count)


def _times(X: Tensor, vectors: Tensor) -> Tensor:
    """``X @ vectors`` in the dtype of the vectors; on a CPU never all of ``X`` is converted at once: memory is slow."""
    if X.dtype == vectors.dtype or not X.is_cpu:
        return X.to(vectors.dtype) @ vectors
    parts = [part.to(vectors.dtype) @ vectors for part in torch.split(X, max(1, _CONVERTED // max(X.shape[1], 1)))]
    return torch.cat(parts)


def _arithmetic(pair: Pair) -> torch.dtype:
    return pair.wide if float32_is_exact() else torch.float64


def checking_work(m: int, k: int, n: int, count: int, *, dense: bool) -> Work:
    """Work of judging one (m, k)·(k, n) product, ``dense`` or not, with ``count`` probes of the operands' own dtype."""
    area = float(m * k + k * n)
    return {"gemm.probe": count * area, "norm": area} | (_result_work(m, n, count) if dense else {})


def _result_work(m: int, n: int, count: int) -> dict[str, float]:
    return {"gemm.probe result": float(count * m * n), "norm result": float(m * n)}
