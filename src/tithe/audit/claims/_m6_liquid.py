"""The liquid of M6: Lennard-Jones particles in a periodic box, moved one at a time by the Metropolis rule.

Reduced units: lengths in σ, energies in ε. The potential is cut off at 2.5, without a shift, and energies per particle
get the usual tail correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "CUT",
    "DENSITY",
    "PUBLISHED",
    "TAIL",
    "TEMPERATURE",
    "Chain",
    "pair_sum",
    "run_chain",
    "side_of",
    "standard_error",
    "start",
    "try_moves",
]

DENSITY, TEMPERATURE, CUT = 0.776, 0.85, 2.5
PUBLISHED = -5.5121  # energy per particle there, by NIST's Monte Carlo runs with a cut-off of 3
TAIL = 8 / 3 * math.pi * DENSITY * (CUT**-9 / 3 - CUT**-3)  # per particle, of evenly spread ones beyond the cut-off
_STEP = 0.15  # accepts a third of the moves
_BLOCK = 10  # configurations: well above the time in which energies forget each other

Positions = NDArray[np.float64]  # (3, N), each coordinate in [0, side)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Chain(NamedTuple):
    """What one run keeps: energies per particle, with the tail, and the configurations that they belong to."""

    energies: NDArray[np.float64]  # (kept,)
    configurations: list[Positions]
    accepted: float  # share of the moves


def _jit(function: _Function) -> _Function:
    fast = {"reassoc", "contract", "nsz", "arcp"}  # sums over neighbours may be reordered
    compiled: _Function = numba.njit(nogil=True, cache=True, fastmath=fast, error_model="numpy")(function)
    return compiled


def side_of(n: int) -> float:
    """Side of the cubic box of n particles.

    >>> round(side_of(128), 3)
    5.484
    """
    return float((n / DENSITY) ** (1 / 3))


@_jit
def _around(positions: Positions, side: float, x: float, y: float, z: float, left_out: int) -> float:
    """Energy of a particle at (x, y, z) with all others but one."""
    total = 0.0
    for j in range(positions.shape[1]):
        dx, dy, dz = abs(positions[0, j] - x), abs(positions[1, j] - y), abs(positions[2, j] - z)
        dx, dy, dz = min(dx, side - dx), min(dy, side - dy), min(dz, side - dz)
        square = dx * dx + dy * dy + dz * dz
        if j == left_out:
            square = 1e3
        sixth = 1.0 / (square * square * square)
        total += 4.0 * sixth * (sixth - 1.0) if square < CUT * CUT else 0.0
    return total


@_jit
def pair_sum(positions: Positions, side: float) -> float:
    """Energy of all pairs, (3, N) positions: O(N²), both halves of it."""
    total = 0.0
    for i in range(positions.shape[1]):
        total += _around(positions, side, positions[0, i], positions[1, i], positions[2, i], i)
    return total / 2


@_jit
def try_moves(positions: Positions, side: float, moves: int, rng: np.random.Generator) -> tuple[float, int]:
    """Try so many moves of single particles, in place; O(N) each, which is all that an energy difference takes.

    Returns:
        By how much the energy has changed, and how many moves were accepted.
    """
    change, accepted = 0.0, 0
    for _ in range(moves):
        i = int(rng.random() * positions.shape[1])
        x = (positions[0, i] + _STEP * (2 * rng.random() - 1)) % side
        y = (positions[1, i] + _STEP * (2 * rng.random() - 1)) % side
        z = (positions[2, i] + _STEP * (2 * rng.random() - 1)) % side
        before = _around(positions, side, positions[0, i], positions[1, i], positions[2, i], i)
        rise = _around(positions, side, x, y, z, i) - before
        if rise <= 0 or rng.random() < math.exp(-rise / TEMPERATURE):
            positions[0, i], positions[1, i], positions[2, i] = x, y, z
            change += rise
            accepted += 1
    return change, accepted


def start(n: int, rng: np.random.Generator) -> Positions:
    """Random sites of a face-centred lattice with half as many to spare: no two overlap, and no crystal has to melt."""
    cells = math.ceil((1.5 * n / 4) ** (1 / 3))
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    sites = (corners + np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2).reshape(-1, 3)
    chosen = sites[rng.permutation(len(sites))[:n]] * (side_of(n) / cells)
    return np.ascontiguousarray(chosen.T)


def run_chain(n: int, sweeps: int, kept: int, apart: int, generator: torch.Generator) -> Chain:
    """A chain of n particles: so many sweeps to equilibrate, then ``kept`` configurations ``apart`` sweeps apart.

    A sweep is n moves tried. O((sweeps + kept·apart)·n²).
    """
    rng = np.random.default_rng(generator.initial_seed())
    positions, side = start(n, rng), side_of(n)
    try_moves(positions, side, sweeps * n, rng)
    energy = pair_sum(positions, side)
    energies, configurations, total = [], [], 0
    for _ in range(kept):
        change, accepted = try_moves(positions, side, apart * n, rng)
        energy, total = energy + change, total + accepted
        energies.append(energy / n + TAIL)
        configurations.append(positions.copy())
    return Chain(np.array(energies), configurations, total / (kept * apart * n))


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of values that remember each other for less than a block of ten: from the means of blocks.

    >>> standard_error(np.repeat([0.0, 1.0], 10))
    0.5
    """
    blocks = values[: len(values) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(1)
    return float(blocks.std(ddof=1) / math.sqrt(len(blocks)))
