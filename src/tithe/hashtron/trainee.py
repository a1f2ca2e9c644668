"""A network while it is trained: what it computes for the samples, kept up to date as neurons are replaced."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.network import Network
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.stages import Trace, finish
from tithe.hashtron.topology import Topology
from tithe.hashtron.votes import Loss, Votes, answers_if, losses, say, tally, vote_weights

__all__ = ["Trainee"]

_AT_ONCE = 1 << 24  # bits of a layer that are held flipped at once


class Trainee:
    """A network in training.

    Args:
        network: where it starts.
        X: samples, as for ``Network.predict``.
        y: what the network should answer, non-negative integers (N,) that it can answer.
        loss: see ``tally``; with one of your own, targets may be what only it understands, unless the last layer has
            no combiner, whose hashtrons learn the bits of the targets.
        held_out: other samples and targets.

    Attributes:
        network: as it is now.
        targets: int64 (N,).

    Raises ``InvalidDTypeError`` or ``InvalidValueError`` for what cannot be. What it computes for the samples is
    worked out when it is first needed.

    >>> from tithe.hashtron import Layer
    >>> trainee = Trainee(Network(Topology((Layer(1),)), [Hashtron()]), [1, 2, 3], [1, 0, 0])
    >>> trainee.accuracy, trainee.tally(0, balanced=False).total
    (0.6666666666666666, -1)
    """

    def __init__(
        self,
        network: Network,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: Loss | None = None,
        held_out: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> None:
        topology = network.topology
        most = _answers(topology) if loss is None or topology.layers[-1].combiner is None else None
        self.network, self._loss, self._measure = network, loss, loss or losses(topology)
        self._X, self.targets = np.asarray(X), _targets(y, most)
        _check_number(network, self._X, self.targets)
        self._held_out: tuple[NDArray[Any], NDArray[np.int64]] | None = None
        if held_out is not None:
            self._held_out = np.asarray(held_out[0]), _targets(held_out[1], most)
            _check_number(network, *self._held_out)

    @cached_property
    def trace(self) -> Trace:
        """What the network computes for the samples. O(N · neurons) the first time."""
        return self.network.trace(self._X)

    @cached_property
    def _held(self) -> Trace | None:
        return None if self._held_out is None else self.network.trace(self._held_out[0])

    @property
    def accuracy(self) -> float:
        """The share of samples without loss. O(N)."""
        return float((self._measure(self.trace.answers, self.targets) == 0).mean())

    @property
    def held_accuracy(self) -> float | None:
        """The share of held-out samples without loss; ``None`` where there are none. O(their number)."""
        if self._held is None or self._held_out is None:
            return None
        return float((self._measure(self._held.answers, self._held_out[1]) == 0).mean())

    @cached_property
    def prior(self) -> float:
        """How often the most frequent target is right, on held-out samples where there are any. O(N log N)."""
        values, counts = np.unique(self.targets, return_counts=True)
        judged = self.targets if self._held_out is None else self._held_out[1]
        return float((judged == values[counts.argmax()]).mean())

    def weights(self, balanced: bool) -> NDArray[np.int64]:
        """What the vote of each sample counts for a neuron of a layer with a combiner, (N,). O(N log N)."""
        return vote_weights(self.targets, balanced)

    def tally(self, index: int, *, balanced: bool) -> Votes:
        """The votes of all samples for hashtron ``index`` in network order; see ``tally``."""
        return tally(self.network, self.trace, self.targets, index, loss=self._loss, balanced=balanced)

    def probe(self, layer: int, positions: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.int8]:
        """What some samples want of some hashtrons of a layer that has a combiner, each asked of its own samples.

        Args:
            layer: its number.
            positions: of the hashtrons, (k,).
            rows: the samples that each is asked of, (k, n).

        Returns:
            1 for true, −1 for false, 0 for no vote, (k, n): the signs of :func:`tally`, all in one pass through what
            lies behind the layer. O(k · n · (hashtrons of the layer and behind it)).
        """
        together = max(1, _AT_ONCE // (rows.shape[1] * len(self.trace.bits[layer])))
        starts = range(0, len(positions), together)
        parts = [self._probe(layer, positions[i : i + together], rows[i : i + together]) for i in starts]
        return np.concatenate(parts)

    def _probe(self, layer: int, positions: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.int8]:
        asked = rows.ravel()
        bits = self.trace.bits[layer][:, asked]
        flipped = np.repeat(positions, rows.shape[1]), np.arange(len(asked))
        before = bits[flipped]
        bits[flipped] ^= 1
        stages = self.network.stages(len(asked))
        answers, targets = finish(stages, self.network.topology, layer, bits), self.targets[asked]
        better = self._measure(self.trace.answers[asked], targets) - self._measure(answers, targets).astype(np.float64)
        signs: NDArray[np.int8] = (np.sign(better) * (1 - 2.0 * before)).astype(np.int8).reshape(rows.shape)
        return signs

    def worse(self, index: int, neuron: Hashtron) -> bool:
        """Whether the loss of the held-out samples would rise with another hashtron; never where there are none."""
        if self._held is None or self._held_out is None:
            return False
        said = say(self.network.replace(index, neuron), self._held, index)
        new = self._measure(answers_if(self.network, self._held, index, said), self._held_out[1]).sum()
        return bool(new > self._measure(self._held.answers, self._held_out[1]).sum())

    def take(self, index: int, neuron: Hashtron) -> None:
        """Replace a hashtron. O(samples · what lies behind it) where something is known of them already, else O(1)."""
        after = self.network.replace(index, neuron)
        for trace in (self.__dict__.get("trace"), self.__dict__.get("_held")):
            if trace is not None:
                answers_if(self.network, trace, index, say(after, trace, index), keep=True)
        self.network = after

    def answered_true(self, index: int) -> int:
        """For how many samples a hashtron says true. O(N)."""
        layer, position = self.network.topology.place(index)
        return int(self.trace.bits[layer][position].sum(dtype=np.int64))


def _answers(topology: Topology) -> int:
    """How many answers a network can give; they are counted from 0."""
    last = topology.layers[-1]
    if last.combiner is None:
        return 1 << last.neurons
    return last.combiner.outputs if topology.answer == "argmax" else last.combiner.limit


def _targets(y: ArrayLike, most: int | None) -> NDArray[np.int64]:
    """Targets below ``most``, or of any size with None."""
    targets = np.asarray(y)
    if targets.dtype.kind not in "iub":
        raise InvalidDTypeError(f"y is {targets.dtype}; non-negative integers are expected")
    if targets.ndim != 1 or not targets.size or targets.min() < 0:
        raise InvalidValueError(f"y has shape {targets.shape}; (n,) of at least one non-negative integer is expected")
    if most is not None and targets.max() >= most:
        raise InvalidValueError(f"y goes up to {targets.max()}; this network answers with 0 to {most - 1}")
    return targets.astype(np.int64)


def _check_number(network: Network, X: NDArray[Any], targets: NDArray[np.int64]) -> None:
    samples = network.read(X).shape[1]
    if samples != len(targets):
        raise InvalidValueError(f"{len(targets)} targets for {samples} samples; give one each")
