"""Matrices of stars for M5, dark objects among them, and what may be read off such a map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tithe import data
from tithe.audit.claims.m5_stars import AT_RANDOM

__all__ = ["NEIGHBOURS", "Objects", "blocks", "horizon", "kept", "maps", "neighbours", "stars"]

NEIGHBOURS = 5
_SUN = 180.0  # its interaction with itself among random ones: means then err by about 83.6 % on the stars
_WIDTHS = {"60°": 1.0, "17°": 0.3, "6°": 0.1}  # bandwidths on the sphere, chords of these angles
_IN_SPACE = 0.1  # bandwidth as a share of the largest distance
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True)
class Objects:
    """Float64: directions as unit vectors (n, 3), distances in parsecs (n,) and amplitudes √flux (n,)."""

    directions: Tensor
    distances: Tensor
    amplitudes: Tensor


def stars(count: int) -> Objects:
    """The Sun, first, and the brightest stars; the Sun has a flux of 5·10¹⁰, Sirius of 4.

    >>> float(stars(2).amplitudes[0] / stars(2).amplitudes[1]) > 1e5
    True
    """
    table = data.load("stars")
    ra, dec = np.radians(table.ra[:count]), np.radians(table.dec[:count])
    directions = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)
    columns = directions, table.distance[:count], 10 ** (-0.2 * table.magnitude[:count])
    return Objects(*(torch.from_numpy(column) for column in columns))


def maps(objects: Objects) -> Iterator[tuple[str, Tensor]]:
    """What may be multiplied, by name: (n, n) float64, of all stars alike or by their brightness."""
    cosines, wide, narrow, narrowest = (
        objects.directions @ objects.directions.T,
        *(_kernel(objects.directions, width) for width in _WIDTHS.values()),
    )
    places = objects.directions * objects.distances[:, None]
    yield "cosines", cosines
    yield "cosines by brightness", objects.amplitudes[:, None] * cosines
    yield "kernel of 60°", wide
    yield "kernel of 6°", narrowest
    yield "kernel in space", _kernel(places, _IN_SPACE * float(torch.cdist(places, places).max()))
    yield "kernel of 60° by brightness", objects.amplitudes[:, None] * wide
    yield "kernel of 17°", narrow


def horizon(stars: Objects, dark: int, draw: torch.Generator) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Operands (n, n), float64, of stars followed by dark objects whose interactions are of three kinds."""
    count = len(stars.directions)
    elsewhere = torch.nn.functional.normalize(torch.randn(dark, 3, generator=draw, dtype=torch.float64), dim=1)
    faint = torch.rand(dark, generator=draw, dtype=torch.float64)
    everywhere = _kernel(torch.cat((stars.directions, elsewhere)), _WIDTHS["60°"])
    weighted = torch.cat((stars.amplitudes, faint))[:, None] * everywhere
    known = everywhere[:count, :count].clone()
    known[0, 0] = _SUN
    left, right = (torch.rand(everywhere.shape, generator=draw, dtype=torch.float64) for _ in range(2))
    left[:count, :count] = right[:count, :count] = known
    yield AT_RANDOM, left, right
    yield "by places on the sky", everywhere, everywhere
    yield "by places and brightness", weighted, weighted.T.contiguous()


def blocks(found: Tensor, truth: Tensor, count: int) -> dict[str, float]:
    """Relative errors of dark–dark, star–dark, star–star, and that without the Sun, for ``count`` stars at the head."""
    head, rest, others = slice(0, count), slice(count, None), slice(1, count)
    sides: dict[str, tuple[slice, slice]] = {
        "dark_dark": (rest, rest), "star_dark": (head, rest), "star_star": (head, head), "no_sun": (others, others),
    }  # fmt: skip
    return {name: _relative(found[side], truth[side]) for name, side in sides.items()}


def neighbours(C: Tensor) -> Tensor:
    """The stars' five nearest neighbours in a product (n, n), the Sun at its head left out: (n − 1, 5) int64.

    Nearness is the product's entry beside the two stars' own, Cᵢⱼ/√(Cᵢᵢ·Cⱼⱼ), so brightness cancels. O(n²).
    """
    C = C[1:, 1:].double()
    sizes = C.diagonal().clamp(min=0).sqrt()
    alike = C / (sizes[:, None] * sizes).clamp(min=1e-300)
    alike.fill_diagonal_(-torch.inf)
    return alike.nan_to_num(-torch.inf).topk(NEIGHBOURS, 1).indices


def kept(found: Tensor, truth: Tensor) -> float:
    """Share of the true neighbours (n, 5) that are among those found.

    >>> kept(torch.tensor([[3, 4]]), torch.tensor([[4, 5]]))
    0.5
    """
    return float((found[:, :, None] == truth[:, None, :]).any(1).double().mean())


def _kernel(places: Tensor, bandwidth: float) -> Tensor:
    """Gaussian, (n, n); what would be subnormal in float32 is zero."""
    kernel = torch.exp(-((torch.cdist(places, places) / bandwidth) ** 2) / 2)
    return torch.where(kernel < _TINY, 0.0, kernel)


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())
