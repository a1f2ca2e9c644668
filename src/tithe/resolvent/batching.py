"""Batches by coherence: alike within a batch, or the whole range in each; every sample once an epoch."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.resolvent.measures import coherence

__all__ = ["CoherenceBatchSampler", "Order", "dataset_coherences", "place"]

Order = Literal["alike", "mixed", "ascending", "descending", "random"]


class CoherenceBatchSampler(Sampler[list[int]]):
    """Groups the samples of a dataset into batches by their coherence; for ``DataLoader(batch_sampler=…)``.

    Each sample of an epoch is in exactly one batch, whatever the order. The next epoch begins with the next iteration
    and is drawn afresh from the seed and its number, so all processes of a distributed run agree without a message.

    With several ranks it is the union of their batches of one step that is alike or mixed, and each rank gets the same
    number of batches of the same sizes: up to ``world_size`` − 1 samples, drawn anew each epoch, are left out.

    Measured so far: choosing samples by coherence costs accuracy. This orders them and leaves none out; treat it as an
    option to be compared with ``order="random"``.

    Args:
        coherences: a number for each sample, (n,); ``dataset_coherences`` measures them. Any other score does, too.
        batch_size: samples in a batch of one rank.
        order: ``"alike"``: neighbours by coherence in a batch, batches shuffled; ``"ascending"`` or ``"descending"``:
            the same, from low coherence to high or back; ``"mixed"``: each batch has a sample of every stratum, of
            which there are as many as samples in a batch; ``"random"``: plain shuffling, the control.
        seed: draws ties, batches and their order.
        window: for all but ``"mixed"`` and ``"random"``: how many neighbouring batches share their samples anew each
            epoch; 1 makes them most alike, and nearly the same in each epoch.
        drop_last: leave out the short batch; its samples are drawn from all.
        rank: of this process; ``None`` asks ``torch.distributed``, and is 0 where that does not run.
        world_size: how many processes; ``None`` as for ``rank``.

    Raises ``InvalidDTypeError`` or ``InvalidValueError`` for arguments that cannot be used. O(n log n) an epoch.
    Source: MISSION R4; strata as in Zhao and Zhang 2014, arXiv:1405.3080.

    >>> sampler = CoherenceBatchSampler([0.9, 0.1, 0.8, 0.2], batch_size=2, order="ascending", window=1)
    >>> [sorted(batch) for batch in sampler], len(sampler)
    ([[1, 3], [0, 2]], 2)
    """

    def __init__(
        self,
        coherences: Tensor | NDArray[Any] | Sequence[float],
        batch_size: int,
        *,
        order: Order = "alike",
        seed: int = 0,
        window: int = 4,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._keys = _scores(coherences)
        self._rank, self._ranks = place(rank, world_size)
        if order not in get_args(Order):
            raise InvalidValueError(f"order is {order!r}; use one of {', '.join(map(repr, get_args(Order)))}")
        for name, value, least in (("batch_size", batch_size, 1), ("window", window, 1), ("seed", seed, 0)):
            if value < least:
                raise InvalidValueError(f"{name} is {value}; use an integer of at least {least}")
        if len(self._keys) < self._ranks * (batch_size if drop_last else 1):
            raise InvalidValueError(
                f"{len(self._keys)} samples make no batch of {batch_size} for each of {self._ranks} ranks; "
                "use a smaller batch_size, or drop_last=False"
            )
        self.batch_size, self.order, self.seed, self.window = batch_size, order, seed, window
        self.drop_last, self.epoch = drop_last, 0
        self._position, self._resumed = 0, False

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank, also while one is under way."""
        return len(self._sizes())

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this rank that are still to come in a resumed epoch, else those of the next one."""
        if self._position and not self._resumed:
            self.set_epoch(self.epoch + 1)
        self._resumed = False
        for batch in self.batches()[self._position :]:
            self._position += 1
            yield batch

    def batches(self) -> list[list[int]]:
        """All batches of the current epoch on this rank, from its beginning. O(n log n)."""
        rng = np.random.default_rng([self.seed, self.epoch])
        sizes = self._sizes() * self._ranks
        chosen = rng.permutation(len(self._keys))[: int(sizes.sum())]
        if self.order != "random":
            chosen = chosen[np.argsort(self._keys[chosen], kind="stable")]  # ties stay shuffled
        if self.order == "mixed":
            together = _dealt(chosen, sizes, rng)
        else:
            if self.order == "descending":
                chosen = chosen[::-1]
            short_one = rng.permutation(sizes)
            if self.order != "random":
                chosen = _shuffled_within(chosen, self.window * int(sizes.max()), rng)
            together = np.split(chosen, np.cumsum(short_one)[:-1])
        if self.order == "alike":
            together = [together[i] for i in rng.permutation(len(together))]
        shifts = rng.integers(self._ranks, size=len(together))
        return [
            batch[(self._rank + shift) % self._ranks :: self._ranks].tolist()
            for batch, shift in zip(together, shifts, strict=True)
        ]

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; a resumed one that has this number already goes on where it was."""
        if epoch < 0:
            raise InvalidValueError(f"epoch is {epoch}; the first one is 0")
        if not (self._resumed and epoch == self.epoch):
            self.epoch, self._position, self._resumed = epoch, 0, False

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """All there is to go on from, as plain types.

        Args:
            consumed: batches of this epoch on which was trained. Needed with DataLoader workers, which fetch ahead;
                without them it is what was handed out.
        """
        position = self._position if consumed is None else consumed
        if not 0 <= position <= len(self):
            raise InvalidValueError(f"consumed is {consumed}; this epoch has {len(self)} batches")
        return {"epoch": self.epoch, "position": position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``, also one of another rank. ``InvalidStateError`` where it is of another order."""
        own = self._identity()
        other = [name for name in own if state[name] != own[name]]
        if other:
            told = ", ".join(f"{name} is {state[name]!r}, here {own[name]!r}" for name in other)
            raise InvalidStateError(f"the state is of another order of batches: {told}; make the sampler alike")
        self.epoch, self._position = int(state["epoch"]), int(state["position"])
        self._resumed = self._position < len(self)  # at its end, the next iteration is the next epoch

    def _identity(self) -> dict[str, Any]:
        names = ("batch_size", "order", "seed", "window", "drop_last")
        own = {name: getattr(self, name) for name in names}
        return own | {"samples": len(self._keys), "world_size": self._ranks, "digest": zlib.crc32(self._keys.tobytes())}

    def _sizes(self) -> NDArray[np.int64]:
        """How many samples each batch of one rank has; the short one is last."""
        whole, rest = divmod(len(self._keys) // self._ranks, self.batch_size)
        return np.array([self.batch_size] * whole + [rest] * (rest > 0 and not self.drop_last), dtype=np.int64)


def dataset_coherences(
    dataset: Dataset[Any] | Tensor, dims: int | Sequence[int], *, centre: bool = True, chunk: int = 256
) -> Tensor:
    """The coherence of each sample of a dataset, the mean over its other axes.

    Args:
        dataset: a tensor (n, …), or a map-style dataset of tensors or of tuples that begin with one; all of one shape.
        dims: the axes of one sample that have an order: (1, 2) for images (channels, H, W), or (−2, −1).
        centre: whether the mean is taken away first; without it bright images are coherent because they are bright.
        chunk: samples that are transformed at once.

    Returns:
        (n,), float64, on the CPU. Raises as ``coherence`` does. O(elements · log).

    >>> dataset_coherences(torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]), dims=0).round(decimals=2)
    tensor([0.2000, 0.0600], dtype=torch.float64)
    """
    places = [dims] if isinstance(dims, int) else list(dims)
    shifted = [d if d < 0 else d + 1 for d in places]
    found = []
    for start in range(0, len(dataset), chunk):  # type: ignore[arg-type]  # map-style: it has a length
        if isinstance(dataset, Tensor):
            signals = dataset[start : start + chunk]
        else:
            stop = min(start + chunk, len(dataset))  # type: ignore[arg-type]
            items = (dataset[i] for i in range(start, stop))
            signals = torch.stack([item[0] if isinstance(item, (tuple, list)) else item for item in items])
        scores = coherence(signals, shifted, centre=centre)
        found.append(scores.reshape(len(signals), -1).double().mean(1).cpu())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and number of processes as given, or as ``torch.distributed`` has them, or 0 of 1. O(1).

    >>> place(None, 4)
    (0, 4)
    """
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    world_size = (torch.distributed.get_world_size() if running else 1) if world_size is None else world_size
    rank = (torch.distributed.get_rank() if running else 0) if rank is None else rank
    if not 0 <= rank < world_size:
        raise InvalidValueError(f"rank is {rank} of world_size {world_size}; ranks go from 0 to world_size - 1")
    return rank, world_size


