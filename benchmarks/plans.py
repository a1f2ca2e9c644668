"""What plans keep and what they cost: ``python -m benchmarks.plans``.

Streams of like operands (are all products within the tolerance?), streams that drift on a call that is not checked
(how soon is that answered, with the guard and without it?), and the time of a call between two checks, of a call with
its share of checks and planning, and of ``tithe.matmul``. n = 1024, one thread. Writes benchmarks/results/plans.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tithe
from tithe import machine
from tithe.files import write_atomically
from tithe.meter import Comparison, paired
from tithe.parallel import threads
from tithe.product import Plan
from tithe.product.estimators import from_name
from tithe.product.pair import Pair

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "product"))
from families import FAMILIES

RESULTS = Path(__file__).parent / "results" / "plans.json"
N, TOL = 1024, 0.02
STREAMS = 100
CALLS = (3, 5, 6, 7)  # on which a stream may drift: the calls between checks before the eighth
PAIRS = 61
Maker = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


def _spread(by: float) -> Maker:
    """Uniform entries about 0.5, spread so much wider: the mean part errs by the square of that."""

    def make(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        A, B = (0.5 + by * (X - 0.5) for X in FAMILIES["uniform"](n, g))
        return A, B

    return make


def _shared(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform entries, and a profile along the contraction axis that all lines have: an error of rank one."""
    profile = 0.1 * torch.randn(n, generator=g)
    A, B = FAMILIES["uniform"](n, g)
    return A + profile, B + profile[:, None]


