"""The measurement of H8: lexica trained as the command does it, and a decision tree on the same letters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from tithe.audit.claim import Run
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.data import available, describe, names
from tithe.data.locate import read
from tithe.files import write_atomically
from tithe.hashtron import SumCache
from tithe.hashtron.languages import letter_accuracy, letter_samples, parse, phoneme_error_rate, spoken
from tithe.hashtron.languages.commands import train_languages
from tithe.hashtron.languages.contexts import REACH
from tithe.hashtron.languages.ranking import Settings

__all__ = ["measure"]

_QUICK = 28  # of all lexica in alphabetical order every 28th, so that nobody has chosen them
_COLUMNS = (
    Column("language", "language"), Column("rows", "words"), Column("eval", "letters right", ".1%"),
    Column("usual", "usual phonemes", ".1%"), Column("tree", "tree", ".1%"), Column("errors", "errors", ".3f"),
    Column("usual_errors", "usual phonemes", ".3f"), Column("tree_errors", "tree", ".3f"),
    Column("error", "no model, since"),
)  # fmt: skip


def measure(run: Run) -> Evidence:
    """Train, and compare on held-out words; quick every 28th lexicon, one after the other, full all, in processes."""
    lexica = [name for name in names("lexicon") if available(name)][:: run.pick(quick=_QUICK, full=1)]
    run.need(
        bool(lexica), "the lexica of letters and phonemes (tithe data lexicon:pol tells where they are looked for)"
    )
    settings = Settings(seed=run.seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "lexica" / f"{name.removeprefix('lexicon:')}.tsv" for name in lexica]
        for name, path in zip(lexica, paths, strict=True):
            write_atomically(path, read(describe(name))[0])
        found = train_languages(
            Path(folder) / "lexica", Path(folder) / "models", settings=settings,
            executor=run.pick(quick="inline", full="processes"),
            tell=lambda done, of: run.progress(0.7 * done / of, f"{done} of {of} languages trained"),
        )  # fmt: skip
        rows: list[Row] = []
        for number, (row, path) in enumerate(zip(found, sorted(paths), strict=True)):
            run.progress(0.7 + 0.3 * number / len(paths), f"a tree for {row.language}")
            rows.append({
                "language": row.language, "rows": row.rows, "eval": row.eval, "usual": row.majority,
                "errors": row.error_rate, "usual_errors": row.majority_error_rate, "error": row.error,
                **({"tree": 0.0, "tree_errors": 0.0} if row.error else _tree(path, settings)),
            })  # fmt: skip
        facts = _order(Path(folder) / "models" / "sums")
    made = [row for row in rows if not row["error"]]
    apart = interval([100 * (row["eval"] - row["tree"]) for row in made])
    facts |= dict(zip(("over_tree", "over_tree_low", "over_tree_high"), apart, strict=True))
    facts["fewer_than_tree"] = sum(row["errors"] < row["tree_errors"] for row in made)
    here = sum(map(available, names("lexicon")))
    notes = [] if here == len(names("lexicon")) else [f"Of {len(names('lexicon'))} lexica {here} are here."]
    return Evidence({"languages": Table("Held-out words", rows, _COLUMNS)}, [_plot(made)], facts, notes)


def _tree(path: Path, settings: Settings) -> dict[str, float]:
    """A decision tree on the codes of seven letters, with scikit-learn's defaults: BASELINES' strongest."""
    samples = letter_samples(
        parse(path.read_bytes()), seed=settings.seed, width=2 * REACH + 1, held_out=settings.held_out
    )
    train, held = samples.train, samples.held_out
    known = train.labels >= 0
    tree = DecisionTreeClassifier(random_state=settings.seed).fit(train.windows[known], train.labels[known])
    labels = np.asarray(tree.predict(held.windows), np.int64)
    said = spoken(samples.chunks, labels, held.edges)
    return {"tree": letter_accuracy(held, labels), "tree_errors": phoneme_error_rate(said, held.phonemes)}


def _order(sums: Path) -> dict[str, Any]:
    """Of how many languages neurons were trained, and how many runs began with the last layer."""
    first = []
    for folder in sums.glob("*"):
        with SumCache(folder) as cache:
            first.append(bool(cache.records()["final"][0]))
    return {"runs": len(first), "first": sum(first)}


def _plot(rows: list[Row]) -> Plot:
    """Gains over each letter's usual phonemes, languages by ours."""
    ordered = sorted(rows, key=lambda row: row["eval"] - row["usual"])
    places = list(range(1, len(ordered) + 1))
    ours, trees = ([100 * (row[key] - row["usual"]) for row in ordered] for key in ("eval", "tree"))
    series = [Series("hashtrons", places, ours), Series("decision tree", places, trees, role="baseline")]
    return Plot("Letters right in held-out words", Axis("languages"), Axis("points over usual phonemes"), series)
