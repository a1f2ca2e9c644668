"""Layers that compute another way, and the way there and back: a change of class, so that nothing else moves."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tithe.errors import InvalidStateError
from tithe.product.compiling import opaque
from tithe.product.conversion.rows import Layer, as_output, as_rows, count_rows
from tithe.product.conversion.ways import Way

__all__ = ["Conversion", "ConvertedConv2d", "ConvertedLinear", "Place", "adopt", "attach", "converted_layers"]
__all__ += ["detach", "fingerprint", "place_of"]


class Place(NamedTuple):
    """Where times were taken: device and threads (0 on other devices than CPUs)."""

    device: str
    threads: int


@dataclass
class Conversion:
    """What a converted layer has to know beside its parameters.

    Attributes:
        way: how it computes.
        place: where that was found to be faster.
        rows: the fewest rows for which it was.
        print: of the parameters that the way was made for.
    """

    way: Way
    place: Place
    rows: int
    print: str
    seen: tuple[tuple[Tensor, int], ...] = ()  # parameters, held so that no others get their addresses; versions
    fits: bool = True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"seen": ()}  # copies look for themselves


class _Converted:
    """A layer that computes another way where that was found to be faster and to keep the tolerance.

    It is the plain layer, bit by bit, in training mode, where a gradient is asked for, under autocast, for fewer rows
    than it was found faster for, on another device or number of threads than it was measured with, and once its
    parameters have changed (``weight.data`` changed in place goes unnoticed, as by autograd). Its ``state_dict`` is
    that of the plain layer.
    """

    conversion: Conversion

    @opaque
    def forward(self, input: Tensor) -> Tensor:
        """As the plain layer, or its product by ``conversion.way``."""
        layer: Any = self
        if not layer.training and _may(layer, input) and _fits(layer):
            return layer._by_way(input.detach())  # type: ignore[no-any-return]
        return super().forward(input)  # type: ignore[misc, no-any-return]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.conversion.seen = ()
        return super()._apply(fn, recurse)  # type: ignore[misc]

    def extra_repr(self) -> str:
        """As of the plain layer, and how it computes."""
        return f"{super().extra_repr()}, way={self.conversion.way.name}"  # type: ignore[misc]


class ConvertedLinear(_Converted, nn.Linear):
    """An ``nn.Linear`` that ``convert`` has found a cheaper way for."""

    def _by_way(self, input: Tensor) -> Tensor:
        return self.conversion.way(input.contiguous())


class ConvertedConv2d(_Converted, nn.Conv2d):
    """An ``nn.Conv2d`` that ``convert`` has found a cheaper way for."""

    def _by_way(self, input: Tensor) -> Tensor:
        return as_output(self, self.conversion.way(as_rows(self, input)), input)


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: ConvertedLinear, nn.Conv2d: ConvertedConv2d}


def attach(layer: Layer, way: Way, rows: int = 1) -> None:
    """Let ``layer`` compute by ``way`` from ``rows`` rows on, where it stands and as torch is set now."""
    adopt(layer, Conversion(way, place_of(layer.weight), rows, fingerprint(layer)))


def adopt(layer: Layer, conversion: Conversion) -> None:
    """Make a plain layer a converted one."""
    layer.conversion = conversion  # type: ignore[assignment]
    layer.__class__ = _CLASSES[type(layer)]  # type: ignore[assignment]


def detach(layer: nn.Module) -> None:
    """Make it a plain layer again; ``InvalidStateError`` where something else has changed its class since."""
    for plain, other in _CLASSES.items():
        if type(layer) is other:
            del layer.conversion
            layer.__class__ = plain
            return
    raise InvalidStateError(f"a converted layer has become a {type(layer).__name__}; remove its parametrizations first")


def converted_layers(model: nn.Module) -> dict[str, Any]:
    """The converted layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _Converted)}


def place_of(x: Tensor) -> Place:
    """Where something computed with ``x`` runs."""
    return Place(str(x.device), torch.get_num_threads() if x.is_cpu else 0)


def fingerprint(layer: Layer) -> str:
    """A checksum of the parameters, whatever the device. O(parameters).

    >>> fingerprint(nn.Linear(0, 0)) == fingerprint(nn.Linear(0, 0))
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _may(layer: Any, input: Tensor) -> bool:
    """Whether the way is for ``input``, and torch in a state to take it."""
    weight, conversion = layer.weight, layer.conversion
    return (
        not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and type(input) is Tensor
        and count_rows(layer, input.shape) >= max(1, conversion.rows)
        and input.dtype == weight.dtype == torch.float32
        and input.layout == torch.strided
        and input.device == weight.device
        and place_of(input) == conversion.place
        and not (torch.is_grad_enabled() and (input.requires_grad or any(p.requires_grad for p in layer.parameters())))
        and not torch.is_autocast_enabled(input.device.type)
        and not torch._C._are_functorch_transforms_active()
    )


def _fits(layer: Any) -> bool:
    """Whether the parameters are those that the way was made for; looked at again whenever they may have changed."""
    conversion = layer.conversion
    seen = conversion.seen
    now = [(p, 0 if p.is_inference() else p._version) for p in (layer.weight, layer.bias) if p is not None]
    if len(seen) != len(now) or any(
        p.data_ptr() != q.data_ptr() or v != w for (p, v), (q, w) in zip(now, seen, strict=True)
    ):
        conversion.seen = tuple((p.detach(), version) for p, version in now)
        conversion.fits = fingerprint(layer) == conversion.print
        if not conversion.fits:
            warnings.warn(
                "the parameters of a converted layer have changed: it computes plainly; restore the model and convert "
                "it again",
                stacklevel=4,
            )
    return bool(conversion.fits)
