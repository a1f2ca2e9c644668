"""Whole files or none: write a part beside the target, flush it to the disk, then give it the target's name."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["create_exclusively", "discard", "write_atomically"]

_PART = ".part"
_FORGOTTEN = 3600.0  # seconds after which a part is what a process left behind that was killed


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Args:
        path: the target; missing parent folders are made.
        content: text (written as UTF-8) or bytes.

    Returns:
        The path written to. Raises ``OSError`` as the file system does; the target is then untouched.
        O(len(content)).

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_atomically(f"{folder}/a.txt", "whole").read_text()
    'whole'
    """
    path = Path(path)
    with _part_of(path, content.encode() if isinstance(content, str) else content) as part:
        part.replace(path)
    return path


def create_exclusively(path: str | os.PathLike[str], content: bytes) -> bool:
    """Make a file with this content, unless there is one of that name: of many processes, one succeeds.

    Args:
        path: the file; missing parent folders are made. Its file system must have hard links.
        content: all of it; a reader sees it whole or not at all, even if this process is killed.

    Returns:
        Whether it was made; a file that was there is not touched. Raises ``OSError`` as the file system does.
        O(len(content) + files in the folder).

    >>> name = f"{tempfile.mkdtemp()}/a.txt"
    >>> create_exclusively(name, b"mine"), create_exclusively(name, b"yours"), Path(name).read_bytes()
    (True, False, b'mine')
    """
    path = Path(path)
    _sweep(path.parent)
    with _part_of(path, content) as part:
        try:
            path.hardlink_to(part)  # unlike a rename, it fails where the name is taken
        except FileExistsError:
            return False
    return True


def discard(path: str | os.PathLike[str]) -> None:
    """Remove a file, where there is one, and what processes left of it that were killed while they wrote.

    Only for a file that no one else writes now. O(files in the folder).

    >>> path = write_atomically(f"{tempfile.mkdtemp()}/a.txt", "no longer needed")
    >>> discard(path)
    >>> path.exists()
    False
    """
    path = Path(path)
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{glob.escape(path.name)}.*{_PART}"):
        part.unlink(missing_ok=True)


@contextmanager
def _part_of(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside the path that has the content, on the disk; taken away at the end unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        yield part
    finally:
        part.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Take away what processes left that were killed while they wrote."""
    for part in folder.glob(f".*{_PART}"):
        try:
            if time.time() - part.stat().st_mtime > _FORGOTTEN:
                part.unlink(missing_ok=True)
        except FileNotFoundError:  # another process was quicker
            continue
