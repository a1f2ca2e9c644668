"""Small models of the kinds that are converted, with random weights, and their layers converted without a clock."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tithe.calibration import Inputs, call
from tithe.product.conversion.choosing import candidates
from tithe.product.conversion.layers import attach
from tithe.product.conversion.rows import as_rows, matrix, why_not
from tithe.product.conversion.ways import Int8, Way


class ResidualBlock(nn.Module):
    """As torchvision's basic block, with a projection."""

    def __init__(self, inputs: int = 8, outputs: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.downsample(x))


class Tied(nn.Module):
    """A model of words whose decoder has the weights of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.hidden = nn.Linear(32, 32)
        self.decoder = nn.Linear(32, 50, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.hidden(self.embedding(words))))


def model_and_inputs(kind: str) -> tuple[nn.Module, Inputs]:
    torch.manual_seed(0)
    if kind == "mlp":
        layers = nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)
        return nn.Sequential(*layers).eval(), torch.randn(64, 48)
    if kind == "block":
        model = ResidualBlock()
        model(torch.randn(8, 8, 9, 7) + 1)  # so that the statistics are not those of a new one
        return model.eval(), torch.randn(16, 8, 9, 7)
    if kind == "tied":
        return Tied().eval(), torch.randint(50, (32, 5))
    assert kind == "encoder"
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )  # fmt: skip
    words = torch.randint(60, (16, 7))
    return BertModel(config).eval(), {"input_ids": words, "attention_mask": torch.ones_like(words)}


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if type(m) in (nn.Linear, nn.Conv2d) and not why_not(m)}


def a_way(layer: nn.Module, rows: Tensor) -> Way:
    """Its weights in 8 bits."""
    weight = matrix(layer)
    bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().clone()
    return next(way for way in ways_for(weight, bias, rows, 1e-3) if isinstance(way, Int8))


def ways_for(weight: Tensor, bias: Tensor, rows: Tensor, tol: float) -> list[Way]:
    """All candidates, whichever of them are rivals."""
    return [way for rivals in candidates(weight, bias, rows, tol) for way in rivals]


def convert_all(model: nn.Module, inputs: Inputs) -> nn.Module:
    """The model with every layer that it calls converted, whether faster or not."""
    seen: dict[str, Tensor] = {}
    layers = layers_of(model)

    def note(name: str) -> Callable[..., None]:
        return lambda layer, arguments: seen.update({name: as_rows(layer, arguments[0].detach())})

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    with torch.no_grad():
        call(model, inputs)
    for hook in hooks:
        hook.remove()
    for name, rows in seen.items():
        attach(layers[name], a_way(layers[name], rows))
    return model
