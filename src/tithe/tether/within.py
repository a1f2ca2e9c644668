"""Connections within one model: layers of one network tethered to each other, that merge or drift apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.chains import weight_of
from tithe.tether.compatibility import Measure
from tithe.tether.compatibility import compatibility as measured
from tithe.tether.parametrization import tethers
from tithe.tether.policy import Plateau

__all__ = ["Done", "LayerTethers", "Pair", "connect"]

Pair = tuple[str, str]
Done = Literal["merge", "drift", "stay"]
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LayerTethers:
    """Pairs of layers of one model that are tethered to each other; ``connect`` makes it.

    Where tethers are attached to the model, these are compared and merged, else its weights. Nothing happens but when
    a method is called.

    Attributes:
        model: the model, changed in place by ``merge``, ``drift`` and ``step``.
        pairs: names of the weights that are connected.
        nodes: the rows that take part, int64, by weight; ``None`` for whole weights.
        optimizer: whose moments are merged with the weights, or ``None``.

    Source: MISSION T2, T4.
    """

    def __init__(
        self,
        model: nn.Module,
        pairs: Sequence[Pair],
        nodes: Mapping[str, Tensor] | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        self.model, self.pairs, self.optimizer = model, tuple(pairs), optimizer
        self.nodes = None if nodes is None else dict(nodes)

    def compatibility(self, measure: Measure = "cosine") -> dict[Pair, float]:
        """How well each pair goes together.

        Args:
            measure: as for ``tithe.tether.compatibility``; ``"cka"`` takes the rows for samples.

        Returns:
            A number by pair. O(entries of each pair).
        """
        tensors = self._tensors()
        found = {}
        for pair in self.pairs:
            rows = self._rows(pair)
            a, b = (_taken(tensors[name].detach(), at) for name, at in rows.items())
            found[pair] = measured(a.flatten(1), b.flatten(1), measure)
        return found

    @torch.no_grad()
    def merge(self, pair: Pair, amount: float = 1.0) -> None:
        """Move a pair towards its mean, and the moments of the optimiser likewise.

        Args:
            pair: one of ``pairs``.
            amount: share of the way, in [0, 1]; 1 makes the two equal.

        Raises ``InvalidValueError`` for what is not in these. O(entries).
        """
        self._move(self._rows(self._known(pair)), _share("amount", amount))

    @torch.no_grad()
    def drift(self, pair: Pair, amount: float, most_distance: float = 0.9) -> float:
        """Move a pair away from its mean, which stays.

        Distances are those of each from the mean, over the root mean square of the two norms: 0 where they are equal,
        0.5 where two of equal norms have a cosine of 0.5, 0.71 where they have nothing in common, 1 where they are
        opposite. Equal ones have no direction to drift in, and stay.

        Args:
            pair: one of ``pairs``.
            amount: how far, as a share of the distance there is; at least 0.
            most_distance: in [0, 1): no drift goes beyond; what is farther already stays.

        Returns:
            The distance then. Raises ``InvalidValueError`` for what is out of range. O(entries).
        """
        if not (0 <= amount < math.inf and 0 <= most_distance < 1):
            raise InvalidValueError(
                f"amount is {amount} and most_distance {most_distance}; use at least 0, and a share in [0, 1)"
            )
        rows = self._rows(self._known(pair))
        tensors = self._tensors()
        a, b = (_taken(tensors[name], at).double() for name, at in rows.items())
        mean, half = float(((a.flatten(1) + b.flatten(1)) / 2).norm()), float((a.flatten(1) - b.flatten(1)).norm()) / 2
        if half == 0 or not math.isfinite(mean + half):
            return 0.0 if half == 0 else math.nan
        # Apart by a factor f, the distance is f·half / √(mean² + f²·half²).
        most = most_distance * mean / (half * math.sqrt(1 - most_distance**2))
        factor = max(1.0, min(1 + amount, most))
        if factor > 1:
            self._move(rows, 1 - factor, moments=False)
        return factor * half / math.hypot(mean, factor * half)

    @torch.no_grad()
    def step(
        self,
        losses: Sequence[float] | None = None,
        *,
        threshold: float = 0.5,
        measure: Measure = "cosine",
        amount: float = 1.0,
        drift: float = 0.0,
        most_distance: float = 0.9,
        plateau: Plateau | None = None,
    ) -> dict[Pair, Done]:
        """Merge what goes together and let the rest drift apart.

        Of three and more layers those merge together of which every two are connected and compatible, the most
        compatible first, and all of them move towards one mean.

        Args:
            losses: mean losses of the intervals until now; where given, nothing is done but on a plateau.
            threshold: of the measure, from which on a pair merges.
            measure: as for ``compatibility``.
            amount: of a merge, as for ``merge``.
            drift: of those below the threshold, as for ``drift``; 0 lets them stay.
            most_distance: as for ``drift``.
            plateau: what one is.

        Returns:
            What was done with each pair: ``"merge"``, ``"drift"``, or ``"stay"``. Raises as the others do.
            O(entries of all pairs + pairs · layers²). Source: MISSION T4.
        """
        _share("amount", amount)
        done: dict[Pair, Done] = dict.fromkeys(self.pairs, "stay")
        if losses is not None and not (plateau or Plateau()).reached(losses, math.inf):
            return done
        found = self.compatibility(measure)
        merging = [pair for pair in self.pairs if found[pair] >= threshold]
        for group in _groups(sorted(merging, key=lambda pair: -found[pair])):
            inside = [pair for pair in merging if pair[0] in group and pair[1] in group]
            count = None if self.nodes is None else min(len(self.nodes[name]) for name in group)
            self._move({name: None if self.nodes is None else self.nodes[name][:count] for name in group}, amount)
            done |= dict.fromkeys(inside, "merge")
        for pair in self.pairs:
            if drift and found[pair] < threshold:
                before = self._distance(pair)
                done[pair] = "drift" if self.drift(pair, drift, most_distance) > before else "stay"
        return done

    def _distance(self, pair: Pair) -> float:
        return self.drift(pair, 0.0)

    def _move(self, rows: Mapping[str, Tensor | None], amount: float, *, moments: bool = True) -> None:
        """Move tensors (their rows) towards their mean, away from it where the amount is negative."""
        tensors = self._tensors()
        _towards_mean([(tensors[name], at) for name, at in rows.items()], amount)
        if self.optimizer is None or not moments:
            return
        states = [self.optimizer.state.get(tensors[name], {}) for name in rows]
        for key in set.intersection(*(set(state) for state in states)):
            kept = [state[key] for state in states]
            if all(isinstance(m, Tensor) and m.shape == tensors[n].shape for m, n in zip(kept, rows, strict=True)):
                _towards_mean(list(zip(kept, rows.values(), strict=True)), amount)

    def _known(self, pair: Pair) -> Pair:
        if pair in self.pairs:
            return pair
        if (turned := tuple(reversed(pair))) in self.pairs:
            return turned
        listed = ", ".join(map(str, self.pairs))
        raise InvalidValueError(f"{pair} is not connected; there are {listed}")

    def _rows(self, pair: Pair) -> dict[str, Tensor | None]:
        """The rows of each of a pair that take part: as many as the smaller side has."""
        if self.nodes is None:
            return dict.fromkeys(pair)
        count = min(len(self.nodes[name]) for name in pair)
        return {name: self.nodes[name][:count] for name in pair}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = _tensors(self.model)
        if gone := {name for pair in self.pairs for name in pair} - tensors.keys():
            raise InvalidStateError(
                f"{', '.join(sorted(gone))} have no tether or weight by now; connect the model again"
            )
        return tensors


def connect(
    model: nn.Module,
    pairs: Sequence[Pair] | None = None,
    *,
    nodes: Mapping[str, Tensor] | None = None,
    optimizer: Optimizer | None = None,
) -> LayerTethers:
    """Tether layers of one model to each other.

    Args:
        model: any module; where it has tethers (``attach``), these are connected, else its weights.
        pairs: names of weights, such as ``("encoder.0.weight", "encoder.1.weight")``, of equal shapes. By default all
            pairs of Linear and convolution weights (or tethers) of equal shape.
        nodes: tether nodes by layer, as ``tether_nodes`` gives them: only their rows are connected, the first with the
            first and so on, as many as the smaller side has. Rows must have equal length, weights need not.
        optimizer: of the model; what it remembers entry by entry is merged along.

    Returns:
        The connections. Raises ``InvalidValueError`` where names, shapes or nodes do not fit, or nothing is of equal
        shape. O(modules + pairs). Source: MISSION T2 ("within one model").

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> layers = connect(model)
    >>> layers.pairs
    (('0.weight', '2.weight'),)
    >>> layers.merge(("0.weight", "2.weight"))
    >>> torch.equal(model[0].weight, model[2].weight), round(layers.compatibility()["0.weight", "2.weight"], 4)
    (True, 1.0)
    """
    tensors = _tensors(model)
    rows = None
    if nodes is not None:
        rows = {f"{layer}.weight".lstrip("."): _checked(layer, at, tensors) for layer, at in nodes.items()}

    def shape(name: str) -> tuple[int, ...]:
        return tuple(tensors[name].shape) if rows is None else (tensors[name][0].numel(),)

    if pairs is None:
        names = list(tensors if rows is None else rows)
        pairs = [pair for pair in itertools.combinations(names, 2) if shape(pair[0]) == shape(pair[1])]
        if not pairs:
            listed = ", ".join(f"{name} {shape(name)}" for name in names) or "none"
            raise InvalidValueError(f"no two weights have one shape (of rows, through nodes); there are {listed}")
    for a, b in pairs:
        if missing := [name for name in (a, b) if name not in (tensors if rows is None else rows)]:
            listed = ", ".join(tensors if rows is None else rows) or "none"
            raise InvalidValueError(f"there is no {missing[0]!r} to connect; there are {listed}")
        if a == b or shape(a) != shape(b):
            raise InvalidValueError(
                f"{a} has shape {shape(a)} and {b} {shape(b)}; connect two different weights of one shape, or tether "
                "nodes with rows of one length"
            )
    unordered = [frozenset(pair) for pair in pairs]
    if len(set(unordered)) < len(unordered):
        raise InvalidValueError("a pair is given twice; name each once")
    return LayerTethers(model, [(a, b) for a, b in pairs], rows, optimizer)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tethers of a model by the name of their weight, or where it has none its weights, each once."""
    found: dict[str, Tensor] = tethers(model)
    if not found:
        for name, module in model.named_modules():
            if isinstance(module, _LAYERS) and not any(module.weight is tensor for tensor in found.values()):
                found[f"{name}.weight".lstrip(".")] = weight_of(module)
    return found


