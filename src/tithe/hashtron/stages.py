"""The layers of a network ready to run: neurons packed or as truth tables, on the CPU or on a torch device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.kernels import Packed, kernels
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.topology import Layer, Topology

__all__ = ["Stage", "TensorStage", "Trace", "finish", "forward", "pack", "read_answers", "tensor"]

_TABLE_KEYS = 1 << 16  # a hashtron of at most so many keys may become a truth table


@dataclass(slots=True)
class Trace:
    """Everything that a network computed for some samples; samples lie along the last axis.

    Attributes:
        features: what each layer read, uint32 (features, samples), before its premodulo; then, where the last layer
            has a combiner, what the answer was read from.
        bits: what the hashtrons of each layer said, uint8 (neurons, samples).
        answers: int64 (samples,).
    """

    features: list[Any]
    bits: list[Any]
    answers: Any


class Stage:
    """One layer ready to run: its neurons packed, and as truth tables once they have paid for themselves."""

    def __init__(self, layer: Layer, neurons: Sequence[Hashtron], limit: int) -> None:
        self.layer, self.neurons = layer, tuple(neurons)
        self.keys = layer.premodulo or limit
        self._packed: Packed | None = None
        self._tables: NDArray[np.uint8] | None = None
        self._served = 0

    def replace(self, position: int, neuron: Hashtron) -> Stage:
        """The same layer with another hashtron at ``position``."""
        stage = Stage(self.layer, (*self.neurons[:position], neuron, *self.neurons[position + 1 :]), 0)
        stage.keys = self.keys
        return stage

    @property
    def packed(self) -> Packed:
        """The neurons for the loops; packed once."""
        if self._packed is None:
            self._packed = pack(self.neurons)
        return self._packed

    def served(self, samples: int) -> Stage:
        """Itself, with tables as soon as the samples so far are as many as the keys of one: they then have paid."""
        self._served += samples
        if self._tables is None and self.keys <= min(self._served, _TABLE_KEYS):
            every = np.arange(self.keys, dtype=np.uint32)[None]
            bits = kernels().evaluate(every, np.arange(self.layer.neurons), 0, self.packed)
            self._tables = np.packbits(bits, axis=1, bitorder="little")
        return self

    def bits(self, features: Any, neurons: NDArray[np.intp] | None = None) -> Any:
        """What the hashtrons, or those at the places ``neurons``, say; uint8 (neurons, samples)."""
        chosen = np.arange(self.layer.neurons) if neurons is None else neurons
        if self._tables is not None:
            return kernels().bits_at(features, chosen, self.layer.premodulo, self._tables)
        return kernels().evaluate(features, chosen, self.layer.premodulo, self.packed)

    def on(self, device: str) -> TensorStage:
        """The layer on a torch device."""
        return TensorStage(self, device)


class TensorStage:
    """The same on a torch device."""

    def __init__(self, stage: Stage, device: str) -> None:
        self.layer = stage.layer
        self._neurons = tensor(np.arange(stage.layer.neurons), device)
        self._tables = None if stage._tables is None else tensor(stage._tables, device)
        self._packed = Packed(*(tensor(x, device) for x in stage.packed))

    def bits(self, features: Any) -> Any:
        """What the hashtrons say to features (neurons, samples) or (1, samples), as a tensor."""
        from tithe.hashtron.kernels import plain

        if self._tables is not None:
            return plain.bits_at(features, self._neurons, self.layer.premodulo, self._tables)
        return plain.evaluate(features, self._neurons, self.layer.premodulo, self._packed)


def pack(neurons: Sequence[Hashtron]) -> Packed:
    """Hashtrons one after the other, for the loops. O(size).

    >>> pack([Hashtron(((7, 2),)), Hashtron()]).pairs.tolist()
    [0, 1, 1]
    """
    pairs = np.array([pair for neuron in neurons for pair in neuron.program], np.uint32).reshape(-1, 2)
    return Packed(
        np.ascontiguousarray(pairs[:, 0]),
        np.ascontiguousarray(pairs[:, 1]),
        np.cumsum([0, *(len(neuron.program) for neuron in neurons)]),
        np.frombuffer(b"".join([neuron.filter.cells for neuron in neurons]), np.uint8),
        np.cumsum([0, *(len(neuron.filter.cells) for neuron in neurons)]),
    )


def forward(stages: Sequence[Any], topology: Topology, features: Any) -> Trace:
    """Through all layers; arrays or tensors, as ``features`` are."""
    trace = Trace([features], [], None)
    for number, stage in enumerate(stages):
        bits = stage.bits(features)
        trace.bits.append(bits)
        if stage.layer.combiner is not None:
            features = stage.layer.combiner.features(bits, np.arange(topology.read(number)))
            trace.features.append(features)
    trace.answers = read_answers(topology, trace.bits[-1], features)
    return trace


def finish(stages: Sequence[Any], topology: Topology, layer: int, bits: Any) -> Any:
    """The answers (samples,) if the hashtrons of a layer say ``bits`` (neurons, samples); arrays or tensors.

    Args:
        stages: of all layers.
        topology: theirs.
        layer: number of the layer.
        bits: what its hashtrons say.

    Returns:
        int64, of the kind of ``bits``. O(samples · hashtrons behind the layer).
    """
    features = bits
    for number in range(layer, len(stages)):
        if number > layer:
            bits = stages[number].bits(features)
        combiner = topology.layers[number].combiner
        if combiner is not None:
            features = combiner.features(bits, np.arange(topology.read(number)))
    return read_answers(topology, bits, features)


def read_answers(topology: Topology, bits: Any, features: Any) -> Any:
    """The answers from the bits of the last layer, or from the features of its combiner where it has one."""
    if topology.layers[-1].combiner is None:
        answers = _wide(bits[0])
        for k, row in enumerate(bits[1:], 1):
            answers |= _wide(row) << k
        return answers
    return features.argmax(0) if topology.answer == "argmax" else _wide(features[0])


def _wide(x: Any) -> Any:
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()


def tensor(array: NDArray[Any], device: str) -> Any:
    """A copy on a torch device: bytes as they are, other integers as int64.

    Raises ``InvalidValueError`` where there is no such device.
    """
    import torch

    kept = array if array.dtype == np.uint8 else array.astype(np.int64)
    try:
        return torch.tensor(kept, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidValueError(f"device {device!r} cannot be used here: {error}") from error
