"""What the callbacks share: filters and a monitor on a model in training, averages lent out, all taken off."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.ledger import Ledger
from tithe.resolvent import GradientFilter, Monitor, TrajectoryFilter, response

__all__ = ["Attached", "Finish", "Settings", "copy_averages"]

Finish = Literal["averaged", "live"]


@dataclass(frozen=True)
class Settings:
    """What to put on a model.

    Attributes:
        tau: time constant of the averaged weights in optimiser steps, as for ``TrajectoryFilter``.
        power: of the resolvent on gradients, as for ``GradientFilter``; ``None`` leaves them alone.
        phi: of that resolvent.
        layout: how the inputs of some Linear weights lie, by the weight's name, for ``power`` and ``monitor``.
        monitor: where the coherence of the layers goes; ``None`` records none.
        run: which run of the ledger it belongs to.
        stride: record every so many optimiser steps.
        finish: which weights are left in the end, ``"averaged"`` or those that were trained, ``"live"``.

    Raises ``InvalidValueError`` for what cannot be used.

    >>> Settings(tau=50).finish
    'averaged'
    """

    tau: float = 100.0
    power: float | None = None
    phi: float = PHI
    layout: Mapping[str, tuple[int, ...]] | None = None
    monitor: Ledger | None = None
    run: str = "run"
    stride: int = 50
    finish: Finish = "averaged"

    def __post_init__(self) -> None:
        TrajectoryFilter(nn.Identity(), self.tau)  # says at once what is wrong with tau
        response(torch.zeros(1), self.phi, 1 if self.power is None else self.power)
        if self.finish not in get_args(Finish):
            raise InvalidValueError(f"finish is {self.finish!r}; use one of {', '.join(map(repr, get_args(Finish)))}")
        if self.stride < 1:
            raise InvalidValueError(f"stride is {self.stride}; use an integer of at least 1")
        if self.layout and self.power is None and self.monitor is None:
            raise InvalidValueError("layout serves a gradient filter or a monitor; pass power= or monitor=, too")


class Attached:
    """A model and its optimiser with filters on them, until ``remove`` or ``finish``.

    Args:
        model: any whose weights are whole on this process.
        optimizer: its only one, not wrapped; ``None`` where averages of a ``state`` are lent out and nothing trains.
        settings: what to put on.
        state: an earlier ``state`` to go on from. As with an optimiser's state, its τ, power and φ are taken over.

    Attributes:
        trajectory: holds the averages.
        gradient: the filter of gradients, if there is one.
        monitor: records coherence, if it was asked for.

    Raises ``InvalidValueError`` where layout or state do not fit the model, ``InvalidStateError`` where the state is
    of a training with a gradient filter and this is one without, or the reverse; then nothing stays on the model.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> attached = Attached(model, optimizer, Settings(tau=10))
    >>> model.weight.grad = torch.ones(1, 1)
    >>> optimizer.step()
    >>> trained = model.weight.item()
    >>> with attached.averaged():
    ...     model.weight.item() > trained
    True
    >>> attached.finish()
    >>> model.weight.item() > trained, len(optimizer._optimizer_step_post_hooks)
    (True, 0)
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, settings: Settings, state: Mapping[str, Any] | None = None
    ) -> None:
        self._model, self._settings = model, settings
        self._lent: ExitStack | None = None
        self.gradient: GradientFilter | None = None
        self.monitor: Monitor | None = None
        layout = settings.layout or {}
        with ExitStack() as undo:
            self.trajectory = TrajectoryFilter(model, settings.tau, optimizer=optimizer)
            undo.callback(self.trajectory.remove)
            if optimizer is not None and settings.power is not None:
                self.gradient = GradientFilter(
                    optimizer, power=settings.power, phi=settings.phi, layout=layout, model=model
                )
                undo.callback(self.gradient.remove)
            if optimizer is not None and settings.monitor is not None:
                by_layer = {name.removesuffix(".weight"): shape for name, shape in layout.items()}
                self.monitor = Monitor(
                    model, settings.monitor, run=settings.run, stride=settings.stride, layout=by_layer
                )
                undo.callback(self.monitor.remove)
            if state is not None:
                self._restore(state, training=optimizer is not None)
            if self.monitor is not None and optimizer is not None:
                self.monitor.attach(optimizer)
            self._undo = undo.pop_all()

    @property
    def lent(self) -> bool:
        """Whether the model has the averages for weights now."""
        return self._lent is not None

    def swap_in(self) -> None:
        """Give the model the averages for weights until ``swap_out``; doing it twice does nothing. O(weights)."""
        if self._lent is None:
            with ExitStack() as lent:
                lent.enter_context(self.trajectory.swapped_in())
                self._lent = lent.pop_all()

    def swap_out(self) -> None:
        """Give the model its own weights back; doing it twice does nothing. O(weights)."""
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.close()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averages for weights inside the ``with`` block, also where it is inside another. O(weights), twice."""
        before = self.lent
        self.swap_in()
        try:
            yield
        finally:
            if not before:
                self.swap_out()

    @contextmanager
    def live(self) -> Iterator[None]:
        """The model's own weights inside the ``with`` block, even if the averages are lent out. O(weights), twice."""
        before = self.lent
        self.swap_out()
        try:
            yield
        finally:
            if before:
                self.swap_in()

    def remove(self) -> None:
        """Leave the optimiser as it was and the model with its own weights; the averages stay for ``state``."""
        self.swap_out()
        self._undo.close()

    def finish(self) -> None:
        """Remove everything, and leave the weights that the settings ask for."""
        self.remove()
        if self._settings.finish == "averaged":
            copy_averages(self._model, self.state())

    def state(self) -> dict[str, Any]:
        """All there is to go on from, as mappings of numbers and tensors; the tensors are not copied."""
        return {
            "trajectory": self.trajectory.state_dict(),
            "gradient": None if self.gradient is None else self.gradient.state_dict(),
            "monitor": None if self.monitor is None else {"steps": self.monitor.steps},
        }

    def _restore(self, state: Mapping[str, Any], training: bool) -> None:
        self.trajectory.load_state_dict(state["trajectory"])
        if not training:
            return
        if (state["gradient"] is None) != (self.gradient is None):
            told = "no gradient filter" if state["gradient"] is None else f"power={state['gradient']['power']:g}"
            raise InvalidStateError(
                f"the checkpoint is of a training with {told}, and this one has power={self._settings.power}: make "
                "them alike, or start from the weights alone"
            )
        if self.gradient is not None:
            self.gradient.load_state_dict(state["gradient"])
        if self.monitor is not None:
            self.monitor.steps = int((state["monitor"] or state["trajectory"])["steps"])


@torch.no_grad()
def copy_averages(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give a model the averages of a ``state`` for good.

    Args:
        model: as it was when the state was made.
        state: as ``Attached.state`` gives it.

    Raises ``InvalidValueError`` where the state is of another model. O(weights).

    >>> model = nn.Linear(1, 1, bias=False)
    >>> copy_averages(model, {"trajectory": {"averages": {"weight": torch.tensor([[7.0]])}}})
    >>> model.weight.item()
    7.0
    """
    averages: Mapping[str, Tensor] = state["trajectory"]["averages"]
    own = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    wrong = set(own) ^ set(averages) or {name for name in own if own[name].shape != averages[name].shape}
    if wrong:
        raise InvalidValueError(f"the state is of another model: {sorted(wrong)} are missing, unknown or not alike")
    for name, tensor in own.items():
        tensor.copy_(averages[name])
