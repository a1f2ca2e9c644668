"""Members with few samples each that merge where they agree: ``python -m benchmarks.populations [--data mnist]``.

Four members with 200 images of 14×14 pixels each, all of one task or two of them under permuted labels; 400 steps on
batches of 32 (``--setting sgd``: 196 → 128 → 64 → 10, momentum; ``adam``: 196 → 256 → 10). One default ``MergePolicy``
against independent members, merging always, known groups, pooled data (also M times the steps), ensembles, soups and
PAPA-style averaging. Every arm takes its rate from 5,000 held-out training images with five seeds; six others read the
test set, paired by seed. Then eight members in three groups that nobody tells, one of which changes its task half way.
Writes benchmarks/results/populations-*.json. About fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tithe import machine
from tithe.audit import interval
from tithe.audit.populations import MEMBERS, SETTINGS, Setting, arms, images, regrouping, shards
from tithe.files import write_atomically
from tithe.parallel import threads

RESULTS = Path(__file__).parent / "results"
TUNING, TESTING = range(5), range(20, 26)  # 10 to 15 read the test set when rates were chosen with three seeds


def race(name: str, conflict: bool, setting: Setting, names: list[str] | None = None) -> dict[str, Any]:
    """Accuracies by arm on the test set, each at the rate that was best on held-out images."""
    kind = [0, 0, 1, 1] if conflict else [0] * MEMBERS
    groups = [[0, 1], [2, 3]] if conflict else [list(range(MEMBERS))]
    held, test = images(name, "held out"), images(name, "test")
    title = f"{name}, {'two of four under other labels' if conflict else 'all alike'}, {setting.name}"
    scores: dict[str, Any] = {}
    with threads(1), Progress(console=Console(stderr=True)) as bar:
        step = bar.add_task(title, total=len(TUNING) * len(setting.rates) + len(TESTING))
        tuning: dict[str, dict[float, list[float]]] = {}
        for seed in TUNING:
            for rate in setting.rates:
                for arm, measure in arms(shards(held, kind, seed), groups, seed, setting, rate):
                    if not names or arm in names:
                        tuning.setdefault(arm, {}).setdefault(rate, []).append(measure())
                bar.advance(step)
        best = {arm: max(found, key=lambda r: np.mean(found[r])) for arm, found in tuning.items()}
        for seed in TESTING:
            for rate in setting.rates:
                for arm, measure in arms(shards(test, kind, seed), groups, seed, setting, rate):
                    if best.get(arm) == rate:
                        scores.setdefault(arm, {"rate": rate, "scores": []})["scores"].append(measure())
            bar.advance(step)
    return {"title": title, "conflict": conflict, "arms": scores}


def gain(found: dict[str, Any], arm: str, over: str) -> Any:
    """The paired difference of two arms in points, with its 95 % interval."""
    pairs = zip(found["arms"][arm]["scores"], found["arms"][over]["scores"], strict=True)
    return interval([a - b for a, b in pairs])


def measure(name: str, setting_name: str) -> dict[str, Any]:
    """Both races and the regrouping on one data set; also written to a file."""
    setting, kept = SETTINGS[setting_name], {"machine": machine.describe()}
    for kind in ("alike", "conflict"):
        kept[kind] = race(name, kind == "conflict", setting)
    with threads(1):
        rate = kept["conflict"]["arms"]["population"]["rate"]
        kept["regrouping"] = [regrouping(name, seed, setting, rate) for seed in TESTING]
    write_atomically(RESULTS / f"populations-{name}-{setting_name}.json", json.dumps(kept, indent=1))
    return kept


def show(found: dict[str, Any]) -> None:
    """Print one race."""
    table = Table("arm", "rate", "accuracy", "over independent", title=found["title"])
    for arm, row in found["arms"].items():
        over = gain(found, arm, "independent")
        table.add_row(arm, f"{row['rate']:g}", f"{np.mean(row['scores']):.1f} %",
                      f"{over.mean:+.1f} [{over.low:+.1f}, {over.high:+.1f}]")  # fmt: skip
    Console().print(table)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"], choices=["mnist", "fashion-mnist"])
    parser.add_argument("--setting", default="sgd", choices=SETTINGS)
    arguments = parser.parse_args()
    for name in arguments.data:
        kept = measure(name, arguments.setting)
        for kind in ("alike", "conflict"):
            show(kept[kind])
        for row in kept["regrouping"]:
            print(f"{name}, seed {row['seed']}: groups found after {row['found']} steps, "
                  f"again {row['intervals']} intervals after the change")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
