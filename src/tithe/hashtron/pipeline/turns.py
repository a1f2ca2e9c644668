"""Turns: one neuron at a time is tallied, given its premodulo, trained, noted and told of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tithe.errors import CorruptFileError
from tithe.hashtron.backward.histories import History, Neuron, Sums
from tithe.hashtron.backward.policies import Policy
from tithe.hashtron.fitting import UNCAPPED
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.pipeline.journal import Journal
from tithe.hashtron.pipeline.step import Step, Why
from tithe.hashtron.threshold import stair, threshold
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import Votes, learn

__all__ = ["Rules", "Turns"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a neuron is trained.

    Attributes:
        policy: decides the premodulo of hidden neurons.
        balanced: whether rare targets count as much as frequent ones.
        tries: how often a neuron may fail in a sweep.
        timeout: seconds after which a training counts as failed; ``None`` for any.
        accept: ``"always"``, or ``"not worse"``: only where the loss of held-out samples does not rise.
        seed: of the salts.
    """

    policy: Policy
    balanced: bool
    tries: int
    timeout: float | None
    accept: Literal["always", "not worse"]
    seed: int


class Turns:
    """Trains neurons when it is their turn; turns that the journal knows are only taken over from it.

    Args:
        rules: of training.
        trainee: the network in training.
        journal: of the run.
        histories: of neurons from earlier runs.
        told: called with each step and when it was, also with those of the journal.
        progress: called with each new step.

    Attributes:
        steps: all so far.
        histories: of the neurons, up to date.
        latest: of each layer, for each of its neurons, S, V, and whether these are known, int64 (3, neurons).
    """

    def __init__(
        self,
        rules: Rules,
        trainee: Trainee,
        journal: Journal,
        histories: dict[Neuron, History],
        told: Callable[[Step, float], None],
        progress: Callable[[Step], None] | None,
    ) -> None:
        self.trainee, self.histories, self.steps = trainee, histories, list[Step]()
        self._rules, self._journal, self._told, self._progress = rules, journal, told, progress
        layers = trainee.network.topology.layers
        self._starts = np.cumsum([0, *(layer.neurons for layer in layers)]).tolist()
        self.latest = [np.zeros((3, layer.neurons), np.int64) for layer in layers]
        for place, history in histories.items():
            if history.sums:
                self._note(place, history.sums[-1])
        self._last = len(layers) - 1 if layers[-1].combiner is None else len(layers)

    def index(self, place: Neuron) -> int:
        """The neuron in network order. O(1)."""
        return int(self._starts[place[0]]) + place[1]

    def train(self, sweep: int, place: Neuron, why: Why, attempt: int = 1) -> Step:
        """Train a neuron from the votes of all samples. O(samples · what lies behind it)."""
        return self._turn(sweep, place, lambda: self._trained(sweep, place, why, attempt))

    def count(self, sweep: int, place: Neuron, why: Why, bits: int, least: int | None = None) -> Step:
        """Make a final neuron true where ``least`` of its ``bits`` are, or as many as fit the votes. O(N)."""
        return self._turn(sweep, place, lambda: self._counting(sweep, place, why, bits, least))

    def forward(self, sweep: int, place: Neuron) -> Step:
        """Note that a layer is stuck, and that the run goes forward to ``place``."""
        blank = Votes(np.empty(0, np.uint32), np.empty(0, np.int8), np.empty(0, np.int64), len(self.trainee.targets))
        return self._turn(
            sweep, place, lambda: self._step(sweep, place, "forward", "stuck", 1, blank, time.perf_counter())
        )

    def learn_of(self, place: Neuron, sums: Sums) -> None:
        """Take in what a tally came to in which the neuron was not trained. O(1)."""
        self._note(place, sums)
        self.histories[place] = self.histories.get(place, History()).after(sums, keep=self._keep)

    def _note(self, place: Neuron, sums: Sums) -> None:
        self.latest[place[0]][:, place[1]] = sums.total, sums.pivotal, 1

    @property
    def _keep(self) -> int:
        return max(1, self._rules.policy.reads)

    def _turn(self, sweep: int, place: Neuron, made: Callable[[], Step]) -> Step:
        noted = self._journal.recall("step")
        if noted is None:
            step, when = made(), time.time()
            self._journal.note("step", {"step": step.to_plain(), "time": when})
        else:
            step, when = Step.from_plain(noted.get("step", {})), float(noted.get("time", 0.0))
            if (step.number, step.sweep, step.place) != (len(self.steps), sweep, place):
                raise CorruptFileError(f"the journal has neuron {step.place} where {place} is due; begin anew")
            if step.neuron is not None:
                self.trainee.take(self.index(place), step.neuron)
        if step.kind != "forward":
            self.learn_of(place, step.sums)
            if step.kind == "trained" and step.premodulo:
                self.histories[place] = replace(self.histories[place], given=step.premodulo)
        self.steps.append(step)
        self._told(step, when)
        if noted is None and self._progress is not None:
            self._progress(step)
        return step

    def _trained(self, sweep: int, place: Neuron, why: Why, attempt: int) -> Step:
        start, rules, index = time.perf_counter(), self._rules, self.index(place)
        votes = self.trainee.tally(index, balanced=rules.balanced)
        if not votes.pivotal:
            return self._failed(sweep, place, "no votes", attempt, votes, start)
        premodulo = min(votes.samples, UNCAPPED) if place[0] == self._last else self._premodulo(place, votes)
        salt = int(np.random.default_rng([rules.seed, len(self.steps)]).integers(1 << 32))
        neuron = learn(votes, ((salt, premodulo),))
        if rules.timeout is not None and time.perf_counter() - start > rules.timeout:
            return self._failed(sweep, place, "timeout", attempt, votes, start)
        if rules.accept == "not worse" and self.trainee.worse(index, neuron):
            return self._failed(sweep, place, "worse", attempt, votes, start)
        self.trainee.take(index, neuron)
        return self._step(sweep, place, "trained", why, attempt, votes, start, premodulo, neuron)

    def _counting(self, sweep: int, place: Neuron, why: Why, bits: int, least: int | None) -> Step:
        start, index = time.perf_counter(), self.index(place)
        votes = self.trainee.tally(index, balanced=self._rules.balanced)
        middle = _matching_threshold(votes, bits) if least is None else least
        neuron = threshold(bits, stair(middle, place[1], self.trainee.network.topology.layers[-1].neurons, bits))
        self.trainee.take(index, neuron)
        return self._step(sweep, place, "trained", why, 1, votes, start, 0, neuron)

    def _premodulo(self, place: Neuron, votes: Votes) -> int:
        sums = Sums(votes.weighed, votes.pivotal, votes.samples)
        history = self.histories.get(place, History()).after(sums, keep=self._keep)
        return self._rules.policy.premodulo(place, {**self.histories, place: history})

    def _failed(self, sweep: int, place: Neuron, why: Why, attempt: int, votes: Votes, start: float) -> Step:
        kind: Literal["skipped", "kept"] = "skipped" if attempt >= self._rules.tries else "kept"
        return self._step(sweep, place, kind, why, attempt, votes, start)

    def _step(
        self,
        sweep: int,
        place: Neuron,
        kind: Literal["trained", "kept", "skipped", "forward"],
        why: Why,
        attempt: int,
        votes: Votes,
        start: float,
        premodulo: int = 0,
        neuron: Hashtron | None = None,
    ) -> Step:
        final = place[0] == self._last
        total = votes.total if final else votes.weighed
        trainee, outputs = self.trainee, 2 * self.trainee.answered_true(self.index(place)) - votes.samples
        return Step(
            len(self.steps), sweep, *place, kind, why, attempt, final, votes.samples, votes.pivotal, total, outputs,
            premodulo, trainee.accuracy, trainee.held_accuracy, trainee.prior, time.perf_counter() - start, neuron,
        )  # fmt: skip


def _matching_threshold(votes: Votes, bits: int) -> int:
    """The count from which on about as many answers are true as targets are; of equally good ones the middlemost.

    The best answers are no guide here: while hidden neurons know nothing, those may be always the same.
    """
    counts = np.bitwise_count(votes.keys)
    true = np.cumsum(np.bincount(counts, votes.weights, bits + 1)[::-1])[::-1][1:]  # from 1, 2, … on
    off = np.abs(true - votes.weights[votes.signs > 0].sum())
    best = np.flatnonzero(off == off.min()) + 1
    return int(best[np.abs(best - (bits + 1) / 2).argmin()])
