"""Bars of ``convert``: a classifier and an encoder against fp32 and the int8 of torch and torchao, in one run."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import convert
from benchmarks.bars.bar import Reading, bar
from tithe.audit.claims._m9_networks import BATCH, MiniLmResult
from tithe.audit.claims._m9_peers import CHANNEL, CONVERTED, TENSOR, TORCHAO
from tithe.audit.formatting import show
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError
from tithe.parallel import threads

_GAIN = 1.5
_TIME, _ERROR, _COSINE = 0.5, 1 / 3, 0.998


@bar("convert-mlp")
def convert_mlp() -> Iterator[Reading]:
    """MNIST 784→512→256→10, converted, against fp32 on all threads and on one."""
    for count in _counts():
        with threads(count):
            try:
                results = convert.mlp()
            except DataUnavailableError as missing:
                yield Reading("MNIST", str(missing).partition(". ")[0], f"≥ {_GAIN}×", None)
                return
        parts = []
        for found in results:
            lost, timing = interval(found.lost), found.timing
            parts.append(
                f"{found.way.name}: {1 / timing.ratio:.2f}× [{1 / timing.high:.2f}, {1 / timing.low:.2f}], "
                f"{show(lost.mean, '.3f')} points lost [{show(lost.low, '.3f')}, {show(lost.high, '.3f')}]"
            )
        gain = 1 / next(found.timing.ratio for found in results if found.way.kind == CONVERTED)
        what = f"MNIST MLP, batch {BATCH}, {_threads(count)}, {len(results[0].lost)} seeds"
        yield Reading(what, "; ".join(parts), f"≥ {_GAIN}× faster than fp32", gain >= _GAIN)


@bar("minilm")
def encoder() -> Iterator[Reading]:
    """MiniLM, 32×128 tokens, converted: time and embeddings beside fp32, both kinds of dynamic int8, and torchao."""
    for count in _counts():
        where = f"MiniLM, {_threads(count)}"
        with threads(count):
            try:
                results = {found.way.kind: found for found in convert.encoder()}
            except DataUnavailableError as missing:
                yield Reading(where, str(missing), f"≤ {_TIME:.0%} of fp32", None)
                return
        ours = results[CONVERTED]
        yield Reading(f"{where}: time", _time(ours), f"≤ {_TIME:.0%} of fp32", ours.timing.ratio <= _TIME)
        yield Reading(f"{where}: cosine to fp32", f"{ours.cosine:.4f}", f"≥ {_COSINE}", ours.cosine >= _COSINE)
        for kind, most in ((TENSOR, None), (CHANNEL, _ERROR), (TORCHAO, 1.0)):
            yield from _against(where, ours, kind, results.get(kind), most)


def _against(
    where: str, ours: MiniLmResult, kind: str, other: MiniLmResult | None, most: float | None
) -> Iterator[Reading]:
    """Quicker than a peer, and at no more than a share of its error."""
    if other is None:
        yield Reading(f"{where}: beside {kind}", "not installed", "faster", None)
        return
    name = other.way.name
    figure = f"{ours.timing.ratio:.1%} against {_time(other)} of fp32"
    yield Reading(f"{where}: time beside {name}", figure, "less", ours.timing.ratio < other.timing.ratio)
    if most is not None:
        figure = f"{ours.error:.2%} against {other.error:.2%}"
        target = f"≤ {most:.0%} of it"
        yield Reading(f"{where}: embedding error beside {name}", figure, target, ours.error <= most * other.error)


def _counts() -> list[int]:
    return sorted({torch.get_num_threads(), 1}, reverse=True)


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _time(found: MiniLmResult) -> str:
    return f"{found.timing.ratio:.1%} [{found.timing.low:.1%}, {found.timing.high:.1%}]"
