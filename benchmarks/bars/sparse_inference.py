"""Bars of sparse inference: time of one image through a wide perceptron, and what it costs in accuracy."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from benchmarks.bars.bar import Reading, bar
from benchmarks.sparse_inference import accuracy, compare, quantised, task, train
from tithe.parallel import threads
from tithe.resolvent.sparse import pruned, sparsify

_KEEP = 0.2
_GAIN, _LOSS = 1.5, 0.005


@bar("sparse-inference")
def sparse_inference() -> Iterator[Reading]:
    """MNIST perceptron 784→2048→2048→10, one image at once, whole forward passes against plain torch."""
    data = task()
    model = train(data)
    plain, as_int8 = accuracy(model, data), quantised(model)
    for count in (1, 2):
        with threads(count):
            sparse = copy.deepcopy(model)
            sparsify(sparse, data.train_x[:2048], keep=_KEEP)
            with pruned(sparse):
                lost = plain - accuracy(sparse, data)
            found = compare(sparse, model, data, rows=1)
            other = compare(as_int8, model, data, rows=1)
        gain = 1 / found.ratio
        figure = (
            f"{gain:.2f}× faster [{1 / found.high:.2f}, {1 / found.low:.2f}] at {100 * lost:+.2f} points lost"
            f" (int8: {1 / other.ratio:.2f}×, {100 * (plain - accuracy(as_int8, data)):+.2f})"
        )
        what = f"MNIST 784→2048→2048→10, keep={_KEEP}, batch 1, {count} thread{'s' * (count > 1)}"
        target = f"≥ {_GAIN}× at ≤ {100 * _LOSS:.1f} points"
        yield Reading(what, figure, target, gain >= _GAIN and lost <= _LOSS)
