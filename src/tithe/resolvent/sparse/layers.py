"""Linear layers that skip small inputs, and the way there and back: a change of class, so that nothing else moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tithe.resolvent.sparse.kernels import Product, skipping

__all__ = ["Place", "SparseLinear", "attach", "detach", "place_of", "pruned", "sparse_layers"]


class Place(NamedTuple):
    """Where times were taken: device type, dtype, and threads (0 on other devices than CPUs)."""

    device: str
    dtype: torch.dtype
    threads: int


class _Bound(NamedTuple):
    """The product of one state of the parameters; it holds the transposed copy of the weight."""

    weight: Tensor
    bias: Tensor | None
    state: tuple[int, ...]
    product: Product


@dataclass
class _Pruning:
    """What a sparse layer has to know beside its floors."""

    place: Place
    rows: int = 0  # the most for which skipping was faster
    always: bool = False  # whether to prune batches of any size
    bound: _Bound | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"bound": None}  # copies and files make their own


class SparseLinear(nn.Linear):
    """A linear layer that leaves out inputs of magnitude below a floor, where that was measured to be faster.

    It is the plain layer, bit by bit, in training mode, where a gradient is asked for, under autocast, while being
    traced or compiled, for more rows than it was found faster for, and on another device type, dtype or number of
    threads than it was measured with. Its ``state_dict`` is that of the plain layer. ``sparsify`` makes it.

    The weights are held twice: the transposed copy is neither saved nor moved nor copied, but made anew when it is
    wanted and the weight has changed (``weight.data`` changed in place goes unnoticed, as by autograd).
    """

    floors: Tensor
    pruning: _Pruning

    def forward(self, input: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features), as of ``nn.Linear``. O(active inputs · outputs) where it skips."""
        if self.training:
            return super().forward(input)
        if self.pruning.always:
            return super().forward(self.masked(input))
        if 0 < input.numel() <= self.pruning.rows * self.in_features and self._may_skip(input):
            product = self._product()
            if input.ndim == 2:
                return product(input)
            return product(input.reshape(-1, self.in_features)).view(*input.shape[:-1], self.out_features)
        return super().forward(input)

    def masked(self, input: Tensor) -> Tensor:
        """The input with zeros where it is left out."""
        return input.masked_fill(input.abs() < self.floors, 0)

    def extra_repr(self) -> str:
        """As of ``nn.Linear``, and up to how many rows it skips."""
        return f"{super().extra_repr()}, skips_up_to_rows={self.pruning.rows}"

    def _may_skip(self, input: Tensor) -> bool:
        weight = self.weight
        return (
            type(input) is Tensor
            and input.shape[-1:] == weight.shape[1:]
            and input.dtype == weight.dtype
            and input.device == weight.device
            and place_of(input) == self.pruning.place
            and not (torch.is_grad_enabled() and self._wants_gradient(input))
            and not torch.is_autocast_enabled(input.device.type)
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        )

    def _wants_gradient(self, input: Tensor) -> bool:
        return input.requires_grad or any(p.requires_grad for p in self.parameters(recurse=False))

    def _product(self) -> Product:
        """The product of the parameters as they are."""
        weight, bias, bound = self.weight, self.bias, self.pruning.bound
        version = 0 if weight.is_inference() else weight._version
        state = (weight.data_ptr(), version, 0 if bias is None else bias.data_ptr())
        if bound is None or bound.weight is not weight or bound.bias is not bias or bound.state != state:
            with torch.inference_mode(False), torch.no_grad():
                columns = weight.detach().T.contiguous()
                bound = _Bound(weight, bias, state, skipping(self.floors, columns, bias))
            self.pruning.bound = bound
        return bound.product

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self.pruning.bound = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def place_of(x: Tensor) -> Place:
    """Where a layer that is given ``x`` computes. O(1).

    >>> place_of(torch.zeros(1))[:2]
    ('cpu', torch.float32)
    """
    kind = x.device.type
    return Place(kind, x.dtype, torch.get_num_threads() if kind == "cpu" else 0)


def attach(layer: nn.Linear, floors: Tensor) -> SparseLinear:
    """Turn a plain layer, itself, into a sparse one that skips for no number of rows yet. O(inputs).

    >>> layer = nn.Linear(2, 1)
    >>> attach(layer, torch.zeros(2)) is layer, list(layer.state_dict())
    (True, ['weight', 'bias'])
    """
    layer.__class__ = SparseLinear
    sparse = cast(SparseLinear, layer)
    sparse.register_buffer("floors", floors.to(layer.weight.dtype), persistent=False)
    sparse.pruning = _Pruning(place_of(layer.weight))
    return sparse


def detach(layer: SparseLinear) -> nn.Linear:
    """Turn a sparse layer, itself, into the plain one that it was. O(1).

    >>> layer = nn.Linear(2, 1)
    >>> type(detach(attach(layer, torch.zeros(2)))) is nn.Linear
    True
    """
    del layer.floors, layer.pruning
    plain: nn.Linear = layer
    plain.__class__ = nn.Linear
    return plain


def sparse_layers(model: nn.Module) -> dict[str, SparseLinear]:
    """All sparse layers by name. O(modules)."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)}


@contextmanager
def pruned(model: nn.Module) -> Iterator[nn.Module]:
    """Leave out small inputs for batches of every size inside the ``with`` block, fast or not: to measure accuracy.

    Outside of it, batches larger than those that gain are computed in full. In training mode nothing is left out.

    Yields:
        The model. O(modules).

    >>> model = nn.Sequential(nn.Linear(2, 1))
    >>> with pruned(model) as same:
    ...     same is model
    True
    """
    layers = [(layer.pruning, layer.pruning.always) for layer in sparse_layers(model).values()]
    for pruning, _ in layers:
        pruning.always = True
    try:
        yield model
    finally:
        for pruning, before in layers:
            pruning.always = before
