"""A network of hashtrons: a topology and its neurons, and what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.neuron import Hashtron
from tithe.hashtron.stages import Stage, Trace, forward, tensor
from tithe.hashtron.topology import Topology

__all__ = ["Network"]

_BLOCK = 1 << 19  # bits of a layer that are worked out together, to stay in the second-level cache
_TENSOR_BLOCK = 1 << 22


class Network:
    """Hashtrons in the layers of a topology. It does not change; :meth:`replace` makes another.

    Args:
        topology: the layers.
        neurons: one hashtron for each, in network order.

    Raises ``InvalidValueError`` where the two have different numbers of neurons.

    Source: MISSION H1; the Go package neurlang/classifier.

    >>> from tithe.hashtron import Layer
    >>> network = Network(Topology((Layer(2),)), [Hashtron(), Hashtron(((7, 2),))])
    >>> network.predict(np.arange(6)).tolist()
    [2, 1, 2, 1, 2, 1]
    """

    def __init__(self, topology: Topology, neurons: Iterable[Hashtron]) -> None:
        self.topology = topology
        self.neurons = tuple(neurons)
        if len(self.neurons) != topology.neurons:
            raise InvalidValueError(f"{len(self.neurons)} hashtrons for a topology of {topology.neurons}")
        counts = [layer.neurons for layer in topology.layers]
        starts = np.cumsum([0, *counts]).tolist()
        limits = [1 << 32, *(layer.combiner.limit for layer in topology.layers if layer.combiner)]
        self._stages = [
            Stage(layer, self.neurons[start : start + layer.neurons], limit)
            for layer, start, limit in zip(topology.layers, starts, limits, strict=False)
        ]

    @classmethod
    def random(cls, topology: Topology, generator: np.random.Generator) -> Network:
        """Hashtrons that answer with one bit of the salted key: where training starts. O(neurons).

        >>> from tithe.hashtron import Layer
        >>> Network.random(Topology((Layer(3),)), np.random.default_rng(0)).predict(np.arange(4)).tolist()
        [1, 3, 4, 1]
        """
        salts = generator.integers(0, 1 << 32, topology.neurons).tolist()
        return cls(topology, [Hashtron(((salt, 2),)) for salt in salts])

    def replace(self, index: int, neuron: Hashtron) -> Network:
        """The same network with another hashtron at ``index``, in network order. O(neurons).

        Raises ``InvalidValueError`` for an index out of range.
        """
        layer, position = self.topology.place(index)
        new = Network.__new__(Network)
        new.topology = self.topology
        new.neurons = (*self.neurons[:index], neuron, *self.neurons[index + 1 :])
        new._stages = self._stages.copy()
        new._stages[layer] = self._stages[layer].replace(position, neuron)
        return new

    def predict(self, X: ArrayLike, *, device: str | None = None) -> NDArray[np.int64]:
        """The answer for each sample.

        Args:
            X: integers from 0 to 2^32 − 1: (n,), which all hashtrons of the first layer read, or (n, features), of
                which hashtron i reads feature i.
            device: a torch device to compute on, with the same answers; compiled loops on the CPU by default.

        Returns:
            int64 (n,). Raises ``InvalidDTypeError`` for what is no integer array and ``InvalidValueError`` for numbers
            out of range, too few features, or a device that is not there. O(n · neurons), in blocks, on
            ``torch.get_num_threads()`` threads.

        >>> from tithe.hashtron import Layer
        >>> Network(Topology((Layer(1),)), [Hashtron()]).predict(np.array([4, 7]), device="cpu").tolist()
        [0, 1]
        """
        from tithe.parallel import run_parts  # brings torch

        features = self.read(X)
        samples = features.shape[1]
        answers = np.empty(samples, np.int64)
        widest = max(layer.neurons for layer in self.topology.layers)
        block = max(256, (_TENSOR_BLOCK if device else _BLOCK) // widest)
        stages: Sequence[Any] = self.stages(samples)
        if device is not None:
            stages = [stage.on(device) for stage in stages]

        def part(i: int) -> None:
            here = slice(i * block, (i + 1) * block)
            values = features[:, here] if device is None else tensor(features[:, here], device)
            found = forward(stages, self.topology, values).answers
            answers[here] = found if device is None else found.cpu().numpy()

        parts = -(-samples // block)
        if device is None:
            run_parts(part, parts)
        else:
            for i in range(parts):
                part(i)
        return answers

    def trace(self, X: ArrayLike) -> Trace:
        """All features and bits for the samples ``X`` of :meth:`predict`. O(n · neurons), also in memory.

        >>> from tithe.hashtron import Layer
        >>> Network(Topology((Layer(1),)), [Hashtron()]).trace([4, 7]).bits[0].tolist()
        [[0, 1]]
        """
        features = self.read(X)
        return forward(self.stages(features.shape[1]), self.topology, features)

    def stages(self, samples: int) -> list[Stage]:
        """The layers, ready to run for so many samples. O(layers), and O(keys) for tables that pay from now on.

        >>> from tithe.hashtron import Layer
        >>> len(Network(Topology((Layer(1),)), [Hashtron()]).stages(10))
        1
        """
        return [stage.served(samples) for stage in self._stages]

    def read(self, X: ArrayLike) -> NDArray[np.uint32]:
        """``X`` of :meth:`predict` as the features that the first layer reads, uint32 (columns, n); 1 for shared ones.

        >>> from tithe.hashtron import Layer
        >>> Network(Topology((Layer(1),)), [Hashtron()]).read([4, 7]).tolist()
        [[4, 7]]
        """
        array = np.asarray(X)
        if array.size and array.dtype.kind not in "iu":
            raise InvalidDTypeError(
                f"X is {array.dtype}; integers from 0 to 2^32 - 1 are expected, for instance uint32"
            )
        if array.ndim not in (1, 2):
            raise InvalidValueError(f"X has shape {array.shape}; (n,) or (n, features) is expected")
        if array.size and (array.min() < 0 or array.max() >= 1 << 32):
            raise InvalidValueError(f"X has {array.min()} to {array.max()}; integers from 0 to 2^32 - 1 are expected")
        if array.ndim == 1:
            return np.ascontiguousarray(array[None], np.uint32)
        first = self.topology.layers[0]
        needed = first.neurons if first.combiner else 1
        if array.shape[1] < needed:
            raise InvalidValueError(f"X has {array.shape[1]} features; the first layer reads {needed}")
        return np.ascontiguousarray(array.T[:needed], np.uint32)

    def bits(self, layer: int, features: NDArray[np.uint32], neurons: NDArray[np.intp]) -> NDArray[np.uint8]:
        """What some hashtrons of a layer say to their features (len(neurons), n), or (1, n) for all of them.

        >>> from tithe.hashtron import Layer
        >>> network = Network(Topology((Layer(2),)), [Hashtron(), Hashtron()])
        >>> network.bits(0, np.array([[4, 7]], np.uint32), np.array([1])).tolist()
        [[0, 1]]
        """
        found: NDArray[np.uint8] = self._stages[layer].bits(features, neurons)
        return found
