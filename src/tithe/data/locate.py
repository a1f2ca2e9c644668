"""Where the files are: a folder of the user's, the cache, the public source, the package; always checked."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import os
import warnings
import zlib
from pathlib import Path

from tithe.data.catalogue import DataFile, Description
from tithe.errors import CorruptFileError, DataUnavailableError
from tithe.files import write_atomically

__all__ = ["VARIABLE", "cache_dir", "data_dir", "find", "read"]

VARIABLE = "TITHE_DATA_DIR"
_TIMEOUT = (5.0, 30.0)  # seconds to connect to one address, and at most without a byte


def data_dir() -> Path | None:
    """The folder that the environment variable ``TITHE_DATA_DIR`` names now, or ``None``. O(1).

    >>> data_dir() is None or isinstance(data_dir(), Path)
    True
    """
    value = os.environ.get(VARIABLE)
    return Path(value).expanduser() if value else None


def cache_dir() -> Path:
    """The folder for fetched files: ``data`` in the user's cache directory for Tithe. O(1).

    >>> cache_dir().name
    'data'
    """
    import platformdirs

    return platformdirs.user_cache_path("tithe") / "data"


def find(file: DataFile) -> Path | None:
    """Where the file lies on this machine: in ``TITHE_DATA_DIR``, else in the cache, else ``None``.

    The content is not looked at. O(1).

    >>> find(DataFile("no/such/file", sha256="")) is None
    True
    """
    folders = [folder for folder in (data_dir(), cache_dir()) if folder is not None]
    paths = (folder / name for folder in folders for name in (file.name, *file.aliases))
    return next((path for path in paths if path.is_file()), None)


def read(entry: Description) -> list[bytes]:
    """The contents of all files of a set, each checked against its checksum at every call.

    A file that is not on this machine is fetched and put into the cache, whole or not at all, so that processes may
    do so at the same time.

    Args:
        entry: the set.

    Returns:
        One content for each of ``entry.files``, unpacked. O(size).

    Raises ``CorruptFileError`` where a file is damaged or another than it should be, ``DataUnavailableError`` where
    one is nowhere and cannot be fetched.

    >>> from tithe.data.catalogue import SETS
    >>> read(SETS["stars"])[0][:14]
    b'hip,ra_degrees'
    """
    return [_read(entry, file) for file in entry.files]


def _read(entry: Description, file: DataFile) -> bytes:
    path = find(file)
    if path is not None:
        remedy = f"delete it{_afterwards(file, path)}"
        return _content(file, path.read_bytes(), str(path), remedy)
    if entry.embedded:
        return importlib.resources.files("tithe.data").joinpath(file.name).read_bytes()
    return _fetch(entry, file)


def _afterwards(file: DataFile, path: Path) -> str:
    if not file.urls:
        return ", and the copy in the package is used"
    if path.is_relative_to(cache_dir()):
        return ", and the next load fetches it anew"
    return f" or replace it with the one at {file.urls[0]}"


def _fetch(entry: Description, file: DataFile) -> bytes:
    failures: list[Exception] = []
    for url in file.urls:
        try:
            raw = _download(url)
            content = _content(
                file, raw, url, "the source may have changed, or a proxy answered in its place; try again"
            )
        except (OSError, CorruptFileError) as error:
            failures.append(error)
            continue
        target = cache_dir() / file.name
        try:
            write_atomically(target, raw)
        except OSError as error:
            warnings.warn(f"{target} could not be written, so {url} is fetched at every load: {error}", stacklevel=5)
        return content
    corrupt = next((error for error in failures if isinstance(error, CorruptFileError)), None)
    raise corrupt or DataUnavailableError(_unavailable(entry, file, failures)) from None


def _download(url: str) -> bytes:
    import pooch  # brings in requests: a quarter of a second that most loads do not need

    buffer = io.BytesIO()
    # Not as a stream: only so is the connection of an answer like 404 closed, too.
    pooch.HTTPDownloader(timeout=_TIMEOUT, chunk_size=1 << 16, stream=False)(url, buffer, None)
    return buffer.getvalue()


def _content(file: DataFile, raw: bytes, where: str, remedy: str) -> bytes:
    try:
        content = file.unpack(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptFileError(
            f"{where} is damaged and cannot be unpacked: {error}; expected content of sha256 {file.sha256}, "
            f"found {len(raw)} packed bytes of sha256 {_sha256(raw)}; {remedy}"
        ) from error
    if (found := _sha256(content)) != file.sha256:
        raise CorruptFileError(
            f"{where} is not the file it should be: expected content of sha256 {file.sha256}, "
            f"found {len(content)} bytes of sha256 {found}; {remedy}"
        )
    return content


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unavailable(entry: Description, file: DataFile, failures: list[Exception]) -> str:
    folder = data_dir()
    now = (
        "it is not set"
        if folder is None
        else f"it is {folder}, " + ("which has none" if folder.is_dir() else "no folder")
    )
    reasons = "; ".join(f"{type(error).__name__}: {error}" for error in failures)
    return "\n".join([
        f"data set {entry.name!r} needs {file.name}, which is not on this machine and could not be fetched. Do one of:",
        f"  1. set {VARIABLE} to a folder that holds {file.name} ({now})",
        f"  2. put the file at {cache_dir() / file.name}",
        f"  3. go online and try again, so that it is fetched from {' or '.join(file.urls)}",
        f"Failed with {reasons}",
    ])  # fmt: skip
