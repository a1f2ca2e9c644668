"""How much of a signal lies in long waves: coherence, what white noise has of it, and fractal dimension beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.golden import PHI
from tithe.resolvent.operator import axes, in_full_precision, response, scaled, wavenumbers

__all__ = [
    "SOURCE_THRESHOLD",
    "coherence",
    "fractal_dimension",
    "multiplicity",
    "power_of_waves",
    "white_noise_coherence",
]

SOURCE_THRESHOLD = 0.3
"""What the source compares coherence with; in one dimension nearly all white noise passes it (MISSION R3, L2)."""


def coherence(x: Tensor, dims: int | Sequence[int], centre: bool = False, phi: float = PHI) -> Tensor:
    """The power-weighted mean of the resolvent's response: Σ r(k)·|X(k)|² / Σ |X(k)|².

    1 for a constant, ``response(π)`` for an alternating signal, ``white_noise_coherence`` for noise. Scaling does not
    change it. A signal without power (zero, or constant and centred) has no short waves: its coherence is 1.

    Args:
        x: real, any shape, float16 to float64.
        dims: the axes that have an order; the others are a batch.
        centre: whether the mean over ``dims`` is taken away first: it has wavenumber 0 and often outweighs the rest.
        phi: of the resolvent.

    Returns:
        Numbers in (0, 1], in the shape of ``x`` without ``dims``, float32 or float64; differentiable where there is
        power. Raises as ``apply`` does. O(elements · log n). Source: MISSION R3.

    >>> coherence(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]), dims=1)
    tensor([1.0000, 0.0589])
    """
    dims = axes(x, dims)
    wide = scaled(in_full_precision(x), dims)
    if centre:
        wide = wide - wide.mean(dims, keepdim=True)
    inner = tuple(range(-len(dims), 0))
    wide = wide.movedim(dims, inner)
    shape = wide.shape[-len(dims) :]
    power = power_of_waves(wide, len(dims)) * multiplicity(shape[-1], wide)
    total = power.sum(inner)
    kept = (power * response(wavenumbers(shape, dtype=wide.dtype, device=x.device), phi)).sum(inner)
    least = torch.finfo(wide.dtype).eps ** 2 * math.prod(shape)  # what centring leaves of a constant
    return torch.where(total > least, kept / torch.where(total > least, total, 1), 1).clamp(max=1)


def white_noise_coherence(shape: Sequence[int], centre: bool = False, phi: float = PHI) -> float:
    """The coherence that white noise of a shape has: the mean of the response over all its waves.

    Args:
        shape: lengths of the axes along which coherence is taken.
        centre: as for ``coherence``: without the wave of wavenumber 0.
        phi: of the resolvent.

    Returns:
        The mean in (0, 1]; 1 where nothing is left. A threshold that separates structure from noise lies above it,
        by about 2·√(2·variance/waves). Raises ``InvalidValueError`` for an empty shape. O(elements).

    >>> round(white_noise_coherence((784,)), 2), round(white_noise_coherence((28, 28)), 2)
    (0.33, 0.15)
    """
    if not shape or min(shape) < 1:
        raise InvalidValueError(f"shape is {tuple(shape)}; give the length of each axis, at least 1")
    factors = response(wavenumbers(shape, dtype=torch.float64), phi)
    weights = multiplicity(shape[-1], factors).expand_as(factors).clone()
    if centre:
        weights.view(-1)[0] = 0
    total = float(weights.sum())
    return float((factors * weights).sum()) / total if total else 1.0


def power_of_waves(x: Tensor, rank: int) -> Tensor:
    """|X(k)|² over the last ``rank`` axes, as ``rfftn`` lays waves out; smooth where a wave is missing, unlike abs().

    >>> power_of_waves(torch.ones(2, 4), 1)
    tensor([[4., 0., 0.],
            [4., 0., 0.]])
    """
    waves = torch.fft.rfftn(x, dim=tuple(range(-rank, 0)), norm="ortho")
    return torch.view_as_real(waves).square().sum(-1)


def fractal_dimension(x: Tensor, dims: int | Sequence[int]) -> Tensor:
    """How rough the graph of a signal is: between d (smooth) and d + 1 (white noise) over d axes.

    Mean absolute differences at distance 1 and 2 along each axis grow with the distance as a power H, the Hurst
    exponent; the dimension is d + 1 − H. A constant signal is smooth.

    Args:
        x: real, any shape, float16 to float64, at least 3 samples along each of ``dims``.
        dims: the axes that have an order; the others are a batch.

    Returns:
        Numbers in [d, d + 1], in the shape of ``x`` without ``dims``, float32 or float64. Raises as ``apply`` does,
        and ``InvalidValueError`` for axes that are too short. O(elements).
        Source: Gneiting, Ševčíková and Percival 2012, the madogram estimator; MISSION R12.

    >>> fractal_dimension(torch.arange(9.0), 0)  # a straight line
    tensor(1.)
    """
    dims = axes(x, dims)
    if any(x.shape[d] < 3 for d in dims):
        raise InvalidValueError(f"x has shape {tuple(x.shape)}, dims is {dims}; each axis needs at least 3 samples")
    wide = scaled(in_full_precision(x), dims)
    near, far = (_differences(wide, dims, distance) for distance in (1, 2))
    tiny = torch.finfo(wide.dtype).tiny
    hurst = torch.where(near > 0, (far.clamp(min=tiny) / near.clamp(min=tiny)).log2(), 1).clamp(0, 1)
    return len(dims) + 1 - hurst


def multiplicity(length: int, like: Tensor) -> Tensor:
    """How many waves of the whole spectrum each of the last axis of ``rfftn`` stands for: 1 at both ends, else 2.

    >>> multiplicity(4, torch.zeros(()))
    tensor([1., 2., 1.])
    """
    counts = like.new_full((length // 2 + 1,), 2.0)
    counts[0] = 1
    if length % 2 == 0:
        counts[-1] = 1
    return counts


def _differences(x: Tensor, dims: tuple[int, ...], distance: int) -> Tensor:
    """Mean absolute difference at a distance, over all of ``dims``."""
    steps = [(x.narrow(d, distance, x.shape[d] - distance) - x.narrow(d, 0, x.shape[d] - distance)) for d in dims]
    return torch.stack([step.abs().mean(dims) for step in steps]).mean(0)
