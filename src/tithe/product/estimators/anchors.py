"""Which lines to anchor a product on: by their place alone, or the greedy choice that reveals the rank."""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from tithe.golden import golden_indices

__all__ = ["STRATEGIES", "pivots", "places"]

STRATEGIES = ("exterior", "ring", "random", "golden", "islands")


def places(strategy: str, n: int, count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """``count`` of the lines 0 … n − 1, by their place.

    Args:
        strategy: ``exterior`` (the last lines: the far end where they are ordered by distance), ``ring`` (adjacent
            lines in the middle), ``random``, or ``golden`` and ``islands`` (evenly spread; islands begin so).
        n: how many lines there are.
        count: how many to take, at most n.
        device: where the indices shall be.
        generator: of ``random``.

    Returns:
        int64 (count,), distinct. O(n). Source: MISSION M8.

    >>> places("ring", 10, 4, torch.device("cpu"), None)
    tensor([3, 4, 5, 6])
    """
    if strategy == "random":
        order = torch.randperm(n, generator=generator, device=device if generator is None else generator.device)
        return order[:count].to(device)
    if strategy in ("golden", "islands"):
        return torch.from_numpy(golden_indices(n, count)).to(device)
    start = n - count if strategy == "exterior" else (n - count) // 2
    return torch.arange(start, start + count, device=device)


def pivots(X: Tensor, count: int) -> Tensor:
    """``count`` columns of ``X`` (lines, n), each the heaviest in what those before it leave.

    Columns beyond the rank of ``X`` are spread evenly: nothing distinguishes them.

    Returns:
        int64 (count,), distinct. O(lines²·n): QR with pivoting. Source: Businger and Golub 1965.

    >>> pivots(torch.tensor([[1.0, 5.0, 5.0], [0.0, 0.0, 1.0]]), 2)
    tensor([2, 1])
    """
    known = min(count, *X.shape)
    order = linalg.qr(X.cpu().numpy(), mode="r", pivoting=True, check_finite=False)[1][:known]
    others = golden_indices(X.shape[1], X.shape[1]) if known < count else np.empty(0, np.int64)
    more = others[~np.isin(others, order)][: count - known]
    return torch.from_numpy(np.concatenate((order.astype(np.int64), more))).to(X.device)
