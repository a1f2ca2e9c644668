"""A sparse Linear whose kept columns follow the golden-ratio sequence, so that only its values are stored."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.resolvent.golden_columns import collect, expand, golden_columns, row_products

__all__ = ["GoldenLinear", "csr_bytes"]

Starts = Literal["sequence", "energy"]

_FEW = 128  # inputs up to which products from the values alone are at least as fast as by a dense matrix
_CELLS = 1 << 22  # of indicators that are compared at once


class GoldenLinear(nn.Module):
    """x · Wᵀ + b where each row of W keeps k columns by the golden-ratio sequence, in any other column it is 0.

    Row i keeps ``golden_indices(in_features, k, start=i·k)``: each row goes on where the one above it ended, so that
    all columns are used equally often (to within a few) and each row spreads evenly over its inputs. Stored are the
    values, (out_features, k); a row may have a start of its own, one int32. At density 0.2 that is half the memory of
    CSR with int32 indices and a third of that with int64.

    It saves memory, not time. On a CPU, without gradients and for up to 128 inputs at once, products are formed from
    the values alone: no slower than by a dense matrix made for the moment, which is the way taken otherwise, but for
    one input several times slower than a dense or CSR product that has its matrix at hand: ``to_csr`` where there is
    room for it. ``python -m benchmarks.golden_layout`` tells the ratios, and the accuracy against other masks.

    Args:
        in_features: columns of W.
        out_features: rows of W.
        density: share of the columns that is kept, in (0, 1]; k is rounded and at least 1.
        bias: whether there is a b.
        starts: where each row enters the sequence, (out_features,) integers from 0; ``None`` is i·k.
        generator: for the initial values, which are as of ``nn.Linear`` with k inputs; ``None`` takes torch's own.
        device: of the parameters.
        dtype: of the parameters.

    Raises ``InvalidValueError`` for sizes, a density or starts that cannot be used.
    Source: MISSION R6.

    >>> layer = GoldenLinear(784, 256, density=0.2)
    >>> layer.values.shape, layer(torch.ones(3, 784)).shape
    (torch.Size([256, 157]), torch.Size([3, 256]))
    >>> round(layer.nbytes / csr_bytes(256, 157, torch.float32, torch.int32), 2)  # the bias is in neither
    0.5
    """

    starts: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        density: float,
        bias: bool = True,
        *,
        starts: Tensor | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise InvalidValueError(f"the layer has {in_features} inputs and {out_features} outputs; use at least 1")
        self.in_features, self.out_features = in_features, out_features
        self.k = _kept(in_features, density)
        if starts is not None:
            if starts.shape != (out_features,) or starts.is_floating_point():
                raise InvalidValueError(
                    f"starts are {starts.dtype} {tuple(starts.shape)}; give ({out_features},) integers"
                )
            starts = starts.to(device, torch.int32)
        self.register_buffer("starts", starts)
        self.values = nn.Parameter(torch.empty(out_features, self.k, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        golden_columns(in_features, 0, self._entries())  # says at once which starts are out of range
        with torch.no_grad():
            for parameter in self.parameters(recurse=False):
                parameter.uniform_(-1 / math.sqrt(self.k), 1 / math.sqrt(self.k), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features), differentiable twice and more in x, values and bias."""
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise InvalidValueError(f"x has shape {tuple(x.shape)}; its last axis must be {self.in_features} long")
        tensors = [x, *self.parameters(recurse=False)]
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)) and not torch.is_autocast_enabled(
            "cpu"
        ):
            flat = x.reshape(-1, self.in_features)
            found = row_products(self.values, flat, self._entries()) if 0 < len(flat) <= _FEW else None
            if found is not None:
                found = found if self.bias is None else found + self.bias
                return found.reshape(*x.shape[:-1], self.out_features)
        return nn.functional.linear(x, self.to_dense(), self.bias)

    def columns(self) -> Tensor:
        """The columns that each row keeps, (out_features, k) int64, computed anew. O(out_features · k)."""
        return golden_columns(self.in_features, self.k, self._entries())

    def to_dense(self) -> Tensor:
        """W, (out_features, in_features), through which gradients reach the values."""
        return expand(self.values, self.in_features, self._entries())

    def to_csr(self, index_dtype: torch.dtype = torch.int64) -> Tensor:
        """W as a tensor of torch's CSR layout with int32 or int64 indices, detached. O(out_features · k log k)."""
        columns, order = self.columns().sort(1)
        rows = torch.arange(self.out_features + 1, device=columns.device) * self.k
        values = self.values.detach().gather(1, order).flatten()
        size = (self.out_features, self.in_features)
        return torch.sparse_csr_tensor(rows.to(index_dtype), columns.flatten().to(index_dtype), values, size)

    @property
    def nbytes(self) -> int:
        """Bytes of what stands for W: values, and starts where rows have their own."""
        return sum(t.numel() * t.element_size() for t in (self.values, self.starts) if t is not None)

    def extra_repr(self) -> str:
        """What ``repr`` tells."""
        own = "" if self.starts is None else ", own starts"
        return f"{self.in_features}, {self.out_features}, k={self.k}, bias={self.bias is not None}{own}"

    @classmethod
    def from_dense(
        cls, weight: Tensor, density: float, bias: Tensor | None = None, *, starts: Starts | Tensor = "sequence"
    ) -> GoldenLinear:
        """The entries of a dense matrix that lie on a golden layout; the others are lost.

        Args:
            weight: (out_features, in_features), floating point.
            density: share of the columns that is kept.
            bias: (out_features,), or none.
            starts: ``"sequence"`` for i·k; ``"energy"`` gives each row the one of in_features starts that keeps the
                largest sum of squares, and stores it; or the starts themselves.

        Returns:
            A layer with copies of what is kept. Raises ``InvalidDTypeError`` or ``InvalidValueError`` for what is no
            such matrix. O(out_features · in_features), times in_features for ``"energy"``, as a matrix product.

        >>> layer = GoldenLinear.from_dense(torch.eye(5), density=0.4, starts="energy")
        >>> layer.to_dense().sum()  # each row found its one entry
        tensor(5., grad_fn=<SumBackward0>)
        """
        if not weight.is_floating_point():
            raise InvalidDTypeError(f"weight has dtype {weight.dtype}; pass a floating-point matrix")
        if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            shapes = tuple(weight.shape), None if bias is None else tuple(bias.shape)
            raise InvalidValueError(f"weight and bias have shapes {shapes}; pass (outputs, inputs) and (outputs,)")
        if isinstance(starts, str):
            if starts not in get_args(Starts):
                raise InvalidValueError(f"starts is {starts!r}; use 'sequence', 'energy' or a tensor of integers")
            own = _most_energetic(weight.detach(), _kept(weight.shape[1], density)) if starts == "energy" else None
        else:
            own = starts
        out_features, in_features = weight.shape
        layer = cls(in_features, out_features, density, bias is not None, starts=own, device=weight.device,
                    dtype=weight.dtype, generator=torch.Generator(weight.device))  # fmt: skip
        with torch.no_grad():
            layer.values.copy_(collect(weight, layer.k, layer._entries()))
            if bias is not None and layer.bias is not None:
                layer.bias.copy_(bias)
        return layer

    @classmethod
    def from_csr(cls, matrix: Tensor, bias: Tensor | None = None, *, starts: Tensor | None = None) -> GoldenLinear:
        """The layer of a CSR matrix that has the columns of a golden layout, as ``to_csr`` gives it.

        Args:
            matrix: (out_features, in_features), CSR.
            bias: (out_features,), or none.
            starts: those of the layout, where they are not i·k.

        Raises ``InvalidValueError`` where an entry lies elsewhere: nothing is lost silently. O(rows · columns).
        """
        if matrix.layout != torch.sparse_csr:
            raise InvalidValueError(f"matrix has layout {matrix.layout}; pass one of torch.sparse_csr")
        counts = matrix.crow_indices().diff()
        k = int(counts[0])
        if k < 1 or (counts != k).any():
            raise InvalidValueError(f"rows keep {int(counts.min())} to {int(counts.max())} entries; a golden layout "
                                    "keeps as many in each, use from_dense(matrix.to_dense(), density)")  # fmt: skip
        dense = matrix.to_dense()
        layer = cls.from_dense(dense, k / matrix.shape[1], bias, starts="sequence" if starts is None else starts)
        if (layer.columns().sort(1).values.flatten() != matrix.col_indices()).any():
            raise InvalidValueError("columns are not those of the golden layout with these starts; "
                                    "use from_dense(matrix.to_dense(), density) to keep what lies on it")  # fmt: skip
        return layer

    def _entries(self) -> Tensor:
        """Where each row enters the sequence, int64."""
        if self.starts is not None:
            return self.starts.long()
        return torch.arange(self.out_features, device=self.values.device) * self.k


