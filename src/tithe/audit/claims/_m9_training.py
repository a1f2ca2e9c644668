"""Training the classifier of M9 with products made for less, step by step beside plain ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tithe.audit.claims._m4_network import Split
from tithe.meter import Comparison, paired
from tithe.product import matmul

__all__ = ["TRAINED_BATCH", "TrainingResult", "race_training"]

TRAINED_BATCH = 512  # images a step
_RATE = 1e-3  # of Adam
Multiply = Callable[[Tensor, Tensor], Tensor]


class TrainingResult(NamedTuple):
    """Time of a step over the plain one's, and loss and accuracy on the test images after equal steps: ours, plain."""

    timing: Comparison
    loss: tuple[float, float]
    accuracy: tuple[float, float]


def race_training(split: Split, method: str, seed: int, steps: int) -> TrainingResult:
    """Two classifiers from the same start on the same images in turn: products and gradients by ``method``, and plain.

    ``tithe.matmul`` certifies every product of the forward and of the backward pass.
    """
    draw = torch.Generator().manual_seed(seed)

    def approximate(x: Tensor, w: Tensor) -> Tensor:
        return matmul(x, w, method=method, gradients="same", generator=draw)[0]

    ours, plain = _Training(split, seed, approximate), _Training(split, seed, torch.matmul)
    timing = paired(ours.step, plain.step, steps, names=(method, "plain"))
    (loss, accuracy), (plain_loss, plain_accuracy) = ours.test(), plain.test()
    return TrainingResult(timing, (loss, plain_loss), (accuracy, plain_accuracy))


class _Training:
    """A classifier in training, whose products are made by ``multiply``."""

    def __init__(self, split: Split, seed: int, multiply: Multiply) -> None:
        self.split, self.multiply = split, multiply
        self.draw = torch.Generator().manual_seed(seed)
        self.weights = []
        for inputs, outputs in pairwise((split.train_x.shape[1], 512, 256, 10)):
            weight = torch.randn(inputs, outputs, generator=self.draw) * (2 / inputs) ** 0.5
            self.weights.append((weight.requires_grad_(), torch.zeros(outputs, requires_grad=True)))
        self.optimiser = torch.optim.Adam([p for pair in self.weights for p in pair], _RATE, fused=True)

    def logits(self, x: Tensor, multiply: Multiply) -> Tensor:
        for weight, bias in self.weights[:-1]:
            x = (multiply(x, weight) + bias).relu()
        weight, bias = self.weights[-1]
        return multiply(x, weight) + bias

    def step(self) -> None:
        part = torch.randint(len(self.split.train_x), (TRAINED_BATCH,), generator=self.draw)
        loss = nn.functional.cross_entropy(
            self.logits(self.split.train_x[part], self.multiply), self.split.train_y[part]
        )
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """Loss and accuracy on the test images, with plain products."""
        logits, y = self.logits(self.split.test_x, torch.matmul), self.split.test_y
        return float(nn.functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).double().mean())
