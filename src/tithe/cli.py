"""The command line: thin; what it does lives in the packages below, and loads when a command needs it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from tithe import __version__
from tithe.errors import TitheError, UnknownClaimError

if TYPE_CHECKING:
    from tithe.audit import Claim, Mode, Report

__all__ = ["app", "main"]

app = App(name="tithe", version=__version__, help="Pay a tenth of the compute, and get a receipt.")
tether = App(name="tether", help="Populations of models that merge where they agree.")
app.command(tether)
lattice = App(name="lattice", help="Run many tasks: alike ones together, none lost.")
app.command(lattice)
hashtron = App(name="hashtron", help="Networks of one-bit neurons: train them, and use them.")
app.command(hashtron)
_STYLES = {"holds": "bold green", "holds if": "bold yellow", "fails": "bold red", "unmeasured": "dim"}
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        The exit code: 0, 1 for an error, 2 for a usage error, 130 for an interruption.

    >>> main(["--version"])
    0.1.0
    0
    """
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain(str(error))
        return 2
    except TitheError as error:
        _complain(str(error))
        return 1
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0


@app.command
def audit(
    *ids: str,
    full: Annotated[bool, Parameter(name="--full", negative="--quick")] = False,
    device: Literal["cpu", "cuda"] = "cpu",
    out: Path = Path("audit"),
    seed: int = 0,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
) -> int:
    """Measure the claims of the sources and print the verdicts.

    Parameters
    ----------
    ids
        The claims to measure, such as M2; all by default.
    full
        As long as it takes, or (the default) quick: within a few minutes on two cores.
    device
        Where to measure.
    out
        The folder for report.json and report.html.
    seed
        Of all that is random.
    list_
        List the claims and measure nothing.
    """
    import tithe.audit as package

    try:
        claims = package.select(package.discover(), ids)
    except UnknownClaimError as error:
        _complain(str(error))
        return 2
    if list_:
        _print_rows(["claim", "what", "claimed", "quick"], [_listed(claim) for claim in claims])
        return 0
    report = _audit_with_progress(claims, "full" if full else "quick", device, out, seed)
    _print_verdicts(report)
    _out.print(f"\nThe report: {out / 'report.html'}", soft_wrap=True, markup=False)
    return report.exit_code


@app.command
def data(*names: str) -> None:
    """List the data sets, or describe some of them.

    Parameters
    ----------
    names
        The sets to describe in full; without any, all are listed.
    """
    import tithe.data as package

    if names:
        _out.print("\n\n".join(str(package.describe(name)) for name in names), markup=False, soft_wrap=True)
        return
    lexica = package.names("lexicon")
    rows = []
    for name in (name for name in package.names() if name not in lexica):
        entry = package.describe(name)
        there = (
            "comes with Tithe" if entry.embedded else "on this machine" if package.available(name) else "not fetched"
        )
        rows.append([name, entry.contents, there])
    there = f"{sum(map(package.available, lexica))} on this machine"
    rows.append(
        ["lexicon:…", f"words and phonemes of {len(lexica)} languages, from {lexica[0]} to {lexica[-1]}", there]
    )
    _print_rows(["name", "what", "where"], rows)


@app.command
def machine() -> None:
    """Describe this machine as reports name it."""
    from tithe.machine import describe

    _print_rows(["", ""], [[key.replace("_", " "), _plain(value)] for key, value in describe().items()])


@tether.command
def demo(*, out: Path = Path("tether-demo"), epochs: int = 10, seed: int = 0) -> None:
    """Train a network under tethers on the digits, let it meet another tether, and draw what happened.

    Parameters
    ----------
    out
        The folder for text files (put your own data_input.txt, labels_input.txt and tether_other_model.txt there),
        bookmarks, the ledger and pictures.
    epochs
        Over the data.
    seed
        Of all that is random.
    """
    from tithe.tether.demo import SOURCE_THRESHOLD, THRESHOLD
    from tithe.tether.demo import demo as run

    with _steps("trains") as tell:
        meetings = run(out, epochs=epochs, seed=seed, tell=tell)
    done = {what: sum(meeting.done == what for meeting in meetings) for what in ("merge", "drift", "nothing")}
    passed = sum(meeting.dot > SOURCE_THRESHOLD for meeting in meetings)
    _print_rows(["", ""], [
        ["plateaus at which tethers met", str(len(meetings))],
        [f"passed by the source's test, Σ T∘T′ > {SOURCE_THRESHOLD:g}", str(passed)],
        [f"passed by the centred cosine ≥ {THRESHOLD:g}", str(sum(m.centred >= THRESHOLD for m in meetings))],
        ["merged, drifted apart, left alone", ", ".join(map(str, done.values()))],
    ])  # fmt: skip
    _out.print(f"\nFiles and pictures: {out}", soft_wrap=True, markup=False)


