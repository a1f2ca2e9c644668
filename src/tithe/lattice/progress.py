"""A progress bar, where one is wanted and somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["watched"]


@contextmanager
def watched(total: int | None, name: str, *, show: bool) -> Iterator[Callable[[], None]]:
    """A function to call when one more is done; it moves a bar on standard error, or does nothing.

    >>> with watched(2, "epoch", show=False) as advance:
    ...     advance()
    """
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        number = bar.add_task(name, total=total)
        yield lambda: bar.advance(number)
