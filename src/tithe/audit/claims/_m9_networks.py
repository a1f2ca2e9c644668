"""The two networks of M9 in every way to run them: time beside fp32, and what it costs in accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tithe.audit.claims import _m9_minilm as minilm
from tithe.audit.claims._m4_network import Network, Split
from tithe.audit.claims._m9_peers import Way, compare, ways
from tithe.meter import Comparison

__all__ = ["BATCH", "MiniLmResult", "MlpResult", "module", "products_share", "race_minilm", "race_mlp"]

BATCH = 1024  # images
_TOL = 0.02  # that layers keep
_IMAGES = 4096  # training images to convert with


@dataclass(slots=True)
class MlpResult:
    """A way's time over fp32's for a batch, and accuracy lost in percentage points, network by network."""

    way: Way
    timing: Comparison
    lost: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


class MiniLmResult(NamedTuple):
    """A way's time over fp32's for a batch, ‖E − E₀‖/‖E₀‖ of the embeddings, and their mean cosine to fp32's."""

    way: Way
    timing: Comparison
    error: float
    cosine: float


def module(network: Network) -> nn.Sequential:
    """The classifier as torch users write it."""
    parts: list[nn.Module] = []
    for weight, bias in network:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


@torch.no_grad()
def race_mlp(networks: list[Network], split: Split, pairs: int) -> list[MlpResult]:
    """Every way for the classifiers: accuracy on all test images of each of them, time of a batch of the first."""
    x = split.test_x[:BATCH]
    first = module(networks[0])
    results = []

    def call(model: nn.Module) -> Tensor:
        logits: Tensor = model(x)
        return logits

    for way in ways(first, split.train_x[:_IMAGES], _TOL, call):
        result = None
        for network in networks:
            model = module(network)
            made = way.make(model)
            if result is None:
                result = MlpResult(way, compare(way, made, model, call, pairs))
            accuracy = _accuracy(made, split)
            result.accuracy.append(accuracy)
            result.lost.append(100 * (_accuracy(model, split) - accuracy))
        assert result is not None
        results.append(result)
    return results


@torch.no_grad()
def race_minilm(model: nn.Module, learned: Tensor, tested: Tensor, pairs: int) -> list[MiniLmResult]:
    """Every way for MiniLM, made with ``learned`` pieces: embeddings of all ``tested`` ones, time of a batch."""
    exact = torch.cat([minilm.embed(model, ids) for ids in tested])

    def call(model: nn.Module) -> Tensor:
        return minilm.embed(model, tested[0])

    results = []
    for way in ways(model, minilm.arguments(learned.flatten(0, 1)), _TOL, call):
        made = way.make(model)
        found = torch.cat([minilm.embed(made, ids) for ids in tested])
        results.append(MiniLmResult(way, compare(way, made, model, call, pairs), *minilm.difference(found, exact)))
    return results


@torch.no_grad()
def products_share(model: nn.Module, call: Callable[[nn.Module], object], repeats: int = 5) -> float:
    """Of the seconds of a call, those within linear layers: the most that cheaper products can save."""
    within, hooks = [0.0], []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            hooks.append(layer.register_forward_pre_hook(lambda *_: _add(within, -time.perf_counter())))
            hooks.append(layer.register_forward_hook(lambda *_: _add(within, time.perf_counter())))
    try:
        call(model)
        within[0], start = 0.0, time.perf_counter()
        for _ in range(repeats):
            call(model)
        return within[0] / (time.perf_counter() - start)
    finally:
        for hook in hooks:
            hook.remove()


def _add(total: list[float], seconds: float) -> None:
    total[0] += seconds


def _accuracy(model: nn.Module, split: Split) -> float:
    logits: Tensor = model(split.test_x)
    return float((logits.argmax(1) == split.test_y).double().mean())
