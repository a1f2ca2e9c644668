"""An epoch: the outcomes of all its tasks, and the receipt of what running them took."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tithe.lattice.outcome import Outcome
from tithe.receipt import Cost, Receipt

__all__ = ["Epoch", "EpochReceipt", "Waits"]

_FINEST = 1e-6  # seconds; waits are counted in bins of a factor of √2


class Waits:
    """How long tasks have waited: a histogram of fixed size.

    >>> waits = Waits()
    >>> for seconds in (0.001, 0.001, 0.001, 1.0):
    ...     waits.add(seconds)
    >>> waits.longest, round(waits.quantile(0.5), 3), waits.count
    (1.0, 0.001, 4)
    """

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.count, self.longest, self.total = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        place = math.ceil(2 * math.log2(seconds / _FINEST)) if seconds > _FINEST else 0
        self._bins[place] = self._bins.get(place, 0) + 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def quantile(self, share: float) -> float:
        """Seconds that this share has not surpassed, to within a factor of √2; 0 of none."""
        left = share * self.count
        for place in sorted(self._bins):
            left -= self._bins[place]
            if left <= 0:
                return min(self.longest, _FINEST * 2 ** (place / 2))
        return 0.0


@dataclass(slots=True)
class EpochReceipt:
    """What an epoch spent, and what happened on the way.

    Attributes:
        executor: its name, and the number of workers.
        cost: seconds, CPU seconds and context switches of this process and its workers.
        voluntary: context switches of threads that waited.
        involuntary: of threads that were made to.
        cache_misses: of the last level, in this process and threads; ``None`` where they cannot be read.
        worked: seconds inside of tasks.
        scoring: seconds spent on scores.
        tasks: how many had an outcome, by status.
        retried: tries after the first.
        late: that took longer than their timeout and could not be stopped.
        resumed: that the journal had.
        missed_deadlines: that began after their deadline.
        lost_workers: that died or were killed.
        waits: how long tasks waited since they could have begun.
        plain: what the baseline would have cost, first come first served, one call at a time, from a sample of the
            tasks; ``None`` where none was asked for.
    """

    executor: str
    cost: Cost = field(default_factory=Cost)
    voluntary: int | None = None
    involuntary: int | None = None
    cache_misses: int | None = None
    worked: float = 0.0
    scoring: float = 0.0
    tasks: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    late: int = 0
    resumed: int = 0
    missed_deadlines: int = 0
    lost_workers: int = 0
    waits: Waits = field(default_factory=Waits)
    plain: Cost | None = None

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        self.tasks[outcome.status] += 1
        self.late += outcome.late
        self.resumed += outcome.resumed
        if outcome.attempts:
            self.waits.add(outcome.waited)
            self.missed_deadlines += outcome.waited > outcome.task.deadline

    @property
    def receipt(self) -> Receipt | None:
        """In the form that all of Tithe uses; ``None`` without a baseline."""
        return None if self.plain is None else Receipt(f"lattice on {self.executor}", self.cost, self.plain)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, with stable keys."""
        waits = {
            "median": self.waits.quantile(0.5), "p99": self.waits.quantile(0.99), "longest": self.waits.longest,
        }  # fmt: skip
        names = (
            "executor", "voluntary", "involuntary", "cache_misses", "worked", "scoring", "retried", "late", "resumed",
            "missed_deadlines", "lost_workers",
        )  # fmt: skip
        plain = None if self.plain is None else self.plain.to_dict()
        return {name: getattr(self, name) for name in names} | {
            "cost": self.cost.to_dict(), "plain": plain, "tasks": dict(self.tasks), "waits": waits,
        }  # fmt: skip

    def __str__(self) -> str:
        parts = [f"{count} {status}" for status, count in sorted(self.tasks.items())] or ["no tasks"]
        parts += [f"{count} {what}" for what, count in self._incidents() if count]
        lines = [f"{self.executor}: {', '.join(parts)}"]
        cost = self.cost
        times = [] if cost.seconds is None else [f"{cost.seconds:.3g} s"]
        times += [] if cost.cpu_seconds is None else [f"{cost.cpu_seconds:.3g} CPU s"]
        if cost.context_switches is not None:
            times.append(f"{cost.context_switches:.0f} context switches ({self.involuntary} involuntary)")
        times += [] if self.cache_misses is None else [f"{self.cache_misses} cache misses"]
        lines.append(", ".join([*times, f"{self.worked:.3g} s in tasks, {self.scoring:.2g} s scoring"]))
        lines.append(f"waited: median {self.waits.quantile(0.5):.2g} s, longest {self.waits.longest:.2g} s")
        if self.plain is not None and self.receipt is not None:
            shares = [
                f"{share:.0%} of the {label}"
                for unit, label in (
                    ("seconds", "seconds"),
                    ("cpu_seconds", "CPU seconds"),
                    ("context_switches", "switches"),
                )
                if (share := self.receipt.ratio(unit)) is not None
            ]
            lines.append("against first come, first served: " + ", ".join(shares))
        return "\n".join(lines)

    def _incidents(self) -> list[tuple[str, int]]:
        names = ("retried", "late", "resumed", "missed_deadlines", "lost_workers")
        return [(name.replace("_", " "), getattr(self, name)) for name in names]


@dataclass(slots=True)
class Epoch:
    """What ``run_epoch`` returns.

    Attributes:
        outcomes: of the tasks given, in their order.
        spawned: of the tasks that these have spawned, in the order in which they ended.
        receipt: what it took.
    """

    outcomes: list[Outcome]
    spawned: list[Outcome]
    receipt: EpochReceipt

    @property
    def results(self) -> list[Any]:
        """The values of the tasks given, in their order; ``None`` for a task without one: see ``check``."""
        return [outcome.value for outcome in self.outcomes]

    @property
    def ok(self) -> bool:
        """Whether every task has a value, but for those that the user's policy has pruned."""
        return not self.failures()

    def failures(self) -> list[Outcome]:
        """Outcomes without a value, pruned ones aside; those of sub-tasks last."""
        return [outcome for outcome in (*self.outcomes, *self.spawned) if not outcome.ok and outcome.status != "pruned"]

    def check(self) -> Epoch:
        """Itself, if every task has a value.

        Raises an ``ExceptionGroup`` of all errors otherwise; each has a note that names its task. One with a
        ``SystemExit`` and the like is a ``BaseExceptionGroup``.
        """
        errors = [outcome.error for outcome in self.failures() if outcome.error is not None]
        if errors:
            raise BaseExceptionGroup(
                f"{len(errors)} of {len(self.outcomes) + len(self.spawned)} tasks have no value", errors
            )
        return self
