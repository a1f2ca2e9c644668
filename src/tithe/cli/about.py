"""``tithe data`` and ``tithe machine``: what there is to measure on, and where."""

from __future__ import annotations

from typing import Any

from tithe.cli.console import OUT, print_rows

__all__ = ["data", "machine"]


def data(*names: str) -> None:
    """List the data sets, or describe some of them.

    Parameters
    ----------
    names
        The sets to describe in full; without any, all are listed.
    """
    import tithe.data as package

    if names:
        OUT.print("\n\n".join(str(package.describe(name)) for name in names), markup=False, soft_wrap=True)
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
    print_rows(["name", "what", "where"], rows)


def machine() -> None:
    """Describe this machine as reports name it."""
    from tithe.machine import describe

    print_rows(["", ""], [[key.replace("_", " "), _plain(value)] for key, value in describe().items()])


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
