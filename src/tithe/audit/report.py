"""The outcome of an audit, and its form as plain JSON types."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tithe.audit.claim import Claim, Finding, Mode
from tithe.audit.evidence import Evidence

__all__ = ["Report", "Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """One claim after its measurement.

    Attributes:
        claim: the claim.
        finding: its verdict.
        evidence: what was measured; empty where nothing was.
        seconds: how long measuring and judging took; ``None`` where it did not run.
        error: the traceback of an unexpected exception, else ``None``.

    >>> from tithe.audit import discover
    >>> Result(discover()[0], Finding("unmeasured", "Not yet.")).to_dict()["verdict"]
    'unmeasured'
    """

    claim: Claim
    finding: Finding
    evidence: Evidence = field(default_factory=Evidence)
    seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types, with stable keys."""
        claim, finding = self.claim, self.finding
        return {
            "id": claim.id,
            "title": claim.title,
            "says": claim.says,
            "claimed": claim.claimed,
            "baseline": claim.baseline,
            "verdict": finding.verdict,
            "summary": finding.summary,
            "measured": finding.measured,
            "condition": finding.condition,
            "reason": finding.reason,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "budget": claim.budget,
            **self.evidence.to_dict(),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """An audit: where, when and how it ran, and the result of every claim that was asked for.

    Attributes:
        version: of Tithe.
        date: of the start, ISO 8601 in UTC.
        mode: ``"quick"`` or ``"full"``.
        device: the device measured on.
        seed: the seed of the audit.
        machine: as ``tithe.machine.describe`` returns it.
        results: one per claim, in order.
        interrupted: whether it was stopped before the last claim.

    >>> report = Report("0.1.0", "2026-01-01T00:00:00+00:00", "quick", "cpu", 0, {"cores": 2}, (), interrupted=True)
    >>> report.exit_code, report.to_dict()["claims"]
    (130, [])
    """

    version: str
    date: str
    mode: Mode
    device: str
    seed: int
    machine: dict[str, Any]
    results: tuple[Result, ...]
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """What a command-line tool returns: 130 if interrupted, 1 after an unexpected error, else 0."""
        if self.interrupted:
            return 130
        return int(any(result.error is not None for result in self.results))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types, with stable keys."""
        run = {"mode": self.mode, "device": self.device, "seed": self.seed}
        return {
            "tithe": self.version,
            "date": self.date,
            **run,
            "interrupted": self.interrupted,
            "machine": self.machine,
            "claims": [{**result.to_dict(), **run} for result in self.results],
        }

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
