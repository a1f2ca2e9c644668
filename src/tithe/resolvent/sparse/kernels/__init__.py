"""Products that skip the weights of small inputs: compiled for float32 on CPUs, by Triton on CUDA, plain elsewhere."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tithe.resolvent.sparse.kernels import gathered

__all__ = ["Product", "skipping"]

Product = Callable[[Tensor], Tensor]


def skipping(floors: Tensor, columns: Tensor, bias: Tensor | None) -> Product:
    """The function x ↦ ``x̃ columns + bias``, where x̃ is x without entries of ``|x| < floors``.

    The weights of those entries are not read.

    Args:
        floors: (inputs,), on the device of ``columns``.
        columns: (inputs, outputs), contiguous: the transpose of a linear layer's weight.
        bias: (outputs,), or ``None``. Later changes in place of any of the three are seen.

    Returns:
        A function of (rows, inputs), of the dtype and on the device of ``columns``, that gives (rows, outputs): up to
        rounding the same on every device, and the same bits each time. O(active inputs · outputs).

    >>> skipping(torch.tensor([0.5, 0.5]), torch.tensor([[2.0], [3.0]]), None)(torch.tensor([[1.0, 0.1]]))
    tensor([[2.]])
    """
    ways: Any = gathered
    if columns.is_cuda:
        ways = _triton() or gathered
    elif columns.device.type == "cpu" and columns.dtype == torch.float32:
        ways = _compiled() or gathered
    product: Product = ways.skipping(floors, columns, bias)
    return product


@functools.cache
def _compiled() -> Any:
    """The compiled loops, or nothing where numba's JIT is switched off."""
    from numba import config

    return None if config.DISABLE_JIT else importlib.import_module("tithe.resolvent.sparse.kernels.compiled")


@functools.cache
def _triton() -> Any:
    """The Triton kernel, or nothing where Triton is not installed."""
    try:
        return importlib.import_module("tithe.resolvent.sparse.kernels.triton_rows")
    except ImportError:
        return None
