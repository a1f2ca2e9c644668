"""What a policy does to the gap, and what going backward costs: ``python -m benchmarks.hashtron_backward``.

For each task of ``tithe.audit.hashtron_tasks`` a policy is chosen by four-fold validation on what is known alone: of
those with less than half of the gap of no cap, and with a validation accuracy within half a point of the best of them,
the one that caps least. The test samples, which no choice has seen, are then answered by it and by no cap, with other
seeds. The networks have 150 hashtrons: with 45 the noise of a cap does not average out. Also interleaved runs backward
and forward. Writes benchmarks/results/hashtron_backward.json. Half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tithe import machine
from tithe.audit.hashtron_pipelines import Cost, End, Given, end, ended, overhead
from tithe.audit.hashtron_tasks import CLOTHES, DIGITS, NOISY, TASKS, WIDE, Split, all_images, present, split, topology
from tithe.audit.statistics import Interval, interval
from tithe.files import write_atomically

__all__ = ["CANDIDATES", "Gap", "choose", "gap", "overheads"]

RESULTS = Path(__file__).parent / "results" / "hashtron_backward.json"
_CHOSEN_BY, _REPORTED_ON, _FOLDS = range(2), range(100, 160), 4
_AS_GOOD = 0.005  # of validation accuracy is noise
_SHARE = 0.45  # of the gap of no cap, on validation, so that half of it is kept elsewhere

_KEYS = (2, 4, 6, 8, 11, 16, 23, 32, 64, 128, 1024)

CANDIDATES: dict[str, Given] = {
    **{f"constant {keys}": {"name": "constant", "premodulo": keys} for keys in _KEYS},
    "law": "law",
    "law, mean of 4 sums": {"name": "law", "damper": {"name": "moving_average", "window": 4}},
    "law, exponential": {"name": "law", "damper": "exponential"},
    "law_n": "law_n",
}


@dataclass(frozen=True)
class Gap:
    """A task, the policy that was chosen for it, and what it does to the answers for the test samples.

    Attributes:
        task: its name.
        policy: of :data:`CANDIDATES`.
        test: points of test accuracy over no cap, in pairs of seeds.
        share: its mean gap over that of no cap.
        none: means of no cap.
        chosen: means of the policy.
    """

    task: str
    policy: str
    test: Interval
    share: float
    none: End
    chosen: End


def choose(task: str) -> tuple[str, dict[str, tuple[float, float]]]:
    """The policy that validation speaks for; and mean train and validation accuracy of all of them, and of none."""
    scores = {
        name: _mean(
            [_validated(split(task, seed, WIDE), fold, seed, given) for seed in _CHOSEN_BY for fold in range(_FOLDS)]
        )
        for name, given in {"none": "none", **CANDIDATES}.items()
    }
    most = _SHARE * (scores["none"][0] - scores["none"][1])
    allowed = [name for name in CANDIDATES if scores[name][0] - scores[name][1] <= most]
    smallest = min(CANDIDATES, key=lambda name: scores[name][0] - scores[name][1])
    best = max((scores[name][1] for name in allowed), default=0.0)
    good = [name for name in allowed if scores[name][1] >= best - _AS_GOOD]
    return max(good, key=lambda name: scores[name][0] - scores[name][1], default=smallest), scores


def gap(task: str, policy: str) -> Gap:
    """A policy and no cap on the test samples of a task."""
    none, chosen = (
        [end(task, seed, WIDE, policy=given) for seed in _REPORTED_ON] for given in ("none", CANDIDATES[policy])
    )
    test = interval([100 * (a.test - b.test) for a, b in zip(chosen, none, strict=True)])
    means = [End(*map(statistics.mean, zip(*each, strict=True))) for each in (none, chosen)]
    return Gap(task, policy, test, means[1].gap / means[0].gap, means[0], means[1])


def overheads(repeats: int = 21) -> dict[str, Cost]:
    """Backward with cache and law over forward, on few samples and on many."""
    found = {}
    for name, known in (("English e", split("English e", 0).known), ("MNIST 4 or 9, all", all_images(0).known)):
        for policy in ("none", "law"):
            samples = f"{name}, {len(known[1]):,} samples"
            found[f"{samples}, forward with {policy}"] = overhead(known, repeats, policy=policy)
    return found


def _validated(samples: Split, fold: int, seed: int, given: Given) -> tuple[float, float]:
    known, later = samples.fold(fold, _FOLDS)
    last = ended(known, seed, held_out=later, policy=given, topology=topology(WIDE)).steps[-1]
    assert last.eval is not None
    return last.train, last.eval


def _mean(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.mean(a for a, _ in pairs), statistics.mean(b for _, b in pairs)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, help="pairs of runs that are timed")
    arguments = parser.parse_args()
    table = Table("task", "chosen", "test over no cap, points", "gap of no cap", "gap", "test", "guessing")
    answer: dict[str, Any] = {"machine": machine.describe(), "gaps": [], "validation": {}}
    for task in present(TASKS | NOISY | CLOTHES | DIGITS):
        policy, answer["validation"][task] = choose(task)
        found = gap(task, policy)
        answer["gaps"].append(asdict(found))
        test = found.test
        table.add_row(task, policy, f"{test.mean:+.2f} [{test.low:+.2f}, {test.high:+.2f}]", f"{found.none.gap:.1%}",
                      f"{found.chosen.gap:.1%}", f"{found.chosen.test:.1%}", f"{found.chosen.prior:.1%}")  # fmt: skip
    costs = overheads(arguments.repeats)
    answer["overheads"] = {name: cost._asdict() for name, cost in costs.items()}
    console = Console()
    console.print(table)
    for name, cost in costs.items():
        console.print(f"backward over forward, {name}: {cost.ratio:.3f} [{cost.low:.3f}, {cost.high:.3f}]")
    write_atomically(RESULTS, json.dumps(answer, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
