"""Counting operations: torch's flop counter, told also of the products that it does not know by itself."""

from __future__ import annotations

import functools
import math
from typing import Any

__all__ = ["FlopCount"]


class FlopCount:
    """Counts the operations of matrix products, convolutions and attention between ``start`` and ``stop``.

    A multiply–add counts as two. Elementwise work, FFTs, decompositions and whatever runs outside torch's dispatcher
    (NumPy, numba, Triton) is not seen; a block in which nothing at all was seen gives ``None``, since that is no
    count. Only this thread and the backward passes it starts are counted. Each operation takes about 40 µs longer.

    >>> import torch
    >>> count = FlopCount()
    >>> count.start()
    >>> _ = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> count.stop()
    {'flops': 60}
    """

    def __init__(self) -> None:
        self._mode: Any = None

    def start(self) -> None:
        """Begin."""
        _warm_up()
        mode = _new_mode()
        mode.__enter__()
        self._mode = mode

    def stop(self) -> dict[str, float | None]:
        """End and return ``flops``."""
        self._mode.__exit__(None, None, None)
        return {"flops": self._mode.get_total_flops() or None}


def _new_mode() -> Any:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten
    unknown_to_torch = {
        aten._int_mm: _product, aten.mv: _product, aten.dot: _product, aten.vdot: _product,
        aten.addmv: _added_product, aten.addbmm: _added_product,
    }  # fmt: skip
    return FlopCounterMode(display=False, custom_mapping=unknown_to_torch)


@functools.cache
def _warm_up() -> None:
    """Let torch load what its counter needs (over a second, 100 MB) here, not inside the first block measured."""
    import torch

    with _new_mode():
        torch.zeros(1)


def _product(a_shape: tuple[int, ...], b_shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    columns = b_shape[-1] if len(b_shape) > 1 else 1
    return 2 * math.prod(a_shape) * columns


def _added_product(_added: Any, a_shape: tuple[int, ...], b_shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    return _product(a_shape, b_shape)
