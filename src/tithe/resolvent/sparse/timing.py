"""For how many rows at once a sparse layer is faster than the plain one, measured where it stands."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tithe.meter import paired
from tithe.resolvent.sparse.layers import SparseLinear, place_of

__all__ = ["ROWS", "Race", "race"]

ROWS = (1, 2, 4, 8)
_PAIRS = 61  # of one call each: those that something else disturbs do not move the interval
_SAMPLES = 32  # rows that take turns, so that no set of active inputs stays in the cache


@dataclass(frozen=True)
class Race:
    """One comparison of a layer with and without skipping.

    Attributes:
        rows: how many samples at once.
        dense: median seconds of a call of the plain layer.
        sparse: of the one that skips.
        ratio: median of sparse over dense, pair by pair.
        high: upper end of its confidence interval.
    """

    rows: int
    dense: float
    sparse: float
    ratio: float
    high: float

    @property
    def won(self) -> bool:
        """Whether skipping is faster beyond doubt."""
        return self.high < 1


@torch.inference_mode()
def race(layer: SparseLinear, x: Tensor) -> tuple[Race, ...]:
    """Time the layer for 1, 2, 4 and 8 rows, until skipping is no longer faster; the layer skips from then on.

    Args:
        layer: in evaluation mode.
        x: inputs to draw rows from, (rows, inputs).

    Returns:
        The races, the lost one included. O(calls); some hundred calls of the layer either way.
    """
    sample = x[torch.linspace(0, len(x) - 1, _SAMPLES).long()].contiguous()
    layer.pruning.place = place_of(sample)
    races, won = [], 0
    for rows in ROWS:
        layer.pruning.rows = rows
        parts = torch.split(sample, rows)
        skipping, plain = _in_turn(layer.forward, parts), _in_turn(partial(nn.Linear.forward, layer), parts)
        found = paired(skipping, plain, _PAIRS, device=x.device)
        races.append(Race(rows, found.seconds[1], found.seconds[0], found.ratio, found.high))
        if not races[-1].won:
            break
        won = rows
    layer.pruning.rows = won
    return tuple(races)


def _in_turn(call: Callable[[Tensor], Tensor], parts: Iterable[Tensor]) -> Callable[[], Tensor]:
    """``call`` with the next part at each call, round and round."""
    turns = itertools.cycle(parts)
    return lambda: call(next(turns))
