"""Plasticity: permuted inputs and random labels, task after task, with renewal, its rivals, and without.

``python -m benchmarks.renormalizing [--protocol permuted labels] [--seeds 20] [--tune]``. MNIST at 14×14, a perceptron
196→100→100→10. The protocols were fixed on plain training and fresh starts. Settings for permuted inputs were chosen on
seeds 0 to 2: ten tries for each rival (``--tune`` does them again), fourteen for ours, with a look at random labels.
Ours has one setting for both protocols: the defaults of ``Renormalizer``. Seeds from 40 on are reported, since a first
reading, of 30 to 35, was too short to tell; differences are paired by seed, with 95 % intervals. Finished runs are kept
in benchmarks/results/renormalizing.json; ``--fresh`` starts anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tithe import machine
from tithe.audit import Interval, interval
from tithe.audit.renewal import CHOSEN, PROTOCOLS, TASKS, run
from tithe.files import write_atomically
from tithe.parallel import threads

RESULTS = Path(__file__).parent / "results" / "renormalizing.json"
TUNING_SEEDS, FIRST_SEED = range(3), 40
TUNING_TASKS, LAST = 10, 5
# What is tried for the rivals; "fresh" begins anew with each task, which none of the others is told of.
TRIES: dict[str, list[dict[str, Any]]] = {
    "shrink-and-perturb": [
        {"every": every, "shrink": shrink, "perturb": perturb}
        for every, shrink, perturb in (
            (125, 0.95, 0.02), (125, 0.9, 0.05), (25, 0.985, 0.02), (25, 0.99, 0.01), (25, 0.99, 0.02),
            (25, 0.99, 0.03), (25, 0.995, 0.01), (5, 0.998, 0.002), (5, 0.998, 0.005), (5, 0.9995, 0.002),
        )
    ],
    "dormant": [
        {"every": every, "threshold": threshold}
        for every, threshold in (
            (125, 0.025), (125, 0.05), (125, 0.1), (125, 0.25), (25, 0.01), (25, 0.025), (25, 0.05), (25, 0.1),
            (500, 0.025), (500, 0.1),
        )
    ],
}  # fmt: skip
ARMS = ("plain", "shrink-and-perturb", "dormant", "renormalise", "fresh")


def score(accuracies: list[float]) -> float:
    """The mean of the last five tasks, in percent."""
    return 100 * sum(accuracies[-LAST:]) / LAST


class Store:
    """Finished runs in a file."""

    def __init__(self, fresh: bool) -> None:
        self.rows: dict[str, Any] = {}
        if fresh:
            RESULTS.unlink(missing_ok=True)
        if RESULTS.exists():
            self.rows = json.loads(RESULTS.read_text())["runs"]

    def run(self, protocol: str, arm: str, seed: int, settings: dict[str, Any], count: int = TASKS) -> float:
        """The score of a run, which is done if it was not."""
        plan = PROTOCOLS[protocol]
        how = f"{'adam' if plan.adam else 'momentum'} {plan.rate:g} {plan.steps}x{plan.batch}"
        key = f"{count} {protocol} {how}, {arm}, {json.dumps(settings)}, seed {seed}"
        if key not in self.rows:
            start = time.perf_counter()
            with threads(1):
                accuracies = run(protocol, arm, seed, settings, count)
            if not RESULTS.exists():
                write_atomically(RESULTS, json.dumps({"runs": {}}))
            self.rows[key] = {"accuracies": accuracies, "seconds": time.perf_counter() - start}
            # Another process may have written meanwhile, for the other protocol.
            kept = json.loads(RESULTS.read_text())["runs"] | self.rows
            write_atomically(RESULTS, json.dumps({"machine": machine.describe(), "runs": kept}, indent=1))
            print(f"{key}: {score(accuracies):.2f} %, {self.rows[key]['seconds']:.0f} s", file=sys.stderr, flush=True)
        return score(self.rows[key]["accuracies"])


def tune(store: Store, protocol: str, arm: str) -> dict[str, Any]:
    """Of all tries on the first seed the better two go on to the other tuning seeds; the best mean of these."""
    first, *others = TUNING_SEEDS
    best = sorted(TRIES[arm], key=lambda tried: -store.run(protocol, arm, first, tried, TUNING_TASKS))[:2]
    return max(best, key=lambda tried: sum(store.run(protocol, arm, seed, tried, TUNING_TASKS) for seed in others))


def compare(
    store: Store, protocol: str, seeds: int, arms: Sequence[str] = ARMS, retune: bool = False
) -> dict[str, list[float]]:
    """Scores by arm, one for each seed."""
    found = {}
    for arm in arms:
        settings = dict(CHOSEN[protocol].get(arm, {}))
        if retune and arm in TRIES:
            settings = tune(store, protocol, arm)
            print(f"{protocol}, {arm}: {settings}", file=sys.stderr, flush=True)
        found[arm] = [store.run(protocol, arm, seed, settings) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
    return found


def difference(scores: dict[str, list[float]], arm: str, baseline: str) -> Interval:
    """Of two arms, paired by seed, in points."""
    return interval([a - b for a, b in zip(scores[arm], scores[baseline], strict=True)])


def best_rival(scores: dict[str, list[float]]) -> str:
    """The better of shrink-and-perturb and dormant resets."""
    return max(("shrink-and-perturb", "dormant"), key=lambda arm: sum(scores[arm]))


def show(scores: dict[str, list[float]], protocol: str) -> None:
    """Print one protocol's table."""
    rival = best_rival(scores)
    caption = "mean accuracy of the last five of 16 tasks; intervals of 95 %, paired by seed"
    table = Table("policy", "accuracy", "less plain", f"less {rival}", title=protocol, caption=caption)
    for arm, values in scores.items():
        cells = [in_words(difference(scores, arm, other)) if arm != other else "" for other in ("plain", rival)]
        table.add_row(arm, f"{sum(values) / len(values):.2f} %", *cells)
    Console(width=120).print(table)


def in_words(found: Interval) -> str:
    """A difference and its interval."""
    ends = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.mean:+.2f}{ends}"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tune", action="store_true", help="choose the rivals' settings again")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    arguments = parser.parse_args()
    store = Store(arguments.fresh)
    for protocol in arguments.protocol:
        show(compare(store, protocol, arguments.seeds, retune=arguments.tune), protocol)
    return 0


if __name__ == "__main__":
    sys.exit(main())
