"""Keeps a network able to learn: restarts its least important nodes on a schedule or when the descent stalls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tithe.errors import InvalidValueError
from tithe.tether.chains import Hidden, hidden_layers, weight_of
from tithe.tether.resets import POLICIES, Policy
from tithe.tether.scene import Overlay, Scene, Spread, spread
from tithe.tether.stall import Descent, Stall

__all__ = ["Renewal", "Renormalizer"]

Anchors = Mapping[str, Sequence[int] | Tensor]


@dataclass(frozen=True)
class Renewal:
    """What a renormaliser did.

    Attributes:
        step: after so many steps.
        policy: its name.
        reason: ``"schedule"``, or what has stalled: ``"slope"``, ``"dormant"``, ``"rank"``.
        nodes: indices of the nodes that begin anew, by hidden layer.

    >>> Renewal(125, "renormalise", "schedule", {"0": (3, 7)}).count
    2
    """

    step: int
    policy: str
    reason: str
    nodes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many nodes begin anew."""
        return sum(map(len, self.nodes.values()))


class Renormalizer:
    """Restarts the hidden nodes that matter least, so that a network goes on learning; shapes stay.

    Call ``step`` after the optimiser's. The default policy ``"renormalise"`` restarts the share of each hidden layer's
    nodes with least mean |h| · Σ |outgoing weight|: incoming weights are drawn anew, outgoing ones and the optimiser's
    moments of both are zero (averages of squares: the layer's mean), so what a restarted node puts out changes nothing
    until it has learned; what it put out on average before goes into the biases behind it. Then each layer that is
    larger than ``norm`` times its initial norm is pulled towards that. For comparison there are ``"dormant"`` (ReDo),
    ``"shrink-and-perturb"`` and ``"none"``; a function of a ``Scene`` is a policy, too.

    Activities are gathered in training mode by hooks on the layers that read the nodes, as exponential averages.

    Args:
        model: chains of layers that ``hidden_layers`` can follow, at their initial weights.
        optimizer: its tensors of a parameter's shape are moments.
        policy: a name or a function.
        every: steps between renewals, or between looks whether the descent stalls.
        share: of a layer's nodes that ``"renormalise"`` restarts, at least one unless it is 0.
        overlay: new incoming weights are ``"initial"`` draws, or ``"orthogonal"`` to those of the nodes that stay.
        when: ``"schedule"``, ``"stall"`` or limits as a ``Stall``.
        anchors: nodes that are not restarted, scaled or perturbed, by hidden layer; only weights to them from
            restarted nodes become zero.
        layers: names of the hidden layers; ``None`` takes all.
        threshold: of ``"dormant"``, in means of the layer.
        shrink, perturb: of ``"shrink-and-perturb"``: shrink · θ + perturb · draw of the initialisation.
        norm: initial norms that a layer may have after ``"renormalise"``; ``math.inf`` for any.
        pull: share of the way back to it that one renewal takes, on a logarithmic scale; 1 is all at once.
        stride: one forward pass in so many is looked at.
        memory: share of the old in the exponential average; 0 looks at the last batch only.
        before: called with step and reason before weights change, so that a bookmark can be taken.
        after: called with the ``Renewal``.
        generator: draws; ``None`` takes torch's own.

    Raises ``InvalidValueError`` for what cannot be followed or used. Memory: a number for each node. Source: MISSION
    T7; Dohare et al. 2024, Sokar et al. 2023, Ash and Adams 2020.

    >>> model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> renormalizer = Renormalizer(model, optimizer, every=2, share=0.2)
    >>> for _ in range(2):
    ...     loss = model(torch.eye(4)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     renewal = renormalizer.step(loss)
    >>> renewal.step, renewal.count
    (2, 2)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        *,
        policy: str | Policy = "renormalise",
        every: int = 25,
        share: float = 0.02,
        overlay: Overlay = "initial",
        when: Literal["schedule", "stall"] | Stall = "schedule",
        anchors: Anchors | None = None,
        layers: Sequence[str] | None = None,
        threshold: float = 0.1,
        shrink: float = 0.9,
        perturb: float = 0.1,
        norm: float = 2.0,
        pull: float = 0.02,
        stride: int = 5,
        memory: float = 0.9,
        before: Callable[[int, str], None] | None = None,
        after: Callable[[Renewal], None] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if isinstance(policy, str) and policy not in POLICIES:
            raise InvalidValueError(f"policy is {policy!r}; use one of {', '.join(map(repr, POLICIES))}, or a function")
        if overlay not in get_args(Overlay):
            raise InvalidValueError(f"overlay is {overlay!r}; use 'initial' or 'orthogonal'")
        if not isinstance(when, Stall) and when not in ("schedule", "stall"):
            raise InvalidValueError(f"when is {when!r}; use 'schedule', 'stall' or a Stall with limits")
        for name, value in (("every", every), ("stride", stride)):
            if value < 1:
                raise InvalidValueError(f"{name} is {value}; use a number of steps of at least 1")
        for name, number in (("share", share), ("memory", memory), ("shrink", shrink), ("pull", pull)):
            if not 0 <= number <= 1:
                raise InvalidValueError(f"{name} is {number}; use a number from 0 to 1")
        for name, number in (("threshold", threshold), ("perturb", perturb), ("norm", norm)):
            if not number >= 0:
                raise InvalidValueError(f"{name} is {number}; use a number of at least 0")
        self.every, self.steps, self.renewals = every, 0, 0
        self._policy = POLICIES[policy] if isinstance(policy, str) else policy
        self._name = policy if isinstance(policy, str) else getattr(policy, "__name__", type(policy).__name__)
        limits = when if isinstance(when, Stall) else Stall()
        self._descent = None if when == "schedule" else Descent(limits)
        self._stride, self._memory, self._before, self._after = stride, memory, before, after
        hidden = hidden_layers(model, layers)
        if not hidden:
            raise InvalidValueError(
                f"{type(model).__name__} has no hidden layer; it takes two layers, one behind another"
            )
        self._scene = Scene(
            hidden, {}, {}, optimizer=optimizer, generator=generator, share=share, overlay=overlay, norm=norm,
            threshold=threshold, shrink=shrink, perturb=perturb, pull=pull,
        )  # fmt: skip
        for name, layer in self._scene.layers().items():
            self._scene.initial[name, "weight"] = spread(weight_of(layer))
            if layer.bias is not None:
                self._scene.initial[name, "bias"] = spread(weight_of(layer, "bias"))
        self.anchor(anchors or {})
        self._average: dict[str, Tensor] = {}
        self._passes = dict.fromkeys((one.name for one in hidden), 0)
        self._hooks = [one.reader.register_forward_pre_hook(self._watch(one)) for one in hidden]

    def anchor(self, anchors: Anchors) -> None:
        """Replace the anchored nodes: indices by hidden layer. Raises ``InvalidValueError`` for nodes that are not."""
        sizes = {hidden.name: hidden.nodes for hidden in self._scene.hidden}
        found = {}
        for name, nodes in anchors.items():
            if name not in sizes:
                raise InvalidValueError(f"anchors are in {name!r}; hidden layers are {', '.join(sizes)}")
            indices = sorted({int(node) for node in nodes})
            if indices and not 0 <= indices[0] <= indices[-1] < sizes[name]:
                raise InvalidValueError(f"anchors of {name} are {indices}; use 0 to {sizes[name] - 1}")
            if indices:
                found[name] = torch.tensor(indices)
        self._scene.anchors = found

    def step(self, loss: Tensor | float | None = None) -> Renewal | None:
        """Count a step; renew where it is time.

        Args:
            loss: of the batch, a number; needed only to notice that the descent stalls by its slope.

        Returns:
            What was done, or ``None``. O(nodes), and O(weights) at a renewal.
        """
        self.steps += 1
        if loss is not None and self._descent is not None:
            self._descent.add(loss)
        if self.steps % self.every or len(self._scene.activity) < len(self._scene.hidden):
            return None
        reason = "schedule" if self._descent is None else self._descent.stalled(self._scene.activity)
        if reason is None:
            return None
        if self._before is not None:
            self._before(self.steps, reason)
        nodes = {name: tuple(indices.tolist()) for name, indices in self._policy(self._scene).items()}
        self.renewals += 1
        renewal = Renewal(self.steps, self._name, reason, nodes)
        if self._after is not None:
            self._after(renewal)
        return renewal

    def remove(self) -> None:
        """Take the hooks off the model; what was renewed stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from: counts, activities, initial spreads, ranks, the state of the generator."""
        generator = self._scene.generator
        return {
            "steps": self.steps, "renewals": self.renewals, "passes": dict(self._passes),
            "descent": None if self._descent is None else self._descent.state_dict(),
            "activity": {name: x.clone() for name, x in self._average.items()},
            "anchors": {name: x.clone() for name, x in self._scene.anchors.items()},
            "initial": {f"{name}.{part}": tuple(value) for (name, part), value in self._scene.initial.items()},
            "generator": None if generator is None else generator.get_state(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``. ``InvalidValueError`` where it is of another model; nothing is changed then."""
        own = {f"{name}.{part}": (name, part) for name, part in self._scene.initial}
        sizes = {hidden.name: hidden.nodes for hidden in self._scene.hidden}
        wrong = set(own) ^ set(state["initial"]) or {
            n for n, x in state["activity"].items() if x.shape != (2, sizes.get(n))
        }
        if wrong:
            raise InvalidValueError(f"the state is of another model: {sorted(wrong)} are missing, unknown or not alike")
        self.anchor(state["anchors"])
        self.steps, self.renewals, self._passes = int(state["steps"]), int(state["renewals"]), dict(state["passes"])
        if self._descent is not None and state["descent"] is not None:
            self._descent.load_state_dict(state["descent"])
        self._average = {name: x.clone() for name, x in state["activity"].items()}
        self._scene.means = {name: x[0] for name, x in self._average.items()}
        self._scene.activity = {name: x[1] for name, x in self._average.items()}
        self._scene.initial = {own[name]: Spread(*values) for name, values in state["initial"].items()}
        if state["generator"] is not None and self._scene.generator is not None:
            self._scene.generator.set_state(state["generator"])

    def _watch(self, hidden: Hidden) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        @torch.no_grad()
        def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not module.training or module is not hidden.reader:  # a copy of the model brings the hook along
                return
            self._passes[hidden.name] += 1
            old = self._average.get(hidden.name)
            if old is not None and old.shape[1] != hidden.nodes:  # the layer has grown
                old = None
            if old is not None and self._passes[hidden.name] % self._stride:
                return
            h = inputs[0].detach()
            new = hidden.activity(h)
            if old is not None:
                new = torch.lerp(new, old.to(new), self._memory)
            self._average[hidden.name] = new
            self._scene.means[hidden.name], self._scene.activity[hidden.name] = new
            if self._descent is not None:
                self._descent.see(hidden.name, h)

        return watch
