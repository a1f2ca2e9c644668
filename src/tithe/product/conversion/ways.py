"""Ways to compute a layer's product for less, made for its weight and its activations once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tithe.product.kernels import packed
from tithe.product.kernels.feedback import lanes
from tithe.product.kernels.floats import tf32_allowed
from tithe.product.kernels.packed import Rounded

__all__ = ["Cast", "Int8", "LowRank", "Tf32", "Way", "from_tensors"]


class Way(Protocol):
    """A linear map of rows, its bias included, that stands for a layer."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Rows (…, k), float32 and C-contiguous, to (…, n)."""
        ...

    def share(self) -> float:
        """Of the layer's multiply–adds, those that it makes; in however many bits."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What ``from_tensors`` makes the same way of."""
        ...


@dataclass
class Int8:
    """Weights rounded to 8 bits with error feedback, activations row by row, products summed exactly."""

    rounded: Rounded
    _kernel: Callable[[Tensor], Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """``int8``, with the group that the weights were rounded for where that matters."""
        return "int8" if self.rounded.group == 1 else f"int8/{self.rounded.group}"

    def __call__(self, x: Tensor) -> Tensor:
        """By our kernel where torch has none as good; the weights are laid out for it at the first call."""
        if self._kernel is None:
            ours = self.rounded.values.is_cpu and _fits_lanes(self.rounded)
            self._kernel = (
                partial(packed.multiply, packed=packed.pack_weight(self.rounded))
                if ours
                else partial(packed.multiply_anywhere, rounded=self.rounded, sums=packed.sums_of(self.rounded))
            )
        return self._kernel(x)

    def share(self) -> float:
        """All of them."""
        return 1.0

    def tensors(self) -> dict[str, Tensor]:
        """The fields of ``Rounded``."""
        fields = self.rounded._asdict()
        return fields | {name: torch.tensor(fields[name]) for name in ("group", "top")}

    def __getstate__(self) -> dict[str, Any]:
        return {"rounded": self.rounded, "_kernel": None}  # copies and files lay it out anew


@dataclass
class LowRank:
    """Two thin products: the weight's best factors of a rank for these activations.

    Attributes:
        inner: (r, k).
        outer: (n, r).
        bias: (n,).
    """

    inner: Tensor
    outer: Tensor
    bias: Tensor

    @property
    def name(self) -> str:
        """``low_rank(r)``."""
        return f"low_rank({len(self.inner)})"

    def __call__(self, x: Tensor) -> Tensor:
        """Through the factors."""
        return functional.linear(functional.linear(x, self.inner), self.outer, self.bias)

    def share(self) -> float:
        """r·(k + n) of k·n."""
        (r, k), n = self.inner.shape, len(self.outer)
        return r * (k + n) / (k * n)

    def tensors(self) -> dict[str, Tensor]:
        """Both factors and the bias."""
        return {"inner": self.inner, "outer": self.outer, "bias": self.bias}


@dataclass
class Cast:
    """Weights and activations in a narrower floating-point type, for hardware with units for it."""

    weight: Tensor
    bias: Tensor

    @property
    def name(self) -> str:
        """The type."""
        return str(self.weight.dtype).removeprefix("torch.")

    def __call__(self, x: Tensor) -> Tensor:
        """The product in the narrower type, the bias added in float32."""
        return self.bias + functional.linear(x.to(self.weight.dtype), self.weight)

    def share(self) -> float:
        """All of them."""
        return 1.0

    def tensors(self) -> dict[str, Tensor]:
        """Weight and bias."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass
class Tf32:
    """Weights and activations of float32 whose last 13 bits the tensor cores of CUDA devices leave out.

    Attributes:
        weight: (n, …), k entries for each output; the layer's own memory, which may be filled later.
        bias: (n,).
    """

    weight: Tensor
    bias: Tensor

    @property
    def name(self) -> str:
        """``tf32``."""
        return "tf32"

    def __call__(self, x: Tensor) -> Tensor:
        """The product and the bias in one go."""
        with tf32_allowed():
            return functional.linear(x, self.weight.flatten(1), self.bias)

    def share(self) -> float:
        """All of them."""
        return 1.0

    def tensors(self) -> dict[str, Tensor]:
        """The bias alone: the weight is the layer's own."""
        return {"bias": self.bias}


def from_tensors(tensors: Mapping[str, Tensor], weight: Tensor) -> Way:
    """The way whose ``tensors`` these are, for a layer with this weight, (n, …); ``ValueError`` if they are none.

    >>> way = LowRank(torch.ones(1, 2), torch.ones(3, 1), torch.zeros(3))
    >>> from_tensors(way.tensors(), torch.ones(3, 2)).name
    'low_rank(1)'
    """
    rank = len(tensors["inner"]) if "inner" in tensors else 0
    sizes = {"n": len(weight), "k": weight[0].numel(), "r": rank}
    for name, x in tensors.items():
        shape, kinds = _PARTS[name]
        if tuple(x.shape) != tuple(sizes[s] for s in shape) or x.dtype not in kinds:
            raise ValueError(f"{name} of a way is {x.dtype} {tuple(x.shape)}, not for {tuple(weight.shape)} weights")
    if "values" in tensors:
        return Int8(Rounded(**{**tensors, **{name: int(tensors[name]) for name in ("group", "top")}}))  # type: ignore[arg-type]
    if "inner" in tensors:
        return LowRank(**tensors)
    return Cast(**tensors) if "weight" in tensors else Tf32(weight, **tensors)


_FLOAT = (torch.float32,)
_PARTS = {  # shapes and types of what ways consist of: kernels read as much memory as these say
    "values": ("nk", (torch.int8,)), "scale": ("n", _FLOAT), "centre": ("k", _FLOAT), "stretch": ("k", _FLOAT),
    "group": ("", (torch.int64,)), "top": ("", (torch.int64,)), "bias": ("n", _FLOAT), "inner": ("rk", _FLOAT),
    "outer": ("nr", _FLOAT), "weight": ("nk", (torch.float16, torch.bfloat16)),
}  # fmt: skip


def _fits_lanes(rounded: Rounded) -> bool:
    """Whether our kernel is right for these weights: those from another machine need not keep its lanes."""
    if rounded.group not in packed.groups() or not 0 < rounded.top <= 255:
        return False
    lane = torch.from_numpy(lanes(rounded.values.shape[1], rounded.group))
    values = rounded.values.int()
    sums = values.new_zeros(2, len(values), int(lane.max()) + 1)
    sums[0].index_add_(1, lane, values.clamp(min=0))
    sums[1].index_add_(1, lane, values.clamp(max=0).neg())
    return int(sums.amax()) <= packed.steepest(rounded.top)
