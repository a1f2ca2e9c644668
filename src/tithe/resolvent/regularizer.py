"""A penalty on short waves, of activations or of gradients, to be added to any loss."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent.operator import apply, axes, checked, in_full_precision, scaled

__all__ = ["Penalties", "Regularizer", "ordered_axes"]

Form = Literal["energy", "fraction"]


class Regularizer:
    """λ times what the resolvent would remove of a signal.

    The form ``energy`` is the source's, mean |X̂ − r·X̂|²: a network can lower it by making all activations smaller.
    The form ``fraction`` divides by the signal's own energy, so only its shape counts: the share, from 0 to 1, that is
    removed.

    Args:
        strength: λ, ≥ 0.
        form: ``energy`` or ``fraction``.
        dims: axes that have an order; ``None`` takes all behind (batch, channels), or the last of fewer than three.
        phi: of the resolvent.

    Raises ``InvalidValueError`` for a strength or form that cannot be used. Source: MISSION R1.

    >>> x = torch.tensor([[1.0, -1.0, 1.0, -1.0]], requires_grad=True)
    >>> Regularizer(strength=1.0)(x)
    tensor(0.8856, grad_fn=<MulBackward0>)
    """

    def __init__(
        self,
        strength: float = 1e-4,
        *,
        form: Form = "energy",
        dims: int | Sequence[int] | None = None,
        phi: float = PHI,
    ) -> None:
        if not strength >= 0:
            raise InvalidValueError(f"strength is {strength}; use a number of at least 0")
        if form not in get_args(Form):
            raise InvalidValueError(f"form is {form!r}; use one of {', '.join(map(repr, get_args(Form)))}")
        self.strength, self.form, self.dims, self.phi = strength, form, dims, phi

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty of a signal: a scalar, float32 or float64, differentiable twice and more. O(n log n)."""
        dims = axes(x, ordered_axes(checked(x)) if self.dims is None else self.dims)
        wide = in_full_precision(x)
        if self.form == "fraction":
            wide = scaled(wide, tuple(range(x.ndim)))
        removed = (wide - apply(wide, dims, self.phi)).square()
        if self.form == "energy":
            return self.strength * removed.mean()
        return self.strength * removed.sum() / wide.square().sum().clamp(min=torch.finfo(wide.dtype).tiny)

    @contextmanager
    def watching(self, model: nn.Module, layers: str | Iterable[str]) -> Iterator[Penalties]:
        """Penalise what some layers put out, for every forward pass inside the ``with`` block.

        Args:
            model: any.
            layers: names as in ``model.named_modules()``, or patterns such as ``"blocks.*.act"``.

        Yields:
            ``Penalties``; add its ``total()`` to the loss of each step. Hooks are gone after the block.
            Raises ``InvalidValueError`` where a name fits no layer.

        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        >>> with Regularizer(1.0).watching(model, "1") as penalties:
        ...     loss = model(torch.ones(2, 8)).mean() + penalties.total()
        >>> loss.requires_grad
        True
        """
        penalties = Penalties()

        def penalise(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            penalties.add(self(checked(output).clone()))  # a copy, since layers behind may work in place

        hooks = [module.register_forward_hook(penalise) for module in _named(model, layers)]
        try:
            yield penalties
        finally:
            for hook in hooks:
                hook.remove()

    def of_gradients(self, loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
        """The penalty of the gradients of a loss, itself differentiable: gradients of gradients are taken.

        Penalising ``parameter.grad`` as it lies there changes nothing, since no graph leads from it to the parameters.
        This costs about a second backward pass.

        Args:
            loss: a scalar that still has its graph.
            parameters: those whose gradients are penalised; with ``dims=None`` the kernel axes of convolutions and the
                inputs of a Linear, while what has one axis, as biases do, has no order.

        Returns:
            The sum of penalties, a scalar; add it to the loss. Parameters without a gradient or an order count as 0.

        >>> weight = torch.tensor([[1.0, -2.0]], requires_grad=True)
        >>> penalty = Regularizer(1.0).of_gradients((weight**2).sum(), [weight])
        >>> torch.autograd.grad(penalty, weight)[0].abs().sum() > 0
        tensor(True)
        """
        parameters = list(parameters)
        found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        ordered = [g for g in found if g is not None and (g.ndim > 1 or self.dims is not None)]
        return torch.stack([loss.new_zeros(()), *(self(g).to(loss.dtype) for g in ordered)]).sum()


class Penalties:
    """Penalties that forward passes have left since the last ``total``. O(1).

    >>> penalties = Penalties()
    >>> penalties.add(torch.tensor(2.0))
    >>> penalties.total()
    tensor(2.)
    """

    def __init__(self) -> None:
        self._found: list[Tensor] = []

    def add(self, penalty: Tensor) -> None:
        """One more."""
        self._found.append(penalty)

    def total(self) -> Tensor:
        """Their sum, a scalar; the next begins at 0. ``InvalidStateError`` where no watched layer has run."""
        if not self._found:
            raise InvalidStateError("no watched layer has run since the last total(); call the model first")
        found, self._found = self._found, []
        return torch.stack(found).sum()


def ordered_axes(x: Tensor) -> tuple[int, ...]:
    """The axes that have an order by torch's convention: all behind (batch, channels), or the last of one or two.

    >>> ordered_axes(torch.zeros(32, 3, 28, 28))
    (2, 3)
    """
    return tuple(range(2, x.ndim)) if x.ndim > 2 else (x.ndim - 1,)


def _named(model: nn.Module, layers: str | Iterable[str]) -> list[nn.Module]:
    modules = dict(model.named_modules())
    wanted = [layers] if isinstance(layers, str) else list(layers)
    chosen: dict[str, nn.Module] = {}
    for pattern in wanted:
        fitting = {name: module for name, module in modules.items() if name and fnmatch.fnmatchcase(name, pattern)}
        if not fitting:
            raise InvalidValueError(f"no layer is named {pattern!r}; the model has {', '.join(filter(None, modules))}")
        chosen |= fitting
    return list(chosen.values())