@tether.command
def train(
    config: Path,
    *,
    out: Path = Path("tether-run"),
    fresh: Annotated[bool, Parameter(name="--fresh", negative=())] = False,
) -> None:
    """Train a population on your own data, each member also alone for comparison.

    Where it is interrupted, the same command goes on, to the same result as without.

    Parameters
    ----------
    config
        A TOML file: a table [[member]] with name, inputs and labels for each member, and optionally [model],
        [training] and [policy]; docs/tether.md has an example.
    out
        The folder for models (safetensors), bookmarks, the ledger, pictures and outcome.json.
    fresh
        Begin anew, even if a run in that folder was interrupted, or is finished.
    """
    from tithe.tether.config import read_config
    from tithe.tether.runs import train_run
    from tithe.tether.samples import read_member

    found = read_config(config)
    data = [read_member(member, found.features) for member in found.members]
    try:
        with _steps("trains") as tell:
            outcomes = train_run(
                found, data, out, lambda step: tell(step, 2 * found.training.steps), fresh=fresh, note=_remark
            )
    except KeyboardInterrupt:
        _remark("interrupted; the same command goes on from the last checkpoint")
        raise
    _print_rows(
        ["member", "merges with", "held-out accuracy", "alone"],
        [[o.name, ", ".join(set(o.group) - {o.name}) or "nobody", f"{o.accuracy:.1%}", f"{o.alone:.1%}"]
         for o in outcomes],
    )  # fmt: skip
    _out.print(f"\nModels and pictures: {out}", soft_wrap=True, markup=False)


@lattice.command(name="run")
def run_tasks(
    target: str,
    *,
    each: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    executor: Literal["processes", "threads", "ray", "inline"] = "processes",
    journal: Path | None = None,
    retries: int = 0,
    timeout: float | None = None,
) -> int:
    """Run tasks and write a line of JSON for each as it is done; the receipt goes to the standard error.

    Parameters
    ----------
    target
        module:function. Without --each it is called once and returns, or yields, tithe.lattice.Task objects.
    each
        A file with a line of JSON for each call, or - for the standard input: a list has the arguments, an object
        those by name, anything else is the only argument.
    jobs
        Workers; by default the cores that this process may use.
    executor
        Where calls are made.
    journal
        A file that knows what is done: the same command goes on where it was interrupted.
    retries
        Tries after a failure, with --each.
    timeout
        Seconds for one try, with --each.

    Returns 1 where a task has no value.
    """
    from tithe.lattice import Lattice
    from tithe.lattice.commands import as_line, calls, lines_of, listed

    tasks = listed(target) if each is None else calls(target, lines_of(each), retries=retries, timeout=timeout)
    failed = 0
    with Lattice(jobs, executor, journal=journal) as made, _steps("runs") as tell:
        for count, outcome in enumerate(made.as_completed(tasks, name=target), 1):
            failed += not outcome.ok and outcome.status != "pruned"
            sys.stdout.write(as_line(outcome) + "\n")
            sys.stdout.flush()
            tell(count, len(tasks) if isinstance(tasks, Sequence) else None)
    _err.print(str(made.receipt), markup=False, soft_wrap=True)
    return int(failed > 0)


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
        with _steps("trains") as tell:
            rows = train_languages(folder, out, only=wanted, jobs=jobs, executor=executor, tell=tell)
    except KeyboardInterrupt:
        _remark("interrupted; the same command goes on where it was")
        raise
    _print_rows(HEADINGS, [as_cells(row) for row in rows])
    for line in remarks(rows):
        _remark(line)
    _out.print(f"\nModels and rows: {out / TABLE}", soft_wrap=True, markup=False)
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
    _print_rows(["", ""], migration_rows(move(old, new, topology=read_topology(topology), samples=given)))


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
        _remark(told)
    try:
        with Ledger(ledger) as kept, _steps("compares") as tell:
            found = package.compare(
                sets, first, second, seeds=range(seeds), ledger=kept, shares=[stage / 100 for stage in stages],
                tolerance=tolerance / 100, alpha=alpha, progress=lambda done: tell(done, seeds * len(sets)),
                note=_remark,
            )  # fmt: skip
    except KeyboardInterrupt:
        _remark("interrupted; the same command goes on where it was")
        raise
    _print_rows(["data", "seed", "held out a", "b", "b - a", "gap a", "b", "seconds a", "b"], ab_rows(found.pairs))
    _out.print()
    _print_rows(["b - a", "mean [95 % interval]"], ab_totals(found))
    return int(found.stopped)


@contextlib.contextmanager
def _steps(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on the standard error; it is told the steps taken and those to take."""
    from rich.progress import Progress

    with Progress(console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _audit_with_progress(claims: Sequence[Claim], mode: Mode, device: str, out: Path, seed: int) -> Report:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    import tithe.audit as package

    columns = (
        TextColumn("{task.fields[claim]:>4}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task("starts", total=float(len(claims)), claim="")
        place = {claim.id: index for index, claim in enumerate(claims)}

        def watch(event: package.Event) -> None:
            progress.update(task, completed=place[event.claim] + event.done, description=event.what, claim=event.claim)
            if event.result is not None and not _err.is_terminal:
                _err.print(f"{event.claim}: {event.what}", markup=False)

        return package.audit(claims, out, mode=mode, device=device, seed=seed, watch=watch)


def _print_verdicts(report: Report) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("claim", "verdict", "what was found"):
        table.add_column(heading, overflow="fold")
    for result in report.results:
        verdict = result.finding.verdict
        table.add_row(result.claim.id, f"[{_STYLES[verdict]}]{verdict}[/]", _escaped(result.finding.summary))
    _out.print(table)
    for result in report.results:
        if result.error is not None:
            _err.print(f"\n{result.claim.id} raised:\n{result.error}", markup=False, soft_wrap=True)


def _listed(claim: Claim) -> list[str]:
    return [claim.id, claim.title, claim.claimed, f"{claim.budget:g} s"]


def _print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(_escaped, row))
    _out.print(table)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _remark(message: str) -> None:
    _err.print(f"[dim]note:[/] {_escaped(message)}", soft_wrap=True)


def _complain(message: str) -> None:
    _err.print(f"[bold red]error:[/] {_escaped(message)}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
