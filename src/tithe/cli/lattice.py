"""``tithe lattice``: tasks for the shell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from tithe.cli.console import ERR, steps

__all__ = ["lattice"]

lattice = App(name="lattice", help="Run many tasks: alike ones together, none lost.")


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
    with Lattice(jobs, executor, journal=journal) as made, steps("runs") as tell:
        for count, outcome in enumerate(made.as_completed(tasks, name=target), 1):
            failed += not outcome.ok and outcome.status != "pruned"
            sys.stdout.write(as_line(outcome) + "\n")
            sys.stdout.flush()
            tell(count, len(tasks) if isinstance(tasks, Sequence) else None)
    ERR.print(str(made.receipt), markup=False, soft_wrap=True)
    return int(failed > 0)
