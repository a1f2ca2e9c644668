"""What in a layer has an order: the axes of its activations and weights along which coherence means something."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tithe.golden import PHI, golden_indices
from tithe.resolvent.measures import multiplicity, power_of_waves
from tithe.resolvent.operator import in_full_precision, response, wavenumbers

__all__ = ["Signals", "of_activation", "of_weight", "summaries"]

_POSITIONS_SECOND = (nn.Linear, nn.LayerNorm, nn.Embedding)
_NAME_THEM = "name them, axes={layer: (axis, ...)}"


@dataclass(frozen=True)
class Signals:
    """Signals of one layer.

    Attributes:
        values: (signals, *grid), detached, at most as many signals as were asked for.
        ordered: whether neighbours along the grid belong together; what has no order is recorded beside white noise,
            and left out of the mean over layers.
    """

    values: Tensor
    ordered: bool = True

    @property
    def grid(self) -> tuple[int, ...]:
        """Lengths of the axes along which coherence is taken."""
        return tuple(self.values.shape[1:])


def of_activation(module: nn.Module, output: object, axes: tuple[int, ...] | None, most: int) -> Signals | str:
    """The signals in what a layer puts out, or why there are none.

    Convolutions: along their spatial axes. Outputs of four and five axes: behind (batch, channels). Linear, LayerNorm
    and Embedding with outputs (batch, positions, features), attention and recurrent layers: along the positions. An
    output (batch, features) has no order; of other layers with three axes it is not known which one has.

    Args:
        module: the layer.
        output: what it put out; of a tuple the first.
        axes: those that have an order, if the caller knows.
        most: at most so many signals, evenly spread over batch and channels.

    O(most · points of the grid).

    >>> of_activation(nn.Conv2d(1, 8, 3), torch.zeros(32, 8, 26, 26), None, 100).values.shape
    torch.Size([100, 26, 26])
    """
    x = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return f"its output is no floating-point tensor but {type(x).__name__}"
    if axes is None:
        if isinstance(module, nn.modules.conv._ConvNd):
            axes = tuple(range(-len(module.kernel_size), 0))
        elif x.ndim in (4, 5):
            axes = tuple(range(2, x.ndim))
        elif x.ndim < 3:
            return f"its output {tuple(x.shape)} has no ordered axis: hidden units are in no order"
        elif isinstance(module, _POSITIONS_SECOND):
            axes = (1,)
        elif hasattr(module, "batch_first"):
            axes = (1 if module.batch_first else 0,)
        else:
            return f"which axes of its output {tuple(x.shape)} have an order is not known; {_NAME_THEM}"
    if any(not -x.ndim <= axis < x.ndim for axis in axes):
        return f"its output {tuple(x.shape)} does not have the axes {axes}; {_NAME_THEM}"
    return _spread(x, axes, most, ordered=True)


def of_weight(module: nn.Module, weight: Tensor, layout: tuple[int, ...] | None, most: int) -> Signals | str:
    """The signals in a weight, or in its gradient, or why there are none.

    Kernels of convolutions: along the axes of the kernel. Linear: as ``layout`` says how its inputs lie, of three axes
    the last two; without it along the inputs as they come, which is not counted as an order.

    >>> of_weight(nn.Linear(784, 10), torch.zeros(10, 784), (28, 28), 100).grid
    (28, 28)
    """
    if weight.layout != torch.strided:
        return "its gradient is sparse"
    if isinstance(module, nn.modules.conv._ConvNd):
        return _spread(weight, tuple(range(2, weight.ndim)), most, ordered=True)
    if weight.ndim != 2:
        return f"a weight of shape {tuple(weight.shape)} of a {type(module).__name__} has no ordered axis"
    if layout is None:
        return _spread(weight, (1,), most, ordered=False)
    if math.prod(layout) != weight.shape[1]:
        return f"layout {layout} does not fit its {weight.shape[1]} inputs"
    shape = layout[-2:]
    return _spread(weight.reshape(-1, *shape), tuple(range(1, len(shape) + 1)), most, ordered=True)


def summaries(signals: Sequence[Signals], centre: bool = False, phi: float = PHI) -> Tensor:
    """Coherence of all signals of a layer together and their root mean square, for many layers.

    The coherence is the mean weighted by power, Σ r·|X|² / Σ |X|² over all signals, so dead channels do not count; 1
    where there is no power at all. Layers whose signals have one shape are taken together: a GPU is as fast with many.

    Returns:
        (layers, 2) float64, on the CPU; a GPU is waited for once. O(points · log n).

    >>> summaries([Signals(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))])
    tensor([[0.0589, 0.7071]], dtype=torch.float64)
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, one in enumerate(signals):
        alike.setdefault((one.values.shape, one.values.dtype, one.values.device), []).append(place)
    found = [_together(torch.stack([signals[i].values for i in some]), centre, phi) for some in alike.values()]
    order = sorted(range(len(signals)), key=[i for some in alike.values() for i in some].__getitem__)
    return torch.cat([one.to(found[0].device) for one in found]).cpu()[order]


def _together(x: Tensor, centre: bool, phi: float) -> Tensor:
    """What ``summaries`` gives, of (layers, signals, *grid)."""
    x = in_full_precision(x)
    grid = tuple(range(2, x.ndim))
    largest = x.abs().amax((1, *grid), keepdim=True)
    x = x / torch.where(largest > 0, largest, 1)  # so that squares of small gradients do not vanish
    if centre:
        x = x - x.mean(grid, keepdim=True)
    power = power_of_waves(x, len(grid)).sum(1).flatten(1).double()
    kept, total = (power @ _weights(x.shape[2:], phi, x.device)).unbind(1)
    size = x[0].numel()
    enough = total > torch.finfo(x.dtype).eps ** 2 * size  # what centring leaves of a constant
    mean = torch.where(enough, kept / torch.where(enough, total, 1), 1)
    return torch.stack([mean, (total / size).sqrt() * largest.flatten()], dim=1)


@functools.lru_cache(maxsize=64)
def _weights(grid: tuple[int, ...], phi: float, device: torch.device) -> Tensor:
    """What each wave of a grid counts for what is kept, and for all: (waves, 2) float64."""
    counts = multiplicity(grid[-1], torch.zeros((), dtype=torch.float64))
    factors = response(wavenumbers(grid, dtype=torch.float64), phi)
    return torch.stack([factors * counts, counts.expand_as(factors)], dim=-1).reshape(-1, 2).to(device)


def _spread(x: Tensor, axes: tuple[int, ...], most: int, ordered: bool) -> Signals | str:
    """At most so many of all signals, evenly spread: golden indices are in step with no number of channels."""
    inner = tuple(range(-len(axes), 0))
    moved = x.detach().movedim(axes, inner)
    grid = moved.shape[-len(axes) :]
    if math.prod(grid) < 2 or x.numel() == 0:
        return f"its shape {tuple(x.shape)} has no two neighbours along {axes}"
    flat = moved.reshape(-1, *grid)
    chosen = flat[_places(len(flat), most, x.device)] if len(flat) > most else flat.clone()
    return Signals(chosen, ordered)


@functools.lru_cache(maxsize=256)
def _places(count: int, most: int, device: torch.device) -> Tensor:
    return torch.from_numpy(golden_indices(count, most)).sort().values.to(device)
