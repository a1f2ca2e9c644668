"""A bar on the terminal for what takes a while, if it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]


@contextmanager
def progress(title: str, steps: int, shown: bool) -> Iterator[Callable[[int, str], None]]:
    """Within the block: a function that is told how many of the ``steps`` are done, and a remark.

    Args:
        title: what is done.
        steps: how many there will be.
        shown: whether there is a bar, on the standard error; without, nothing is imported and nothing written.

    >>> with progress("epochs", 3, shown=False) as tell:
    ...     tell(1, "92 % right")
    """
    if not shown:
        yield lambda done, remark: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[remark]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=steps, remark="")
        yield lambda done, remark: bar.update(task, completed=done, remark=remark)