def _checked(layer: str, at: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    name = f"{layer}.weight".lstrip(".")
    if name not in tensors:
        raise InvalidValueError(f"there is no {name!r} to connect; there are {', '.join(tensors) or 'none'}")
    count = len(tensors[name])
    whole = isinstance(at, Tensor) and at.dtype == torch.int64 and at.ndim == 1 and len(at) > 0
    if not whole or len(set(at.tolist())) < len(at) or int(at.min()) < 0 or int(at.max()) >= count:
        raise InvalidValueError(f"nodes of {layer!r} are {at}; use different int64 indices below {count}, (k,)")
    return at


def _groups(pairs: Sequence[Pair]) -> list[list[str]]:
    """Groups of names of which every two are a pair, made by uniting along the pairs in their order."""
    linked = {frozenset(pair) for pair in pairs}
    group_of: dict[str, list[str]] = {name: [name] for pair in pairs for name in pair}
    for a, b in pairs:
        one, other = group_of[a], group_of[b]
        if one is not other and all(frozenset((x, y)) in linked for x in one for y in other):
            one.extend(other)
            group_of |= dict.fromkeys(other, one)
    unique = {id(group): group for group in group_of.values()}
    return [group for group in unique.values() if len(group) > 1]


def _taken(tensor: Tensor, at: Tensor | None) -> Tensor:
    return tensor if at is None else tensor[at.to(tensor.device)]


def _towards_mean(tensors: Sequence[tuple[Tensor, Tensor | None]], amount: float) -> None:
    """Move tensors (their rows) towards their mean in place; by all of the way they are equal bit by bit."""
    parts = [_taken(tensor.detach(), at) for tensor, at in tensors]
    shape = parts[0].shape
    mean = torch.stack([part.reshape(shape).to(parts[0].device, torch.float64) for part in parts]).mean(0)
    for (tensor, at), part in zip(tensors, parts, strict=True):
        goal = mean.to(part.device).view(part.shape)
        new = (goal if amount == 1 else torch.lerp(part.double(), goal, amount)).to(tensor.dtype)
        if at is None:
            tensor.copy_(new)
        else:
            tensor[at.to(tensor.device)] = new


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InvalidValueError(f"{name} is {value}; use a share in [0, 1]")
    return float(value)
