"""A training that is killed again and again, and what becomes of it: ``python -m benchmarks.pipeline_crashes``.

A child trains a network backward on real handwritten digits, with a folder and a sum cache, tells of every neuron that
is finished, and writes a snapshot of the cache now and then. It is killed at random moments and started again until it
has ended; then another training begins. Every neuron that was told of must be there, with the same sums in the cache,
and the network must be that of a training which nobody killed.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tithe.data import load
from tithe.hashtron import Layer, Network, Pipeline, SumCache, Topology
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.pipeline.pipeline import Run
from tithe.hashtron.pipeline.step import Step

__all__ = ["Crashes", "crash"]

_NEURONS, _BITS, _SWEEPS, _SNAPSHOT = 45, 10, 4, 7


@dataclass
class Crashes:
    """What was seen.

    Attributes:
        kills: of the child, before it had ended.
        runs: trainings that were brought to their end.
        lost: finished neurons that were not there after a kill.
        corrupt: times that something could not be opened, or was recovered with a warning of damage.
        differing: trainings that ended in another network, in other steps, or with other records.
    """

    kills: int = 0
    runs: int = 0
    lost: int = 0
    corrupt: int = 0
    differing: int = 0


def crash(kills: int, seed: int, *, longest: float = 1.0) -> Crashes:
    """Kill a training so often, each time at most ``longest`` seconds after it began to work."""
    rng, found = random.Random(seed), Crashes()
    with tempfile.TemporaryDirectory() as folder:
        wanted = train(Path(folder) / "undisturbed", 0)
    while found.kills < kills:
        with tempfile.TemporaryDirectory() as folder:
            _until_done(Path(folder), rng, found, kills, longest)
            found.differing += not _same(Path(folder), wanted)
        found.runs += 1
    return found


def train(folder: Path, seed: int, told: bool = False) -> Run:
    """Train in a folder, or go on there; with ``told`` the number of each finished neuron is printed."""
    X, y, start = task()

    def progress(step: Step) -> None:
        if told:
            print(step.number, flush=True)
        if step.number % _SNAPSHOT == _SNAPSHOT - 1:
            cache.snapshot()

    with SumCache(folder / "sums", batch=4) as cache:
        pipeline = Pipeline(final="majority", sweeps=_SWEEPS)
        return pipeline.fit(start, X, y, seed=seed, cache=cache, folder=folder / "run", progress=progress)


def task() -> tuple[np.ndarray, np.ndarray, Network]:
    """Odd or even digits: what each neuron reads is a tuple of pixels."""
    data = load("digits")
    pixels = (data.train_x.reshape(len(data.train_x), -1) > data.train_x.max() / 2).astype(np.uint32)
    rng = np.random.default_rng(5)
    tuples = [rng.choice(pixels.shape[1], _BITS, replace=False) for _ in range(_NEURONS)]
    X = np.stack([(pixels[:, places] << np.arange(_BITS, dtype=np.uint32)).sum(1) for places in tuples], 1)
    pool = MajorityPool(width=15, height=1, subwidth=_NEURONS // 15, capwidth=15)
    start = Network.random(Topology((Layer(_NEURONS, combiner=pool), Layer(1))), rng)
    return X.astype(np.uint32), (data.train_y % 2).astype(np.int64), start


def _until_done(folder: Path, rng: random.Random, found: Crashes, kills: int, longest: float) -> None:
    command, last = [sys.executable, "-m", "benchmarks.pipeline_crashes", "--child", str(folder)], -1
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            first = process.stdout.readline()
            if first != "ready\n":
                raise RuntimeError(f"the child did not begin: {first}{process.stderr.read()}")
            if found.kills < kills:
                time.sleep(rng.uniform(0, longest))
                process.kill()
            out, error = process.communicate()
        numbers = [int(line) for line in out.split("\n")[:-1]]  # the last may be a part of one
        found.lost += bool(numbers) and numbers[0] <= last  # what was finished is trained again
        found.corrupt += process.returncode > 0 or "damaged" in error
        last = max([last, *numbers])
        if process.returncode >= 0:
            return
        found.kills += 1


def _same(folder: Path, wanted: Run) -> bool:
    """Whether a training that has ended is that which nobody killed."""
    run = train(folder, 0)
    with SumCache(folder / "sums") as cache:
        rows = cache.records()
    trained = [step for step in wanted.steps if step.kind == "trained"]
    sums = [(step.layer, step.position, step.total, step.pivotal, step.premodulo) for step in trained]
    kept = [tuple(row) for row in rows[["layer", "position", "votes", "pivotal", "premodulo"]].tolist()]
    return (
        run.network.neurons == wanted.network.neurons
        and [replace(step, seconds=0) for step in run.steps] == [replace(step, seconds=0) for step in wanted.steps]
        and kept == sums
    )


def main() -> int:
    """Kill, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        warnings.simplefilter("always")
        task()
        print("ready", flush=True)
        train(arguments.child, 0, told=True)
        return 0
    print(crash(arguments.kills, arguments.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
