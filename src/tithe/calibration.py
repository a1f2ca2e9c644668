"""Running a model on calibration inputs: samples to choose by and to check by, and how far what it puts out moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.receipt import Bound

__all__ = ["Inputs", "call", "checked_inputs", "evaluating", "first_calls", "halves", "outputs", "shift"]

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]

_CONFIDENCE = 0.99


def checked_inputs(inputs: Any) -> Inputs:
    """``inputs``, if a model can be called with them and there are two samples; an error that says so otherwise.

    >>> checked_inputs(torch.zeros(1, 3))
    Traceback (most recent call last):
    tithe.errors.InvalidValueError: inputs hold 1 sample along their first axis; give 2 or more, better hundreds
    """
    if not isinstance(inputs, Tensor | tuple | Mapping):
        raise InvalidDTypeError(
            f"inputs is a {type(inputs).__name__}; pass what the model is called with: a tensor, a tuple of "
            "arguments or a mapping of keywords"
        )
    count = _samples(inputs)
    if count < 2:
        raise InvalidValueError(
            f"inputs hold {count} sample{'s' * (count != 1)} along their first axis; give 2 or more, better hundreds"
        )
    return inputs


def halves(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """The samples to choose by, and as many others to check what was chosen: every other one of the first axis.

    >>> halves(torch.arange(4))
    (tensor([0, 2]), tensor([1, 3]))
    """
    count = _samples(inputs)

    def part(value: Any, first: int) -> Any:
        shared = isinstance(value, Tensor) and value.ndim > 0 and len(value) == count
        return value[first::2].contiguous() if shared else value

    def parts(first: int) -> Inputs:
        if isinstance(inputs, Tensor):
            return part(inputs, first)  # type: ignore[no-any-return]  # of a tensor, a tensor
        if isinstance(inputs, Mapping):
            return {name: part(value, first) for name, value in inputs.items()}
        return tuple(part(value, first) for value in inputs)

    return parts(0), parts(1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; each module's own mode comes back."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def call(model: nn.Module, inputs: Inputs) -> Any:
    """What the model gives for them.

    >>> call(nn.Flatten(), (torch.ones(1, 2, 1),))
    tensor([[1., 1.]])
    """
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def outputs(model: nn.Module, inputs: Inputs) -> Tensor:
    """All floating-point numbers that the model puts out, a row for each sample."""
    result = call(model, inputs)
    found = [t for t in _tensors(result) if t.is_floating_point() and t.ndim > 0 and len(t) > 0]
    if not found:
        raise InvalidDTypeError(f"the model puts out a {type(result).__name__} without floating-point tensors")
    rows = len(found[0])
    return torch.cat([t.detach().reshape(rows, -1).float() for t in found if len(t) == rows], 1)


def first_calls(model: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module]) -> dict[str, bool]:
    """The layers that the model calls, in the order of their first call, and whether with the model's own inputs."""
    storages = {t.untyped_storage().data_ptr() for t in _tensors(inputs)}
    order: dict[str, bool] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            given = (*arguments, *named.values())[0]
            order.setdefault(name, given.untyped_storage().data_ptr() in storages)

        return hook

    hooks = [layer.register_forward_pre_hook(note(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def shift(plain: Tensor, changed: Tensor) -> Bound:
    """How far outputs have moved, sample by sample, and what that says of the next sample.

    Of n samples drawn alike, the next one lies above the k-th smallest error with probability at most 1 − k/(n + 1).

    Args:
        plain: (n, outputs).
        changed: alike, of the changed model; not the samples that the change was chosen by.

    Returns:
        A ``Bound`` of the relative error of one further sample, of scope ``calibration``. O(n · outputs).
        Source: Vovk, Gammerman and Shafer 2005 (split conformal prediction).

    >>> shift(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [4.4]])).confidence
    0.75
    """
    norms = plain.norm(dim=1)
    moved = (changed - plain).norm(dim=1)
    errors = torch.where(moved > 0, moved / norms, 0)
    n = len(errors)
    rank = min(n, -int(-_CONFIDENCE * (n + 1) // 1))
    upper = float(errors.sort().values[rank - 1])
    estimate = float(moved.norm() / norms.norm()) if float(norms.norm()) > 0 else float(errors.amax())
    return Bound(upper, estimate, min(_CONFIDENCE, n / (n + 1)), probes=n, scope="calibration")


def _samples(inputs: Inputs) -> int:
    first = next((t for t in _tensors(inputs) if t.ndim > 0), None)
    return 0 if first is None else len(first)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [t for part in parts for t in _tensors(part)]