def _scores(coherences: Tensor | NDArray[Any] | Sequence[float]) -> NDArray[np.float64]:
    values = coherences.detach().cpu().double().numpy() if isinstance(coherences, Tensor) else np.asarray(coherences)
    if values.dtype.kind not in "fiu":
        raise InvalidDTypeError(f"coherences have dtype {values.dtype}; pass a real number for each sample")
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InvalidValueError(f"coherences have shape {values.shape}; pass one finite number for each sample, (n,)")
    return values.astype(np.float64)


def _shuffled_within(chosen: NDArray[np.int64], width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Samples shuffled within neighbourhoods of ``width``; where these begin is drawn, too."""
    cell = (np.arange(len(chosen)) + rng.integers(width)) // width
    return chosen[np.lexsort((rng.random(len(chosen)), cell))]


def _dealt(chosen: NDArray[np.int64], sizes: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Sorted samples dealt out like cards: in each round one to each batch, at random; short batches sit out evenly."""
    rounds = int(sizes.max())
    turns = np.zeros((rounds, len(sizes)), dtype=bool)
    for batch, size in enumerate(sizes):
        turns[np.floor((np.arange(size) + rng.random()) * rounds / size).astype(np.int64), batch] = True
    owners = np.concatenate([rng.permutation(np.flatnonzero(turn)) for turn in turns])
    return np.split(chosen[np.argsort(owners, kind="stable")], np.cumsum(sizes)[:-1])
