"""Leaving out samples that are learned already, without bias: those that stay count for those that went."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.resolvent.batching import place

__all__ = ["Indexed", "SelectiveSampler"]


class SelectiveSampler(Sampler[int]):
    """Leaves out, each epoch, a share of the samples whose last loss is below the mean; for ``DataLoader(sampler=…)``.

    Of the samples below the mean loss each is left out with probability ``drop``, and those that stay are weighted
    1/(1 − ``drop``): the weighted sum of gradients over an epoch is that over all data in expectation, in fewer steps.
    The last epochs take all data at weight 1. Samples whose loss is not known (the first epoch) or not finite stay.

    Call ``update`` for every batch, with the indices that ``Indexed`` brings along: it keeps the losses and counts what
    was trained on. So a state saved in the middle of an epoch is exact with DataLoader workers, too: what they had
    fetched and no update has told of comes again.

    With several ranks all hold one table of losses, exchanged when an epoch is drawn; their shards are disjoint and of
    equal length, up to ``world_size`` − 1 samples, drawn anew each epoch, are left out.

    Args:
        samples: how many the dataset has.
        epochs: how many the training lasts, to know the last ones.
        drop: probability in [0, 1).
        anneal: share of the epochs, rounded up, that take all data at the end.
        coherences: a second signal, (samples,); with it only samples on one side of its median may be left out, ...
        spare: ... and these stay: the ``"incoherent"`` or the ``"coherent"`` half.
        seed: draws what is left out, and the order.
        rank: of this process; ``None`` asks ``torch.distributed``.
        world_size: how many processes; ``None`` asks ``torch.distributed``.
        total: sums a tensor over all ranks; ``None`` is ``torch.distributed.all_reduce``.

    Raises ``InvalidValueError`` for arguments that cannot be used. O(samples) an epoch; 20 bytes a sample.
    Source: MISSION R4; Qin et al. 2024, InfoBatch, arXiv:2303.04947.

    >>> sampler = SelectiveSampler(4, epochs=8)
    >>> len(list(sampler))  # nothing is known yet
    4
    >>> sampler.update([0, 1, 2, 3], [0.1, 0.1, 0.9, 0.9])
    >>> sampler.set_epoch(1)
    >>> len(sampler), sampler.saved  # one of two below the mean is left out: an eighth of two epochs
    (3, 0.125)
    """

    def __init__(
        self,
        samples: int,
        epochs: int,
        *,
        drop: float = 0.5,
        anneal: float = 0.125,
        coherences: Tensor | NDArray[Any] | Sequence[float] | None = None,
        spare: Literal["incoherent", "coherent"] = "incoherent",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._rank, self._ranks = place(rank, world_size)
        for name, value, right, wanted in (
            ("samples", samples, samples >= self._ranks, f"at least one for each of {self._ranks} ranks"),
            ("epochs", epochs, epochs >= 1, "at least 1"),
            ("drop", drop, 0 <= drop < 1, "a probability in [0, 1)"),
            ("anneal", anneal, 0 <= anneal <= 1, "a share in [0, 1]"),
            ("spare", spare, spare in ("incoherent", "coherent"), "'incoherent' or 'coherent'"),
            ("seed", seed, seed >= 0, "an integer of at least 0"),
        ):
            if not right:
                raise InvalidValueError(f"{name} is {value!r}; use {wanted}")
        self.samples, self.epochs, self.drop, self.anneal, self.seed = samples, epochs, drop, anneal, seed
        self._total = total or _all_reduced
        self._may_go = _eligible(coherences, samples, spare)
        self.losses = torch.full((samples,), math.nan, dtype=torch.float64)
        self._fresh = torch.zeros(samples, dtype=torch.bool)  # told of since the last exchange between ranks
        self.epoch, self.samples_seen = 0, 0
        self._earlier_drawn = self._earlier_whole = 0  # samples of earlier epochs, drawn and without selection
        self._begun = self._resumed = False
        self._plan: Tensor | None = None  # what all ranks take in this epoch, in order, (kept,) int64
        self._below = torch.zeros(samples, dtype=torch.bool)  # which samples may have been left out of it
        self._done = torch.zeros(samples, dtype=torch.bool)  # which were trained on in it, here

    def __len__(self) -> int:
        """Samples of this rank in the whole epoch that is under way, or in the one that ``set_epoch`` has drawn."""
        return len(self._shard())

    def __iter__(self) -> Iterator[int]:
        """The indices of this rank: the next epoch's, or of a resumed one those that were not trained on."""
        if self._begun and not self._resumed:
            self._draw(self.epoch + 1)
        shard = self._shard()
        self._begun, self._resumed = True, False
        yield from shard[~self._done[shard]].tolist()

    @property
    def saved(self) -> float:
        """The share of samples that selection has left out of the epochs so far, the current one included."""
        drawn = self._earlier_drawn + len(self)
        return 1 - drawn / (self._earlier_whole + self.samples // self._ranks)

    def update(self, indices: Tensor | Sequence[int], losses: Tensor | Sequence[float]) -> None:
        """Tell which samples were trained on, and their losses, without weights.

        Args:
            indices: (batch,), integers.
            losses: (batch,), one number for each.

        Raises ``InvalidValueError`` where they do not fit. O(batch); waits for the device that computes the losses.
        """
        where = self._places(indices)
        values = torch.as_tensor(losses).detach().to("cpu", torch.float64)
        if values.shape != where.shape:
            raise InvalidValueError(f"{tuple(where.shape)} indices and losses of shape {tuple(values.shape)}; give one "
                                    "loss for each sample, for instance by reduction='none'")  # fmt: skip
        self.losses[where] = values
        self._fresh[where] = True
        self._done[where] = True
        self.samples_seen += len(where)

    def weights(self, indices: Tensor | Sequence[int]) -> Tensor:
        """What to multiply the losses of some samples of this epoch with: (batch,) float32, on the CPU. O(batch)."""
        self._shard()
        return 1 + self._below[self._places(indices)].float() * (1 / (1 - self.drop) - 1)

    def set_epoch(self, epoch: int) -> None:
        """Draw an epoch now, so that ``len`` tells its length beforehand; ``__iter__`` would draw it otherwise.

        All ranks must call it, since here losses are exchanged. An epoch of this number that was resumed, or was drawn
        and not begun, stays as it is.
        """
        if epoch < 0:
            raise InvalidValueError(f"epoch is {epoch}; the first one is 0")
        if epoch != self.epoch or self._plan is None or (self._begun and not self._resumed):
            self._draw(epoch)

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from: numbers and tensors. One rank's serves all, less what others saw this epoch."""
        done = self._done[self._shard()]  # by place in the shard: ranks go through theirs in step
        tensors = {"plan": self._plan, "below": self._below, "losses": self.losses, "fresh": self._fresh}
        counts = [self.epoch, self.samples_seen, self._earlier_drawn, self._earlier_whole]
        kept = {name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}
        return {**self._identity(), **kept, "done": done, "counts": counts, "begun": self._begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``. ``InvalidStateError`` where it is of another selection."""
        own = self._identity()
        told = [f"{name} is {state[name]}, here {own[name]}" for name in own if state[name] != own[name]]
        if told:
            raise InvalidStateError(f"the state is of another selection: {', '.join(told)}; make the sampler alike")
        self.epoch, self.samples_seen, self._earlier_drawn, self._earlier_whole = state["counts"]
        self.losses, self._plan = state["losses"].clone(), state["plan"].clone()
        self._below, self._fresh = state["below"].clone(), state["fresh"].clone()
        self._done = torch.zeros_like(self._fresh)
        self._done[self._shard()[state["done"]]] = True
        self._begun, self._resumed = bool(state["begun"]), not bool(state["done"].all())

    def _identity(self) -> dict[str, Any]:
        names = ("samples", "epochs", "drop", "anneal", "seed")
        return {name: getattr(self, name) for name in names} | {"world_size": self._ranks}

    def _shard(self) -> Tensor:
        if self._plan is None:
            self._draw(self.epoch)
        assert self._plan is not None
        return self._plan[self._rank :: self._ranks]

    def _draw(self, epoch: int) -> None:
        """Decide what an epoch takes; the same on all ranks, since they share losses, seed and number."""
        alone = self._plan is None and self._ranks > 1  # len() may ask on one rank only: no messages, no selection
        if not alone:
            self._exchange()
        if self._begun and self._plan is not None:
            self._earlier_drawn += len(self)
            self._earlier_whole += self.samples // self._ranks
        rng = np.random.default_rng([self.seed, epoch])
        known = self.losses.isfinite()
        below = known & (self.losses < self.losses[known].mean()) & self._may_go
        if alone or self.drop == 0 or epoch >= self.epochs - math.ceil(self.anneal * self.epochs - 1e-9):
            below = torch.zeros_like(below)
        candidates = np.flatnonzero(below.numpy())
        # So many as the probability says, a fraction by chance: as likely for each, with less variance than by coins.
        kept = int(len(candidates) * (1 - self.drop) + rng.random())
        plan = rng.permutation(np.concatenate([np.flatnonzero(~below.numpy()), rng.permutation(candidates)[:kept]]))
        plan = plan[: len(plan) // self._ranks * self._ranks]
        self._plan, self._below, self.epoch = torch.from_numpy(plan), below, epoch
        self._done = torch.zeros_like(self._done)
        self._begun = self._resumed = False

    def _exchange(self) -> None:
        """Take over the losses that other ranks have seen."""
        if self._ranks > 1:
            known = torch.where(self._fresh, self.losses, 0)
            sums, counts = self._total(torch.stack([known, self._fresh.double()]))
            self.losses = torch.where(counts > 0, sums / counts, self.losses)
        self._fresh = torch.zeros_like(self._fresh)

    def _places(self, indices: Tensor | Sequence[int]) -> Tensor:
        where = torch.as_tensor(indices).to("cpu", torch.int64)
        if where.ndim != 1 or (len(where) and not 0 <= int(where.min()) <= int(where.max()) < self.samples):
            raise InvalidValueError(f"indices are {where.tolist()}; give some from 0 to {self.samples - 1}, (batch,)")
        return where


class Indexed(Dataset[tuple[int, Any]]):
    """A map-style dataset that gives each item with its index.

    >>> Indexed(["a", "b"])[1]
    (1, 'b')
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


def _eligible(coherences: Tensor | NDArray[Any] | Sequence[float] | None, samples: int, spare: str) -> Tensor:
    """Which samples may be left out at all."""
    if coherences is None:
        return torch.ones(samples, dtype=torch.bool)
    values = torch.as_tensor(coherences).detach().to("cpu", torch.float64)
    if values.shape != (samples,) or not values.isfinite().all():
        raise InvalidValueError(f"coherences have shape {tuple(values.shape)}; give a finite one for each of {samples}")
    above = values > values.median()
    return above if spare == "incoherent" else ~above


def _all_reduced(tensor: Tensor) -> Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise InvalidStateError("several ranks, but torch.distributed does not run: init_process_group, or pass total=")
    moved = tensor.cuda() if torch.distributed.get_backend() == "nccl" else tensor
    torch.distributed.all_reduce(moved)
    return moved.to(tensor.device)
