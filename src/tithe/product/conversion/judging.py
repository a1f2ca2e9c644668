"""Whether a way is right enough and quick enough for a layer: errors on activations held out, times side by side."""

from __future__ import annotations

import math
import statistics
from copy import copy
from functools import partial

import torch
from scipy import stats
from torch import Tensor

from tithe.meter import Comparison, paired
from tithe.meter.clock import Clock
from tithe.product.conversion.layers import attach
from tithe.product.conversion.rows import Layer, matrix
from tithe.product.conversion.ways import Way
from tithe.receipt import Bound

__all__ = ["error_bound", "fewest_rows", "plain_seconds", "race"]

_CONFIDENCE = 0.99
_WAYS = 8  # that may be judged on the same rows, one after the other: they share the failure probability
_PAIRS = 9
_FEWER = (1, 16, 256)  # rows that a layer may be given instead of all


def error_bound(way: Way, layer: Layer, x: Tensor) -> Bound:
    """The relative Frobenius error of ``way`` on activations like these, its bias left out of what it is relative to.

    Rows are a sample of those to come: the mean square of errors over that of products is a ratio of means, and its
    upper limit that of the normal approximation (Cochran 1977, section 6.4), by Student's t as rows may be few. The
    confidence is that of all ways of a layer together, up to eight.

    Args:
        way: made without having seen ``x``.
        layer: that it stands for.
        x: (rows, k).

    Returns:
        A ``Bound`` of scope ``calibration``, with as many probes as rows. O(rows·n·k).
    """
    wide = matrix(layer).double()
    product = x.double() @ wide.mT
    bias = 0.0 if layer.bias is None else layer.bias.detach().double()
    wrong = (way(x).double() - bias - product).square().sum(1)
    size = product.square().sum(1)
    n, total = len(x), float(size.sum())
    if n < 2:
        return Bound(math.inf, math.inf, _CONFIDENCE, n, "calibration")
    if total == 0 or not math.isfinite(float(wrong.sum())):
        upper = 0.0 if total == 0 == float(wrong.sum()) else math.inf
        return Bound(upper, upper, _CONFIDENCE, n, "calibration")
    ratio = float(wrong.sum()) / total
    spread = float((wrong - ratio * size).square().sum()) * n / (n - 1)
    limit = ratio + float(stats.t.ppf(1 - (1 - _CONFIDENCE) / _WAYS, n - 1)) * math.sqrt(spread) / total
    return Bound(math.sqrt(limit), math.sqrt(ratio), _CONFIDENCE, n, "calibration")


def plain_seconds(layer: Layer, given: Tensor) -> float:
    """Median seconds of the plain layer."""
    clock = Clock(str(given.device))
    times = []
    for _ in range(_PAIRS):
        clock.start()
        layer(given)
        times.append(clock.stop()["seconds"] or 0.0)
    return statistics.median(times)


def race(way: Way, layer: Layer, given: Tensor) -> Comparison:
    """The layer converted to ``way`` against the plain one, on what it is given; a ratio below 1 where it is faster.

    A race that is left undecided, as by whatever else the machine does, is run once more and longer.
    """
    converted = copy(layer)  # of the same parameters
    attach(converted, way)
    calls = partial(converted, given), partial(layer, given)
    found = paired(*calls, _PAIRS, device=given.device)
    undecided = found.low < 1 <= found.high
    return paired(*calls, 4 * _PAIRS, device=given.device) if undecided else found


def fewest_rows(way: Way, layer: Layer, x: Tensor) -> int:
    """The fewest rows that the way is faster for, of those worth a try; all of ``x`` where it is for no fewer."""
    least = len(x)
    if not isinstance(layer, torch.nn.Linear):
        return 1  # pictures come whole
    for rows in sorted((r for r in _FEWER if r < len(x)), reverse=True):
        if race(way, layer, x[:rows]).high >= 1:
            break
        least = rows
    return least
