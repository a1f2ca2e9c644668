"""When a descent has stalled: by its loss, its dormant nodes or the rank of what it represents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tithe.tether.homogeneity import homogeneity

__all__ = ["Descent", "Stall"]

_ASLEEP = 0.1  # of the mean activity of a layer


@dataclass(frozen=True)
class Stall:
    """When a descent counts as stalled: where any of these holds. A limit of ``None`` is not looked at.

    Attributes:
        slope: the mean loss between two looks fell by less than this share of what it was.
        dormant: a larger share than this of all hidden nodes has an activity below a tenth of their layer's mean.
        rank: a layer's representation has less than this share of the effective rank that it began with.

    >>> Stall(dormant=None).slope
    0.01
    """

    slope: float | None = 0.01
    dormant: float | None = 0.25
    rank: float | None = 0.5


class Descent:
    """Follows a descent between two looks whether it has stalled.

    Args:
        limits: what counts as a stall.

    >>> descent = Descent(Stall(slope=0.01))
    >>> for loss in (2.0, 1.0, 1.0):
    ...     descent.add(loss)
    ...     print(descent.stalled({}))
    None
    None
    slope
    """

    def __init__(self, limits: Stall) -> None:
        self._limits = limits
        self._sum: Tensor | float = 0.0
        self._count, self._before = 0, math.inf
        self._first: dict[str, float] = {}
        self._seen: dict[str, Tensor] = {}

    def add(self, loss: Tensor | float) -> None:
        """Take in the loss of a step; a tensor stays where it is until the next look."""
        self._sum = self._sum + (loss.detach() if isinstance(loss, Tensor) else float(loss))
        self._count += 1

    def see(self, name: str, h: Tensor) -> None:
        """Take in a batch's representation at a layer, (samples, ...); the first sets the rank to compare with."""
        if self._limits.rank is not None:
            self._seen[name] = h
            if name not in self._first:
                self._first[name] = homogeneity(h.flatten(1)).rank

    def stalled(self, activity: Mapping[str, Tensor]) -> str | None:
        """Which limit is passed, if any; what was added is then behind.

        Args:
            activity: mean |h| of the nodes by layer.

        Returns:
            ``"slope"``, ``"dormant"``, ``"rank"`` or ``None``. O(samples² · features) for ranks.
        """
        before, mean = self._before, float(self._sum) / self._count if self._count else math.inf
        self._before, self._sum, self._count = mean, 0.0, 0
        limits = self._limits
        if limits.slope is not None and math.isfinite(before) and mean > before - limits.slope * abs(before):
            return "slope"
        if limits.dormant is not None and activity:
            asleep = torch.cat([nodes <= _ASLEEP * nodes.mean() for nodes in activity.values()])
            if float(asleep.float().mean()) > limits.dormant:
                return "dormant"
        if limits.rank is not None:
            for name, h in self._seen.items():
                if homogeneity(h.flatten(1)).rank < limits.rank * self._first[name]:
                    return "rank"
        return None

    def state_dict(self) -> dict[str, Any]:
        """All there is to go on from."""
        return {"sum": float(self._sum), "count": self._count, "before": self._before, "first": dict(self._first)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self._sum, self._count, self._before = float(state["sum"]), int(state["count"]), float(state["before"])
        self._first = dict(state["first"])
