"""Bars of the resolvent: steps and multiply–adds to a target, a short first layer, golden layouts, overheads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import golden_layout, gradient_filter, monitor
from benchmarks.bars.bar import Reading, bar
from benchmarks.training import PLANS, in_words, measure, measured, saved
from tithe.parallel import threads
from tithe.resolvent import GoldenLinear, csr_bytes

_SEEDS = 12
_STACK, _BASELINES = "full stack", ["constant rate", "cosine"]
# Least savings: of steps against a constant rate, of steps against cosine, of multiply–adds against cosine.
_LEAST = {"mlp": (0.30, 0.10, 0.65), "cnn": (0.20, 0.10, 0.20)}


@bar("resolvent-training")
def training() -> Iterator[Reading]:
    """Fashion-MNIST to 86 % (MLP) and 88 % (CNN): the full stack against tuned baselines, paired by seed."""
    for net, least in _LEAST.items():
        names = [*_BASELINES, _STACK]
        if net == "cnn" and not (torch.cuda.is_available() or measured(net, "fashion-mnist", _SEEDS, names)):
            yield Reading("cnn on fashion-mnist", "needs a GPU", "as for the MLP", None)
            continue
        rows = _rows(net, "fashion-mnist", names)
        ours, cosine = rows[_STACK], rows["cosine"]
        what = f"{net} on fashion-mnist to {PLANS[net, 'fashion-mnist'].target:.0%}"
        for (baseline, unit), bound in zip(
            (("constant rate", "steps"), ("cosine", "steps"), ("cosine", "multiply_adds")), least, strict=True
        ):
            found = saved(ours, rows[baseline], unit)
            named = f"{what}, {unit.replace('_', '–')} saved against {baseline}"
            holds = found is not None and found.mean >= bound and (found.low or 0) > 0
            yield Reading(named, in_words(found), f"≥ {bound:.0%}, interval above 0", holds)
        lost = float(np.mean(cosine["accuracy"]) - np.mean(ours["accuracy"]))
        yield Reading(f"{what}, accuracy lost to cosine", f"{100 * lost:+.2f} points", "≤ 0.3 points", lost <= 0.003)


@bar("resolvent-first-layer")
def first_layer() -> Iterator[Reading]:
    """A first layer on 38 % of the inputs, chosen by cosine or principal components, against all pixels."""
    names = ["front end of 38 %, averaged", "PCA of 38 %, averaged"]
    for data in ("fashion-mnist", "mnist"):
        rows = _rows("mlp", data, ["averaged", *names])
        lost = [float(np.mean(rows["averaged"]["accuracy"]) - np.mean(rows[name]["accuracy"])) for name in names]
        figure = f"DCT {100 * lost[0]:+.2f}, PCA {100 * lost[1]:+.2f} points lost"
        yield Reading(f"first layer at 38 % of its multiply–adds, {data}", figure, "DCT ≤ 0.5 points", lost[0] <= 0.005)


@bar("golden-layout")
def layout() -> Iterator[Reading]:
    """Bytes of a golden layer over those of CSR with the same numbers; accuracy against random masks."""
    layer = GoldenLinear(1024, 1024, 0.2, bias=False)
    ours = sum(tensor.numel() * tensor.element_size() for tensor in layer.state_dict().values())
    for bits, dtype in ((64, torch.int64), (32, torch.int32)):
        share = ours / csr_bytes(layer.out_features, round(0.2 * layer.in_features), torch.float32, dtype)
        yield Reading(f"golden layout at 20 %, CSR of int{bits}", f"{share:.1%} of CSR's bytes", "≤ 60 %", share <= 0.6)
    with threads(1):
        mean, half = golden_layout.interval([run["golden"] - run["random"] for run in golden_layout.runs(_SEEDS)])
    what = f"golden layout at 20 %, MNIST, {_SEEDS} seeds"
    yield Reading(what, f"{mean:+.2f} ± {half:.2f} points to random masks", "lower end ≥ −0.3", mean - half >= -0.3)


@bar("resolvent-overhead")
def overhead() -> Iterator[Reading]:
    """What filtering gradients and watching coherence cost a step; on a CPU with one thread."""
    for device in ("cpu", "cuda"):
        most = gradient_filter.MOST[device]
        batch, edge = gradient_filter.BATCH[device], gradient_filter.EDGE
        what = f"GradientFilter, ResNet-18, batch {batch} of {edge}×{edge} pixels, {device}"
        if device == "cuda" and not torch.cuda.is_available():
            yield Reading(what, "needs a GPU", f"≤ {most:.0%} of a step", None)
            continue
        with threads(1):
            whole, alone = gradient_filter.overhead(
                "3×3", device, gradient_filter.REPEATS[device], gradient_filter.BATCH[device]
            )
            network = monitor.NETWORKS[device]
            watched = monitor.overheads(network, device, gradient_filter.REPEATS["cpu"])["stride 1"]["overhead"][0]
        cost = alone.ratio if device == "cpu" else whole.ratio - 1
        yield Reading(what, f"{cost:.1%} of a step", f"≤ {most:.0%}", cost <= most)
        yield Reading(
            f"Monitor at stride 50, {network}, {device}", f"{watched:.1%} of a step", "≤ 3 %", watched <= 0.03
        )


def _rows(net: str, data: str, names: list[str]) -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = measure(net, data, _SEEDS, device, names, fresh=False)
    return {row["recipe"]: row for row in rows}
