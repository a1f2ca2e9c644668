"""What this process has used, and the cores that it may use."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Usage", "cores", "own_usage"]

_CGROUP = Path("/sys/fs/cgroup")


class Usage(NamedTuple):
    """CPU seconds, voluntary and involuntary context switches; ``None`` where nobody counts them.

    >>> Usage(3.0, 5, None).since(Usage(1.0, 2, None))
    Usage(cpu_seconds=2.0, voluntary=3, involuntary=None)
    """

    cpu_seconds: float | None
    voluntary: int | None
    involuntary: int | None

    def since(self, before: Usage) -> Usage:
        """What was used after ``before``."""
        return self._by(before, -1)

    def plus(self, other: Usage) -> Usage:
        """Of two processes together."""
        return self._by(other, 1)

    def _by(self, other: Usage, sign: int) -> Usage:
        sums: list[Any] = [None if a is None or b is None else a + sign * b for a, b in zip(self, other, strict=True)]
        return Usage(*sums)


def own_usage() -> Usage:
    """CPU seconds and context switches of all threads of this process.

    >>> own_usage().cpu_seconds > 0
    True
    """
    try:
        import resource
    except ImportError:  # Windows
        return Usage(None, None, None)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime + used.ru_stime, used.ru_nvcsw, used.ru_nivcsw)


def cores(cgroup: Path = _CGROUP) -> int:
    """How many processor cores this process may use: by its affinity, and by the quota of its control group.

    A quota of 1.5 cores counts as 2: two workers that wait now and then use it up.

    >>> cores() >= 1
    True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores that the control group grants: version 2, then 1."""
    try:
        most, period = (cgroup / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        pass
    try:
        most = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):
        return None
