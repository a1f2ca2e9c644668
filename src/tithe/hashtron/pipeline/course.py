"""The course of a run: whose turn it is, from the final layer back to the first."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import numpy as np

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.histories import Neuron, Sums
from tithe.hashtron.backward.pairs import anti_correlated_pairs
from tithe.hashtron.backward.selection import rank
from tithe.hashtron.pipeline.journal import Journal
from tithe.hashtron.pipeline.step import Step, Why
from tithe.hashtron.pipeline.turns import Turns
from tithe.hashtron.threshold import bits_counted, majority
from tithe.hashtron.votes import weighed_totals

if TYPE_CHECKING:
    from tithe.hashtron.pipeline.pipeline import Pipeline

__all__ = ["Course", "TimeUpError"]

_LEAST_PIVOTAL = 0.01  # share of the votes for hidden neurons
_LEAST_PROBED, _PART_PROBED = 32, 16  # a sixteenth of the samples is asked at most, but so many


class TimeUpError(Exception):
    """A run has taken as long as it may."""


class Course:
    """Goes through the sweeps of a run.

    Args:
        pipeline: what it is set to.
        turns: trains the neurons.
        journal: of the run.
        seed: of all that is random.

    Attributes:
        warnings: what the user should know, in words.
    """

    def __init__(self, pipeline: Pipeline, turns: Turns, journal: Journal, seed: int) -> None:
        self.warnings: list[str] = []
        self._pipeline, self._turns, self._journal, self._seed = pipeline, turns, journal, seed
        self._topology = turns.trainee.network.topology
        last = self._topology.layers[-1]
        # A last layer with a combiner trains like a hidden one: the answer is not what a neuron of it says.
        self._finals = (
            [] if last.combiner is not None else [(len(self._topology.layers) - 1, p) for p in range(last.neurons)]
        )
        self._hidden = len(self._topology.layers) - bool(self._finals)
        self._bits = bits_counted(self._topology) if pipeline.final == "majority" else 0
        self._partners: dict[Neuron, int] = {}
        self._seconds = 0.0

    def run(self) -> None:
        """All sweeps. Raises ``TimeUpError`` where these take longer than they may."""
        for sweep in range(self._pipeline.sweeps):
            if self._pipeline.direction == "backward":
                self._backward(sweep)
            else:
                self._forward(sweep)

    def _forward(self, sweep: int) -> None:
        """All neurons in a random order, the reference's; but a threshold comes first, as backward."""
        places = [(layer, p) for layer in range(self._hidden) for p in range(self._topology.layers[layer].neurons)]
        if self._bits:
            self._final(sweep, "final")
        else:
            places += self._finals
        for number in np.random.default_rng([self._seed, sweep]).permutation(len(places)).tolist():
            self._train(sweep, places[number], "order")

    def _backward(self, sweep: int) -> None:
        self._final(sweep, "final")
        if sweep == 0 and self._finals and self._hidden:
            self._wake(sweep)
        for layer in reversed(range(self._hidden)):
            if not self._layer(sweep, layer) and self._finals:
                self._turns.forward(sweep, self._finals[0])
                self._final(sweep, "rebalance")

    def _final(self, sweep: int, why: Why) -> None:
        for place in self._finals:
            if self._bits:
                self._timed(self._turns.count(sweep, place, why, self._bits))
            else:
                self._train(sweep, place, why)

    def _wake(self, sweep: int) -> None:
        """See to it that hidden neurons have a say: a final neuron that always says the same leaves them none."""
        layer = self._hidden - 1
        share = self._probe(layer, list(range(self._topology.layers[layer].neurons)))
        if share >= _LEAST_PIVOTAL:
            return
        told = f"after phase 0 only {share:.2%} of the votes for layer {layer} are pivotal"
        try:
            bits = bits_counted(self._topology)
        except InvalidValueError as error:
            self.warnings.append(f"{told}, so its neurons cannot learn; the final layer cannot be rebalanced: {error}")
            return
        for place in self._finals:
            self._timed(self._turns.count(sweep, place, "rebalance", bits, majority(bits)))
        share = self._probe(layer, list(range(self._topology.layers[layer].neurons)))
        lost = "" if share >= _LEAST_PIVOTAL else ", so its neurons still cannot learn; begin with another network"
        self.warnings.append(f"{told}; the final layer was replaced by a majority, now {share:.2%} are{lost}")

    def _layer(self, sweep: int, layer: int) -> bool:
        """Train every neuron of a layer; whether any could be. Those that fail wait until the others had their turn."""
        queue, attempts, trained = self._ranked(sweep, layer), Counter[int](), 0
        while queue:
            position, why = queue.popleft()
            attempts[position] += 1
            step = self._train(sweep, (layer, position), why, attempts[position])
            trained += step.kind == "trained"
            if step.kind == "kept":
                queue.append((position, why))
            partner = self._partners.get((layer, position))
            for place in [turn for turn in queue if turn[0] == partner]:
                queue.remove(place)
                queue.appendleft((place[0], "pair"))
        return trained > 0

    def _ranked(self, sweep: int, layer: int) -> deque[tuple[int, Why]]:
        """The neurons of a layer, the most promising first; those of which nothing is known are probed before."""
        seed = [self._seed, sweep, len(self._turns.steps)]
        if self._pipeline.rollback == "medium":
            count = self._topology.layers[layer].neurons
            return deque((p, "random") for p in np.random.default_rng(seed).permutation(count).tolist())
        unknown = np.flatnonzero(self._turns.latest[layer][2] == 0)
        if len(unknown):
            self._probe(layer, unknown.tolist())
        totals, pivotal, _ = self._turns.latest[layer]
        return deque(rank(totals, pivotal, seed=seed, tau=self._pipeline.tau))

    def _probe(self, layer: int, positions: list[int]) -> float:
        """Tally neurons by some of the samples; the share of the votes that are pivotal."""
        noted = self._journal.recall("probe")
        if noted is None:
            noted = self._probed(layer, positions)
            self._journal.note("probe", noted)
        samples, asked = len(self._turns.trainee.targets), noted["asked"]
        for position, (total, pivotal) in zip(noted["positions"], noted["votes"], strict=True):
            scaled = Sums(int(total * samples / asked), int(pivotal * samples / asked), samples)
            self._turns.learn_of((layer, position), scaled)
        for first, second in noted["pairs"]:
            self._partners[layer, first], self._partners[layer, second] = second, first
        return float(np.mean([pivotal for _, pivotal in noted["votes"]])) / int(asked)

    def _probed(self, layer: int, positions: list[int]) -> dict[str, Any]:
        turns, random = self._turns, np.random.default_rng([self._seed, layer, len(self._turns.steps)])
        samples = len(turns.trainee.targets)
        asked = min(samples, self._pipeline.probe, max(_LEAST_PROBED, samples // _PART_PROBED))
        pairs: list[tuple[int, int]] = []
        if self._pipeline.pairs:  # votes can only be compared where they are of the same samples
            every = np.arange(self._topology.layers[layer].neurons)
            rows = np.tile(random.choice(samples, asked, replace=False), (len(every), 1))
            signs = turns.trainee.probe(layer, every, rows)
            pairs = [pair.neurons for pair in anti_correlated_pairs(signs.T, most=len(every))]
            signs, rows = signs[positions], rows[positions]
        else:
            rows = random.integers(samples, size=(len(positions), asked))
            signs = turns.trainee.probe(layer, np.array(positions), rows)
        weights = turns.trainee.weights(self._pipeline.balanced)[rows]
        sums = zip(weighed_totals(signs, weights).tolist(), np.count_nonzero(signs, 1).tolist(), strict=True)
        return {"positions": positions, "asked": asked, "votes": list(sums), "pairs": pairs}

    def _train(self, sweep: int, place: Neuron, why: Why, attempt: int = 1) -> Step:
        return self._timed(self._turns.train(sweep, place, why, attempt))

    def _timed(self, step: Step) -> Step:
        self._seconds += step.seconds
        if self._pipeline.timeout is not None and self._seconds >= self._pipeline.timeout:
            raise TimeUpError
        return step
