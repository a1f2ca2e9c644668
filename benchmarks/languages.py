"""Letters to phonemes in 140 languages: ``python -m benchmarks.languages [--jobs 2] [--choices]``.

Runs ``tithe hashtron languages`` on all lexica, kills it and all its workers once some languages are finished, and runs
it again: the time is that of both, and what was finished must not have been touched. Writes
benchmarks/results/languages.json. Ten minutes on one core.

With ``--choices`` it compares settings instead, the policies of the pipeline among them: on eight languages, in words
split off from their training words, as all were chosen; the held-out words are not looked at. Five minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tithe import machine
from tithe.data import describe, names
from tithe.data.locate import read
from tithe.files import write_atomically
from tithe.hashtron import SumCache
from tithe.hashtron.languages import parse, split_words
from tithe.hashtron.languages.commands import TABLE
from tithe.hashtron.languages.lexicon import Pronunciations
from tithe.hashtron.languages.ranking import Settings
from tithe.hashtron.languages.rows import Row, read_rows
from tithe.hashtron.languages.training import train_language

__all__ = ["Found", "figures", "measure"]

RESULTS = Path(__file__).parent / "results"
TUNING = ("dan", "deu", "eng", "fra", "pol", "tha", "tur", "vie")
CHOICES: dict[str, dict[str, Any]] = {
    "as they are": {},
    "contexts seen 2 times": {"least": 2},
    "contexts seen 6 times": {"least": 6},
    "1 sweep": {"sweeps": 1},
    "4 sweeps": {"sweeps": 4},
    "policy none": {"policy": "none"},
    "constant, 1024": {"policy": {"name": "constant", "premodulo": 1 << 10}},
    "law": {"policy": "law"},
    "law_n": {"policy": "law_n"},
    "reversed": {"policy": "reversed"},
    "shuffled": {"policy": {"name": "shuffled", "seed": 0}},
}
_KILL_AFTER = 20  # languages


@dataclass(frozen=True)
class Found:
    """What came of all lexica.

    Attributes:
        rows: one a language.
        seconds: of the command, killed and run again.
        killed_after: languages that were finished when it was killed.
        touched: of these, whose model was written again.
        runs: languages of which neurons were trained; not those in which no letter has a choice.
        first: of these, where the first record in the sum cache is of the last layer.
        records: neurons in the sum caches.
    """

    rows: tuple[Row, ...]
    seconds: float
    killed_after: int
    touched: int
    runs: int
    first: int
    records: int


def measure(out: Path, jobs: int) -> Found:
    """Train all languages in a folder, killed once on the way."""
    lexica = out / "lexica"
    for name in names("lexicon"):
        write_atomically(lexica / f"{name.removeprefix('lexicon:')}.tsv", read(describe(name))[0])
    models, start = out / "models", time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "tithe",
        "hashtron",
        "languages",
        str(lexica),
        "--out",
        str(models),
        "-j",
        str(jobs),
    ]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(models.glob("*.pronouncer"))) < _KILL_AFTER:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):  # it had ended
            os.killpg(process.pid, signal.SIGKILL)
    written = {path: path.stat().st_mtime_ns for path in models.glob("*.pronouncer")}
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # 1 where a language has no model
    seconds = time.perf_counter() - start
    touched = sum(path.stat().st_mtime_ns != before for path, before in written.items())
    runs = first = records = 0
    for folder in (models / "sums").iterdir():
        with SumCache(folder) as cache:
            rows = cache.records()
        runs, first, records = runs + 1, first + bool(rows["final"][0]), records + len(rows)
    return Found(tuple(read_rows(models / TABLE)), seconds, len(written), touched, runs, first, records)


def figures(rows: tuple[Row, ...]) -> dict[str, float]:
    """What the bars ask for; gains in points."""
    made = [row for row in rows if not row.error]
    gains = [100 * (row.eval - row.majority) for row in made]
    return {
        "models": len(made),
        "median_gain": statistics.median(gains),
        "least_gain": min(gains),
        "gains": sum(gain > 0 for gain in gains),
        "median_eval": statistics.median(row.eval for row in made),
        "median_majority": statistics.median(row.majority for row in made),
        "median_gap": 100 * statistics.median(row.train - row.eval for row in made),
        "median_error_rate": statistics.median(row.error_rate for row in made),
        "median_majority_error_rate": statistics.median(row.majority_error_rate for row in made),
        "fewer_errors": sum(row.error_rate < row.majority_error_rate for row in made),
        "language_seconds": sum(row.seconds for row in made),
        "median_bytes": statistics.median(row.bytes for row in made),
    }


def choices() -> dict[str, dict[str, float]]:
    """Gains, gaps and errors by settings, means over languages, on words split off from the training words."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        lexica = [_training_words(code, Path(folder)) for code in TUNING]
        for number, (name, changes) in enumerate(CHOICES.items()):
            settings = replace(Settings(), **changes)
            rows = [train_language(path, Path(folder) / str(number), settings) for path in lexica]
            found[name] = {
                "gain": 100 * statistics.mean(row.eval - row.majority for row in rows),
                "gap": 100 * statistics.mean(row.train - row.eval for row in rows),
                "error_rate": statistics.mean(row.error_rate for row in rows),
                "majority_error_rate": statistics.mean(row.majority_error_rate for row in rows),
            }
    return found


def _training_words(code: str, folder: Path) -> Path:
    """A lexicon of the words that a language is trained on."""
    words: Pronunciations = parse(read(describe(f"lexicon:{code}"))[0])
    kept = ~split_words(words.words, Settings().held_out, np.random.default_rng(Settings().seed))
    lines = (
        f"{word}\t{' '.join(sounds)}\n"
        for word, sounds in compress(zip(words.words, words.phonemes, strict=True), kept)
    )
    return write_atomically(folder / f"{code}.tsv", "".join(lines))


def _write(name: str, content: Mapping[str, Any]) -> None:
    write_atomically(
        RESULTS / name, json.dumps({"machine": machine.describe(), **content}, indent=1, ensure_ascii=False)
    )


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--choices", action="store_true")
    arguments = parser.parse_args()
    table = Table(box=None)
    if arguments.choices:
        rows = choices()
        for heading in ("settings", "points over majority", "gap", "phoneme errors", "of majority"):
            table.add_column(heading)
        for name, row in rows.items():
            table.add_row(
                name, f"{row['gain']:.1f}", f"{row['gap']:.1f}", f"{row['error_rate']:.3f}",
                f"{row['majority_error_rate']:.3f}",
            )  # fmt: skip
        _write("languages-choices.json", {"languages": TUNING, "choices": rows})
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), arguments.jobs)
        told = figures(found.rows)
        for name, value in {**asdict(replace(found, rows=())), **told}.items():
            if name != "rows":
                table.add_row(name.replace("_", " "), f"{value:.4g}")
        _write("languages.json", {"jobs": arguments.jobs, **told, **asdict(found)})
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
