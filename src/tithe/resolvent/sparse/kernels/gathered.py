"""Products that skip small inputs in plain torch: gather the weights of the active inputs, then multiply."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["skipping"]


def skipping(floors: Tensor, columns: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """As ``tithe.resolvent.sparse.kernels.skipping``, on any device and in any floating dtype.

    >>> import torch
    >>> skipping(torch.tensor([0.5, 0.5]), torch.tensor([[2.0], [3.0]]), torch.ones(1))(torch.tensor([[1.0, 0.1]]))
    tensor([[3.]])
    """

    def product(x: Tensor) -> Tensor:
        out = x.new_empty(len(x), columns.shape[1])
        for row, target in zip(x, out, strict=True):
            which = (~(row.abs() < floors)).nonzero().squeeze(1)  # not ≥: NaN is active
            target.copy_(row.index_select(0, which) @ columns.index_select(0, which))
        return out if bias is None else out.add_(bias)

    return product
