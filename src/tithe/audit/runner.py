"""Runs claims one after the other and keeps what is finished, whatever happens next."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tithe import __version__, machine
from tithe.audit.claim import Claim, Finding, Mode, Run
from tithe.audit.evidence import Evidence
from tithe.audit.page import render
from tithe.audit.report import Report, Result
from tithe.errors import DataUnavailableError, InvalidValueError, UnmeasurableError
from tithe.files import write_atomically
from tithe.lattice import Lattice, Task

__all__ = ["Event", "audit"]


@dataclass(frozen=True, slots=True)
class Event:
    """What an audit tells its watcher: a claim, the share of it done (0 to 1), what it does, and its result at the end.

    >>> Event("M2", 0.5, "n = 512").result is None
    True
    """

    claim: str
    done: float
    what: str
    result: Result | None = None


def audit(
    claims: Sequence[Claim],
    out: str | os.PathLike[str],
    *,
    mode: Mode = "quick",
    device: str = "cpu",
    seed: int = 0,
    watch: Callable[[Event], None] | None = None,
) -> Report:
    """Measure claims, judge them, and write ``report.json`` and ``report.html``.

    ``report.json`` is rewritten, whole, after every finished claim. A claim that lacks something ends as unmeasured,
    with what it lacks; one that raises anything else ends as unmeasured with the traceback. ``KeyboardInterrupt``
    stops the audit; what is finished is kept.

    Args:
        claims: in the order in which to run.
        out: the folder for the report; made where missing.
        mode: ``"quick"`` or ``"full"``.
        device: ``"cpu"`` or ``"cuda"``.
        seed: of all that is random.
        watch: called with every ``Event``.

    Returns:
        The report. Raises ``InvalidValueError`` for an unknown mode or a device that is not there, and ``OSError``
        (before anything is measured) where ``out`` cannot be written.

    >>> import tempfile
    >>> from tithe.audit import Claim, Evidence, Finding
    >>> claim = Claim(
    ...     id="X1", title="Sum", says="", claimed="2", baseline="", budget=1.0,
    ...     measure=lambda run: Evidence(), judge=lambda found: Finding("holds", "So it is."),
    ... )
    >>> audit([claim], tempfile.mkdtemp()).results[0].finding.verdict
    'holds'
    """
    if mode not in ("quick", "full"):
        raise InvalidValueError(f"unknown mode {mode!r}; use quick or full")
    _check_device(device)
    out = Path(out)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    described = machine.describe()
    finished: list[Result] = []

    def report(rest: str, interrupted: bool = False) -> Report:
        pending = [Result(claim, Finding("unmeasured", rest, reason=rest)) for claim in claims[len(finished) :]]
        return Report(__version__, date, mode, device, seed, described, (*finished, *pending), interrupted)

    def save(report: Report) -> None:
        write_atomically(out / "report.json", report.to_json())

    interrupted = False
    try:
        save(report("not reached yet"))
        tasks = [Task(_settle, claim, mode, device, seed, watch, name=claim.id) for claim in claims]
        with Lattice(executor="inline", chunk=1) as lattice:  # one at a time: they measure
            for outcome in lattice.as_completed(tasks, name="audit"):
                if outcome.error is not None:
                    raise outcome.error
                result: Result = outcome.value
                finished.append(result)
                save(report("not reached yet"))
                if watch is not None:
                    watch(Event(result.claim.id, 1.0, result.finding.verdict, result))
    except KeyboardInterrupt:
        interrupted = True
    final = report("interrupted", interrupted)
    save(final)
    write_atomically(out / "report.html", render(final.to_dict()))
    return final


def _settle(claim: Claim, mode: Mode, device: str, seed: int, watch: Callable[[Event], None] | None) -> Result:
    start = time.monotonic()
    run = Run(
        mode=mode,
        device=device,
        seed=seed,
        deadline=start + claim.budget if mode == "quick" else math.inf,
        watch=None if watch is None else lambda done, what: watch(Event(claim.id, done, what)),
    )
    run.progress(0.0, "starts")
    evidence, error = Evidence(), None
    try:
        evidence = claim.measure(run)
        finding = claim.judge(evidence)
    except (UnmeasurableError, DataUnavailableError) as missing:
        finding = _unmeasured(str(missing))
    except Exception as unexpected:
        if _is_optional(unexpected):
            finding = _unmeasured(f"needs the package {getattr(unexpected, 'name', None)!r}, which is not installed")
        else:
            error = traceback.format_exc()
            finding = _unmeasured(f"unexpected {type(unexpected).__name__}: {unexpected}")
    return Result(claim, finding, evidence, time.monotonic() - start, error)


def _unmeasured(why: str) -> Finding:
    return Finding("unmeasured", (why.splitlines() or ["no reason given"])[0], reason=why)


def _is_optional(error: Exception) -> bool:
    name: Any = getattr(error, "name", None)
    return isinstance(error, ModuleNotFoundError) and isinstance(name, str) and name.split(".")[0] != "tithe"


def _check_device(device: str) -> None:
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise InvalidValueError(f"unknown device {device!r}; use cpu or cuda")
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise InvalidValueError(f"device {device!r}: torch sees no CUDA device here; use cpu")
