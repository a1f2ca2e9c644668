"""A race: networks of one arm, trained on the same batches as those of any other, until they reach a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tithe.audit.training.batches import BATCH, Choice, batches
from tithe.audit.training.stacks import StackedAdam
from tithe.resolvent import TrajectoryFilter

__all__ = ["Curve", "Entry", "Inputs", "run"]


@dataclass(frozen=True)
class Entry:
    """One network of a race.

    Attributes:
        seed: of its first weights and of the order of the samples.
        rate: learning rate.
        horizon: steps after which a cosine has taken the rate to 0; 0 keeps it.
        decay: weight decay.
    """

    seed: int
    rate: float
    horizon: int = 0
    decay: float = 0.0


@dataclass(frozen=True)
class Inputs:
    """Samples as the networks see them, on one device.

    Attributes:
        train_x: (n, ...) float32.
        train_y: (n,) int64.
        test_x: what accuracy is read from, (m, ...).
        test_y: (m,).
        coherences: of the training samples as images, (n,), on the CPU.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    coherences: Tensor


@dataclass(frozen=True)
class Curve:
    """Accuracies (readings, networks), one reading every ``every`` steps.

    >>> Curve(np.array([[0.1, 0.2], [0.6, 0.3]]), every=10).steps_to(0.5).tolist()
    [20.0, inf]
    """

    accuracy: NDArray[np.float64]
    every: int

    def steps_to(self, target: float) -> NDArray[np.float64]:
        """Steps to the first reading that reaches the target, inf where none does, (networks,)."""
        reached = self.accuracy >= target
        return np.where(reached.any(0), (reached.argmax(0) + 1.0) * self.every, np.inf)


def run(
    inputs: Inputs,
    make: Callable[[Sequence[int]], nn.Module],
    entries: Sequence[Entry],
    steps: int,
    *,
    every: int = 10,
    tau: float = 0.0,
    choice: Choice = "shuffled",
    on_gradients: Callable[[nn.Module], None] | None = None,
    penalty: Callable[[nn.Module, Tensor], Tensor] | None = None,
    at_once: int = 1000,
) -> Curve:
    """Train all entries side by side with Adam on batches of 64.

    Args:
        inputs: the samples.
        make: a stack of networks from their seeds.
        entries: the networks.
        steps: to train for.
        every: steps between readings.
        tau: time constant of the ``TrajectoryFilter`` whose weights are read; 0 reads the weights as they are.
        choice: of the samples, see ``batches``.
        on_gradients: called before each step, to change gradients.
        penalty: added to the loss, from the stack and a batch of inputs.
        at_once: test samples read at once.

    Returns:
        The accuracies on the test samples. O(steps · networks · weights · 64).
    """
    device = inputs.train_x.device
    stack = make([entry.seed for entry in entries]).to(device)
    rates, horizons, decay = (
        torch.tensor([float(getattr(entry, name)) for entry in entries], device=device)
        for name in ("rate", "horizon", "decay")
    )
    optimizer = StackedAdam(stack, rates, decay)
    averages = TrajectoryFilter(stack, tau, optimizer=optimizer) if tau else None
    following, losses = batches(choice, [entry.seed for entry in entries], inputs.coherences, steps), None
    readings = []
    for step in range(steps):
        rows, weights = following(losses)
        rows = rows.to(device)
        x, y = inputs.train_x[rows], inputs.train_y[rows]
        each = nn.functional.cross_entropy(stack(x).flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
        loss, losses = (each if weights is None else each * weights.to(device)).sum() / BATCH, each.detach()
        if penalty is not None:
            loss = loss + penalty(stack, x)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        if on_gradients is not None:
            on_gradients(stack)
        cosine = 0.5 + 0.5 * torch.cos(math.pi * (step / horizons.clamp(min=1)).clamp(max=1))
        optimizer.factor = torch.where(horizons > 0, cosine, 1.0)
        optimizer.step()
        if (step + 1) % every == 0:
            if averages is None:
                readings.append(_accuracy(stack, inputs, at_once))
            else:
                with averages.swapped_in():
                    readings.append(_accuracy(stack, inputs, at_once))
    return Curve(torch.stack(readings).double().cpu().numpy(), every)


@torch.no_grad()
def _accuracy(stack: nn.Module, inputs: Inputs, at_once: int) -> Tensor:
    parts = [slice(start, start + at_once) for start in range(0, len(inputs.test_y), at_once)]
    right = [(stack(inputs.test_x[part]).argmax(-1) == inputs.test_y[part]).sum(1) for part in parts]
    return torch.stack(right).sum(0) / len(inputs.test_y)
