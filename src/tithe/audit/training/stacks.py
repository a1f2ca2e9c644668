"""Many networks of one shape as one module: parameters, inputs and losses carry the network as their first axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["StackedAdam", "StackedCNN", "StackedMLP"]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class StackedMLP(nn.Module):
    """N fully connected networks with ReLU between layers.

    Args:
        seeds: one for each network; the same seed begins with the same weights.
        sizes: inputs, hidden units, outputs.

    O(N · weights) for a sample. Source: the MLP of BASELINES.

    >>> StackedMLP([0, 1], (4, 3, 2))(torch.ones(2, 5, 4)).shape
    torch.Size([2, 5, 2])
    """

    def __init__(self, seeds: Iterable[int], sizes: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.convolutions = 0
        self.weights, self.biases = _layers(list(seeds), pairs)
        first, *rest = (inputs * outputs for inputs, outputs in pairs)
        # Forward, and backward for the weights and, but for the first layer, for its inputs.
        self.multiply_adds, self.training_multiply_adds = first + sum(rest), 2 * first + 3 * sum(rest)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, n, inputs), or (n, inputs) for all, as outputs (N, n, outputs)."""
        x = self.first(x)
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[1:-1]:
            x = (x @ weight + bias).relu()
        out: Tensor = x @ self.weights[-1] + self.biases[-1]
        return out

    def first(self, x: Tensor) -> Tensor:
        """What the first layer puts out, (N, n, units)."""
        out: Tensor = (x @ self.weights[0] + self.biases[0]).relu()
        return out


class StackedCNN(nn.Module):
    """N networks of 3×3 convolutions, each with ReLU and 2×2 pooling, then two fully connected layers.

    Args:
        seeds: one for each network.
        shape: (channels, H, W) of an input.
        channels: outputs of the convolutions.
        hidden: units of the first fully connected layer.
        classes: outputs.

    O(N · multiply-adds) for a sample.

    >>> StackedCNN([0], (1, 8, 8), (4,), 6, 10)(torch.ones(1, 3, 1, 8, 8)).shape
    torch.Size([1, 3, 10])
    """

    def __init__(
        self, seeds: Iterable[int], shape: tuple[int, int, int], channels: Sequence[int], hidden: int, classes: int
    ) -> None:
        super().__init__()
        (inputs, height, width), costs, pairs = shape, [], []
        for outputs in channels:
            pairs.append((9 * inputs, outputs))
            costs.append(9 * inputs * outputs * height * width)
            inputs, height, width = outputs, height // 2, width // 2
        pairs += [(inputs * height * width, hidden), (hidden, classes)]
        costs += [math.prod(pairs[-2]), math.prod(pairs[-1])]
        self.convolutions = len(channels)
        self.weights, self.biases = _layers(list(seeds), pairs)
        self.multiply_adds, self.training_multiply_adds = sum(costs), 3 * sum(costs) - costs[0]

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, n, channels, H, W), or (n, channels, H, W) for all, as outputs (N, n, classes)."""
        x = _pooled(self.first(x))
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[1 : self.convolutions]:
            x = _pooled(_convolved(x, weight, bias).relu())
        (weight, bias), (last, last_bias) = layers[self.convolutions :]
        out: Tensor = (x.flatten(2) @ weight + bias).relu() @ last + last_bias
        return out

    def first(self, x: Tensor) -> Tensor:
        """What the first convolution puts out, (N, n, channels, H, W)."""
        if x.ndim == 4:
            x = x.expand(len(self.weights[0]), *x.shape)
        return _convolved(x, self.weights[0], self.biases[0]).relu()


class StackedAdam(torch.optim.Optimizer):
    """Adam with a rate and a decoupled weight decay for each network of a stack.

    Args:
        stack: its networks.
        rates: (N,) learning rates.
        decay: (N,) weight decays.

    O(weights) a step. Source: Kingma and Ba 2015; Loshchilov and Hutter 2019.

    >>> stack = StackedMLP([0, 0], (1, 1))
    >>> optimizer = StackedAdam(stack, torch.tensor([0.1, 0.0]), torch.zeros(2))
    >>> stack(torch.ones(2, 1, 1)).sum().backward()
    >>> before = stack.weights[0].detach().clone()
    >>> optimizer.step()
    >>> (stack.weights[0] - before).flatten().round(decimals=3)
    tensor([-0.1000,  0.0000], grad_fn=<RoundBackward1>)
    """

    def __init__(self, stack: nn.Module, rates: Tensor, decay: Tensor) -> None:
        super().__init__(list(stack.parameters()), {})
        self.factor: Tensor | float = 1.0  # of the rates now: a schedule sets it
        self._rates, self._decay, self._steps = rates, decay, 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever called
        """One step of all networks."""
        self._steps += 1
        short, long = (1 - beta**self._steps for beta in _BETAS)
        rates = self._rates * self.factor
        for parameter in self.param_groups[0]["params"]:
            state, gradient = self.state[parameter], parameter.grad
            if not state:
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["mean"].lerp_(gradient, 1 - _BETAS[0])
            state["square"].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            each = (-1, *[1] * (parameter.ndim - 1))
            parameter.mul_(1 - (rates * self._decay).view(each))
            size = (state["square"] / long).sqrt_().add_(_EPSILON)
            parameter.sub_(state["mean"].div(size).mul_(rates.view(each) / short))


def _layers(seeds: list[int], pairs: list[tuple[int, int]]) -> tuple[nn.ParameterList, nn.ParameterList]:
    """Weights (N, inputs, outputs) and biases (N, 1, outputs), uniform as torch draws them."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def drawn(shape: tuple[int, int], inputs: int) -> nn.Parameter:
        each = [torch.rand(shape, generator=generator) * 2 - 1 for generator in generators]
        return nn.Parameter(torch.stack(each) / math.sqrt(inputs))

    weights = [drawn((inputs, outputs), inputs) for inputs, outputs in pairs]
    biases = [drawn((1, outputs), inputs) for inputs, outputs in pairs]
    return nn.ParameterList(weights), nn.ParameterList(biases)


def _pooled(x: Tensor) -> Tensor:
    """The largest of each 2×2 pixels of x (N, n, C, H, W)."""
    pooled = nn.functional.max_pool2d(x.flatten(0, 1), 2)
    return pooled.reshape(*x.shape[:2], *pooled.shape[1:])


def _convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3×3 convolutions with padding: x (N, n, C, H, W), weight (N, 9·C, O), bias (N, 1, O)."""
    count, samples, channels, height, width = x.shape
    if channels > 1:  # a grouped convolution, one group a network
        kernels = weight.transpose(1, 2).reshape(-1, channels, 3, 3)
        inputs = x.transpose(0, 1).reshape(samples, -1, height, width)
        out = nn.functional.conv2d(inputs, kernels, bias.flatten(), padding=1, groups=count)
        return out.reshape(samples, count, -1, height, width).transpose(0, 1)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    shifted = [padded[..., dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    columns = torch.stack(shifted, 3).reshape(count, samples, 9 * channels, height * width)
    out = weight.transpose(1, 2)[:, None] @ columns + bias.transpose(1, 2)[:, None]
    return out.reshape(count, samples, -1, height, width)
