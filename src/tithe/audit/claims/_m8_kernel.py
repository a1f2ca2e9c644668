"""The 256 points of M8 around a horizon, kernels between them, and how well some lines of a kernel give its centre."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "HORIZON",
    "POINTS",
    "SINGULAR",
    "best_of_rank",
    "block_error",
    "inside",
    "kernel",
    "proper_length",
    "radii",
    "root",
]

POINTS = 256
HORIZON = POINTS // 2  # as many points within it as beyond it, so that lines in the middle are a ring around it
SINGULAR = 0.25  # radius of the singular block, in radii of the horizon
_OUTER = 4.0


def radii(generator: torch.Generator) -> Tensor:
    """Rising radii, float64 (256,), in radii of the horizon: half within it, half between it and four of it.

    Even but for random shifts of up to a quarter of their distance.

    >>> r = radii(torch.Generator().manual_seed(0))
    >>> bool(r[127] < 1 < r[128]) and bool((r.diff() >= 0).all())
    True
    """
    shifts = torch.rand(2, HORIZON, generator=generator, dtype=torch.float64) / 2 + 0.25
    even = (torch.arange(HORIZON) + shifts) / HORIZON
    return torch.cat((even[0], 1 + (_OUTER - 1) * even[1]))


def proper_length(r: Tensor) -> Tensor:
    """Length from the centre to each radius where g_rr = 1/|1 − 1/r|, (n,): π/2 as far as the horizon.

    >>> proper_length(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 1.5708])
    """
    near, far = r.clamp(max=1), r.clamp(min=1)
    within = near.sqrt().asin() - (near * (1 - near)).sqrt()
    beyond = (far * (far - 1)).sqrt() + far.sqrt().acosh()
    return within + beyond


def kernel(r: Tensor, along: str, shape: str, bandwidth: float) -> Tensor:
    """The kernel between all points, (n, n), symmetric and positive.

    √|g_tt(r)·g_tt(r')|·k(d/bandwidth) with g_tt = 1 − 1/r, which is largest at the centre and vanishes at the horizon.

    Args:
        r: (n,), in radii of the horizon.
        along: what d is a difference of: ``radius``, or ``proper length``.
        shape: k, ``Gaussian``: exp(−x²/2), or ``exponential``: exp(−x).
        bandwidth: in radii of the horizon.
    """
    x = r if along == "radius" else proper_length(r)
    distance = (x[:, None] - x).abs() / bandwidth
    weight = (1 - 1 / r).abs().sqrt()
    fall = -distance if shape == "exponential" else -distance.square() / 2
    return weight[:, None] * weight * fall.exp()


def root(values: Tensor, vectors: Tensor) -> Tensor:
    """The symmetric S with S·S = K of a positive K, given its ``torch.linalg.eigh``, (n, n). O(n³)."""
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def best_of_rank(values: Tensor, vectors: Tensor, rank: int) -> Tensor:
    """The best matrix of that rank for K, given its ``torch.linalg.eigh``, (n, n). O(n²·rank).

    >>> K = torch.diag(torch.tensor([1.0, 4.0]))
    >>> best_of_rank(*torch.linalg.eigh(K), 1)
    tensor([[0., 0.],
            [0., 4.]])
    """
    top = vectors[:, len(values) - rank :]
    return (top * values[len(values) - rank :]) @ top.mT


def block_error(found: Tensor, truth: Tensor, size: int) -> float:
    """Relative Frobenius error of the first ``size`` rows and columns.

    >>> block_error(torch.zeros(3, 3), torch.eye(3), 2)
    1.0
    """
    block = truth[:size, :size]
    return float(torch.linalg.vector_norm(found[:size, :size] - block) / torch.linalg.vector_norm(block))


def inside(C: Tensor, size: int, columns: int, generator: torch.Generator) -> Tensor:
    """C from random lines of its singular block: so many columns, and a third more rows as anchored products take."""
    rows = min(size, columns + max(8, columns // 3))
    J, I = (torch.randperm(size, generator=generator)[:count] for count in (columns, rows))  # noqa: E741
    factor: Tensor = torch.linalg.pinv(C[I][:, J], rtol=1e-13) @ C[I]
    return C[:, J] @ factor
