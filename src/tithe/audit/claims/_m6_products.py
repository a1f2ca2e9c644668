"""The pair sum of M6 as products of matrices: over particles, and over waves.

With W the matrix of r⁻⁶ within the cut-off, the energy is 2·(tr(W·W) − Σ W). With Φ the waves that fit into the box at
the particles' places, the matrix of pair energies is Φ·û·Φᵀ, and the energy half the sum of what is off its diagonal.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tithe.audit.claims._m6_liquid import CUT, TAIL, Positions, side_of

__all__ = ["along_curve", "energy_of_square", "energy_of_waves", "sixth_powers", "waves"]

_CAP = 0.9  # below, which no pair comes to lie, the potential goes on straight: waves cannot reach the infinite
_BITS = 4  # of each coordinate on the curve
_QUADRATURE = 4000


def along_curve(positions: Positions) -> Positions:
    """The particles in the order of a space-filling (Morton) curve, so that neighbours in space have near indices."""
    cells = np.minimum((positions / side_of(positions.shape[1]) * 2**_BITS).astype(np.int64), 2**_BITS - 1)
    place = sum(((cells[axis] >> bit) & 1) << (3 * bit + axis) for axis in range(3) for bit in range(_BITS))
    return np.ascontiguousarray(positions[:, np.argsort(place, kind="stable")])


def sixth_powers(positions: Positions) -> Tensor:
    """W: r⁻⁶ of each pair within the cut-off, else 0; (N, N), float32. O(N²)."""
    side = side_of(positions.shape[1])
    P = torch.from_numpy(positions)
    distance = P[:, :, None] - P[:, None, :]
    square = (distance - side * (distance / side).round()).square().sum(0)
    square.fill_diagonal_(math.inf)
    return torch.where(square < CUT**2, square**-3, 0.0).float()


def energy_of_square(C: Tensor, W: Tensor) -> float:
    """Energy per particle, with the tail, of C ≈ W·W."""
    return float(2 * (C.diagonal().double().sum() - W.double().sum())) / len(W) + TAIL


def waves(positions: Positions, count: int) -> tuple[Tensor, Tensor]:
    """Operands (N, count) and (count, N) whose product is the matrix of pair energies in its ``count`` heaviest waves.

    A wave and its phases are two slices, one cosine and one sine. O(N·count).
    """
    n = positions.shape[1]
    vectors, weights = _heaviest(n, count)
    angles = torch.from_numpy(positions.T) @ torch.from_numpy(vectors.T)
    values = torch.stack((angles.cos(), angles.sin()), 2).flatten(1)[:, :count].float()
    doubled = torch.from_numpy(np.repeat(weights, 2)[:count]).float()
    return values * doubled, values.mT


def energy_of_waves(C: Tensor) -> float:
    """Energy per particle, with the tail, of a matrix of pair energies."""
    C = C.double()
    return float(C.sum() - C.diagonal().sum()) / 2 / len(C) + TAIL


@functools.cache
def _heaviest(n: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wave vectors of one half of space, (waves, 3), and what their cosines weigh, the heaviest first."""
    side, reach = side_of(n), math.ceil(1.3 * (3 * count / (4 * math.pi)) ** (1 / 3)) + 1
    axis = np.arange(-reach, reach + 1)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)[len(axis) ** 3 // 2 :]
    squares = (grid**2).sum(1)
    grid, squares = grid[squares <= reach**2], squares[squares <= reach**2]
    known, index = np.unique(squares, return_inverse=True)
    weight = _transform(2 * math.pi / side * np.sqrt(known))[index] / side**3
    order = np.argsort(-np.abs(weight), kind="stable")[: (count + 1) // 2]
    vectors, weights = 2 * math.pi / side * grid[order], np.where(squares[order] > 0, 2.0, 1.0) * weight[order]
    return vectors, weights


def _transform(k: NDArray[np.float64]) -> NDArray[np.float64]:
    """4π ∫ u(r)·sin(kr)/(kr)·r² dr over the potential within the cut-off."""
    r = (np.arange(_QUADRATURE) + 0.5) * (CUT / _QUADRATURE)
    slope = -48 * _CAP**-13 + 24 * _CAP**-7
    cap = 4 * (_CAP**-12 - _CAP**-6) + slope * (r - _CAP)
    u = np.where(r < _CAP, cap, 4 * (r**-12 - r**-6))
    result: NDArray[np.float64] = 4 * math.pi * (CUT / _QUADRATURE) * (np.sinc(np.outer(k, r) / math.pi) @ (u * r * r))
    return result
