"""The resolvent on gradients, before each step of any optimiser, along axes that have an order."""

from __future__ import annotations

import functools
import importlib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent.operator import apply, in_full_precision

__all__ = ["GradientFilter"]

_BY_MATRIX = 64  # points up to which one matrix product is cheaper than Fourier transforms
_WIDTH = 32  # of a matrix that takes several small kernels side by side: products with a narrower one are slower


class GradientFilter:
    """Filters the gradients of an optimiser at each of its steps, and keeps the norm of each.

    It attaches itself to the optimiser by a hook: schedules, gradient scalers and clipping work as before, and
    ``remove`` leaves nothing behind. Gradients of convolution kernels are filtered along the axes of the kernel; those
    of a Linear only along what ``layout`` says of its inputs. Everything else has no order and is left alone.

    Neither sign helps everywhere: damping (1) costs steps on most models, whitening (−1) of the first layer saves some
    where inputs are smooth images that were not standardised. Measure it: ``docs/resolvent.md``.

    Args:
        optimizer: any of ``torch.optim``, or one that derives from ``Optimizer``.
        power: 1 damps short waves, −1 whitens.
        phi: of the resolvent.
        layout: for weights of Linear layers by name, how their inputs lie: (H, W), or (channels, H, W) of which the
            last two are filtered, or (n,) for a sequence.
        model: needed with ``layout``, for the names, and for convolutions in one dimension: without it, parameters of
            four and five axes are taken for kernels.
        force: filter a Linear even if its inputs are the hidden units of another, which have no order.

    Raises ``InvalidValueError`` for a layout that does not fit. O(weights · points of a kernel) a step.
    Source: MISSION R2; Osher et al. 2018, Laplacian smoothing gradient descent.

    >>> model = nn.Linear(4, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> GradientFilter(optimizer, power=-1, layout={"weight": (2, 2)}, model=model)
    GradientFilter(power=-1, phi=1.618034, filtered=1 of 2 parameters)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        power: float,
        phi: float = PHI,
        layout: Mapping[str, tuple[int, ...]] | None = None,
        model: nn.Module | None = None,
        force: bool = False,
    ) -> None:
        self._optimizer, self._power, self._phi = optimizer, power, phi
        self._layout = {name: tuple(shape) for name, shape in (layout or {}).items()}
        self._grids = None if model is None else _grids(model, self._layout, force)
        if model is None and layout:
            raise InvalidValueError("layout names weights, so the filter needs the model, too: pass model=")
        self._matrices: dict[tuple[Any, ...], Tensor] = {}
        self._launches: dict[tuple[Any, ...], Any] = {}
        self._given: list[Tensor] = []
        self._alike: dict[tuple[Any, ...], list[Tensor]] = {}
        apply(torch.zeros(2), 0, phi, power)  # says at once what is wrong with phi or power
        self._hook: Any = optimizer.register_step_pre_hook(self._before_step)

    def __repr__(self) -> str:
        count = sum(len(group["params"]) for group in self._optimizer.param_groups)
        filtered = f"{sum(map(len, self._ordered().values()))} of {count} parameters"
        return f"GradientFilter(power={self._power:g}, phi={self._phi:.6f}, filtered={filtered})"

    def remove(self) -> None:
        """Leave the optimiser as it was. ``InvalidStateError`` the second time."""
        if self._hook is None:
            raise InvalidStateError("this filter was removed before")
        self._hook.remove()
        self._hook = None

    def state_dict(self) -> dict[str, Any]:
        """Settings as plain types; the filter has no other state."""
        return {"power": self._power, "phi": self._phi, "layout": {k: list(v) for k, v in self._layout.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``power`` and ``phi``. ``InvalidValueError`` where the state is of another layout."""
        layout = {name: tuple(shape) for name, shape in state["layout"].items()}
        if layout != self._layout:
            raise InvalidValueError(f"the state has the layout {layout}, this filter {self._layout}; make it alike")
        self._power, self._phi = float(state["power"]), float(state["phi"])
        self._matrices.clear()
        self._launches.clear()

    @torch.no_grad()
    def filter(self) -> None:
        """Filter the gradients that lie there now. The optimiser's own ``step`` does it before anything else.

        A loss scale does not matter, since the filter is linear: scaled gradients give scaled results.
        """
        for (grid, _, device), parameters in self._ordered().items():
            group = [gradient for p in parameters if (gradient := p.grad) is not None]
            if any(gradient.layout != torch.strided for gradient in group):
                raise InvalidValueError("a sparse gradient cannot be filtered; use a dense one")
            if device.type == "cuda":
                self._replace(self._launched(group, grid), grid)
            else:  # one by one, as caches hold them
                for gradient in group:
                    self._replace([gradient], grid)

    def _launched(self, gradients: list[Tensor], grid: tuple[int, ...]) -> list[Tensor]:
        """Filter on a GPU, with two launches for all, what can be; the others are left to the caller."""
        kernels = _triton()
        if not gradients or math.prod(grid) > _BY_MATRIX or kernels is None:
            return gradients
        kind = grid, gradients[0].dtype, gradients[0].device
        if kind not in self._launches or not self._launches[kind].suits(gradients):
            self._launches[kind] = kernels.Filtering(gradients, self._matrix(grid, 1, torch.float32, kind[2]))
        others: list[Tensor] = self._launches[kind](gradients)
        return others

    def _replace(self, old: list[Tensor], grid: tuple[int, ...]) -> None:
        """Write what was filtered over some gradients of one dtype and device, each with the norm that it had."""
        if not old:
            return
        # In half precision, large numbers would leave the range when they are whitened.
        wide = [gradient if gradient.is_complex() else in_full_precision(gradient) for gradient in old]
        new = [self._filtered(gradient, grid) for gradient in wide]
        norms = zip(torch._foreach_norm(wide), torch._foreach_norm(new), strict=True)
        torch._foreach_mul_(new, [torch.where(after > 0, before / after, 1) for before, after in norms])
        torch._foreach_copy_(old, new)

    def _filtered(self, gradient: Tensor, grid: tuple[int, ...]) -> Tensor:
        points = math.prod(grid)
        if points <= _BY_MATRIX:
            copies = math.gcd(gradient.numel() // points, 1 << max(1, _WIDTH // points).bit_length() - 1)
            matrix = self._matrix(grid, copies, gradient.dtype, gradient.device)
            return (gradient.reshape(-1, matrix.shape[0]) @ matrix).reshape(gradient.shape)
        return _along(gradient.reshape(-1, *grid), self._phi, self._power).reshape(gradient.shape)

    def _before_step(self, _optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        itself, *given = args  # torch passes the optimiser on as the first of them
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            self.filter()
            return None
        others = {name: value for name, value in kwargs.items() if name != "closure"}
        return (itself, self._with_filter(closure), *given[1:]), others

    def _with_filter(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """A closure makes the gradients anew, as often as the optimiser calls it."""

        def filtered() -> Any:
            loss = closure()
            self.filter()
            return loss

        return filtered

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _ordered(self) -> dict[tuple[Any, ...], list[Tensor]]:
        """The parameters that are filtered by grid, dtype and device; found anew where others came or these moved."""
        given = self._parameters()
        known = len(given) == len(self._given) and all(map(operator.is_, given, self._given))
        if not known or any(kind[1:] != (some[0].dtype, some[0].device) for kind, some in self._alike.items()):
            self._given, self._alike = given, {}
            for p in given:
                if grid := self._grid(p):
                    self._alike.setdefault((grid, p.dtype, p.device), []).append(p)
        return self._alike

    def _grid(self, parameter: Tensor) -> tuple[int, ...]:
        """The shape along which a parameter is filtered; empty for what has no order."""
        if self._grids is not None:
            return self._grids.get(parameter, ())
        return _kernel(parameter) if parameter.ndim in (4, 5) else ()

    def _matrix(self, grid: tuple[int, ...], copies: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The filter of a small grid as a symmetric matrix, or of several side by side."""
        key = grid, copies, dtype, device
        if key not in self._matrices:
            waves = torch.eye(math.prod(grid), dtype=torch.float64).reshape(-1, *grid)
            columns = _along(waves, self._phi, self._power).flatten(1)
            self._matrices[key] = torch.kron(torch.eye(copies), columns).to(device=device, dtype=dtype)
        return self._matrices[key]


@functools.cache
def _triton() -> Any:
    """The Triton kernels, or nothing where Triton is not installed."""
    try:
        return importlib.import_module("tithe.resolvent.triton_gradients")
    except ImportError:
        return None


def _along(signals: Tensor, phi: float, power: float) -> Tensor:
    """Signals (n, ...) filtered along all axes but the first."""
    return apply(signals, tuple(range(1, signals.ndim)), phi, power)


def _kernel(weight: Tensor) -> tuple[int, ...]:
    """The axes of a convolution's kernel, (out, in, ...); empty where there is one point only."""
    grid = tuple(weight.shape[2:])
    return grid if math.prod(grid) > 1 else ()


def _grids(model: nn.Module, layout: Mapping[str, tuple[int, ...]], force: bool) -> dict[Tensor, tuple[int, ...]]:
    """The grids of a model's weights; tensors hash by identity, and one that is kept here is never another's."""
    found: dict[Tensor, tuple[int, ...]] = {}
    hidden = _behind_another_linear(model)
    named = dict(model.named_parameters())
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            rank = 2 + len(module.kernel_size)  # so many axes have the originals of a parametrized weight, too
            found |= {p: _kernel(p) for p in module.parameters() if p.ndim == rank}
    for name, shape in layout.items():
        weight = named.get(name)
        if weight is None:
            raise InvalidValueError(f"layout names {name!r}; the model's parameters are {', '.join(named)}")
        if weight.ndim != 2 or len(shape) > 3 or min(shape, default=0) < 1 or math.prod(shape) != weight.shape[1]:
            raise InvalidValueError(
                f"layout gives {name!r} inputs of shape {shape}, which is {math.prod(shape)} of them; the weight has "
                f"shape {tuple(weight.shape)}: name the weight (outputs, inputs) of a Linear, and how its inputs lie, "
                "(n,), (H, W) or (channels, H, W)"
            )
        if weight in hidden and not force:
            raise InvalidValueError(
                f"the inputs of {name!r} are the outputs of {hidden[weight]!r}: hidden units have no order, their "
                "neighbours are accidental, and filtering along them mixes what has nothing to do with each other; "
                "leave it out, or pass force=True"
            )
        found[weight] = shape[-2:]
    return found


def _behind_another_linear(model: nn.Module) -> dict[Tensor, str]:
    """Weights of Linear layers that follow another one, with the name of that one."""
    before = ""
    found: dict[Tensor, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if before:
                found[module.weight] = before
            before = name
        elif isinstance(module, nn.modules.conv._ConvNd):
            before = ""
    return found
