"""One member of a population in a process of its own, which hears of the others by an exchange."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from tithe.tether.averaging import average
from tithe.tether.compatibility import compatibility
from tithe.tether.exchange import Exchange, Message
from tithe.tether.forming import copy_tensors
from tithe.tether.members import Loss, tensors_of
from tithe.tether.modes import evaluating
from tithe.tether.policy import MergePolicy
from tithe.tether.trials import features, loss_on, output_layer
from tithe.tether.watch import Watch

__all__ = ["Peer"]


class Peer:
    """Trains one model here and merges it with those of other processes that serve it.

    Every ``policy.interval`` steps it publishes its weights, tries on those that others have published since, and
    averages with the ones from which it has at least ``policy.threshold`` of its own gain; with those that have learned
    the same features for other outputs, all but the output layer. Each peer decides for itself and waits for nobody, so
    others may join, leave, crash and come back. Optimiser state stays here. All must begin with the same weights.

    Args:
        model: is trained in place.
        loss: of outputs and targets, a scalar.
        optimizer: of the model's parameters.
        exchange: this member's; its name is the member's.
        policy: interval, probe, threshold, features, merge and alarm are used.
        probes: batches that are kept to try other weights on.

    Attributes:
        merged: names of the peers that the last decision merged with, and the share of the own gain they gave.
        steps: that were taken.

    Source: MISSION T2, T4; gossip averaging as in Boyd et al. 2006.

    >>> from torch.distributed import HashStore
    >>> from tithe.tether.exchange import StoreExchange
    >>> model = nn.Linear(2, 1)
    >>> exchange = StoreExchange(HashStore(), "north")
    >>> peer = Peer(model, nn.functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1), exchange)
    >>> loss = peer.step((torch.ones(4, 2), torch.zeros(4, 1)))
    >>> peer.steps, peer.merged
    (1, {})
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        exchange: Exchange,
        policy: MergePolicy | None = None,
        *,
        probes: int = 4,
    ) -> None:
        self.model, self._loss, self._optimizer = model, loss, optimizer
        self.exchange, self.policy = exchange, policy or MergePolicy()
        self.merged: dict[str, float] = {}
        self.steps, self._kept = 0, probes
        self._probes: list[Any] = []
        self._watch = Watch(before=self._copied())
        self._newcomer = exchange.generation >= 0  # it comes back after a crash: what it has is older than the others'
        out = output_layer(model)
        self._outer = {name for name in tensors_of(model) if name.startswith(f"{out}." if out else "")}

    def step(self, batch: tuple[Any, Any]) -> float:
        """One step of training, and every ``policy.interval`` steps a decision; the loss before the step."""
        self._probes = [*self._probes, batch][-self._kept :]
        if math.isnan(self._watch.first):  # nothing was tried yet
            self._watch.first = loss_on(self.model, self._loss, self._probes)
        self._optimizer.zero_grad()
        loss = self._loss(self.model(batch[0]), batch[1])
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._watch.add(float(loss.detach()))
        self.steps += 1
        if self.steps % self.policy.interval == 0:
            self._decide()
        return float(loss.detach())

    def _decide(self) -> None:
        self._watch.close()
        self.merged = {}
        if self._watch.intervals > self.policy.probe and self._watch.alarmed(self.policy.alarm):
            self._watch.restart()
            self._watch.before, self._newcomer = self._copied(), True
        if self._watch.intervals < self.policy.probe:
            return
        own = loss_on(self.model, self._loss, self._probes)
        self._merge(own, self.exchange.collect(tensors_of(self.model)))
        if math.isfinite(own):  # what has diverged is of use to nobody
            self.exchange.publish(
                tensors_of(self.model), generation=self.exchange.generation + 1, step=self.steps, info={"loss": own}
            )

    @torch.no_grad()
    def _merge(self, own: float, messages: list[Message]) -> None:
        gain = self._watch.first - own
        shares = {m.sender: (self._watch.first - self._loss_of(m)) / gain if gain > 0 else -1.0 for m in messages}
        mates = [m for m in messages if shares[m.sender] >= self.policy.threshold]
        kin = [m for m in messages if m not in mates and self._learns_alike(m)]
        mine = dict(tensors_of(self.model))
        whole = [mine, *(m.tensors for m in mates)]
        if self._newcomer and mates:
            whole = whole[1:]  # what it has was shaped by something else
        merged = average([{n: state[n].to(mine[n]) for n in mine} for state in whole], how=self.policy.merge)
        if kin:
            inner = [name for name in mine if name not in self._outer]
            bodies = [*whole, *(m.tensors for m in kin)]
            merged |= average([{n: state[n].to(mine[n]) for n in inner} for state in bodies], how=self.policy.merge)
        copy_tensors(merged, [self.model], merged)
        self._newcomer = self._newcomer and not mates
        self.merged = {m.sender: shares[m.sender] for m in [*mates, *kin]}

    def _loss_of(self, message: Message) -> float:
        """Of another's weights on the own batches."""
        model, batches = self.model, self._probes
        tensors = {name: tensor.to(self._watch.before[name]) for name, tensor in message.tensors.items()}
        with evaluating(model):
            return sum(float(self._loss(functional_call(model, tensors, (x,)), y)) for x, y in batches) / len(batches)

    def _learns_alike(self, message: Message) -> bool:
        """Whether its features have changed as the own ones since the common beginning."""
        samples = sum(len(x) for x, _ in self._probes)
        if self.policy.features is None or len(self._outer) == len(tensors_of(self.model)) or samples < 4:
            return False
        first = features(self.model, self._watch.before, self._probes)
        theirs = {name: tensor.to(self._watch.before[name]) for name, tensor in message.tensors.items()}
        changes = [features(self.model, tensors, self._probes) - first for tensors in ({}, theirs)]
        return compatibility(changes[0], changes[1], "cka") >= self.policy.features

    def _copied(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in tensors_of(self.model).items()}
