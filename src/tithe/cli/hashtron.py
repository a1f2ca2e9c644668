"""``tithe hashtron``: models of pronunciation, and what moves and compares pipelines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from tithe.cli.console import OUT, print_rows, remark, steps

__all__ = ["hashtron"]

hashtron = App(name="hashtron", help="Networks of one-bit neurons: train them, and use them.")


@hashtron.command
def languages(
    folder: Path,
    *,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    only: str = "",
    out: Path = Path("languages"),
    executor: Literal["processes", "threads", "ray", "inline"] = "processes",
) -> int:
    """Train a model of pronunciation for each lexicon of a folder, and measure it on words that were held out.

    Where it is interrupted, the same command goes on; what is finished is not trained again. The table gives letters
    that get the right phonemes, in training and held-out words; the same of the most frequent phonemes (prior), and of
    each letter's most frequent ones (usual); and errors a phoneme.

    Parameters
    ----------
    folder
        It has a file LANGUAGE.tsv for each language: lines of a word, a tab, and phonemes with spaces between them.
        Other files are let be.
    jobs
        Workers; by default the cores that this process may use.
    only
        The languages to train, with commas between them; by default all.
    out
        The folder for models, languages.json and languages.tsv, and a record of every neuron that was trained.
    executor
        Where languages are trained.

    Returns 1 where a language has no model; its row says why.
    """
    from tithe.hashtron.languages.commands import TABLE, train_languages
    from tithe.hashtron.languages.rows import HEADINGS, as_cells, remarks

    wanted = [name.strip() for name in only.split(",") if name.strip()]
    try:
        with steps("trains") as tell:
            rows = train_languages(folder, out, only=wanted, jobs=jobs, executor=executor, tell=tell)
    except KeyboardInterrupt:
        remark("interrupted; the same command goes on where it was")
        raise
    print_rows(HEADINGS, [as_cells(row) for row in rows])
    for line in remarks(rows):
        remark(line)
    OUT.print(f"\nModels and rows: {out / TABLE}", soft_wrap=True, markup=False)
    return int(any(row.error for row in rows))


@hashtron.command
def pronounce(language: str, *words: str, models: Path = Path("languages")) -> None:
    """Say how words are pronounced: a line for each, with its phonemes.

    Parameters
    ----------
    language
        As its lexicon was called, such as pol.
    words
        To pronounce.
    models
        The folder in which tithe hashtron languages has put them.
    """
    from tithe.hashtron.languages.commands import pronounce as found

    for word, phonemes in zip(words, found(language, words, models), strict=True):
        sys.stdout.write(f"{word}\t{' '.join(phonemes)}\n")


@hashtron.command
def migrate(old: Path, new: Path, *, topology: str | None = None, samples: str | None = None) -> None:
    """Move an existing model to where a pipeline can go on with it; the old files are only read.

    Parameters
    ----------
    old
        A model file of the reference, or of tithe.hashtron.save.
    new
        The folder to make, with the model and a sum cache; it must not be there, or be empty.
    topology
        A known name or a .json file, where no file beside the model says it.
    samples
        An .npz file with X and y, or module:function that returns them: every neuron is tallied with these.
    """
    from tithe.hashtron.pipeline.commands import migration_rows, read_samples, read_topology
    from tithe.hashtron.pipeline.migration import migrate as move

    given = None if samples is None else read_samples(samples)
    print_rows(["", ""], migration_rows(move(old, new, topology=read_topology(topology), samples=given)))


@hashtron.command
def ab(
    a: str,
    b: str,
    *,
    data: str,
    seeds: int = 1,
    stages: tuple[float, ...] = (5, 20, 50, 100),
    tolerance: float = 0.0,
    alpha: float = 0.05,
    ledger: Path = Path("ab.db"),
) -> int:
    """Compare two settings on more and more data sets; stops by itself where the second is worse.

    Where it is interrupted, the same command goes on.

    Parameters
    ----------
    a
        The settings in use: a template (backward, forward, careful, fast, constant, reference), or a .toml or .json
        file.
    b
        Those that should take their place.
    data
        A folder of lexica, or module:function that yields data sets: (name, X, y), or TrialSet.
    seeds
        Pairs for each data set.
    stages
        Per cent of the data sets after which to look, the last 100.
    tolerance
        By how many points held-out accuracy may fall.
    alpha
        The probability that the second is stopped though it is as good.
    ledger
        The file that keeps every pair.

    Returns 1 where the second is worse.
    """
    from tithe.hashtron.pipeline import ab as package
    from tithe.hashtron.pipeline.commands import ab_rows, ab_totals, arms, read_sets
    from tithe.ledger import Ledger

    first, second = arms(a, b, data)
    sets, wrong = read_sets(data)
    for told in wrong:
        remark(told)
    try:
        with Ledger(ledger) as kept, steps("compares") as tell:
            found = package.compare(
                sets, first, second, seeds=range(seeds), ledger=kept, shares=[stage / 100 for stage in stages],
                tolerance=tolerance / 100, alpha=alpha, progress=lambda done: tell(done, seeds * len(sets)),
                note=remark,
            )  # fmt: skip
    except KeyboardInterrupt:
        remark("interrupted; the same command goes on where it was")
        raise
    print_rows(["data", "seed", "held out a", "b", "b - a", "gap a", "b", "seconds a", "b"], ab_rows(found.pairs))
    OUT.print()
    print_rows(["b - a", "mean [95 % interval]"], ab_totals(found))
    return int(found.stopped)
