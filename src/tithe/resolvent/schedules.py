"""Schedules in four phases of golden proportions: for learning rates, and for any setting such as a filter's band."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.golden import PHI

__all__ = ["BandSchedule", "QuarterSchedule", "golden_phases"]

Longest = Literal["first", "last"]


def golden_phases(total_steps: int, phases: int = 4, *, ratio: float = PHI, longest: Longest = "first") -> list[int]:
    """At which step each phase begins: lengths fall from phase to phase by ``ratio``, or grow by it.

    Args:
        total_steps: how many steps there are, at least 1.
        phases: how many phases.
        ratio: of the lengths of neighbouring phases, ≥ 1; with φ the first of four has 1/√5 of all steps.
        longest: ``"first"`` or ``"last"``.

    Returns:
        A list of ``phases`` steps, the first is 0; each is the nearest to the exact one. Raises
        ``InvalidValueError`` for what cannot be used. O(phases). Source: MISSION R8.

    >>> golden_phases(1000)
    [0, 447, 724, 894]
    """
    for name, value, right, wanted in (
        ("total_steps", total_steps, total_steps >= 1, "at least 1"),
        ("phases", phases, phases >= 1, "at least 1"),
        ("ratio", ratio, math.isfinite(ratio) and ratio >= 1, f"a number of at least 1, the golden one is {PHI:.6f}"),
        ("longest", longest, longest in get_args(Longest), "'first' or 'last'"),
    ):  # fmt: skip
        if not right:
            raise InvalidValueError(f"{name} is {value!r}; use {wanted}")
    lengths = [ratio**-i for i in range(phases)]
    if longest == "last":
        lengths.reverse()
    return [round(total_steps * math.fsum(lengths[:i]) / math.fsum(lengths)) for i in range(phases)]


class QuarterSchedule(LRScheduler):
    """Learning rates in phases: each phase is φ times shorter than the one before, and its rate φ times smaller.

    An option to be measured, without a promise: a cosine that is tuned to the horizon is the baseline to beat.
    It only multiplies the rate where a phase begins, so it may be chained with other schedules; after the last step
    the last rate stays. Call ``step`` after each optimiser step.

    Args:
        optimizer: any.
        total_steps: how many optimiser steps the training has.
        phases: how many phases.
        ratio: by which rates fall.
        lengths: ratio of the lengths of neighbouring phases; 1 makes them equal.
        longest: which phase is longest, ``"first"`` or ``"last"``.
        last_epoch: the step to go on after; −1 begins anew. ``load_state_dict`` is the better way to go on.

    Raises ``InvalidValueError`` for what cannot be used. O(parameter groups) a step. Source: MISSION R8.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = QuarterSchedule(optimizer, total_steps=9)
    >>> [round(rate, 3) for rate in schedule.rates()]
    [1.0, 1.0, 1.0, 1.0, 0.618, 0.618, 0.618, 0.382, 0.236]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        phases: int = 4,
        ratio: float = PHI,
        lengths: float = PHI,
        longest: Longest = "first",
        last_epoch: int = -1,
    ) -> None:
        if not (math.isfinite(ratio) and ratio > 0):
            raise InvalidValueError(f"ratio is {ratio}; use a finite number above 0, the golden one is {PHI:.6f}")
        self.total_steps, self.ratio = total_steps, ratio
        self.begins = golden_phases(total_steps, phases, ratio=lengths, longest=longest)
        super().__init__(optimizer, last_epoch)

    @property
    def phase(self) -> int:
        """Which phase the current step is in, from 0."""
        return _phase(self.begins, self.last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the current step, from those of the one before. Called by ``step``."""
        fallen = self.phase - _phase(self.begins, self.last_epoch - 1)
        return [group["lr"] * self.ratio**-fallen if fallen else group["lr"] for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        return [base * self.ratio**-self.phase for base in self.base_lrs]

    def rates(self, group: int = 0) -> list[float]:
        """The rate at each of ``total_steps`` steps for one parameter group, to be plotted. O(total_steps)."""
        base = float(self.base_lrs[group])
        return [base * self.ratio ** -_phase(self.begins, step) for step in range(self.total_steps)]


class BandSchedule:
    """A setting that changes with the phases of the training: the share of a spectrum, φ or λ of a filter, a cut-off.

    Args:
        target: what to set: a function of the value, or (object, name of its attribute). It is set at once, and
            whenever a phase begins.
        total_steps: how many steps the training has.
        values: one for each phase; by default a band that widens to the whole by φ each: 0.236, 0.382, 0.618, 1.
        lengths: ratio of the lengths of neighbouring phases; 1 makes them equal.
        longest: which phase is longest, ``"first"`` or ``"last"``.

    Raises ``InvalidDTypeError`` or ``InvalidValueError`` for what cannot be used. O(phases) a step.
    Source: MISSION R8. An option to be measured: widening resolution lost accuracy on a small CNN.

    >>> from tithe.resolvent import Regularizer
    >>> penalty = Regularizer(1e-4)
    >>> schedule = BandSchedule((penalty, "strength"), total_steps=9, values=[1e-3, 1e-4, 1e-5, 0.0])
    >>> for _ in range(8):
    ...     schedule.step()
    >>> penalty.strength, schedule.phase
    (0.0, 3)
    """

    def __init__(
        self,
        target: Callable[[float], object] | tuple[object, str],
        total_steps: int,
        *,
        values: Sequence[float] = (PHI**-3, PHI**-2, PHI**-1, 1.0),
        lengths: float = PHI,
        longest: Longest = "first",
    ) -> None:
        if isinstance(target, tuple) and len(target) == 2 and isinstance(target[1], str):
            if not hasattr(target[0], target[1]):
                raise InvalidValueError(
                    f"{type(target[0]).__name__} has no attribute {target[1]!r}; name one that it has"
                )
        elif not callable(target):
            raise InvalidDTypeError(f"target is {target!r}; pass a function of the value, or (object, attribute name)")
        self.total_steps, self.last_step = total_steps, 0
        self.phase_values = [float(value) for value in values]
        self.begins = golden_phases(total_steps, len(self.phase_values), ratio=lengths, longest=longest)
        self._target = target
        self._set()

    @property
    def phase(self) -> int:
        """Which phase the current step is in, from 0."""
        return _phase(self.begins, self.last_step)

    @property
    def value(self) -> float:
        """What is set now."""
        return self.phase_values[self.phase]

    def step(self) -> None:
        """One step is done; sets the target where that begins a phase. After the last step the last value stays."""
        before = self.phase
        self.last_step += 1
        if self.phase != before:
            self._set()

    def values(self) -> list[float]:
        """The value at each of ``total_steps`` steps, to be plotted. O(total_steps)."""
        return [self.phase_values[_phase(self.begins, step)] for step in range(self.total_steps)]

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from but the target, as plain types."""
        names = ("total_steps", "last_step", "phase_values", "begins")
        return {name: list(v) if isinstance(v := getattr(self, name), list) else v for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over all of a ``state_dict`` and set the target. ``InvalidStateError`` where something is missing."""
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise InvalidStateError(f"the state has no {', '.join(missing)}; pass the state_dict() of a BandSchedule")
        self.total_steps, self.last_step = int(state["total_steps"]), int(state["last_step"])
        self.phase_values, self.begins = list(state["phase_values"]), list(state["begins"])
        self._set()

    def _set(self) -> None:
        if isinstance(self._target, tuple):
            setattr(*self._target, self.value)
        else:
            self._target(self.value)


def _phase(begins: Sequence[int], step: int) -> int:
    """The last phase that has begun at a step; phases that were rounded to nothing are passed over."""
    return max(sum(step >= begin for begin in begins) - 1, 0)
