"""What a layer of a model is given while the sparse ones prune."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tithe.calibration import Inputs, call
from tithe.resolvent.sparse.layers import pruned

__all__ = ["given_to"]

_ROWS = 4096  # of a layer's inputs that are looked at


def given_to(layer: nn.Linear, model: nn.Module, inputs: Inputs) -> Tensor:
    """What a layer is given when all sparse ones prune: (rows, inputs), at most some thousand rows, evenly chosen."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(
        lambda _layer, args: seen.append(args[0].detach().reshape(-1, layer.in_features))
    )
    try:
        with pruned(model):
            call(model, inputs)
    finally:
        hook.remove()
    x = torch.cat(seen)
    return x[:: -(-len(x) // _ROWS)]
