"""Ways to compute a layer's product for less, made for its weight and its activations once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tithe.product.kernels import packed
from tithe.product.kernels.packed import Packed, Rounded

__all__ = ["Cast", "Int8", "LowRank", "Way", "from_tensors"]


class Way(Protocol):
    """A linear map of rows, its bias included, that stands for a layer."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Rows (m, k), float32 and C-contiguous, to (m, n)."""
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
    _packed: Packed | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """``int8``, with the group that the weights were rounded for where that matters."""
        return "int8" if self.rounded.group == 1 else f"int8/{self.rounded.group}"

    def __call__(self, x: Tensor) -> Tensor:
        """By our kernel where torch has none as good; the weights are laid out for it at the first call."""
        if x.is_cpu and packed.groups():
            if self._packed is None:
                self._packed = packed.pack_weight(self.rounded)
            return packed.multiply(x, self._packed)
        return packed.multiply_anywhere(x, self.rounded)

    def share(self) -> float:
        """All of them."""
        return 1.0

    def tensors(self) -> dict[str, Tensor]:
        """The fields of ``Rounded``."""
        fields = self.rounded._asdict()
        return fields | {"group": torch.tensor(self.rounded.group)}

    def __getstate__(self) -> dict[str, Any]:
        return {"rounded": self.rounded, "_packed": None}  # copies and files lay it out anew


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
        return functional.linear(x.to(self.weight.dtype), self.weight).float().add_(self.bias)

    def share(self) -> float:
        """All of them."""
        return 1.0

    def tensors(self) -> dict[str, Tensor]:
        """Weight and bias."""
        return {"weight": self.weight, "bias": self.bias}


def from_tensors(tensors: Mapping[str, Tensor]) -> Way:
    """The way whose ``tensors`` these are.

    >>> way = LowRank(torch.ones(1, 2), torch.ones(3, 1), torch.zeros(3))
    >>> from_tensors(way.tensors()).name
    'low_rank(1)'
    """
    if "values" in tensors:
        return Int8(Rounded(**{**tensors, "group": int(tensors["group"])}))  # type: ignore[arg-type]
    return LowRank(**tensors) if "inner" in tensors else Cast(**tensors)
