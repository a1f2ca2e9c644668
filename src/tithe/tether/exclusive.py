"""New files that no one else has made meanwhile: whole or none, and the first to come has the name."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

__all__ = ["create_exclusively"]

_PART = ".part"
_FORGOTTEN = 3600.0  # seconds after which a part is what a process left behind that was killed


def create_exclusively(path: str | os.PathLike[str], content: bytes) -> bool:
    """Make a file with this content, unless there is one of that name: of many processes, one succeeds.

    Args:
        path: the file; missing parent folders are made. Its file system must have hard links.
        content: all of it; a reader sees it whole or not at all, even if this process is killed.

    Returns:
        Whether it was made; a file that was there is not touched. Raises ``OSError`` as the file system does.
        O(len(content)).

    >>> name = f"{tempfile.mkdtemp()}/a.txt"
    >>> create_exclusively(name, b"mine"), create_exclusively(name, b"yours"), Path(name).read_bytes()
    (True, False, b'mine')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        try:
            path.hardlink_to(name)  # unlike a rename, it fails where the name is taken
        except FileExistsError:
            return False
    finally:
        Path(name).unlink(missing_ok=True)
    return True


def _sweep(folder: Path) -> None:
    """Take away what processes left that were killed while they wrote."""
    for part in folder.glob(f".*{_PART}"):
        try:
            if time.time() - part.stat().st_mtime > _FORGOTTEN:
                part.unlink(missing_ok=True)
        except FileNotFoundError:  # another process was quicker
            continue
