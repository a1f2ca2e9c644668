"""Front ends: compute only those coefficients of an input that carry it, and train and run on the short input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent.cosine import along, cosine_basis, cosine_rows, cosine_transform, cosine_wavenumbers
from tithe.resolvent.operator import axes, checked, response

__all__ = ["FrontEnd", "evened_out"]

Basis = Literal["dct", "pca"]
_LEAST_SPREAD = 1e-6  # of the largest: below it a coefficient is constant, and stays unscaled


class FrontEnd(nn.Module):
    """The coefficients of an input with the most r(k)·variance, centred and evened out: (n, *shape) → (n, kept).

    ``fit`` makes one from training inputs. Put it before a network whose first layer has ``kept`` inputs, or run it
    once over the data. Nothing in it is trained.

    Attributes:
        shape: of one input.
        dims: its axes that have an order.
        kept: how many coefficients are kept.
        share: of the inputs' variance that these carry.
        multiply_adds: that one input costs.

    Source: MISSION R11; Ahmed, Natarajan and Rao 1974 (DCT); the control ``pca`` is Pearson 1901.

    >>> images = torch.arange(8.0).reshape(8, 1, 1) + torch.zeros(8, 4, 4)
    >>> front = FrontEnd.fit(images, keep=2)
    >>> front(images).shape, round(front.share, 3)  # brightness is all there is
    (torch.Size([8, 2]), 1.0)
    """

    chosen: Tensor
    rows: Tensor
    mean: Tensor
    divisor: Tensor
    carried: Tensor
    places: Tensor

    def __init__(self, basis: Basis, shape: Sequence[int], dims: Sequence[int], chosen: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.basis, self.shape, self.dims = basis, tuple(shape), tuple(dims)
        self.register_buffer("chosen", chosen)  # (kept,) places in the transformed input; empty for PCA
        self.register_buffer("rows", rows)  # (kept, inputs): the coefficients as linear functions of an input
        self.register_buffer("mean", torch.zeros(len(rows)))
        self.register_buffer("divisor", torch.ones(len(rows)))
        self.register_buffer("carried", torch.zeros(()))  # what ``share`` gives; a buffer, so that files keep it
        self._prepare()
        self.register_load_state_dict_post_hook(_loaded)  # type: ignore[no-untyped-call]

    @classmethod
    def fit(
        cls,
        X: Tensor,
        *,
        keep: int | float | None = None,
        tol: float | None = None,
        basis: Basis = "dct",
        dims: int | Sequence[int] | None = None,
        whiten: float = 0.25,
        phi: float = PHI,
    ) -> Self:
        """Choose coefficients by training inputs.

        Args:
            X: training inputs (n, *shape), real; two or more.
            keep: how many coefficients, or their share of all inputs as a float in (0, 1].
            tol: instead of ``keep``: the share of variance that may be lost, in [0, 1).
            basis: ``dct``, ranked by r(k)·variance, or ``pca``, the best linear one of its size, without an order.
            dims: the axes of ``X`` that have an order, by default all but the first and, of four and more, the
                second (channels).
            whiten: how far coefficients are made equally large: 0 leaves their natural sizes, 1 gives each a standard
                deviation of 1. In between the large ones stay large, but less so; on average all have size 1.
            phi: of the resolvent; 0 ranks by variance alone.

        Returns:
            The front end. Raises ``InvalidValueError`` where not exactly one of ``keep`` and ``tol`` is given or one is
            out of range. O(n · inputs · kept), for PCA O(n · inputs²).
        """
        checked(X)
        if X.ndim < 2 or len(X) < 2:
            raise InvalidValueError(f"X has shape {tuple(X.shape)}; pass two or more inputs (n, ...)")
        if basis not in get_args(Basis):
            raise InvalidValueError(f"basis is {basis!r}; use one of {', '.join(map(repr, get_args(Basis)))}")
        dims = axes(X, tuple(range(1 if X.ndim < 4 else 2, X.ndim)) if dims is None else dims)
        if 0 in dims:
            raise InvalidValueError(f"dims is {dims}; axis 0 counts the inputs, name axes from 1 on")
        shape = tuple(X.shape[1:])
        flat = X.flatten(1).float()
        total = float(flat.var(0, unbiased=False).sum())
        inner = tuple(d - 1 for d in dims)
        if basis == "dct":
            variance = cosine_transform(X.float(), dims).flatten(1).var(0, unbiased=False)
            scores = variance * response(cosine_wavenumbers(shape, inner), phi).flatten().to(X.device)
            order = scores.argsort(descending=True, stable=True)
            count = _count(keep, tol, variance[order], total)
            chosen = order[:count].sort().values
            rows = cosine_rows(shape, inner, chosen).to(X.device)
        else:
            values, vectors = torch.linalg.eigh(torch.cov(flat.T.double(), correction=0).reshape(flat.shape[1], -1))
            count = _count(keep, tol, values.flip(0).float(), total)
            chosen, rows = torch.empty(0, dtype=torch.int64), vectors.flip(1)[:, :count].T.float().contiguous()
        front = cls(basis, shape, inner, chosen, rows)
        raw = flat @ rows.T
        spread, front.mean = raw.std(0, unbiased=False), raw.mean(0)
        front.divisor = evened_out(spread, whiten)
        front.carried = (spread.square().sum() / total).clamp(max=1) if total else torch.ones(())
        return front.to(X.device)

    @property
    def kept(self) -> int:
        """How many coefficients are kept."""
        return len(self.rows)

    @property
    def share(self) -> float:
        """Of the inputs' variance that the kept coefficients carry."""
        return float(self.carried)

    @property
    def multiply_adds(self) -> int:
        """What one input costs: a separable transform of the smallest block that holds them, or dense rows."""
        if self.basis == "pca":
            return self.rows.numel()
        left, cost = list(self.shape), 0
        for d, count in zip(self.dims, self._lengths, strict=True):
            cost += count * math.prod(left)
            left[d] = count
        return cost

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (n, *shape) as coefficients (n, kept), in the dtype of the front end."""
        if tuple(x.shape[1:]) != self.shape:
            raise InvalidValueError(f"x has shape {tuple(x.shape)}; expected (n, {', '.join(map(str, self.shape))})")
        x = x.to(self.rows.dtype)
        if self.basis == "pca":
            raw = x.flatten(1) @ self.rows.T
        else:
            block = along(x, [d + 1 for d in self.dims], [self.get_buffer(f"waves{d}") for d in self.dims])
            raw = block.flatten(1)[:, self.places]
        return (raw - self.mean) / self.divisor

    def retarget(self, linear: nn.Linear) -> nn.Linear:
        """A Linear on the kept coefficients that does what one on all inputs does, but for what was dropped.

        Args:
            linear: a layer on flattened inputs; it is not changed.

        Returns:
            A new one with ``kept`` inputs. Raises ``InvalidValueError`` where it has other inputs than ``shape``.
        """
        self._fits(linear.in_features, math.prod(self.shape))
        short = _linear_like(linear, self.kept)
        with torch.no_grad():
            weight = linear.weight @ self.rows.T.to(linear.weight.dtype)
            short.weight.copy_(weight * self.divisor)
            if linear.bias is not None:
                short.bias.copy_(linear.bias + weight @ self.mean.to(weight.dtype))
            elif self.mean.abs().max() > 0:
                raise InvalidStateError("a Linear without bias cannot take up the mean of the coefficients: add a bias")
        return short

    def fold(self, linear: nn.Linear) -> nn.Linear:
        """The front end and a Linear on its coefficients as one plain Linear on flattened inputs.

        Args:
            linear: a layer with ``kept`` inputs; it is not changed.

        Returns:
            A new one. Raises ``InvalidValueError`` where it has other inputs. O(outputs · kept · inputs).

        >>> X = torch.rand(9, 4, 4)
        >>> front, layer = FrontEnd.fit(X, keep=5), nn.Linear(5, 3)
        >>> torch.allclose(front.fold(layer)(X.flatten(1)), layer(front(X)), atol=1e-5)
        True
        """
        self._fits(linear.in_features, self.kept)
        whole = _linear_like(linear, math.prod(self.shape), bias=True)
        with torch.no_grad():
            weight = linear.weight / self.divisor
            whole.weight.copy_(weight @ self.rows.to(weight.dtype))
            moved = weight @ self.mean.to(weight.dtype)
            whole.bias.copy_(-moved if linear.bias is None else linear.bias - moved)
        return whole

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"{self.basis}, {self.shape} → {self.kept} coefficients, {self.share:.1%} of the variance"

    def _fits(self, given: int, wanted: int) -> None:
        if given != wanted:
            raise InvalidValueError(f"the layer has {given} inputs, this front end wants one with {wanted}")

    def _prepare(self) -> None:
        """Lay out what ``chosen`` implies: the smallest block of long waves that holds it, and where it lies there."""
        if self.basis == "pca":
            return
        chosen = torch.unravel_index(self.chosen, self.shape)
        self._lengths = tuple(int(chosen[d].max()) + 1 for d in self.dims)
        lengths = list(self.shape)
        for d, count in zip(self.dims, self._lengths, strict=True):
            lengths[d] = count
            waves = cosine_basis(self.shape[d], count).to(self.rows)
            self.register_buffer(f"waves{d}", waves, persistent=False)
        places = torch.zeros_like(self.chosen)
        for place, length in zip(chosen, lengths, strict=True):
            places = places * length + place
        self.register_buffer("places", places, persistent=False)


def _loaded(front: FrontEnd, _keys: object) -> None:
    """A module's function, so that front ends can be pickled."""
    front._prepare()


