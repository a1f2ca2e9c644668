"""A way to multiply two matrices that was chosen before, and is gone again for others like them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tithe.product.batch import Item, shares_right
from tithe.product.complex_products import attempt_complex, karatsuba, operations, real_pairs
from tithe.product.estimators import Estimator, flops
from tithe.product.guard import Squares
from tithe.product.operands import Shape
from tithe.product.pair import Pair
from tithe.product.planner import Outcome, attempt_by
from tithe.product.probing import Probing
from tithe.receipt import Bound

__all__ = ["Like", "Made", "Way"]


class Like(NamedTuple):
    """What operands have in common that can be multiplied in the same ways, whatever their number of rows."""

    k: int
    n: int
    items: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, A: Tensor, B: Tensor, shape: Shape) -> Like:
        """That of operands of this ``shape``."""
        return cls(shape.k, shape.n, 1 if shares_right(B) else shape.batch, A.dtype, A.device)

    def __str__(self) -> str:
        times = f"{self.items} products " if self.items > 1 else ""
        return f"{times}(…, {self.k}) · ({self.k}, {self.n}) of {self.dtype} on {self.device}"


class Made(NamedTuple):
    """A product, its operations, and sums of squares of A's rows and B's columns where they were met on the way."""

    product: Tensor
    flops: float
    squares: Squares = (None, None)


@dataclass(frozen=True, slots=True)
class Way:
    """The estimators that made a product: one, or three of a complex one; none for the plain product."""

    by: tuple[Estimator, ...] = ()
    name: str = "exact"

    @classmethod
    def of(cls, outcome: Outcome) -> Way:
        """The way in which that product was made."""
        return cls(outcome.by, outcome.method)

    def make(self, item: Item, drawing: torch.Generator) -> Made:
        """The product, not judged."""
        A, B, _ = item
        if not self.by:
            return Made(A @ B, (8.0 if A.is_complex() else 2.0) * A.shape[0] * B.numel())
        if A.is_complex():
            pairs = real_pairs(A, B)
            product, (P, Q, _) = karatsuba(pairs, self._three, drawing), pairs
            squares = tuple(map(_sum, P.met_squares, Q.met_squares))
            return Made(product, operations(P, self._three), (squares[0], squares[1]))
        pair, (estimator,) = Pair(A, B), self.by
        product = estimator.multiply(pair, generator=drawing).tensor(A.dtype)
        return Made(product, flops(estimator.work(pair.m, pair.k, pair.n, A.dtype)), pair.met_squares)

    def judged(
        self, item: Item, tol: float, failure: float, drawing: torch.Generator, judging: torch.Generator
    ) -> Outcome:
        """The product with its bound, by as many probes as it takes to keep ``tol``; infinite if nothing is finite."""
        A, B, groups = item
        if A.is_complex():
            made, bound, spent = attempt_complex(A, B, groups, self._three, tol, failure, drawing, judging)
            return Outcome(made, self.name, bound, spent, by=self.by)
        pair, (estimator,) = Pair(A, B), self.by
        if not pair.finite:
            return Outcome(A.new_empty(0), self.name, Bound(math.inf, math.inf, 1 - failure, 0), pair.area)
        product, bound, spent = attempt_by(Probing(pair, groups, judging), estimator, tol, failure, drawing)
        return Outcome(product.tensor(A.dtype), self.name, bound, spent, by=self.by)

    @property
    def _three(self) -> tuple[Estimator, Estimator, Estimator]:
        P, Q, S = self.by
        return P, Q, S


def _sum(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    return None if x is None or y is None else x + y
