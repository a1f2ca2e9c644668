"""From a few lines of a product to all of them, through the pseudo-inverse of the core where both kinds meet."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["held_out", "propagated", "with_surplus"]

_GAP = 10.0  # between singular values, below which eight or more flat ones are noise
_FLAT = 2.5  # times their median, where the largest is that: what decays lies higher above its own
_LEAST_HELD_OUT = 8  # rows
_SURPLUS = 8  # rows, at least, beyond the number of columns


def with_surplus(columns: int, m: int) -> int:
    """How many of m rows to take beside so many columns: a third more, for a least-squares fit.

    Without that surplus a core that happens to be nearly singular blows noise up.

    >>> with_surplus(8, 100), with_surplus(48, 100), with_surplus(48, 50)
    (16, 64, 50)
    """
    return min(columns + max(_SURPLUS, columns // 3), m)


def propagated(columns: Tensor, core: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """``columns``·``core``⁺·``rows``, as two factors.

    Singular values of the core count as zero below its rounding errors, and where they lie flat below a gap: those are
    noise. Either factor meets one side of the core's singular vectors before it is divided by the singular values: of
    the rounding errors in small directions, none then is multiplied by what is large in others.

    Args:
        columns: (m, c) of a product of few directions, or any basis of its columns.
        core: those of their rows that are known in full, (r, c).
        rows: these rows of the product, (r, n).

    Returns:
        (m, q) and (q, n) with q ≤ min(r, c); not finite where the core is not. O(mc² + ncr).

    >>> x, y = torch.arange(1.0, 6.0), torch.arange(1.0, 4.0)
    >>> left, right = propagated(x[:, None], x[:2, None], torch.outer(x[:2], y))
    >>> torch.allclose(left @ right, torch.outer(x, y))
    True
    """
    if not bool(core.isfinite().all()):
        return columns, core.new_full((core.shape[1], rows.shape[1]), math.nan)
    left, values, right = torch.linalg.svd(core.cpu().double(), full_matrices=False)
    kept = _above_noise(values, torch.finfo(core.dtype).eps * max(core.shape))
    left, right = left[:, :kept].to(core), (right[:kept].mT / values[:kept]).to(core)
    return columns @ right, left.mT @ rows


def held_out(columns: Tensor, product: Tensor, known: int) -> float:
    """Relative error with which the first rows of a ``product`` give the others.

    Args:
        columns: what they are propagated through, (m, c).
        product: (m, n).
        known: the number of rows that are taken to be known.

    Infinite where fewer than eight rows would be left to judge by. O(mc² + mcn).

    >>> x = torch.arange(1.0, 21.0)
    >>> held_out(x[:, None], torch.outer(x, x), 4) < 1e-6
    True
    """
    if len(product) - known < _LEAST_HELD_OUT:
        return math.inf
    left, right = propagated(columns, columns[:known], product[:known])
    rest = product[known:]
    size = float(torch.linalg.vector_norm(rest))
    return float(torch.linalg.vector_norm(rest - left[known:] @ right)) / size if size > 0 else 0.0


def _above_noise(values: Tensor, rounding: float) -> int:
    """How many of the falling singular ``values`` count."""
    s = values.numpy()
    kept = int((s > rounding * s[0]).sum())
    for i in range(1, kept - _SURPLUS + 1):
        if s[i - 1] > _GAP * s[i] and s[i] < _FLAT * np.median(s[i:kept]):
            return i
    return kept
