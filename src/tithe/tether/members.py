"""The members of a population as something that takes a step: one by one, or all in one vectorised step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import LBFGS, Optimizer

from tithe.errors import InvalidValueError
from tithe.tether.optimizer_states import named_state, native_state
from tithe.tether.stacked_losses import at_once
from tithe.tether.stacked_optimizer import StackedOptimizer
from tithe.tether.stacks import Stacks, why_not

__all__ = ["Batch", "Loss", "MakeOptimizer", "Members", "Separate", "Stacked", "tensors_of"]

Batch = tuple[Any, Any] | None
Loss = Callable[[Any, Any], Tensor]
MakeOptimizer = Callable[[Iterable[Tensor]], Optimizer]


class Members(Protocol):
    """What a population needs of its members.

    Attributes:
        models: which always have the weights of now.
        vectorised: whether they step in one vectorised pass, ``None`` where that is not known (yet).
    """

    models: list[nn.Module]
    vectorised: bool | None

    def step(self, batches: Sequence[Batch]) -> list[float | None]:
        """One step of each member that has a batch, as if it were alone; the losses before it."""

    def moments(self, member: int) -> dict[str, Tensor]:
        """What the optimiser remembers of a member, entry by entry: writing to it changes that."""

    def optimizer_state(self, member: int) -> dict[str, Any]:
        """The state of a member's optimiser as if it were alone, as ``named_state`` has it; no copy."""

    def load_optimizer_states(self, states: Sequence[Mapping[str, Any]], vectorised: bool | None) -> None:
        """Go on from what ``optimizer_state`` gave of each member, which is not copied, and from ``vectorised``."""


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a model by name, each once, as they are: writing to one changes the model. O(tensors).

    >>> sorted(tensors_of(nn.Linear(2, 1)))
    ['bias', 'weight']
    """
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


class Separate:
    """Members that step one after the other, each with an optimiser of its own; of any architectures.

    Args:
        models: one or more.
        loss: of outputs and targets, a scalar.
        optimizer: makes an optimiser of parameters; any, LBFGS too.

    Raises ``InvalidValueError`` for no models.
    """

    def __init__(self, models: Sequence[nn.Module], loss: Loss, optimizer: MakeOptimizer) -> None:
        if not models:
            raise InvalidValueError("there are no models; pass one or more")
        self.models = list(models)
        self.vectorised: bool | None = None  # of no meaning here
        self._loss = loss
        self._optimizers = [optimizer(list(model.parameters())) for model in models]

    def step(self, batches: Sequence[Batch]) -> list[float | None]:
        """One step of each member that has a batch; the losses before it."""
        present = _present(batches, len(self.models))
        losses = [self._step(member, batches[member]) for member in present]
        found = dict(zip(present, losses, strict=True))
        return [float(found[i]) if i in found else None for i in range(len(batches))]  # a GPU is waited for once

    def _step(self, member: int, batch: Any) -> Tensor:
        model, optimizer = self.models[member], self._optimizers[member]

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = _scalars(self._loss(model(batch[0]), batch[1]), ())
            torch.autograd.backward(loss)
            return loss.detach()

        if isinstance(optimizer, LBFGS):
            return torch.as_tensor(optimizer.step(closure))  # type: ignore[no-untyped-call]
        loss = closure()
        optimizer.step()
        return loss

    def moments(self, member: int) -> dict[str, Tensor]:
        """What the optimiser remembers of a member, entry by entry: writing to it changes that."""
        state = self._optimizers[member].state
        return {
            f"{name}/{key}": value
            for name, parameter in self.models[member].named_parameters()
            for key, value in state.get(parameter, {}).items()
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim
        }

    def optimizer_state(self, member: int) -> dict[str, Any]:
        """The state of a member's optimiser, as ``named_state`` has it; no copy."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.models[member].named_parameters()}
        return named_state(self._optimizers[member], names)

    def load_optimizer_states(self, states: Sequence[Mapping[str, Any]], vectorised: bool | None) -> None:
        """Go on from what ``optimizer_state`` gave of each member, which is not copied."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(native_state(state))


class Stacked:
    """Members of one architecture that step together: their weights lie in stacks, and the models look into these.

    Weights may be changed in place, as ``load_state_dict`` does, but not be replaced or moved.

    Args:
        models: of one architecture, on one device; their parameters and buffers become parts of the stacks.
        loss: of outputs and targets of one member, a scalar; it must work under ``torch.func.vmap``.
        optimizer: makes an optimiser of a member's parameters, one whose step treats all entries alike.

    Raises ``InvalidValueError`` where models or optimiser cannot be stacked, saying why; the models are then as they
    were. A step of batches of equal shapes is one vectorised pass; otherwise, or where ``vmap`` cannot do what a model
    does (said in a warning), members run one by one.
    """

    def __init__(self, models: Sequence[nn.Module], loss: Loss, optimizer: MakeOptimizer) -> None:
        if why := self.unfit(models):
            raise InvalidValueError(f"these models cannot be stacked: {why}; use vectorised=False")
        self.models, self._loss, self._at_once = list(models), loss, at_once(loss)
        made = optimizer(list(models[0].parameters()))
        if why := StackedOptimizer.unfit(made, models[0]):
            raise InvalidValueError(f"{why}; use vectorised=False")
        self._stacks = Stacks(models)
        self._optimizer = StackedOptimizer(made, models[0], self._stacks.parameters, len(models))
        self.vectorised: bool | None = None  # whether vmap can do it; unknown before the first step

    @staticmethod
    def unfit(models: Sequence[nn.Module]) -> str:
        """Why these models cannot be stacked; empty where they can."""
        return why_not(models)

    def step(self, batches: Sequence[Batch]) -> list[float | None]:
        """One step of each member that has a batch; the losses before it."""
        present = _present(batches, len(self.models))
        if not present:
            return [None] * len(batches)
        self._stacks.check()
        losses = self._losses([batches[i] for i in present], present)
        self._optimizer.zero_grad()
        torch.autograd.backward(losses.sum())
        self._optimizer.step(present)
        found = dict(zip(present, losses.tolist(), strict=True))
        return [found.get(i) for i in range(len(batches))]

    def moments(self, member: int) -> dict[str, Tensor]:
        """What the optimiser remembers of a member, entry by entry: writing to it changes that."""
        return self._optimizer.moments(member)

    def optimizer_state(self, member: int) -> dict[str, Any]:
        """The state of a member's optimiser as if it were alone, as ``named_state`` has it; no copy."""
        return self._optimizer.state_of(member)

    def load_optimizer_states(self, states: Sequence[Mapping[str, Any]], vectorised: bool | None) -> None:
        """Go on from what ``optimizer_state`` gave of each member, which is not copied, and from ``vectorised``.

        Raises ``InvalidValueError`` where the optimisers are not of one kind; nothing is changed then.
        """
        self._optimizer.load_states(states)
        self.vectorised = vectorised

    def _losses(self, batches: Sequence[Any], members: list[int]) -> Tensor:
        modes = {self._stacks.modes(member) for member in members}
        alike = len(modes) == 1 and all(_alike([batch[part] for batch in batches]) for part in (0, 1))
        failed: Exception | None = None
        if alike and self.vectorised is not False:
            xs, ys = (torch.stack([batch[part] for batch in batches]) for part in (0, 1))
            whole = len(members) == len(self.models) and self.vectorised is True
            try:
                with self._stacks.rows(members, whole=whole) as (parameters, buffers):
                    found = self._together(parameters, buffers, xs, ys)
            except (RuntimeError, ValueError) as error:
                if self.vectorised:
                    raise
                failed = error
            else:
                self.vectorised = True
                return _scalars(found, (len(members),))
        states = self._stacks.each(members)
        each = [_scalars(self._one(*state, x, y), ()) for state, (x, y) in zip(states, batches, strict=True)]
        if failed is not None:  # by vmap alone, for one by one it works
            self.vectorised = False
            warnings.warn(f"members run one by one, for vmap fails: {failed}", RuntimeWarning, stacklevel=4)
        return torch.stack(each)

    def _together(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], xs: Tensor, ys: Tensor) -> Tensor:
        if self._at_once is None:
            found: Tensor = vmap(self._one, randomness="different")(parameters, buffers, xs, ys)
            return found
        outputs = vmap(self._outputs, randomness="different")(parameters, buffers, xs)
        losses = self._at_once(outputs, ys) if isinstance(outputs, Tensor) else None
        return vmap(self._loss, randomness="different")(outputs, ys) if losses is None else losses

    def _outputs(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Any) -> Any:
        return functional_call(self._stacks.base, (parameters, buffers), (x,))

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Any, y: Any) -> Tensor:
        return self._loss(self._outputs(parameters, buffers, x), y)


def _present(batches: Sequence[Batch], count: int) -> list[int]:
    if len(batches) != count:
        raise InvalidValueError(f"{len(batches)} batches for {count} members; give one, or None, for each")
    return [i for i, batch in enumerate(batches) if batch is not None]


def _alike(tensors: Sequence[Any]) -> bool:
    """Whether they can lie in a stack."""
    if not all(isinstance(x, Tensor) for x in tensors):
        return False
    return len({(x.shape, x.dtype, x.device) for x in tensors}) == 1


def _scalars(losses: Tensor, shape: tuple[int, ...]) -> Tensor:
    if losses.shape != shape:
        raise InvalidValueError(f"the loss has shape {tuple(losses.shape[len(shape) :])}; it must be a scalar")
    return losses
