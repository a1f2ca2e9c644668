"""Bars of backward training: the sum cache, the order of a run, what it costs over forward, and the gap."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator

from benchmarks import hashtron_backward, sum_cache
from benchmarks.bars.bar import Reading, bar
from tithe.audit.hashtron_pipelines import DEEP, begins_with_the_last, ended, goes_back
from tithe.audit.hashtron_tasks import CLOTHES, DIGITS, NOISY, TASKS, TOPOLOGY, present, split
from tithe.audit.sum_scans import compare, draw, filled, scans

_NEURONS, _REPEATS = 455, 21
_OVERHEAD, _LEAST, _HALF, _OVER_GUESSING = 1.1, -0.5, 0.5, 0.01


@bar("sum-cache")
def sums() -> Iterator[Reading]:
    """A million records: memory, and both queries against full scans by pandas."""
    rows = draw(sum_cache.MILLION, _NEURONS)
    cache = filled(rows)
    size = cache.nbytes / len(rows)
    yield Reading(f"memory of {len(rows):,} records", f"{size:.1f} MB", f"≤ {sum_cache.MOST_BYTES} MB",
                  size <= sum_cache.MOST_BYTES)  # fmt: skip
    scan = scans(rows)
    found, same = compare(cache, rows, scan, _REPEATS)
    for what, timed in found.items():
        holds = timed.ratio <= sum_cache.MOST_SHARE and same
        figure = f"{timed.ratio:.1e} [{timed.low:.1e}, {timed.high:.1e}] of {1e3 * timed.scan_seconds:.2g} ms"
        judged = holds if holds or importlib.util.find_spec("pandas") else None
        yield Reading(f"{what} over a full scan by {scan.name}", figure, f"≤ {sum_cache.MOST_SHARE:g}", judged)


@bar("backward-order")
def order() -> Iterator[Reading]:
    """Runs on all tasks, with every kind of last neuron, and of two depths."""
    runs = [
        ended(split(task, seed).known, seed, final=final, topology=topology, sweeps=2).steps
        for task, seed in itertools.product(present(), range(5))
        for final, topology in (("majority", TOPOLOGY), ("votes", TOPOLOGY), ("majority", DEEP), ("votes", DEEP))
    ]
    begun, back = sum(map(begins_with_the_last, runs)), sum(map(goes_back, runs))
    skips = sum(step.kind == "forward" for steps in runs for step in steps)
    yield Reading("backward runs that begin with a final neuron", f"{begun} of {len(runs)}", "all", begun == len(runs))
    yield Reading("whose layer never rises in a sweep but in skips that are logged",
                  f"{back} of {len(runs)}, {skips} skips", "all", back == len(runs))  # fmt: skip


@bar("backward-overhead")
def overhead() -> Iterator[Reading]:
    """A run backward with cache and law over one forward, for each neuron trained, in interleaved pairs."""
    for name, cost in hashtron_backward.overheads().items():
        figure = f"{cost.ratio:.3f} [{cost.low:.3f}, {cost.high:.3f}], CPU time {cost.cpu:.3f}"
        yield Reading(f"backward over forward, {name}", figure, "≤ 1.10", cost.ratio <= _OVERHEAD)


@bar("generalisation-gap")
def gap() -> Iterator[Reading]:
    """The policy that validation chooses against no cap, on test samples that no choice has seen."""
    held, better = [], 0
    for task in present(TASKS | NOISY | CLOTHES | DIGITS):
        found = hashtron_backward.gap(task, hashtron_backward.choose(task)[0])
        test = found.test
        held.append(test.low is not None and test.low >= _LEAST and found.share <= _HALF)
        better += held[-1] and found.chosen.test > found.chosen.prior + _OVER_GUESSING
        figure = (
            f"{found.policy}: test {test.mean:+.2f} [{test.low:+.2f}, {test.high:+.2f}] points over no cap, gap "
            f"{found.chosen.gap:.1%} of {found.none.gap:.1%}; test {found.chosen.test:.1%}, guessing "
            f"{found.chosen.prior:.1%}"
        )
        target = f"lower end ≥ {_LEAST}, gap ≤ {_HALF:.0%} of it"
        yield Reading(f"{task}: {'holds' if held[-1] else 'does not'}", figure, target, None)
    figure = f"{sum(held)} of {len(held)}, {better} of them better than guessing"
    yield Reading("tasks of those named beforehand", figure, "≥ 3", sum(held) >= 3)
