"""The φ-resolvent r(k) = 1/(1 + φ·|k|²): the operator of this package, along axes that have an order."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.golden import PHI

__all__ = ["apply", "axes", "checked", "in_full_precision", "response", "scaled", "wavenumbers"]


def response(k: Tensor, phi: float = PHI, power: float = 1.0) -> Tensor:
    """What the resolvent leaves of a wave: (1 + φ·k²)^−power.

    Args:
        k: angular wavenumbers, radians per sample, of any shape; 0 to π along one axis, up to π·√d along d.
        phi: how strongly short waves are damped, ≥ 0; 0 damps none.
        power: 1 damps short waves, −1 undoes that, ½ takes the root.

    Returns:
        Factors in the shape and dtype of ``k``; in (0, 1] for a positive power. Raises ``InvalidValueError`` for a
        ``phi`` or ``power`` that cannot be used. O(elements). Source: MISSION R1.

    >>> response(torch.tensor([0.0, 1.0, torch.pi]))
    tensor([1.0000, 0.3820, 0.0589])
    """
    if not (math.isfinite(phi) and phi >= 0):
        raise InvalidValueError(f"phi is {phi}; use a finite number of at least 0, {PHI:.6f} is the golden one")
    if not math.isfinite(power):
        raise InvalidValueError(f"power is {power}; use a finite number: 1 damps short waves, -1 undoes that")
    return (1 + phi * k.square()).pow(-power)


def wavenumbers(
    shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """|k| on the grid of ``torch.fft.rfftn``: the last axis holds n//2 + 1 of n frequencies.

    Args:
        shape: lengths (n₁, …, n_d) of the axes.
        dtype: of the result.
        device: of the result.

    Returns:
        (n₁, …, n_d//2 + 1), radians per sample. O(elements).

    >>> wavenumbers((4,))
    tensor([0.0000, 1.5708, 3.1416])
    """
    total = torch.zeros((), dtype=dtype, device=device)
    for place, length in enumerate(shape):
        frequencies = torch.fft.rfftfreq if place == len(shape) - 1 else torch.fft.fftfreq
        k = 2 * math.pi * frequencies(length, dtype=dtype, device=device)
        total = total[..., None] + k.square()
    return total.sqrt()


def apply(x: Tensor, dims: int | Sequence[int], phi: float = PHI, power: float = 1.0) -> Tensor:
    """The resolvent of a signal: its waves along ``dims``, each times ``response``. Ends are joined (periodic).

    The operator is linear and symmetric, so gradients of any order pass through it. Half precision is filtered in
    float32.

    Args:
        x: real, any shape, float16 to float64, any device.
        dims: the axes that have an order: time, the two of an image; not channels or hidden units.
        phi: how strongly short waves are damped.
        power: 1 damps short waves, −1 undoes that: ``apply(apply(x, d), d, power=-1)`` is ``x``.

    Returns:
        The filtered signal in the shape, dtype and device of ``x``. Raises ``InvalidDTypeError`` for integers,
        complex numbers and what is no tensor, ``InvalidValueError`` for axes that ``x`` does not have.
        O(elements · log n). Source: MISSION R1; with power 1 the Helmholtz resolvent (1 − φΔ)⁻¹ of the spectral
        Laplacian Δ.

    >>> x = torch.tensor([1.0, -1.0, 1.0, -1.0])  # the shortest wave there is, k = π
    >>> apply(x, 0)
    tensor([ 0.0589, -0.0589,  0.0589, -0.0589])
    """
    dims = axes(x, dims)
    wide = in_full_precision(x)
    shape = [x.shape[d] for d in dims]
    factor = _placed(response(wavenumbers(shape, dtype=wide.dtype, device=x.device), phi, power), dims, x.ndim)
    waves = torch.fft.rfftn(wide, dim=dims, norm="ortho")
    filtered: Tensor = torch.fft.irfftn(waves * factor, s=shape, dim=dims, norm="ortho")
    return filtered.to(x.dtype)


def axes(x: Tensor, dims: int | Sequence[int]) -> tuple[int, ...]:
    """``dims`` of a real tensor as ascending, distinct numbers from 0 on; raises as ``apply`` does. O(axes).

    >>> axes(torch.zeros(2, 3, 4), (-1, 1))
    (1, 2)
    """
    checked(x)
    given = dims if isinstance(dims, Sequence) else (dims,)
    try:
        numbers = [operator.index(d) for d in given]
    except TypeError:
        raise InvalidDTypeError(f"dims is {dims!r}; pass an integer or several") from None
    places = {d + x.ndim if d < 0 else d for d in numbers}
    if not numbers or len(places) < len(numbers) or not places <= set(range(x.ndim)):
        raise InvalidValueError(f"dims is {dims!r}, x has shape {tuple(x.shape)}; name one or more distinct axes of x")
    if x.numel() == 0:
        raise InvalidValueError(f"x has shape {tuple(x.shape)}, which is empty; a signal needs a sample")
    return tuple(sorted(places))


def checked(x: Tensor) -> Tensor:
    """``x``, if it is a real floating-point tensor; ``InvalidDTypeError`` says what else it is. O(1)."""
    if not isinstance(x, Tensor):
        raise InvalidDTypeError(f"x is a {type(x).__name__}; pass a torch.Tensor")
    if not x.is_floating_point():
        raise InvalidDTypeError(f"x has dtype {x.dtype}; pass a real floating-point tensor, for instance x.float()")
    return x


def in_full_precision(x: Tensor) -> Tensor:
    """Half precision as float32, for which there are Fourier transforms on every device. O(elements)."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def scaled(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """``x`` over its largest magnitude along ``dims``, so that squares neither overflow nor vanish. O(elements).

    The divisor counts as a constant: gradients are right for whatever does not depend on the scale.

    >>> scaled(torch.tensor([[2e30, -4e30], [0.0, 0.0]]), (1,))
    tensor([[ 0.5000, -1.0000],
            [ 0.0000,  0.0000]])
    """
    largest = x.detach().abs().amax(dims, keepdim=True)
    return x / torch.where(largest > 0, largest, 1)


def _placed(factor: Tensor, dims: tuple[int, ...], rank: int) -> Tensor:
    """A factor over ``dims``, in order, so shaped that it broadcasts against a tensor of that rank."""
    shape = [1] * rank
    for d, length in zip(dims, factor.shape, strict=True):
        shape[d] = length
    return factor.reshape(shape)
