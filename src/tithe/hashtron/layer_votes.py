"""The tally of a whole layer at once, on the CPU or a torch device: every hashtron flipped for every sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.kernels import plain
from tithe.hashtron.network import Network
from tithe.hashtron.stages import TensorStage, finish, forward, tensor
from tithe.hashtron.votes import Loss, Votes, losses, vote_weights

__all__ = ["LayerVotes", "tally_layer"]

_AT_ONCE = 1 << 25  # bits of a layer that are held flipped at once


@dataclass(frozen=True, slots=True)
class LayerVotes:
    """What the samples want of each hashtron of a layer.

    Attributes:
        keys: int64 (H, N) or (1, N) if all see the same, what the hashtrons saw, after the layer's premodulo.
        signs: int8 (H, N): 1 for true, −1 for false, 0 for no vote.
        weights: int64 (N,) or (H, N), what a vote counts.
    """

    keys: torch.Tensor
    signs: torch.Tensor
    weights: torch.Tensor

    @property
    def totals(self) -> NDArray[np.int64]:
        """S of each hashtron, the sum of its signs, (H,). O(H · N)."""
        return np.asarray(self.signs.sum(1, dtype=torch.int64).cpu().numpy())

    @property
    def pivotal(self) -> NDArray[np.int64]:
        """V of each hashtron, how many samples vote, (H,). O(H · N)."""
        return np.asarray((self.signs != 0).sum(1).cpu().numpy())

    def of(self, position: int) -> Votes:
        """The votes for one hashtron, equal to those of ``tally``. O(N)."""
        signs = self.signs[position].cpu().numpy()
        rows = np.flatnonzero(signs)
        keys, weights = (x.expand(len(self.signs), -1)[position].cpu().numpy() for x in (self.keys, self.weights))
        return Votes(keys[rows].astype(np.uint32), signs[rows], weights[rows], len(signs))

    def sums(self, size: int) -> torch.Tensor:
        """The votes of each hashtron for each key below ``size``: int64 (H, size).

        A histogram by atomic additions on a GPU; they are of integers, so its bits do not depend on their order.
        Raises ``InvalidValueError`` where a key is not below ``size``. O(H · N + H · size).

        >>> one = LayerVotes(torch.tensor([[1, 1, 0]]), torch.tensor([[1, 1, -1]]).char(), torch.tensor([2, 2, 3]))
        >>> one.sums(3)
        tensor([[-3,  4,  0]])
        """
        if self.keys.numel() and int(self.keys.max()) >= size:
            raise InvalidValueError(f"size is {size}, but there is a key of {int(self.keys.max())}; give the premodulo")
        out = torch.zeros(len(self.signs), size, dtype=torch.int64, device=self.signs.device)
        return out.scatter_add_(1, self.keys.expand(len(self.signs), -1), self.signs * self.weights)


def tally_layer(
    network: Network,
    X: ArrayLike,
    y: NDArray[np.int64],
    layer: int,
    *,
    device: str = "cpu",
    loss: Loss | None = None,
    balanced: bool = False,
) -> LayerVotes:
    """Ask every sample about every hashtron of a layer, as ``tally`` does about one, with the network as it is.

    Args:
        network: not changed.
        X: the samples, as for ``Network.predict``.
        y: their targets, int64 (N,).
        layer: its number, from 0 on.
        device: a torch device.
        loss: as for ``tally``.
        balanced: as for ``tally``.

    Returns:
        The votes, on the device, equal to those of ``tally`` bit for bit. Raises ``InvalidValueError`` where shapes do
        not fit or the device is not there. O(H · N · hashtrons from this layer on), in blocks of samples.

    Source: MISSION H1, H4 (margins of all neurons); Tally4 of the Go package neurlang/classifier.

    >>> from tithe.hashtron import Hashtron, Layer, Topology
    >>> network = Network(Topology((Layer(2),)), [Hashtron(), Hashtron()])
    >>> tally_layer(network, [1, 2, 3], np.array([1, 2, 1]), 0).signs.tolist()
    [[1, -1, 1], [-1, 1, -1]]
    """
    topology = network.topology
    if not 0 <= layer < len(topology.layers):
        raise InvalidValueError(f"layer is {layer}; the network has the layers 0 to {len(topology.layers) - 1}")
    features = network.read(X)
    if len(y) != features.shape[1]:
        raise InvalidValueError(f"{len(y)} targets for {features.shape[1]} samples; give one each")
    y = np.asarray(y, np.int64)
    spec = topology.layers[layer]
    stages = [stage.on(device) for stage in network.stages(len(y))]
    neurons = tensor(np.arange(spec.neurons), device)
    trace = forward(stages, topology, tensor(features, device))
    read = trace.features[layer]
    keys = plain.hash32(read.long(), neurons[:, None], spec.premodulo) if spec.premodulo else read.long()
    if spec.combiner is None:
        groups = tensor(y, device)[None] >> neurons[:, None] & 1
        signs = (2 * groups - 1).to(torch.int8)
        weights = np.stack([vote_weights(y >> k & 1, balanced) for k in range(spec.neurons)])
        return LayerVotes(keys, signs, tensor(weights, device))
    bits, measure = trace.bits[layer], loss or losses(topology)
    signs = torch.empty(bits.shape, dtype=torch.int8, device=device)
    before = measure(trace.answers.cpu().numpy(), y)
    together = max(1, _AT_ONCE // (spec.neurons * spec.neurons))
    for start in range(0, len(y), together):
        here = slice(start, start + together)
        answers = _answers_if_flipped(stages, network, layer, bits[:, here]).cpu().numpy()
        for position, found in enumerate(answers):
            better = before[here] - measure(found, y[here]).astype(np.float64)
            signs[position, here] = tensor(np.sign(better).astype(np.int64), device).to(torch.int8)
    signs *= 1 - 2 * bits.to(torch.int8)
    return LayerVotes(keys, signs, tensor(vote_weights(y, balanced), device))


def _answers_if_flipped(stages: list[TensorStage], network: Network, layer: int, bits: torch.Tensor) -> torch.Tensor:
    """The answers (H, n) if each of the hashtrons in turn said the opposite of ``bits`` (H, n)."""
    topology, (count, samples) = network.topology, bits.shape
    variants = bits[:, None].repeat(1, count, 1)  # (hashtron, variant, sample)
    every = torch.arange(count, device=bits.device)
    variants[every, every] ^= 1
    answers: torch.Tensor = finish(stages, topology, layer, variants.reshape(count, -1))
    return answers.reshape(count, samples)
