"""What keeps a network plastic: which nodes begin anew and how, layers scaled back, weights shrunk and perturbed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tithe.tether.chains import Hidden, weight_of
from tithe.tether.scene import Scene, moments, squares

__all__ = [
    "POLICIES",
    "Policy",
    "dormant",
    "least_important",
    "renormalise",
    "restart",
    "scale_back",
    "shrink_and_perturb",
    "wake_dormant",
]

Policy = Callable[[Scene], dict[str, Tensor]]


def least_important(scene: Scene, hidden: Hidden) -> Tensor:
    """The share of nodes with least mean |h| · Σ |outgoing weight|, at least one unless the share is 0; anchored never.

    Returns:
        Sorted indices. O(outgoing weights). Source: MISSION T7; Dohare et al. 2024 (contribution utility).
    """
    strength = hidden.outgoing(hidden.reader.weight.detach()).abs().sum(0).flatten(1).sum(1)
    importance = scene.activity[hidden.name].to(strength) * strength
    anchored = scene.anchors.get(hidden.name, torch.tensor([], dtype=torch.long)).to(strength.device)
    importance = importance.nan_to_num(nan=0.0).index_fill(0, anchored, math.inf)  # a broken node begins anew first
    count = min(max(1, round(scene.share * hidden.nodes)) if scene.share else 0, hidden.nodes - len(anchored))
    return importance.argsort(stable=True)[:count].sort().values


def dormant(scene: Scene, hidden: Hidden) -> Tensor:
    """Nodes whose activity is at most the threshold times the mean of their layer; anchored ones never.

    Returns:
        Sorted indices. O(nodes). Source: Sokar et al. 2023, arXiv:2302.12902.
    """
    activity = scene.activity[hidden.name].nan_to_num(nan=0.0)
    asleep = activity <= scene.threshold * activity.mean()
    if hidden.name in scene.anchors:
        asleep = asleep.index_fill(0, scene.anchors[hidden.name].to(asleep.device), False)
    return asleep.nonzero().flatten()


@torch.no_grad()
def restart(scene: Scene, hidden: Hidden, nodes: Tensor) -> Tensor:
    """Begin nodes anew: incoming weights drawn, BatchNorm entries as at first, outgoing weights and moments zero.

    Averages of squares (Adam, RMSprop, Adagrad) become their mean over the layer instead of zero.

    Weights between such a node and an anchored one behind it are zero, as for all readers: it must not hear noise.
    Between nodes that are restarted in one renewal they are drawn.

    Args:
        scene: where.
        hidden: the layer.
        nodes: indices, int64.

    Returns:
        The same indices. O(weights of the nodes), with ``overlay="orthogonal"`` O(inputs² · nodes).
    """
    if not len(nodes):
        return nodes
    incoming = weight_of(hidden.layer)
    nodes = nodes.to(incoming.device)
    free = scene.free(hidden.name, incoming)
    drawn = _rows(scene, hidden, nodes)
    _write(incoming, nodes, drawn, free)
    for moment, begin in _anew(scene, incoming):
        _write(moment, nodes, begin.expand_as(moment[nodes]), free)
    if hidden.layer.bias is not None:
        bias = weight_of(hidden.layer, "bias")
        bias[nodes] = draw(scene, (hidden.name, "bias"), bias[nodes])
        _fill(scene, bias, nodes)
    for norm in hidden.norms:
        for name, fresh in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            entries: Tensor | None = getattr(norm, name)
            if entries is not None:
                entries[nodes] = fresh
                _fill(scene, entries, nodes)
    _hand_over(scene, hidden, nodes)
    outgoing = weight_of(hidden.reader)
    hidden.outgoing(outgoing.data)[:, nodes] = 0
    for moment, begin in _anew(scene, outgoing):
        hidden.outgoing(moment)[:, nodes] = begin
    return nodes


@torch.no_grad()
def scale_back(scene: Scene) -> None:
    """Scale each layer's weight towards ``norm`` times its initial norm where it is larger; anchored entries stay.

    Biases are scaled by the factors of their layer and all layers before it. So a network whose activations are
    positively homogeneous (ReLU and its leaky kin, pooling) decides as before; only the scale of its outputs changes.
    O(weights).
    """
    before: dict[str, float] = {}  # the factor of what a layer reads
    for name, layer in scene.layers().items():
        weight = weight_of(layer)
        free = scene.free(name, weight)
        entries = weight if free is None else weight[free]
        size = float(entries.square().mean().sqrt()) if entries.numel() else 0.0
        limit = scene.norm * scene.initial[name, "weight"].size
        factor = (limit / size) ** scene.pull if size > limit > 0 else 1.0
        if factor < 1:
            weight.mul_(factor if free is None else torch.where(free, factor, 1.0))
        total = factor * before.get(name, 1.0)
        if layer.bias is not None and total < 1:
            bias = weight_of(layer, "bias")
            free = scene.free(name, bias)
            bias.mul_(total if free is None else torch.where(free, total, 1.0))
        for hidden in scene.hidden:
            if hidden.name == name and not hidden.norms:  # a BatchNorm takes factors out again
                before[hidden.reader_name] = total


def renormalise(scene: Scene) -> dict[str, Tensor]:
    """Restart the least important nodes of each layer, then scale layers back. Source: MISSION T7."""
    done = {hidden.name: restart(scene, hidden, least_important(scene, hidden)) for hidden in scene.hidden}
    scale_back(scene)
    return done


def wake_dormant(scene: Scene) -> dict[str, Tensor]:
    """Restart dormant nodes and nothing else. Source: Sokar et al. 2023 (ReDo)."""
    return {hidden.name: restart(scene, hidden, dormant(scene, hidden)) for hidden in scene.hidden}


@torch.no_grad()
def shrink_and_perturb(scene: Scene) -> dict[str, Tensor]:
    """Weights and biases become shrink · θ + perturb · (a draw of the initialisation). Source: Ash and Adams 2020."""
    for name, layer in scene.layers().items():
        for part in ("weight", "bias"):
            if (name, part) in scene.initial:
                parameter = weight_of(layer, part)
                new = scene.shrink * parameter + scene.perturb * draw(scene, (name, part), parameter)
                free = scene.free(name, parameter)
                parameter.copy_(new if free is None else torch.where(free, new, parameter))
    return {}


def keep(scene: Scene) -> dict[str, Tensor]:
    """Do nothing."""
    return {}


def draw(scene: Scene, name: tuple[str, str], like: Tensor) -> Tensor:
    """Uniform entries with the initial mean and spread of a parameter; 1/√inputs where it began constant."""
    initial = scene.initial[name]
    std = initial.std
    if not std and name[1] == "weight":
        std = 1 / math.sqrt(3 * max(1, like[0].numel()))
    device = scene.generator.device if scene.generator is not None else like.device
    uniform = torch.rand(like.shape, generator=scene.generator, device=device) * 2 - 1
    return (uniform * (math.sqrt(3) * std) + initial.mean).to(like)


def _rows(scene: Scene, hidden: Hidden, nodes: Tensor) -> Tensor:
    """New incoming weights, (nodes, ...)."""
    weight = weight_of(hidden.layer)
    new = draw(scene, (hidden.name, "weight"), weight[nodes])
    if scene.overlay == "initial":
        return new
    stay = torch.ones(len(weight), dtype=torch.bool, device=weight.device).index_fill_(0, nodes, False)
    rows = weight[stay].flatten(1).double()
    directions = torch.linalg.eigh(rows.T @ rows)  # ascending: first those that the rows that stay do not use
    free = int((directions.eigenvalues <= 1e-9 * directions.eigenvalues[-1].clamp(min=1e-300)).sum())
    made = []
    for part in torch.split(new.flatten(1).double(), rows.shape[1]):
        basis = directions.eigenvectors[:, : max(free, len(part))]
        mixed = torch.linalg.qr((part @ basis).T).Q.T @ basis.T
        made.append(mixed * part.norm(dim=1, keepdim=True))
    return torch.cat(made).view_as(new).to(new)


def _hand_over(scene: Scene, hidden: Hidden, nodes: Tensor) -> None:
    """What the nodes put out on average goes into the biases of those who read it, so that they miss less."""
    if hidden.reader.bias is None or hidden.name not in scene.means:
        return
    bias = weight_of(hidden.reader, "bias")
    outgoing = hidden.outgoing(hidden.reader.weight)[:, nodes].flatten(2).sum(2)
    mean = outgoing @ scene.means[hidden.name].to(outgoing)[nodes].nan_to_num(0.0)
    free = scene.free(hidden.reader_name, bias)
    bias.add_(mean if free is None else torch.where(free, mean, 0.0))


def _write(tensor: Tensor, nodes: Tensor, new: Tensor, free: Tensor | None) -> None:
    tensor[nodes] = new if free is None else torch.where(free[nodes], new, tensor[nodes])


def _anew(scene: Scene, parameter: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Moments and what they begin anew with: 0, and for averages of squares the mean over the parameter.

    From squares of 0, an Adam that has long stopped correcting for its start would take steps several times its rate.
    """
    averages = squares(scene.optimizer, parameter)
    zero = [(moment, moment.new_zeros(())) for moment in moments(scene.optimizer, parameter)]
    return [*zero, *((average, average.mean()) for average in averages)]


def _fill(scene: Scene, parameter: Tensor, nodes: Tensor) -> None:
    for moment, begin in _anew(scene, parameter):
        moment[nodes] = begin


POLICIES: dict[str, Policy] = {
    "renormalise": renormalise, "shrink-and-perturb": shrink_and_perturb, "dormant": wake_dormant, "none": keep,
}  # fmt: skip
