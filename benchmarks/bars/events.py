"""Bar of the events of a pipeline: what telling the ledger of every neuron costs the training."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.bars.bar import Reading, bar
from tithe import data
from tithe.hashtron import Layer, Network, Pipeline, Topology
from tithe.hashtron.combiners import MajorityPool
from tithe.hashtron.pipeline.events import LedgerEvents
from tithe.hashtron.pipeline.step import Step
from tithe.meter import paired

_CALLS = 2000
_MOST_MICROSECONDS, _MOST_RATIO = 10, 1.05
_STEP = Step(0, 0, 0, 3, "trained", "gold", 1, False, 1000, 100, 40, 10, 64, 0.7, 0.6, 0.5, 0.01)


@bar("pipeline-events")
def events() -> Iterator[Reading]:
    """A call of ``LedgerEvents``, and a whole run with events beside one without."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        with LedgerEvents(path, "calls", room=10 * _CALLS) as told:
            calls = statistics.median(_seconds(told) for _ in range(5)) * 1e6 / _CALLS
        yield Reading("a call", f"{calls:.2g} µs", f"≤ {_MOST_MICROSECONDS} µs", calls <= _MOST_MICROSECONDS)
        images = data.load("digits")
        pixels = np.random.default_rng(0).integers(0, 64, (45, 10))
        X = ((images.train_x.reshape(-1, 64) > 7)[:, pixels] << np.arange(10)).sum(2)
        start = Network.random(
            Topology((Layer(45, combiner=MajorityPool(15, 1, 3, capwidth=15)), Layer(1))), np.random.default_rng(0)
        )

        def run(progress: LedgerEvents | None) -> None:
            Pipeline(final="majority", policy="none").fit(start, X, images.train_y % 2, seed=0, progress=progress)

        with LedgerEvents(path, "runs") as told:
            timed = paired(lambda: run(told), lambda: run(None), 15)
        figure = f"{timed.ratio:.3f} [{timed.low:.3f}, {timed.high:.3f}]"
        yield Reading("a run with events / without", figure, f"≤ {_MOST_RATIO}", timed.ratio <= _MOST_RATIO)


def _seconds(told: LedgerEvents) -> float:
    begun = time.perf_counter()
    for _ in range(_CALLS):
        told(_STEP)
    seconds = time.perf_counter() - begun
    told.flush()
    return seconds
