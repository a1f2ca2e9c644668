"""What is remembered of a member's losses: of this interval, of earlier ones, and when its probe began."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Watch"]

_IN_A_ROW = 5  # steps: one batch may be bad luck, these are not


@dataclass
class Watch:
    """Losses of one member since its probe began.

    Attributes:
        first: the loss when it began, NaN until a batch came.
        losses: means of the intervals since then.
        worst: the highest mean of five steps in a row, of the last interval.
        intervals: that were closed since then.
        before: the weights when it began (of the last decision, where plateaus matter).
    """

    first: float = math.nan
    losses: list[float] = field(default_factory=list)
    worst: float = math.nan
    intervals: int = 0
    before: dict[str, Tensor] = field(default_factory=dict)
    _now: list[float] = field(default_factory=list)
    _row: deque[float] = field(default_factory=lambda: deque(maxlen=_IN_A_ROW))
    _peak: float = -math.inf

    @property
    def last(self) -> float:
        """The mean loss of the last interval that had any, else the first."""
        return self.losses[-1] if self.losses else self.first

    def add(self, loss: float | None) -> None:
        """Take the loss of a step, if the member had one."""
        if loss is not None:
            self._now.append(loss)
            self._row.append(loss)
            mean = sum(self._row) / len(self._row)
            if len(self._row) == _IN_A_ROW and not (mean <= self._peak or math.isnan(self._peak)):  # NaN is the worst
                self._peak = mean

    def close(self) -> None:
        """The interval is over."""
        self.intervals += 1
        if self._now:
            self.losses.append(sum(self._now) / len(self._now))
        self.worst = self._peak if self._peak != -math.inf else self.last
        self._now, self._peak = [], -math.inf

    def alarmed(self, share: float) -> bool:
        """Whether so large a share of all that was gained since the probe began is lost again.

        >>> watch = Watch(first=2.0, losses=[1.0, 0.5, 0.9], worst=1.6)
        >>> watch.alarmed(0.5), watch.alarmed(0.9)
        (True, False)
        """
        best = min((loss for loss in self.losses if not math.isnan(loss)), default=self.first)
        return bool(self.losses) and not self.worst <= best + share * max(self.first - best, 0.0)

    def restart(self) -> None:
        """A probe begins: where the member has a loss, from there."""
        self.first, self.intervals = (self.worst if self.losses else self.first), 0
        self.losses, self._now, self._peak = [], [], -math.inf
        self._row.clear()

    def state_dict(self) -> dict[str, Any]:
        """All of it, in lists and numbers; the weights as they are, no copy."""
        return {
            "first": self.first, "losses": list(self.losses), "worst": self.worst, "intervals": self.intervals,
            "before": dict(self.before), "now": list(self._now), "row": list(self._row), "peak": self._peak,
        }  # fmt: skip

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Watch:
        """The watch that ``state_dict`` told of.

        >>> Watch.of(Watch(first=2.0, losses=[1.0]).state_dict()).last
        1.0
        """
        found = cls(state["first"], list(state["losses"]), state["worst"], state["intervals"], dict(state["before"]))
        found._now, found._peak = list(state["now"]), state["peak"]
        found._row.extend(state["row"])
        return found
