"""How much alike the rows of a matrix have become: of weights, and of what samples look like inside a model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.tether.modes import evaluating

__all__ = ["Homogeneity", "ModelHomogeneity", "homogeneity", "model_homogeneity"]

_BLOCK = 1024  # rows whose cosines are held at once
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Homogeneity(NamedTuple):
    """How much alike the rows of one matrix are.

    Attributes:
        rank: effective rank, from 1 (all rows on one line) to the smaller side; 0 for zeros.
        cosine: mean |cosine| of pairs of rows, from 0 (orthogonal) to 1 (parallel); rows of zeros are left out.

    >>> Homogeneity(rank=3.0, cosine=0.0).rank
    3.0
    """

    rank: float
    cosine: float


class ModelHomogeneity(NamedTuple):
    """Homogeneity through a model, layer by layer.

    Attributes:
        weights: of the rows of each weight, by its name.
        representations: of the samples of a batch as the layer of that name reads them; inputs of the model are not
            among them.

    >>> ModelHomogeneity({}, {}).representations
    {}
    """

    weights: dict[str, Homogeneity]
    representations: dict[str, Homogeneity]


@torch.no_grad()
def homogeneity(tensor: Tensor) -> Homogeneity:
    """Effective rank over rows and mean pairwise |cosine| of rows.

    The effective rank is the exponential of the entropy of the singular values as shares of their sum; it is computed
    in float64 from the smaller Gram matrix.

    Args:
        tensor: real, (rows, ...): a weight (nodes, inputs, ...) or a representation (samples, features, ...).

    Returns:
        Rank and cosine; the cosine of fewer than two rows is 0, NaN entries give NaN for both. Raises
        ``InvalidValueError`` for fewer than two axes or no entries, ``InvalidDTypeError`` for complex entries.
        O(rows² · columns), or O(rows · columns²) for the rank where this is less. Source: MISSION T11; Roy and Vetterli
        2007.

    >>> found = homogeneity(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [3.0, 0.0]]))
    >>> round(found.rank, 6), round(found.cosine, 6)
    (1.0, 1.0)
    """
    if tensor.is_complex():
        raise InvalidDTypeError(f"a tensor has dtype {tensor.dtype}; use a real one, or view_as_real of it")
    if tensor.ndim < 2 or not tensor.numel():
        raise InvalidValueError(f"a tensor has shape {tuple(tensor.shape)}; use (rows, columns, ...) with entries")
    rows = tensor.detach().flatten(1).double()
    if not rows.isfinite().all():
        return Homogeneity(float("nan"), float("nan"))
    rows = rows / rows.abs().max().clamp(min=torch.finfo(torch.float64).tiny)  # squares neither over- nor underflow
    return Homogeneity(_rank(rows), _cosine(rows))


def model_homogeneity(model: nn.Module, x: Tensor | None = None) -> ModelHomogeneity:
    """Homogeneity of all weights of a model and, for a batch, of its hidden representations.

    The batch passes in evaluation mode without gradients; hooks are taken off again, and each module is in the mode it
    was in. Representations are what linear and convolutional layers read, (samples, ...) flattened to a row for each
    sample; a layer that runs more than once counts with its last pass.

    Args:
        model: any module.
        x: a batch of at least two samples, (samples, ...); ``None`` looks at the weights only.

    Returns:
        ``ModelHomogeneity(weights, representations)``. Raises ``InvalidValueError`` for a batch of fewer than two
        samples. O(rows² · columns) a layer. Source: MISSION T11.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> found = model_homogeneity(model, torch.eye(4))
    >>> list(found.weights), list(found.representations)
    (['0.weight', '2.weight'], ['2'])
    """
    weights = {name: homogeneity(p) for name, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()}
    if x is None:
        return ModelHomogeneity(weights, {})
    if x.ndim < 2 or len(x) < 2:
        raise InvalidValueError(f"x has shape {tuple(x.shape)}; use a batch (samples, ...) of at least two samples")
    read = _read(model, x)
    kept = {name: homogeneity(h) for name, h in read.items() if h.ndim > 1 and h.is_floating_point()}
    return ModelHomogeneity(weights, kept)


@torch.no_grad()
def _read(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each layer reads of a batch, apart from the batch itself."""
    read: dict[str, Tensor] = {}
    given = x.untyped_storage().data_ptr()
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, _LAYERS):

            def keep(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if inputs[0].untyped_storage().data_ptr() != given and len(inputs[0]) == len(x):
                    read[name] = inputs[0].clone()  # an activation in place must not change it

            hooks.append(module.register_forward_pre_hook(keep))
    try:
        with evaluating(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return read


def _rank(rows: Tensor) -> float:
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    values = values[values > values.max() * 1e-7]  # what is below is the rounding of the Gram matrix
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float((-(shares * shares.log()).sum()).exp())


def _cosine(rows: Tensor) -> float:
    sizes = rows.norm(dim=1, keepdim=True)
    rows = (rows / sizes)[sizes.flatten() > 0]
    pairs = len(rows) * (len(rows) - 1)
    if not pairs:
        return 0.0
    blocks = [float((block @ rows.T).abs().sum()) for block in torch.split(rows, _BLOCK)]
    total = sum(blocks) - len(rows)
    return min(max(total / pairs, 0.0), 1.0)