def _wild_row(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform entries, and one row a thousand times as large that has no mean."""
    A, B = FAMILIES["uniform"](n, g)
    A[n // 3] = 1e3 * torch.randn(n, generator=g)
    return A, B


def _wide_rows(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform entries, an eighth of the rows spread six times as wide as the others."""
    A, B = FAMILIES["uniform"](n, g)
    A[::8] = 0.5 + 6 * (A[::8] - 0.5)
    return A, B


def _few_rows(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sixteen rows, no larger than others, follow a profile that B has."""
    profile = 0.3 * torch.randn(n, generator=g)
    A, B = FAMILIES["uniform"](n, g)
    A[:16] += profile
    return A, B + profile[:, None]


def _outliers(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Normal entries, one in a thousand of them sixty times as large: int8's levels are spent on those."""
    A, B = FAMILIES["normal"](n, g)
    for X in (A, B):
        X.mul_(1 + 59 * (torch.rand(n, n, generator=g) < 1e-3))
    return A, B


# What a stream is at first -> what it becomes.
DRIFTS: dict[str, dict[str, Maker]] = {
    "uniform": {
        "normal": FAMILIES["normal"],
        "spread, error 1.05 tol": _spread((1.05 * TOL * 3 * N**0.5) ** 0.5),
        "spread, error 1.5 tol": _spread((1.5 * TOL * 3 * N**0.5) ** 0.5),
        "shared profile": _shared,
        "wild row": _wild_row,
        "an eighth of the rows": _wide_rows,
        "sixteen rows": _few_rows,
    },
    "normal": {"outliers": _outliers, "cancelling": FAMILIES["cancelling"]},
}


@dataclass
class Drift:
    """Of so many streams: how many left the tolerance at all, and how many of those were answered within it."""

    method: str
    streams: int
    left: int = 0  # those whose plan would have erred by more than tol on the first drifted call
    at_once: int = 0
    by_the_check: int = 0
    largest: float = 0.0  # relative error that was handed out


def error(C: Tensor, A: Tensor, B: Tensor) -> float:
    """Relative Frobenius error against float64."""
    truth = A.double() @ B.double()
    return float((C - truth).norm() / truth.norm())


def alike(family: str, calls: int, tol: float = TOL) -> tuple[Plan, list[float]]:
    """A plan after so many calls with like operands, and the relative error of each product."""
    g = torch.Generator().manual_seed(1)
    plan = tithe.plan(*FAMILIES[family](N, g), tol=tol, generator=g)
    errors = []
    for _ in range(calls):
        A, B = FAMILIES[family](N, g)
        errors.append(error(plan(A, B)[0], A, B))
    return plan, errors


def drifting(family: str, after: Maker, *, guarded: bool, streams: int = STREAMS) -> Drift:
    """What becomes of so many streams that drift between two checks, to stay so."""
    g = torch.Generator().manual_seed(2)
    pool = [FAMILIES[family](N, g) for _ in range(8)]
    found: Drift | None = None
    for stream in range(streams):
        plan = tithe.plan(*pool[stream % 8], tol=TOL, generator=g)
        found = found or Drift(plan.method, streams)
        first = CALLS[stream % len(CALLS)]
        for call in range(1, first):
            plan(*pool[(stream + call) % 8])
        errors, checks = [], plan.checks
        if not guarded:
            plan._guard.level = float("inf")  # whatever it sees
        while not errors or (errors[-1] > TOL and plan.checks == checks):  # at the latest on the eighth call
            A, B = after(N, g)
            C, _ = plan(A, B)
            errors.append(error(C, A, B))
            if len(errors) == 1:
                frozen = from_name(found.method).multiply(Pair(A, B), generator=g).tensor(torch.float32)
                found.left += error(frozen, A, B) > TOL
        found.at_once += errors[0] <= TOL
        found.by_the_check += errors[-1] <= TOL
        found.largest = max(found.largest, *errors)
    assert found is not None
    return found


def times(family: str, tol: float = TOL) -> tuple[str, dict[str, Comparison]]:
    """A call between two checks against ``tithe.matmul`` by the same method, by any, and against the plain product."""
    g = torch.Generator().manual_seed(3)
    A, B = FAMILIES[family](N, g)
    plan = tithe.plan(A, B, tol=tol, generator=g, check_every=1 << 30)
    others = {
        "tithe.matmul, same method": lambda: tithe.matmul(A, B, tol=tol, method=plan.method),
        "tithe.matmul": lambda: tithe.matmul(A, B, tol=tol),
        "A @ B": lambda: A @ B,
    }
    found = {}
    with threads(1):
        for _ in range(256):  # the next 255 are between two checks
            plan(A, B)
        for name, other in others.items():
            found[name] = paired(lambda: plan(A, B), other, PAIRS)
    assert plan.calls < 512 and plan.alarms == 0
    return plan.method, found


def main() -> int:
    """Measure, print and write all of it."""
    console, rows = Console(width=150), {}
    table = Table(
        "stream", "by", "calls, checks, alarms", "largest error", title=f"Like operands, tol {TOL:.0%}, n = {N}"
    )
    for family in DRIFTS:
        plan, errors = alike(family, 200)
        table.add_row(family, plan.method, f"{plan.calls}, {plan.checks}, {plan.alarms}", f"{max(errors):.2%}")
        rows[f"alike: {family}"] = {"method": plan.method, "alarms": plan.alarms, "largest": max(errors)}
    console.print(table)
    title = f"{STREAMS} streams that drift between two checks, answered within the tolerance"
    table = Table(
        "from", "to", "by", "would err above tol", "within tol at once", "by the next check", "unguarded", title=title
    )
    for family, drifts in DRIFTS.items():
        for name, after in drifts.items():
            seen, unseen = (drifting(family, after, guarded=guarded) for guarded in (True, False))
            cells = (seen.left, seen.at_once, seen.by_the_check, f"{unseen.at_once}, {unseen.by_the_check}")
            table.add_row(family, name, seen.method, *map(str, cells))
            rows[f"{family} to {name}"] = {"guarded": asdict(seen), "unguarded": asdict(unseen)}
    console.print(table)
    table = Table("stream", "by", "against", "share of its time", title="A call between two checks, one thread")
    for family in DRIFTS:
        method, found = times(family)
        for name, c in found.items():
            table.add_row(family, method, name, f"{c.ratio:.1%} [{c.low:.1%}, {c.high:.1%}]")
            rows[f"time: {family} against {name}"] = {"method": method, "ratio": c.ratio, "low": c.low, "high": c.high}
    console.print(table)
    write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "n": N, "tol": TOL, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
