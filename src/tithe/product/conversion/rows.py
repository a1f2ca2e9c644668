"""Layers as products of matrices: what a layer is given as rows, its weight as a matrix, rows of results as output."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Layer", "as_output", "as_rows", "count_rows", "matrix", "why_not"]

Layer = nn.Linear | nn.Conv2d


def why_not(layer: nn.Module) -> str:
    """Why this layer cannot be converted, in a few words; nothing where it can.

    >>> why_not(nn.Conv2d(4, 4, 3, groups=2)), why_not(nn.Linear(2, 2))
    ('grouped convolution', '')
    """
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1:
            return "grouped convolution"
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            return f"padding {layer.padding if isinstance(layer.padding, str) else layer.padding_mode!r}"
    weight = layer.weight
    return "" if isinstance(weight, Tensor) and weight.numel() else "no weights"


def matrix(layer: Layer) -> Tensor:
    """The weight as (outputs, inputs); of a convolution, inputs are channels times places of the kernel."""
    return layer.weight.detach().reshape(layer.weight.shape[0], -1)


def as_rows(layer: Layer, x: Tensor) -> Tensor:
    """What the layer is given as a matrix, (rows, inputs), C-contiguous. Of a convolution, a row for each output place.

    >>> import torch
    >>> as_rows(nn.Conv2d(1, 1, 2), torch.arange(4.0).view(1, 1, 2, 2))
    tensor([[0., 1., 2., 3.]])
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, layer.in_features).contiguous()
    x = x if x.dim() == 4 else x[None]
    if _is_pointwise(layer):
        return x.permute(0, 2, 3, 1).reshape(-1, layer.in_channels).contiguous()
    geometry: dict[str, Any] = {"dilation": layer.dilation, "padding": layer.padding, "stride": layer.stride}
    places = functional.unfold(x, layer.kernel_size, **geometry)
    return places.transpose(1, 2).reshape(-1, places.shape[1]).contiguous()


def count_rows(layer: Layer, shape: torch.Size) -> int:
    """How many rows ``as_rows`` makes of an input of this shape, 0 where the layer takes none of it.

    >>> count_rows(nn.Conv2d(1, 1, 2), torch.Size((5, 1, 3, 3))), count_rows(nn.Linear(2, 1), torch.Size((3, 3)))
    (20, 0)
    """
    if isinstance(layer, nn.Linear):
        return math.prod(shape) // layer.in_features if shape and shape[-1] == layer.in_features else 0
    if len(shape) not in (3, 4) or shape[-3] != layer.in_channels:
        return 0
    return math.prod(shape[:-3]) * max(0, _places(layer, shape[-2], 0)) * max(0, _places(layer, shape[-1], 1))


def as_output(layer: nn.Conv2d, product: Tensor, x: Tensor) -> Tensor:
    """Rows of results, (rows, outputs), in the shape that the layer gives for ``x``."""
    lead = x.shape[:-3]
    height, width = (_places(layer, x.shape[-2 + i], i) for i in (0, 1))
    images = product.view(-1, height, width, layer.out_channels).permute(0, 3, 1, 2).contiguous()
    return images.view(*lead, *images.shape[1:])


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)


def _places(layer: nn.Conv2d, size: int, axis: int) -> int:
    padding = layer.padding[axis]
    assert isinstance(padding, int)
    reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
    return (size + 2 * padding - reach - 1) // layer.stride[axis] + 1