def evened_out(spread: Tensor, whiten: float) -> Tensor:
    """Divisors for coefficients of these standard deviations, to the power ``whiten``; on average all then have size 1.

    >>> evened_out(torch.tensor([8.0, 2.0, 0.0]), whiten=1)
    tensor([6.5320, 1.6330, 0.8165])
    """
    divisor = torch.where(spread > _LEAST_SPREAD * spread.max(), spread, 1.0).pow(whiten)
    size = (spread / divisor).square().mean().sqrt()
    return divisor * torch.where(size > 0, size, 1.0)


def _count(keep: int | float | None, tol: float | None, variance: Tensor, total: float) -> int:
    """How many coefficients, ranked, are kept."""
    if (keep is None) == (tol is None):
        raise InvalidValueError(f"keep is {keep} and tol is {tol}; give exactly one of them")
    if tol is not None:
        if not 0 <= tol < 1:
            raise InvalidValueError(f"tol is {tol}; use the share of variance that may be lost, in [0, 1)")
        lost = total - variance.double().cumsum(0)
        return min(len(variance), int((lost > tol * total).sum()) + 1)
    assert keep is not None
    count = keep if isinstance(keep, int) else max(1, round(keep * len(variance))) if 0 < keep <= 1 else 0
    if not 1 <= count <= len(variance):
        raise InvalidValueError(f"keep is {keep}; use a number from 1 to {len(variance)}, or a share in (0, 1]")
    return count


def _linear_like(linear: nn.Linear, inputs: int, bias: bool | None = None) -> nn.Linear:
    bias = linear.bias is not None if bias is None else bias
    weight = linear.weight
    return nn.Linear(inputs, linear.out_features, bias=bias, device=weight.device, dtype=weight.dtype)
