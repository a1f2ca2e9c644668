"""The coherence of each layer's activations, gradients and weights while a model trains, every so many steps."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, InvalidValueError, MissingExtraError
from tithe.golden import PHI
from tithe.ledger import Ledger
from tithe.resolvent.layer_signals import Signals, of_activation, of_weight, summaries
from tithe.resolvent.measures import white_noise_coherence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Monitor", "What"]

What = Literal["activations", "gradients", "weights"]
_SYSTEM, _KIND = "resolvent", "coherence"


class Monitor:
    """Records the coherence of each layer at every ``stride``-th step of an optimiser, and the mean over the layers.

    That mean is what the source calls lattice coherence, or syntropy. It is taken over signals that have an order and
    any power: activations along the axes of images and sequences, weights and gradients along the axes of kernels. A
    Linear's weights and gradients are recorded along its inputs beside the coherence of white noise of that length, and
    count for the mean only where ``layout`` says how the inputs lie. Activations (batch, features) have no order and
    are left out; ``skipped`` tells why for each layer.

    Hooks on the layers exist only during the steps that are recorded, and at most ``signals`` signals of a tensor are
    looked at, so that a stride of 50 costs little: ``python -m benchmarks.monitor``. With gradient accumulation it is
    the last forward pass that counts; gradients are as the optimiser saw them.

    Args:
        model: any.
        ledger: where events go (system ``resolvent``, kind ``coherence``); ``None`` keeps them in memory.
        run: which run they belong to.
        stride: record every so many optimiser steps.
        layers: names as in ``model.named_modules()``, or patterns such as ``"blocks.*"``; ``None`` takes all
            convolutions and Linear layers.
        what: any of ``"activations"``, ``"gradients"``, ``"weights"``.
        axes: ordered axes of the outputs of some layers, by name, where they cannot be guessed.
        layout: how the inputs of some Linear layers lie, by the layer's name: (H, W), (channels, H, W) or (n,).
        signals: look at so many of each tensor, evenly spread.
        centre: whether coherence is without the mean of each signal, as for ``coherence``.
        phi: of the resolvent.

    Raises ``InvalidValueError`` for what cannot be used. Source: MISSION R7.

    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Monitor(model, stride=2).attach(optimizer) as monitor:
    ...     for _ in range(4):
    ...         model(torch.ones(5, 1, 8, 8)).sum().backward()
    ...         optimizer.step()
    >>> [(entry["step"], entry["layer"], entry["what"]) for entry in monitor.history()[:3]]
    [(2, '0', 'activations'), (2, '0', 'gradients'), (2, '2', 'gradients')]
    """

    def __init__(
        self,
        model: nn.Module,
        ledger: Ledger | None = None,
        *,
        run: str = "run",
        stride: int = 50,
        layers: str | Iterable[str] | None = None,
        what: Sequence[What] = get_args(What),
        axes: Mapping[str, tuple[int, ...]] | None = None,
        layout: Mapping[str, tuple[int, ...]] | None = None,
        signals: int = 256,
        centre: bool = False,
        phi: float = PHI,
    ) -> None:
        for name, value in (("stride", stride), ("signals", signals)):
            if value < 1:
                raise InvalidValueError(f"{name} is {value}; use an integer of at least 1")
        if not what or not set(what) <= set(get_args(What)):
            raise InvalidValueError(f"what is {what!r}; name one or more of {', '.join(get_args(What))}")
        self._layers = _chosen(model, layers)
        self._axes, self._layout = dict(axes or {}), dict(layout or {})
        unknown = sorted({*self._axes, *self._layout} - self._layers.keys())
        if unknown:
            raise InvalidValueError(f"axes or layout name {unknown}; the watched layers are {', '.join(self._layers)}")
        self.stride, self.run, self.steps = stride, run, 0
        self.skipped: dict[str, str] = {}
        self._ledger, self._kept = ledger, list[dict[str, Any]]()
        self._what, self._most, self._centre, self._phi = tuple(what), signals, centre, phi
        self._seen: dict[str, Signals | str] = {}
        self._hooks: list[Any] = []
        self._step_hook: Any = None

    def attach(self, optimizer: Optimizer) -> Monitor:
        """Follow the steps of an optimiser, until ``remove``; ``InvalidStateError`` where it follows one already.

        Set ``steps`` beforehand where a training goes on.
        """
        if self._step_hook is not None:
            raise InvalidStateError("this monitor follows an optimiser already; call remove() first")
        self._step_hook = optimizer.register_step_post_hook(lambda *_: self._after_step())
        self._listen()
        return self

    def remove(self) -> None:
        """Take all hooks away; what was recorded stays. Doing it twice does nothing."""
        if self._step_hook is not None:
            self._step_hook.remove()
            self._step_hook = None
        self._listen()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def history(self) -> list[dict[str, Any]]:
        """A record for each step, layer and kind of tensor, in order; from the ledger where there is one.

        Keys: ``step``, ``layer``, ``what``, ``coherence``, ``noise`` (that of white noise of the same shape), ``rms``
        (of the signals; 0 is a dead layer), ``grid`` (the shape) and ``ordered``.
        """
        return [{"step": event["step"], **entry} for event in self._events() for entry in event["layers"]]

    def lattice(self, what: What) -> list[tuple[int, float]]:
        """(step, mean coherence over the ordered layers) for one kind of tensor."""
        found = [(event["step"], event["lattice"].get(what)) for event in self._events()]
        return [(step, mean) for step, mean in found if mean is not None]

    def plot(self) -> Figure:
        """Coherence by step, a panel for each kind of tensor: layers thin, their mean thick.

        Raises ``MissingExtraError`` without matplotlib (``pip install tithe[plots]``).
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("a picture needs matplotlib: pip install 'tithe[plots]'") from error
        figure = Figure(figsize=(4 * len(self._what), 3.4), layout="constrained")
        history = self.history()
        for panel, what in zip(figure.subplots(1, len(self._what), squeeze=False)[0], self._what, strict=True):
            for name in self._layers:
                points = [(e["step"], e["coherence"]) for e in history if (e["what"], e["layer"]) == (what, name)]
                if points:
                    panel.plot(*zip(*points, strict=True), lw=1, label=name)
            if mean := self.lattice(what):
                panel.plot(*zip(*mean, strict=True), lw=2.5, color="black", label="mean")
            panel.set(title=what, xlabel="step", ylim=(0, 1.02))
            if panel.lines:
                panel.legend(fontsize="small")
        figure.supylabel("coherence")
        return figure

    def _after_step(self) -> None:
        self.steps += 1
        if self.steps % self.stride == 0:
            self._record()
        self._listen()

    def _listen(self) -> None:
        """Have hooks on the layers if the step that comes is recorded, else none."""
        due = self._step_hook is not None and (self.steps + 1) % self.stride == 0 and "activations" in self._what
        if due and not self._hooks:
            self._hooks = [m.register_forward_hook(functools.partial(self._see, n)) for n, m in self._layers.items()]
        elif not due and self._hooks:
            for hook in self._hooks:
                hook.remove()
            self._hooks = []

    def _see(self, name: str, module: nn.Module, _inputs: object, output: object) -> None:
        with torch.no_grad():
            self._seen[name] = of_activation(module, output, self._axes.get(name), self._most)

    @torch.no_grad()
    def _record(self) -> None:
        found: list[tuple[str, What, Signals]] = []
        for what in get_args(What):
            for name, module in self._layers.items():
                signals = self._signals(what, name, module) if what in self._what else None
                if isinstance(signals, str):
                    self.skipped[f"{name}: {what}"] = signals
                elif signals is not None:
                    found.append((name, what, signals))
        self._seen = {}
        every = [signals for _, _, signals in found]
        readings = summaries(every, self._centre, self._phi).tolist() if found else []
        layers = [
            {"layer": name, "what": what, "coherence": value, "rms": rms, "grid": list(signals.grid),
             "noise": _noise(signals.grid, self._centre, self._phi), "ordered": signals.ordered}
            for (name, what, signals), (value, rms) in zip(found, readings, strict=True)
        ]  # fmt: skip
        lattice = {}
        for what in self._what:
            counted = [e["coherence"] for e in layers if e["what"] == what and e["ordered"] and e["rms"] > 0]
            lattice[what] = sum(counted) / len(counted) if counted else None
        event = {"step": self.steps, "lattice": lattice, "layers": layers}
        if self._ledger is None:
            self._kept.append(event)
        else:
            self._ledger.append(self.run, _SYSTEM, _KIND, event)

    def _signals(self, what: What, name: str, module: nn.Module) -> Signals | str | None:
        if what == "activations":
            return self._seen.get(name, "it has not run in the steps that were recorded")
        weight = module._parameters.get("weight")
        if weight is None:
            return "it has no weight of its own" if not hasattr(module, "weight") else "its weight is parametrised"
        tensor: Tensor | None = weight if what == "weights" else weight.grad
        return None if tensor is None else of_weight(module, tensor, self._layout.get(name), self._most)

    def _events(self) -> list[dict[str, Any]]:
        if self._ledger is None:
            return self._kept
        return [event.payload for event in self._ledger.read(run=self.run, system=_SYSTEM, kind=_KIND)]


def _chosen(model: nn.Module, layers: str | Iterable[str] | None) -> dict[str, nn.Module]:
    """Layers by name, in the order of the model."""
    modules = {name: module for name, module in model.named_modules() if name}
    if layers is None:
        found: dict[str, nn.Module] = {
            n: m for n, m in modules.items() if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear))
        }
        if not found:
            raise InvalidValueError(
                f"the model has no convolution and no Linear inside; name layers of {list(modules)}"
            )
        return found
    patterns = [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not fnmatch.filter(modules, pattern):
            raise InvalidValueError(f"no layer is named {pattern!r}; the model has {', '.join(modules)}")
    return {n: m for n, m in modules.items() if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)}


@functools.lru_cache(maxsize=256)
def _noise(grid: tuple[int, ...], centre: bool, phi: float) -> float:
    return white_noise_coherence(grid, centre, phi)
