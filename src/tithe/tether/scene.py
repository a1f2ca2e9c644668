"""What policies of renewal read and write: layers, their activity, how they were spread, the optimiser's moments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from tithe.tether.chains import Hidden, Layer

__all__ = ["Overlay", "Scene", "Spread", "moments", "spread", "squares"]

_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")  # torch's names in Adam, RMSprop, Adagrad

Overlay = Literal["initial", "orthogonal"]


class Spread(NamedTuple):
    """How the entries of a parameter were spread when it was first seen.

    >>> Spread(mean=0.0, std=0.1, size=0.1).std
    0.1
    """

    mean: float
    std: float
    size: float  # root mean square: the norm per entry, which still holds after the layer has grown


@dataclass
class Scene:
    """All that a policy may read and write.

    Attributes:
        hidden: the hidden layers.
        initial: spread of each stored weight and bias at the beginning, by layer and "weight" or "bias".
        activity: mean |h| of the nodes of each hidden layer, (nodes,).
        means: mean h of them.
        anchors: indices of nodes that stay as they are, by hidden layer.
        optimizer: whose moments begin anew with the entries; ``None`` for none.
        generator: draws; ``None`` takes torch's own.
        share: of the nodes of a layer that ``renormalise`` restarts.
        overlay: where new incoming weights come from.
        threshold: activity below which a node is dormant, in means of its layer.
        shrink: factor of ``shrink_and_perturb``.
        perturb: size of its noise, in draws of the initialisation.
        norm: initial norms of a layer that ``scale_back`` allows it.
        pull: share of the way back at once, on a logarithmic scale.
    """

    hidden: tuple[Hidden, ...]
    initial: dict[tuple[str, str], Spread]
    activity: dict[str, Tensor]
    means: dict[str, Tensor] = field(default_factory=dict)
    anchors: dict[str, Tensor] = field(default_factory=dict)
    optimizer: Optimizer | None = None
    generator: torch.Generator | None = None
    share: float = 0.1
    overlay: Overlay = "initial"
    threshold: float = 0.1
    shrink: float = 0.9
    perturb: float = 0.1
    norm: float = 1.0
    pull: float = 1.0

    def layers(self) -> dict[str, Layer]:
        """Hidden layers and their readers by name."""
        found = {}
        for hidden in self.hidden:
            found[hidden.name] = hidden.layer
            found[hidden.reader_name] = hidden.reader
        return found

    def free(self, name: str, like: Tensor) -> Tensor | None:
        """Which entries of a weight are neither into nor out of an anchored node; ``None`` where all are."""
        masks = []
        if name in self.anchors:
            masks.append(
                torch.ones_like(like, dtype=torch.bool).index_fill_(0, self.anchors[name].to(like.device), False)
            )
        for hidden in self.hidden:
            if hidden.reader_name == name and hidden.name in self.anchors and like.ndim > 1:
                mask = torch.ones_like(like, dtype=torch.bool)
                hidden.outgoing(mask).index_fill_(1, self.anchors[hidden.name].to(like.device), False)
                masks.append(mask)
        return None if not masks else torch.stack(masks).all(0)


def spread(parameter: Tensor) -> Spread:
    """Mean, standard deviation and root mean square of the entries. O(entries).

    >>> spread(torch.tensor([3.0, -3.0]))
    Spread(mean=0.0, std=3.0, size=3.0)
    """
    x = parameter.detach().double()
    return Spread(float(x.mean()), float(x.std(correction=0)), float(x.square().mean().sqrt()))


def moments(optimizer: Optimizer | None, parameter: Tensor) -> list[Tensor]:
    """The optimiser's tensors that follow a parameter entry by entry: those of its shape.

    >>> moments(None, torch.ones(2))
    []
    """
    state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
    return [x for x in state.values() if isinstance(x, Tensor) and x.ndim and x.shape == parameter.shape]


def squares(optimizer: Optimizer | None, parameter: Tensor) -> list[Tensor]:
    """Those of the moments that average or add up squares of the gradient.

    >>> squares(None, torch.ones(2))
    []
    """
    state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
    found = [state[name] for name in _SQUARES if isinstance(state.get(name), Tensor)]
    return [x for x in found if x.ndim and x.shape == parameter.shape]
