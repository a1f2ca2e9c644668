"""The resolvent along time: low-passed weights, swapped in for evaluation and out again for training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, swa_utils

from tithe.errors import InvalidStateError, InvalidValueError

__all__ = ["TrajectoryFilter"]

_WARMUP = 9.0  # while young, the filter remembers about a ninth of the steps so far


class TrajectoryFilter:
    """Averages a model's weights over about the last τ steps, and lends them out for evaluation.

    An exponential average with decay 1 − 1/τ is a first-order low-pass: of a trajectory's power at frequency ω it
    leaves 1/(1 + φ·2(1 − cos ω)) with φ = τ(τ − 1), the resolvent of the second difference along the steps. So the
    weights are those of a decayed learning rate without decaying it: train at a constant rate, evaluate and stop when
    one likes. While there are fewer steps, the decay is (1 + t)/(10 + t), so the first weights are soon forgotten.

    Averages are kept in float32 at least. Floating-point buffers, such as the statistics of BatchNorm, are averaged
    like weights; others are copied. ``refresh_statistics`` measures those of BatchNorm anew.

    Args:
        model: any.
        tau: time constant τ ≥ 1 in optimiser steps; 100 serves some hundred steps and more, 1 averages nothing.
        optimizer: if given, ``update`` runs after each of its steps by itself: skipped steps of a gradient scaler and
            accumulation count rightly.

    Raises ``InvalidValueError`` for a ``tau`` that cannot be used. Memory: one copy of the weights; O(weights) a step.
    Source: MISSION R2; Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> filtered = TrajectoryFilter(model, tau=10, optimizer=optimizer)
    >>> for _ in range(3):
    ...     model.weight.grad = torch.ones(1, 1)
    ...     optimizer.step()
    >>> with filtered.swapped_in():
    ...     during = model.weight.item()
    >>> during > model.weight.item(), filtered.steps
    (True, 3)
    """

    def __init__(self, model: nn.Module, tau: float = 100.0, *, optimizer: Optimizer | None = None) -> None:
        if not (math.isfinite(tau) and tau >= 1):
            raise InvalidValueError(f"tau is {tau}; use a number of optimiser steps of at least 1")
        self.tau, self.steps = float(tau), 0
        self._model, self._inside = model, False
        self._averages = [_kept(tensor) for tensor in self._live()]
        self._hook: Any = None
        if optimizer is not None:
            self._hook = optimizer.register_step_post_hook(self._after_step)

    @property
    def phi(self) -> float:
        """The φ of the resolvent that this is, τ(τ − 1); the golden one is τ = 1.87."""
        return self.tau * (self.tau - 1)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after one more step. ``InvalidStateError`` while they are swapped out."""
        if self._inside:
            raise InvalidStateError("the averages are swapped in; train outside of the with block")
        self.steps += 1
        decay = min(1 - 1 / self.tau, self.steps / (self.steps + _WARMUP))
        for averages, live in _alike(self._averages, self._live()):
            if averages[0].is_floating_point() or averages[0].is_complex():
                torch._foreach_lerp_(averages, [tensor.to(averages[0].dtype) for tensor in live], 1 - decay)
            else:
                torch._foreach_copy_(averages, live)

    @contextmanager
    def swapped_in(self) -> Iterator[nn.Module]:
        """The model with the averages for weights inside the ``with`` block, with its own after it.

        Yields:
            The model itself. Raises ``InvalidStateError`` where the block is inside another. O(weights), twice.
        """
        if self._inside:
            raise InvalidStateError("the averages are swapped in already")
        live = self._live()
        before = [tensor.detach().clone() for tensor in live]
        self._inside = True
        try:
            _copy(live, self._averages)
            yield self._model
        finally:
            _copy(live, before)
            self._inside = False

    def refresh_statistics(self, batches: Iterable[Any], device: torch.device | str | None = None) -> None:
        """Measure the statistics of BatchNorm for the averaged weights by a pass over training batches.

        Args:
            batches: of inputs, or of tuples that begin with them.
            device: where to move them.
        """
        with self.swapped_in():
            swa_utils.update_bn(batches, self._model, device)  # type: ignore[arg-type]  # any iterable of batches does
            for average, tensor in zip(self._averages, self._live(), strict=True):
                average.copy_(tensor.detach())

    def remove(self) -> None:
        """Stop following the optimiser; the averages stay."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from: τ, steps, averages by name."""
        return {"tau": self.tau, "steps": self.steps, "averages": dict(zip(self._names(), self._averages, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``. ``InvalidValueError`` where it is of another model."""
        averages, names = state["averages"], self._names()
        wrong = set(names) ^ set(averages) or {
            name for name, own in zip(names, self._averages, strict=True) if averages[name].shape != own.shape
        }
        if wrong:
            raise InvalidValueError(f"the state is of another model: {sorted(wrong)} are missing, unknown or not alike")
        self.tau, self.steps = float(state["tau"]), int(state["steps"])
        _copy(self._averages, [averages[name] for name in names])

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        found = getattr(optimizer, "found_inf", None)  # a gradient scaler lends it to fused ones, which skip by it
        if found is None or not found.item():
            self.update()

    def _live(self) -> list[Tensor]:
        return [*self._model.parameters(), *self._model.buffers()]

    def _names(self) -> list[str]:
        pairs = itertools.chain(self._model.named_parameters(), self._model.named_buffers())
        return [name for name, _ in pairs]


def _kept(tensor: Tensor) -> Tensor:
    """A copy in a dtype in which small steps are not lost."""
    copy = tensor.detach().clone()
    return copy.float() if copy.dtype in (torch.float16, torch.bfloat16) else copy


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _alike(first: list[Tensor], second: list[Tensor]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Two lists side by side in groups of one dtype and device, which the foreach kernels want."""
    groups: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], list[Tensor]]] = {}
    for a, b in zip(first, second, strict=True):
        pair = groups.setdefault((a.dtype, a.device), ([], []))
        pair[0].append(a)
        pair[1].append(b.detach())
    yield from groups.values()
