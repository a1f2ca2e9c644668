"""Losses of a stack of models in one call, for a loss that is known: ``vmap`` takes it apart in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["at_once"]

_IGNORED = -100  # a target that cross entropy leaves out


def at_once(loss: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Tensor], Tensor | None] | None:
    """Cross entropy of each of a stack, if that is what a loss is; ``None`` for any other.

    Args:
        loss: ``nn.functional.cross_entropy``, or ``nn.CrossEntropyLoss()`` as it comes.

    Returns:
        A function of outputs (models, samples, classes) and targets (models, samples), int64, that gives the loss of
        each model, as ``loss`` does of one; ``None`` for outputs and targets of another form.

    >>> stack, targets = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
    >>> at_once(nn.functional.cross_entropy)(stack, targets)
    tensor([1.3863, 1.3863])
    """
    if loss is nn.functional.cross_entropy:
        return _cross_entropy
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None or loss._forward_hooks:
        return None
    plain = nn.CrossEntropyLoss()
    names = ("ignore_index", "reduction", "label_smoothing")
    return _cross_entropy if all(getattr(loss, name) == getattr(plain, name) for name in names) else None


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor | None:
    if outputs.ndim != 3 or targets.dtype != torch.int64 or targets.shape != outputs.shape[:2]:
        return None
    each = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return each.view(targets.shape).sum(1) / (targets != _IGNORED).sum(1)
