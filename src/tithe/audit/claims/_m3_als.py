"""Alternating least squares for ratings, with the products of its normal equations made in several ways.

A sweep solves (VᵤᵀVᵤ + λnᵤ)x = Vᵤᵀrᵤ for every user u, Vᵤ holding the factors of the nᵤ films that u rated, and then
the same for every film. Rows with about as many ratings are solved together, padded with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Model", "Prepared", "Rated", "Solver", "conjugate", "corrected", "exact", "fit", "partial", "predict",
           "prepare"]  # fmt: skip

# factors of what was rated (rows, width, K), factors so far (rows, K), ratings (rows, width) and their numbers (rows,)
# to the factors sought and the multiply–adds of the products
Solver = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, float]]
_TOGETHER = 64  # rows
_START = 0.1  # standard deviation of the first factors
_BIAS_SWEEPS, _BIAS_RATINGS = 10, 5.0  # that biases are pulled to zero with


class Rated(NamedTuple):
    """Who rated what: int64, int64 and float32, (n,) each."""

    user: Tensor
    item: Tensor
    rating: Tensor


Group = tuple[Tensor, Tensor, Tensor, Tensor]  # of rows of like numbers of ratings


@dataclass(frozen=True, slots=True)
class Prepared:
    """Numbers of users and items, biases, and the ratings less these in groups of users and of items."""

    sizes: tuple[int, int]
    biases: tuple[Tensor, Tensor, Tensor]
    sides: tuple[list[Group], list[Group]]


@dataclass(frozen=True, slots=True)
class Model:
    """Factors of users and items, (users, K) and (items, K), beside biases; and the multiply–adds that they took."""

    factors: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor, Tensor]
    spent: float


def prepare(rated: Rated, sizes: tuple[int, int]) -> Prepared:
    """What all ways to fit share: biases, and what they leave of the ratings, by users and by items."""
    biases = _biases(rated, sizes)
    rest = rated.rating - _of_biases(biases, rated.user, rated.item)
    sides = _grouped(rated.user, rated.item, rest, sizes[0]), _grouped(rated.item, rated.user, rest, sizes[1])
    return Prepared(sizes, biases, sides)


def fit(prepared: Prepared, factors: int, sweeps: int, solver: Solver, generator: torch.Generator) -> Model:
    """The model after some sweeps; every product of the normal equations is the solver's, and counted."""
    biases, sizes = prepared.biases, prepared.sizes
    found = [_START * torch.randn(size, factors, generator=generator, device=biases[0].device) for size in sizes]
    spent = 0.0
    for _ in range(sweeps):
        for side, groups in enumerate(prepared.sides):
            new = torch.zeros_like(found[side])
            for rows, others, values, live in groups:
                near = found[1 - side][others] * live[..., None]
                new[rows], work = solver(near, found[side][rows], values, live.sum(1))
                spent += work
            found[side] = new
    return Model((found[0], found[1]), biases, spent)


def predict(model: Model, rated: Rated) -> Tensor:
    """Ratings from 1 to 5 for pairs of users and items, (n,): entries of the dense product of both factors."""
    users, items = model.factors
    dense = users @ items.T
    return (_of_biases(model.biases, rated.user, rated.item) + dense[rated.user, rated.item]).clamp(1, 5)


def exact(penalty: float) -> Solver:
    """Normal equations, their products made as they stand."""

    def solve(near: Tensor, so_far: Tensor, values: Tensor, counts: Tensor) -> tuple[Tensor, float]:
        K = near.shape[-1]
        right = near.mT @ values[..., None]
        return _solved(near.mT @ near, right, penalty * counts), float(counts.sum()) * (K * K + K)

    return solve


def partial(penalty: float, ratio: float, generator: torch.Generator | None = None) -> Solver:
    """All products over a ``ratio`` of each row's ratings: the heaviest, or rescaled random ones by a generator.

    Like ``Truncated`` and ``Sampled``, whose slices of the contraction axis are a row's ratings.
    """

    def solve(near: Tensor, so_far: Tensor, values: Tensor, counts: Tensor) -> tuple[Tensor, float]:
        K = near.shape[-1]
        index, scale = _chosen(near, counts, ratio, generator)
        part, values = near.gather(1, index[..., None].expand(-1, -1, K)), values.gather(1, index)
        left = (part * scale[..., None]).mT
        return _solved(left @ part, left @ values[..., None], penalty * counts), _kept(counts, ratio) * (K * K + K)

    return solve


def corrected(penalty: float, ratio: float, generator: torch.Generator) -> Solver:
    """Sampled normal matrices for a correction of the factors so far, from their exact residual; ``ratio`` is of both.

    What a product errs by multiplies a residual that goes to zero, so the sweeps end where exact ones do. Each step is
    as long as is best along it: a sampled matrix alone may be so small that it leads ever further away.
    """

    def solve(near: Tensor, so_far: Tensor, values: Tensor, counts: Tensor) -> tuple[Tensor, float]:
        K = near.shape[-1]
        share = ratio * (1 + 1 / K) - 4 / K
        index, scale = _chosen(near, counts, share, generator)
        part = near.gather(1, index[..., None].expand(-1, -1, K))
        residual = _residual(near, so_far, values, penalty * counts)
        step = _solved((part * scale[..., None]).mT @ part, residual[..., None], penalty * counts)
        curved = (step * _applied(near, step, penalty * counts)).sum(1, keepdim=True).clamp(min=1e-30)
        length = (step * residual).sum(1, keepdim=True) / curved
        return so_far + length * step, _kept(counts, share) * K * K + float(counts.sum()) * 4 * K

    return solve


