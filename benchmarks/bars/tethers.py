"""Bars of tethers: populations against independent members, regrouping, detaching, peers that are killed."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.bars.bar import Reading, bar
from benchmarks.populations import RESULTS, gain, measure
from tithe.meter import paired
from tithe.parallel import threads
from tithe.tether import Population, attach, detach

_LEAST = {"alike": 7.0, "conflict": 4.0}
_ROOT = Path(__file__).parents[2]


@bar("tether-populations")
def populations() -> Iterator[Reading]:
    """Four members with 200 images each, one default policy; what was measured before is taken over."""
    for name in ("mnist", "fashion-mnist"):
        path = RESULTS / f"populations-{name}-sgd.json"
        kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else measure(name, "sgd")
        for kind, least in _LEAST.items():
            found = kept[kind]
            over = gain(found, "population", "independent")
            figure = f"{over.mean:+.1f} points [{over.low:+.1f}, {over.high:+.1f}] over independent"
            yield Reading(found["title"], figure, f"≥ +{least:.0f}", over.mean >= least)
        short = gain(kept["conflict"], "known groups", "population").mean
        always = gain(kept["conflict"], "always merge", "independent").mean
        figure = f"{short:+.1f} points (always merging {always:+.1f} over independent)"
        yield Reading(f"{name}, conflicting labels, behind known groups", figure, "≤ 1.5", short <= 1.5)
        rows = kept["regrouping"]
        found_all = all(row["found"] is not None for row in rows)
        worst = max((row["intervals"] or 99) for row in rows)
        yield Reading(f"{name}, eight members, three unknown groups, {len(rows)} seeds",
                      f"groups {'found' if found_all else 'NOT found'}, again {worst} intervals after a change at most",
                      "found, ≤ 5 intervals", found_all and worst <= 5)  # fmt: skip


@bar("tether-speed")
def speed() -> Iterator[Reading]:
    """A step of eight small models together, against one of a single model in a plain loop, two threads."""
    x, y = torch.randn(8, 32, 196, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=1e-3)

    def network() -> nn.Sequential:
        return nn.Sequential(nn.Linear(196, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    start = network()
    members = [copy.deepcopy(start) for _ in range(8)]
    population = Population(members, nn.functional.cross_entropy, adam, fixed=[[i] for i in range(8)])
    optimizer = adam(start.parameters())

    def one() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(start(x[0]), y).backward()
        optimizer.step()

    with threads(2):
        timed = paired(lambda: population.step([(part, y) for part in x]), one, 201)
    figure = f"{timed.ratio:.2f}× [{timed.low:.2f}, {timed.high:.2f}]"
    yield Reading("eight members 196 → 128 → 64 → 10 over one plain model", figure, "≤ 3×", timed.ratio <= 3)


@bar("tether-detach")
def detaching() -> Iterator[Reading]:
    """Outputs before and after baking tethers in, and whether the plain class takes the state."""
    generator = torch.Generator().manual_seed(0)

    def plain() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
        ).eval()

    model, x = plain(), torch.randn(16, 3, 8, 8, generator=generator)
    attach(model, init="uniform", generator=generator)
    before = model(x)
    fresh = plain()
    fresh.load_state_dict(detach(model).state_dict())
    worst = max(float((found(x) - before).abs().max() / before.abs().max()) for found in (model, fresh))
    yield Reading(
        "detached, and loaded into the plain class", f"{worst:.1e} of the largest output", "≤ 1e-6", worst <= 1e-6
    )


@bar("tether-crashes")
def crashes() -> Iterator[Reading]:
    """Two processes that exchange states, one killed with -9 in mid-exchange, ten times by folder and ten by store."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "tests/tether/test_exchange_crashes.py"]
    done = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=_ROOT, capture_output=True, text=True, timeout=900)
    passed, failed = (int((re.findall(rf"(\d+) {word}", done.stdout) or ["0"])[-1]) for word in ("passed", "failed"))
    yield Reading("kill -9 in mid-exchange: the other finishes, only valid merges, the killed one rejoins",
                  f"{passed} of {passed + failed} tests pass", "all", done.returncode == 0 and passed > 20)  # fmt: skip
