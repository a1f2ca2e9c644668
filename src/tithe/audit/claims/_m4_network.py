"""The network of M4: trained with exact products, run with any others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tithe.product.estimators import flops, from_name
from tithe.product.pair import Pair
from tithe.receipt import Cost, Receipt

__all__ = ["Multiply", "Network", "Split", "by_estimator", "forward", "low_rank", "plain", "quantised", "train"]

Network = list[tuple[Tensor, Tensor]]  # weights (out, in) and biases
Multiply = Callable[[Tensor, Tensor], tuple[Tensor, Receipt]]


class Split(NamedTuple):
    """Images as rows of float32 between 0 and 1, labels int64, by use; and what the set is called."""

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def train(split: Split, seed: int, epochs: int) -> Network:
    """The layers after some epochs, trained by Adam under a one-cycle schedule."""
    draw = torch.Generator().manual_seed(seed)
    widths = (split.train_x.shape[1], 512, 256, 10)
    layers = [nn.Linear(*pair, device=split.train_x.device) for pair in pairwise(widths)]
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                uniform = 2 * torch.rand(parameter.shape, generator=draw) - 1
                parameter.copy_(uniform / math.sqrt(layer.in_features))
    count, batch = len(split.train_x), 128 if split.name == "MNIST" else 32
    optimiser = torch.optim.Adam([p for layer in layers for p in layer.parameters()], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * (count // batch))
    for _ in range(epochs):
        order = torch.randperm(count, generator=draw).to(split.train_x.device)[: count // batch * batch]
        for part in order.view(-1, batch):
            x = split.train_x[part]
            for layer in layers[:-1]:
                x = layer(x).relu()
            loss = nn.functional.cross_entropy(layers[-1](x), split.train_y[part])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return [(layer.weight.detach(), layer.bias.detach()) for layer in layers]


def forward(network: Network, x: Tensor, multiply: Multiply) -> tuple[Tensor, Receipt]:
    """The logits of a batch with every product left to ``multiply``, and the receipts of all three, added up."""
    receipts = []
    for index, (weight, bias) in enumerate(network):
        x, receipt = multiply(x, weight.T)
        x = x + bias if index == len(network) - 1 else (x + bias).relu_()
        receipts.append(receipt)
    return x, receipts[0] + receipts[1] + receipts[2]


def by_estimator(name: str, x: Tensor, w: Tensor, generator: torch.Generator) -> tuple[Tensor, Receipt]:
    """One product by an estimator alone, without a certificate, and the receipt of its counted operations."""
    estimator, shape = from_name(name), (x.shape[0], x.shape[1], w.shape[1])
    product = estimator.multiply(Pair(x, w), generator=generator).tensor(x.dtype)
    spent = flops(estimator.work(*shape, x.dtype))
    return product, Receipt(name, Cost(flops=spent), Cost(flops=2.0 * math.prod(shape)))


@torch.no_grad()
def low_rank(network: Network, split: Split, ratio: float) -> tuple[Callable[[Tensor], Tensor], float]:
    """The network with all weights but the last factored beforehand, and the share of the multiply–adds that it takes.

    The factors are the best of their rank for the layer's outputs on the training images, around their mean. The
    last layer has no rank to give away and next to no work, so it stays.
    """
    x, factors, spent = split.train_x[:10_000], [], 0
    last_weight, last_bias = network[-1]
    total = sum(weight.numel() for weight, _ in network)
    within = (ratio * total - last_weight.numel()) / (total - last_weight.numel())
    for weight, bias in network[:-1]:
        outputs = torch.nn.functional.linear(x, weight, bias)
        mean = outputs.mean(0)
        rank = max(1, int(within * weight.numel() / sum(weight.shape)))
        _, vectors = torch.linalg.eigh((outputs - mean).T @ (outputs - mean))
        top = vectors[:, -rank:]
        shift = mean + (bias - mean) @ top @ top.T
        factors.append((weight.T @ top, top.T, shift))
        spent += rank * sum(weight.shape)
        x = outputs.relu()

    @torch.no_grad()
    def classify(x: Tensor) -> Tensor:
        for left, right, shift in factors:
            x = torch.addmm(shift, x @ left, right).relu_()
        return torch.nn.functional.linear(x, last_weight, last_bias)

    return classify, (spent + last_weight.numel()) / total


@torch.no_grad()
def plain(network: Network, x: Tensor) -> Tensor:
    """The logits as a user would compute them."""
    for index, (weight, bias) in enumerate(network):
        x = nn.functional.linear(x, weight, bias)
        x = x if index == len(network) - 1 else x.relu_()
    return x


def quantised(network: Network) -> Callable[[Tensor], Tensor] | None:
    """The same network through torch's dynamic int8 quantisation; ``None`` where torch cannot do that here."""
    modules: list[nn.Module] = []
    for weight, bias in network:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [linear, nn.ReLU()]
    try:
        from torch.ao.quantization import quantize_dynamic

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantise: Any = quantize_dynamic
            model = quantise(nn.Sequential(*modules[:-1]), {nn.Linear}, dtype=torch.qint8)
    except (ImportError, AttributeError, RuntimeError):
        return None
    device = network[0][0].device

    @torch.no_grad()
    def classify(x: Tensor) -> Tensor:
        result: Tensor = model(x.cpu())
        return result.to(device)

    return classify
