"""How much of something a share of the multiply–adds pays for, and the names of steps that estimators share."""

from __future__ import annotations

import bisect
from collections.abc import Callable

import torch

from tithe.product.estimators.protocol import Work, flops

__all__ = ["affordable", "thin", "wide"]


def affordable(ratio: float, cube: float, limit: int, work: Callable[[int], Work]) -> int:
    """The largest count, from 1 to ``limit``, whose ``work`` takes no more than ``ratio`` of the plain product.

    Args:
        ratio: share of the plain multiply–adds.
        cube: multiply–adds of the plain product.
        limit: largest count of use.
        work: what a count costs, rising. O(log limit) calls.

    One where even that costs more: an estimator has to return something.

    >>> affordable(0.5, 100.0, 10, lambda count: {"gemm.float32": 7.0 * count})
    7
    """
    budget = 2 * ratio * cube * (1 + 1e-9)
    return max(1, bisect.bisect_right(range(1, max(limit, 1) + 1), budget, key=lambda count: flops(work(count))))


def wide(dtype: torch.dtype) -> torch.dtype:
    """What operands of ``dtype`` are multiplied in: at least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def thin(dtype: torch.dtype) -> str:
    """The step of multiplying by a matrix with few rows or few columns, in ``wide(dtype)``.

    >>> thin(torch.float16)
    'gemm.thin.float32'
    """
    return f"gemm.thin.{str(wide(dtype)).removeprefix('torch.')}"
