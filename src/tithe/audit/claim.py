"""A claim: what a source says, how it is measured, and how the verdict follows from the measurement alone."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from tithe.audit.evidence import Evidence
from tithe.errors import InvalidValueError, UnmeasurableError

if TYPE_CHECKING:
    import torch

__all__ = ["VERDICTS", "Claim", "Finding", "Mode", "Run", "Verdict"]

Mode = Literal["quick", "full"]
Verdict = Literal["holds", "holds if", "fails", "unmeasured"]
VERDICTS: tuple[Verdict, ...] = ("holds", "holds if", "fails", "unmeasured")
_ID = re.compile(r"[A-Z][1-9][0-9]*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on a claim, with the figures that it follows from.

    Attributes:
        verdict: ``"holds"``, ``"holds if"``, ``"fails"`` or ``"unmeasured"``.
        summary: the verdict in one sentence, for the table at the top.
        measured: the figures that stand opposite the claimed ones, short.
        reason: why, in as many sentences as it takes; a line break begins a new paragraph.
        condition: for ``"holds if"`` alone: under which condition.

    Raises ``InvalidValueError`` for an unknown verdict, or a condition that is missing or out of place.

    >>> Finding("holds if", "Within 1% on uniform inputs.", "0.7%", condition="the entries have a mean").verdict
    'holds if'
    """

    verdict: Verdict
    summary: str
    measured: str = ""
    reason: str = ""
    condition: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InvalidValueError(f"unknown verdict {self.verdict!r}; use one of {', '.join(VERDICTS)}")
        if bool(self.condition) != (self.verdict == "holds if"):
            raise InvalidValueError(
                f"verdict {self.verdict!r} with condition {self.condition!r}: 'holds if' needs a condition, others none"
            )


@dataclass(frozen=True, slots=True)
class Run:
    """The circumstances of one measurement, handed to ``Claim.measure``.

    Attributes:
        mode: ``"quick"`` (within the claim's budget, on two cores) or ``"full"`` (as long as it takes).
        device: ``"cpu"`` or ``"cuda"``, as torch names it.
        seed: every random figure of the measurement derives from it.
        deadline: on the clock of ``time.monotonic``; past it, a claim leaves optional work out and notes so.
        watch: told the share done (0 to 1) and what is being done.

    >>> run = Run(mode="quick", seed=7)
    >>> run.pick(quick=(64, 256), full=(64, 256, 8192)), run.seeds(3)
    ((64, 256), (7000, 7001, 7002))
    """

    mode: Mode = "quick"
    device: str = "cpu"
    seed: int = 0
    deadline: float = math.inf
    watch: Callable[[float, str], None] | None = None

    def pick(self, *, quick: _T, full: _T) -> _T:
        """The one of the two that belongs to this mode."""
        return quick if self.mode == "quick" else full

    def seeds(self, count: int) -> tuple[int, ...]:
        """``count`` seeds for repeats: the same for the same ``seed``, none shared with another one."""
        return tuple(self.seed * 1000 + index for index in range(count))

    def generator(self, *key: object) -> torch.Generator:
        """A generator on the device, seeded by ``seed`` and the key, so that adding a part leaves the others alone."""
        import torch

        digest = hashlib.blake2b(repr((self.seed, *key)).encode(), digest_size=7).digest()
        return torch.Generator(self.device).manual_seed(int.from_bytes(digest, "big"))

    def left(self) -> float:
        """Seconds left of the budget: infinite in full mode, negative when it is overdrawn."""
        return self.deadline - time.monotonic()

    def progress(self, done: float, what: str) -> None:
        """Report the share done (0 to 1) and what comes next, in a few words."""
        if self.watch is not None:
            self.watch(min(max(done, 0.0), 1.0), what)

    def need(self, present: bool, what: str) -> None:
        """Raise ``UnmeasurableError`` naming ``what`` unless it is present: the claim then ends as unmeasured.

        >>> Run().need(False, "two GPUs")
        Traceback (most recent call last):
        ...
        tithe.errors.UnmeasurableError: needs two GPUs
        """
        if not present:
            raise UnmeasurableError(f"needs {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of a source, and the whole of its audit.

    Attributes:
        id: its number, a capital and digits (``"M2"``).
        title: what it is about, in a few words.
        says: what the source says, in our words.
        claimed: the figures claimed, short.
        baseline: what a user would otherwise run, and what the measurement compares with.
        budget: seconds that a quick measurement may take on two cores.
        measure: makes the evidence. It may raise ``UnmeasurableError``, ``DataUnavailableError`` or
            ``ModuleNotFoundError`` where something is missing; the claim then ends as unmeasured.
        judge: a pure function of the evidence; two judgements of the same evidence are the same.

    Raises ``InvalidValueError`` for an id or a budget that cannot be used.

    >>> claim = Claim(
    ...     id="X1", title="Sum", says="One and one make two.", claimed="2", baseline="counting", budget=1.0,
    ...     measure=lambda run: Evidence(facts={"sum": 1 + 1}),
    ...     judge=lambda found: Finding("holds" if found.facts["sum"] == 2 else "fails", "Counted."),
    ... )
    >>> claim.judge(claim.measure(Run())).verdict
    'holds'
    """

    id: str
    title: str
    says: str
    claimed: str
    baseline: str
    budget: float
    measure: Callable[[Run], Evidence]
    judge: Callable[[Evidence], Finding]

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidValueError(f"claim id {self.id!r}: expected a capital letter and a number, such as M2")
        if not 0 < self.budget < math.inf:
            raise InvalidValueError(f"claim {self.id}: budget {self.budget!r}; expected seconds above 0")

    @property
    def order(self) -> tuple[str, int]:
        """Sorts claims by letter, then number: M2 before M10."""
        return self.id[0], int(self.id[1:])