def csr_bytes(rows: int, kept: int, values: torch.dtype, indices: torch.dtype) -> int:
    """Bytes of a CSR matrix that keeps ``kept`` entries in each row, as torch stores it.

    >>> csr_bytes(256, 157, torch.float32, torch.int64)
    484360
    """
    return rows * kept * (values.itemsize + indices.itemsize) + (rows + 1) * indices.itemsize


def _kept(n: int, density: float) -> int:
    if not 0 < density <= 1:
        raise InvalidValueError(f"density is {density}; use a share in (0, 1]")
    return max(1, round(density * n))


def _most_energetic(weight: Tensor, k: int) -> Tensor:
    """For each row the start, of as many as there are columns, whose columns have the largest sum of squares."""
    rows, n = weight.shape
    energy = weight.float().square()
    best, starts = energy.new_full((rows,), -1), torch.zeros(rows, dtype=torch.int64, device=weight.device)
    for first in range(0, n, max(1, _CELLS // n)):
        candidates = torch.arange(first, min(first + max(1, _CELLS // n), n), device=weight.device)
        kept = expand(energy.new_ones(len(candidates), k), n, candidates)
        most, which = (energy @ kept.t()).max(1)
        better = most > best
        best, starts = torch.where(better, most, best), torch.where(better, candidates[which], starts)
    return starts
