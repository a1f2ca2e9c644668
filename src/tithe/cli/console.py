"""What commands say, and where: results on the standard output, bars, remarks and errors on the standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

__all__ = ["ERR", "OUT", "complain", "escaped", "print_rows", "remark", "steps"]

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


@contextlib.contextmanager
def steps(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on the standard error; it is told the steps taken and those to take."""
    from rich.progress import Progress

    with Progress(console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table without lines; without its first row where no heading says anything. O(cells)."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(escaped, row))
    OUT.print(table)


def escaped(text: str) -> str:
    r"""A text that Rich prints as it is.

    >>> escaped("[bold]")
    '\\[bold]'
    """
    from rich.markup import escape

    return escape(text)


def remark(message: str) -> None:
    """Say on the standard error what is good to know."""
    ERR.print(f"[dim]note:[/] {escaped(message)}", soft_wrap=True)


def complain(message: str) -> None:
    """Say on the standard error what went wrong."""
    ERR.print(f"[bold red]error:[/] {escaped(message)}", soft_wrap=True)
