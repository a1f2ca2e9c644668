"""The measurement of M9: two networks converted and by others, and steps of training with cheaper products."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from tithe import machine
from tithe.audit.claim import Run
from tithe.audit.claims import _m9_minilm as minilm
from tithe.audit.claims._m4_measure import load
from tithe.audit.claims._m4_network import Network, Split, train
from tithe.audit.claims._m9_networks import (
    BATCH,
    MiniLmResult,
    MlpResult,
    module,
    products_share,
    race_minilm,
    race_mlp,
)
from tithe.audit.claims._m9_training import TRAINED_BATCH, TrainingResult, race_training
from tithe.audit.evidence import Column, Evidence, Row, Table
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError
from tithe.meter import Comparison
from tithe.parallel import threads

__all__ = ["measure"]

_METHODS = ("int8", "sampled(0.3)")  # that training is tried with
_RESERVE = 8.5  # seconds of the budget for everything after the first networks are trained
_MLP, _MINILM = f"MLP, {BATCH:,} images", f"MiniLM, {minilm.TEXTS}×{minilm.TOKENS} tokens"


def measure(run: Run) -> Evidence:
    """The MLP and its training; in full mode MiniLM, too, which takes minutes to convert and to compare.

    On one thread, whose times other work on the machine disturbs least.
    """
    with threads(1):
        return _measure(run)


def _measure(run: Run) -> Evidence:
    cpu = replace(run, device="cpu")
    split, notes = load(cpu)
    networks = _trained(cpu, split, notes)
    run.progress(0.5, "converts the MLP")
    inference = [_mlp_row(found) for found in race_mlp(networks, split, run.pick(quick=11, full=41))]
    mlp, x = module(networks[0]), split.test_x[:BATCH]
    facts: dict[str, Any] = {
        "data": split.name,
        "seeds": len(networks),
        "int8 units": ", ".join(machine.describe()["int8_units"]),
    }
    facts[f"products of {_MLP}"] = products_share(mlp, lambda model: model(x))
    if run.mode == "full":
        inference += _minilm(run, facts, notes)
    else:
        notes.append("MiniLM is measured in full mode only; python -m benchmarks.convert minilm does it alone.")
    training = []
    for index, method in enumerate(_METHODS):
        if run.left() < 0:
            notes.append(f"Training by {method} was left out for want of time.")
            continue
        run.progress(0.7 + 0.3 * index / len(_METHODS), f"trains by {method}")
        steps = run.pick(quick=12, full=200)
        training.append(_training_row(method, race_training(split, method, run.seeds(1)[0], steps)))
    return Evidence({"inference": _table(inference, split), "training": _steps(training, split)}, [], facts, notes)


def _trained(run: Run, split: Split, notes: list[str]) -> list[Network]:
    epochs = run.pick(quick=1, full=3) if split.name == "MNIST" else 20
    wanted, slowest = run.seeds(run.pick(quick=3, full=10)), 0.0
    networks: list[Network] = []
    for index, seed in enumerate(wanted):
        if networks and run.left() < _RESERVE + slowest:
            notes.append(f"{index} of {len(wanted)} seeds, for want of time.")
            break
        start = time.monotonic()
        run.progress(0.5 * index / len(wanted), f"trains, seed {index + 1} of {len(wanted)}")
        networks.append(train(split, seed, epochs))
        slowest = max(slowest, time.monotonic() - start)
    return networks


def _minilm(run: Run, facts: dict[str, Any], notes: list[str]) -> list[Row]:
    try:
        model = minilm.load()
    except DataUnavailableError as missing:
        notes.append(f"MiniLM was left out: {missing}")
        return []
    run.progress(0.6, "converts MiniLM")
    learned, tested = minilm.samples()
    facts[f"products of {_MINILM}"] = products_share(model, lambda model: minilm.embed(model, tested[0]))
    return [_minilm_row(found) for found in race_minilm(model, learned, tested, 11)]


def _timing(network: str, found: MlpResult | MiniLmResult) -> dict[str, Any]:
    return {"network": network, "way": found.way.name, "kind": found.way.kind} | _ends(found.timing)


def _ends(timing: Comparison) -> dict[str, Any]:
    return {"time": timing.ratio, "low": timing.low, "high": timing.high}


def _mlp_row(found: MlpResult) -> Row:
    lost = interval(found.lost)
    return _timing(_MLP, found) | {
        "lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high,
        "accuracy": sum(found.accuracy) / len(found.accuracy), "error": None, "cosine": None,
    }  # fmt: skip


def _minilm_row(found: MiniLmResult) -> Row:
    nothing = dict.fromkeys(("lost", "lost_low", "lost_high", "accuracy"))
    return _timing(_MINILM, found) | nothing | {"error": found.error, "cosine": found.cosine}


def _training_row(method: str, found: TrainingResult) -> Row:
    (loss, plain_loss), (accuracy, plain_accuracy) = found.loss, found.accuracy
    return {"method": method, "steps": found.timing.repeats, "loss": loss, "plain_loss": plain_loss} | {
        "accuracy": accuracy, "plain_accuracy": plain_accuracy, **_ends(found.timing)
    }  # fmt: skip


def _table(rows: list[Row], split: Split) -> Table:
    columns = [
        Column("network", "network"), Column("way", "layers by"), Column("time", "time", ".0%", "low", "high"),
        Column("lost", "points lost", ".2f", "lost_low", "lost_high"), Column("accuracy", "accuracy", ".2%"),
        Column("error", "embeddings off", ".2g%"), Column("cosine", "cosine", ".4f"),
    ]  # fmt: skip
    return Table(f"Time of a batch over fp32's on one thread, and its cost; the MLP on {split.name}.", rows, columns)


def _steps(rows: list[Row], split: Split) -> Table:
    columns = [
        Column("method", "products by"), Column("time", "time of a step", ".0%", "low", "high"),
        Column("steps", "steps"), Column("loss", "loss", ".3f"), Column("plain_loss", "plain steps' loss", ".3f"),
        Column("accuracy", "accuracy", ".2%"), Column("plain_accuracy", "plain steps' accuracy", ".2%"),
    ]  # fmt: skip
    caption = f"Training of the MLP on {split.name}, {TRAINED_BATCH:,} images a step, beside plain steps on one thread."
    return Table(caption, rows, columns)
