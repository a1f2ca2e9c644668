"""What ``tithe hashtron languages`` and ``tithe hashtron pronounce`` do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tithe.errors import DataUnavailableError, InvalidValueError
from tithe.hashtron.languages.pronouncer import load_pronouncer
from tithe.hashtron.languages.ranking import Settings
from tithe.hashtron.languages.rows import Row, read_rows, write_rows
from tithe.hashtron.languages.training import finished, model_path, train_language

if TYPE_CHECKING:
    from tithe.lattice.executors import Kind

__all__ = ["TABLE", "lexica", "pronounce", "train_languages"]

TABLE = "languages.json"
"""The name of the file of rows in a folder of models; beside it is the same as a table, ``languages.tsv``."""


def lexica(folder: Path, only: Iterable[str] = ()) -> dict[str, Path]:
    """The lexica of a folder: its files that end in ``.tsv``; all others are let be.

    Args:
        folder: where they are.
        only: the languages that are wanted; all by default.

    Returns:
        Paths by language, in alphabetical order; a language is called as its file without the ending. Raises
        ``DataUnavailableError`` where there is no such file, ``InvalidValueError`` where one that is wanted is missing.

    >>> lexica(Path("no/such/folder"))
    Traceback (most recent call last):
    tithe.errors.DataUnavailableError: there are no lexica in no/such/folder: give a folder with files that end in .tsv
    """
    found = {path.stem: path for path in sorted(folder.glob("*.tsv")) if path.is_file() and path.name[0] != "."}
    if not found:
        raise DataUnavailableError(f"there are no lexica in {folder}: give a folder with files that end in .tsv")
    wanted = list(dict.fromkeys(only))
    if missing := [name for name in wanted if name not in found]:
        raise InvalidValueError(
            f"there is no {', no '.join(f'{name}.tsv' for name in missing)} in {folder}; it has {_some(found)}"
        )
    return {name: path for name, path in found.items() if not wanted or name in wanted}


def train_languages(
    folder: Path,
    out: Path,
    *,
    only: Iterable[str] = (),
    jobs: int | None = None,
    executor: Kind = "processes",
    settings: Settings | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[Row]:
    """Train a model for each lexicon of a folder, the largest first, and write down what was measured.

    A language that has its model, of the same lexicon and settings, is not trained again; one that was interrupted
    goes on. What is wrong with a lexicon stands in its row and stops no other.

    Args:
        folder: of lexica, as ``lexica`` finds them.
        out: the folder for models, made where there is none. On Ray all workers must have it, and the lexica.
        only: the languages that are wanted; all by default.
        jobs: workers; by default the cores that this process may use.
        executor: where languages are trained, as ``Lattice`` has it.
        settings: by default ``Settings()``.
        tell: is called with how many languages are done, and of how many.

    Returns:
        The rows, in alphabetical order. ``languages.json`` and ``languages.tsv`` have these, and those of languages
        that were trained there before. Raises as ``lexica``, and ``CorruptFileError`` where there is another file of
        that name. O(Σ letters · candidates).
    """
    from tithe.lattice import Lattice, Task

    settings, files = settings or Settings(), lexica(folder, only)
    before = {row.language: row for row in read_rows(out / TABLE)}
    rows = {name: row for name, path in files.items() if (row := finished(path, out, settings)) is not None}
    tasks = [
        Task(train_language, path.absolute(), out.absolute(), settings, key=name, urgency=path.stat().st_size)
        for name, path in files.items()
        if name not in rows
    ]
    tell(len(rows), len(files))
    try:
        if tasks:
            with Lattice(jobs, executor) as lattice:
                for outcome in lattice.as_completed(tasks, name="languages"):
                    name = str(outcome.task.key)
                    rows[name] = outcome.value if outcome.ok else Row(name, error=str(outcome.error))
                    tell(len(rows), len(files))
    finally:
        known = before | rows
        write_rows([known[name] for name in sorted(known)], out / TABLE)
    return [rows[name] for name in files]


def pronounce(language: str, words: Sequence[str], models: Path) -> tuple[tuple[str, ...], ...]:
    """The phonemes of words.

    Args:
        language: a name that was trained.
        words: any.
        models: the folder of models.

    Returns:
        As many tuples of phonemes. Raises ``DataUnavailableError`` where there is no model of the language,
        ``ModelFileError`` where it is damaged.

    >>> pronounce("pol", ["kot"], Path("no/such/folder"))
    Traceback (most recent call last):
    tithe.errors.DataUnavailableError: there is no model of 'pol' in no/such/folder, which has none; train it: ...
    """
    path = model_path(models, language)
    if not path.is_file() or path.parent != models:
        there = sorted(found.stem for found in models.glob("*.pronouncer"))
        raise DataUnavailableError(
            f"there is no model of {language!r} in {models}, which has {_some(there)}; "
            f"train it: tithe hashtron languages DIR --only {language} --out {models}"
        )
    return load_pronouncer(path)[0].pronounce(words)


def _some(names: Iterable[str]) -> str:
    """Names in words, some where they are many."""
    found = list(names)
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return ", ".join(found[:12]) + more or "none"
