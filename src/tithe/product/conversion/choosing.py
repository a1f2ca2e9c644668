"""The ways worth a try for a layer, made for its weight and its activations, cheapest first."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tithe.machine import cpu_flags
from tithe.product.conversion.ways import Cast, Int8, LowRank, Tf32, Way
from tithe.product.estimators.low_rank import range_basis
from tithe.product.kernels import packed
from tithe.product.kernels.feedback import lanes, round_weights
from tithe.product.kernels.packed import Rounded

__all__ = ["candidates"]

_THIN = 0.25  # of the multiply–adds, above which two thin products are no match for int8
_SMOOTHING = 0.6  # exponent that shares the reach of an input between activations and weights
_UNITS = {"amx_bf16", "avx512_bf16"}


def candidates(weight: Tensor, bias: Tensor, x: Tensor, tol: float) -> Iterator[tuple[Way, ...]]:
    """Ways to compute ``x ↦ x weightᵀ + bias``, cheapest first; which one of a group is the quickest has to be tried.

    Args:
        weight: float32 (n, k).
        bias: float32 (n,).
        x: activations like those to come, (rows, k).
        tol: relative error that is asked for; ways that evidently miss it are left out.

    O(rows·k² + k³ + n·k²) for each.
    """
    if (thin := _low_rank(weight, bias, x, tol)) is not None:
        yield (thin,)
    if weight.is_cuda:
        yield Tf32(weight, bias), *(Cast(weight.to(kind), bias) for kind in (torch.float16, torch.bfloat16))
    elif cpu_flags() & _UNITS:
        yield (Cast(weight.to(torch.bfloat16), bias),)
    centre, stretch = _smoothing(weight, x)
    y, stretched = (x - centre) * stretch, (weight / stretch).cpu()
    moments = _moments(y).cpu()
    for group in packed.groups() or (1,):
        lane, top = lanes(weight.shape[1], group), packed.TOPS[group]
        values, scale = round_weights(stretched, moments, lane, packed.steepest(top) if packed.groups() else 1 << 15)
        values, scale = values.to(weight.device), scale.to(weight.device)
        yield (Int8(Rounded(values, scale, centre, stretch, bias + weight @ centre, group, top)),)


def _smoothing(weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """What each input loses, and what it is stretched by, so that neither activations nor weights have outliers.

    Source: Xiao et al. 2023, arXiv 2211.10438 (smoothing).
    """
    centre = x.mean(0)
    reach = (x - centre).abs().amax(0)
    weights = weight.abs().amax(0)
    both = (reach > 0) & (weights > 0)
    stretch = torch.where(both, weights ** (1 - _SMOOTHING) / reach**_SMOOTHING, 1.0)
    typical = stretch[both].log().mean().exp() if bool(both.any()) else torch.ones((), device=x.device)
    return centre, torch.where(both, stretch / typical, 1.0)


def _low_rank(weight: Tensor, bias: Tensor, x: Tensor, tol: float) -> LowRank | None:
    """The smallest rank that keeps half of ``tol`` on these activations, if that is thin enough to pay.

    With E[x xᵀ] = L Lᵀ the best factors of W are those of W·L: what inputs hardly vary in does not count.
    """
    n, k = weight.shape
    most = int(_THIN * n * k / (n + k))
    if most == 0:
        return None
    moments = _moments(x).double()
    moments.diagonal().add_(4 * torch.finfo(torch.float32).eps * moments.trace() + torch.finfo(torch.float32).tiny)
    wide = weight.double()
    weighed = wide @ torch.linalg.cholesky(moments)
    basis = range_basis(weighed, None, most, 1, torch.Generator(weight.device).manual_seed(0))
    left, values, _ = torch.linalg.svd(basis.mT @ weighed, full_matrices=False)
    total = float(weighed.square().sum())
    missed = total - values.square().cumsum(0)
    enough = torch.nonzero(missed <= (tol / 2) ** 2 * total)
    if not len(enough):
        return None
    outer = basis @ left[:, : int(enough[0]) + 1]
    return LowRank((outer.mT @ wide).float(), outer.float().contiguous(), bias)


def _moments(x: Tensor) -> Tensor:
    """E[x xᵀ]; in float64 on GPUs, where products of float32 may be made in TF32."""
    x = x.double() if x.is_cuda else x
    return x.mT @ x / len(x)