def conjugate(penalty: float, steps: int) -> Solver:
    """The normal matrices applied and never formed: conjugate gradients from the factors so far.

    2(steps + 1)K multiply–adds a rating where a normal matrix takes K² + K. Source: Takács, Pilászy and Tikk 2011,
    Applications of the conjugate gradient method for implicit feedback collaborative filtering, RecSys.
    """

    def solve(near: Tensor, so_far: Tensor, values: Tensor, counts: Tensor) -> tuple[Tensor, float]:
        shift, x = penalty * counts, so_far
        residual = _residual(near, x, values, shift)
        direction, square = residual, residual.square().sum(1, keepdim=True)
        for step in range(steps):
            applied = _applied(near, direction, shift)
            length = square / (direction * applied).sum(1, keepdim=True).clamp(min=1e-30)
            x = x + length * direction
            if step + 1 < steps:
                residual = residual - length * applied
                before, square = square, residual.square().sum(1, keepdim=True)
                direction = residual + square / before.clamp(min=1e-30) * direction
        return x, float(counts.sum()) * near.shape[-1] * 2 * (steps + 1)

    return solve


def _solved(matrices: Tensor, right: Tensor, shift: Tensor) -> Tensor:
    matrices.diagonal(dim1=1, dim2=2).add_(shift[:, None])
    factor, _ = torch.linalg.cholesky_ex(matrices)
    return torch.cholesky_solve(right, factor)[..., 0]


def _applied(near: Tensor, x: Tensor, shift: Tensor) -> Tensor:
    applied: Tensor = (near.mT @ (near @ x[..., None]))[..., 0]
    return applied + shift[:, None] * x


def _residual(near: Tensor, x: Tensor, values: Tensor, shift: Tensor) -> Tensor:
    missed: Tensor = values[..., None] - near @ x[..., None]
    return (near.mT @ missed)[..., 0] - shift[:, None] * x


def _chosen(near: Tensor, counts: Tensor, ratio: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Which ratings of each row are kept, (rows, most), and the factors of their slices, 0 for those too many."""
    weights = near.square().sum(-1)
    kept = _slices(counts, ratio)
    used = torch.arange(int(kept.max()), device=near.device) < kept[:, None]
    if generator is None:
        return torch.topk(weights, used.shape[1], dim=1).indices, used.to(near.dtype)
    total = weights.sum(1, keepdim=True)
    chances = torch.where(total > 0, weights, torch.ones_like(weights))
    index = torch.multinomial(chances, used.shape[1], replacement=True, generator=generator)
    scale = total / (kept[:, None] * weights.gather(1, index)).clamp(min=1e-30)
    return index, torch.where(used, scale, torch.zeros_like(scale))


def _slices(counts: Tensor, ratio: float) -> Tensor:
    """As ``estimators.sampled.slices``, of many contraction axes."""
    return (ratio * counts.double() + 1e-9).floor().clamp(min=1).long()


def _kept(counts: Tensor, ratio: float) -> float:
    return float(_slices(counts, ratio).sum())


def _grouped(rows: Tensor, others: Tensor, values: Tensor, size: int) -> list[Group]:
    """Rows of like numbers of ratings together: row, other side's, value (0 beyond) and whether it is one."""
    order = torch.argsort(rows, stable=True)
    others, values = others[order], values[order]
    counts = torch.bincount(rows, minlength=size)
    starts = counts.cumsum(0) - counts
    longest_first = torch.argsort(counts, descending=True)[: int((counts > 0).sum())]
    groups = []
    for part in torch.split(longest_first, _TOGETHER):
        place = torch.arange(int(counts[part[0]]), device=rows.device)
        live = place < counts[part][:, None]
        index = (starts[part][:, None] + place).clamp(max=len(others) - 1)
        groups.append((part, others[index], torch.where(live, values[index], 0.0), live))
    return groups


def _biases(rated: Rated, sizes: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean rating, and what users and items add to it, by turns."""
    mean = rated.rating.mean()
    users, items = (torch.zeros(size, device=mean.device) for size in sizes)
    times = [torch.bincount(side, minlength=size) for side, size in zip(rated[:2], sizes, strict=True)]
    for _ in range(_BIAS_SWEEPS):
        rest = rated.rating - mean - users[rated.user]
        items = torch.zeros_like(items).index_add_(0, rated.item, rest) / (times[1] + _BIAS_RATINGS)
        rest = rated.rating - mean - items[rated.item]
        users = torch.zeros_like(users).index_add_(0, rated.user, rest) / (times[0] + _BIAS_RATINGS)
    return mean, users, items


def _of_biases(biases: tuple[Tensor, Tensor, Tensor], user: Tensor, item: Tensor) -> Tensor:
    mean, users, items = biases
    return mean + users[user] + items[item]
