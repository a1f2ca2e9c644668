"""Exchange of states by way of a folder that all members see: on one machine, or on a network file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from pathlib import Path

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import write_atomically
from tithe.tether.exchange.message import MOST_BYTES, unpack, valid_name
from tithe.tether.exchange.postbox import Postbox

__all__ = ["FolderExchange"]

_STATE, _ALIVE, _LEFT = ".safetensors", ".alive", ".left"


class FolderExchange(Postbox):
    """A member of a population that exchanges states through a shared folder.

    Each member has one file with its newest state, ``<name>.safetensors``, which it replaces by renaming, so that
    whoever is killed whenever, the others read a whole state or none; and an empty one, ``<name>.alive``, that it
    touches whenever it publishes, collects or asks for peers. Who leaves swaps the latter for ``<name>.left``.

    Who is alive: a peer whose ``.alive`` has changed within ``patience`` seconds of this process's monotonic clock. On
    first sight, when no change was seen yet, its time of modification is compared with that of this member's own, which
    was touched just before: both are set by the folder's clock, no machine's clock is compared with another's. On a
    network file system ``patience`` should exceed the time for which attributes are cached (on NFS 60 s by default).

    Args:
        folder: made where it is missing. A population needs one of its own.
        name: this member's own, of 1 to 64 letters, digits, ``_`` and ``-``; no two at a time have the same.
        patience: in seconds.
        most_age: generations that a peer may be behind this member; ``None`` for any.
        most_bytes: of a state; larger files are not opened.

    Raises ``InvalidValueError`` for values that cannot be used, ``OSError`` as the file system does. Source: MISSION
    T2; the sub-package's documentation says when to use which exchange.

    >>> import tempfile, torch
    >>> folder = tempfile.mkdtemp()
    >>> with FolderExchange(folder, "ada") as ada, FolderExchange(folder, "bob") as bob:
    ...     ada.publish({"w": torch.ones(2)}, generation=0, info={"loss": 0.5})
    ...     [(m.sender, m.tensors["w"], m.info) for m in bob.collect({"w": torch.zeros(2)})]
    [('ada', tensor([1., 1.]), {'loss': 0.5})]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        *,
        patience: float = 60.0,
        most_age: int | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__(name, patience=patience, most_age=most_age, most_bytes=most_bytes)
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        for suffix in (_STATE, _ALIVE, _LEFT):  # what a process before left half-written
            for orphan in self._folder.glob(f".{name}{suffix}.*"):
                orphan.unlink(missing_ok=True)
        self._hearing.generation = self._before()
        write_atomically(self._path(name, _ALIVE), b"")
        self._path(name, _LEFT).unlink(missing_ok=True)
        self._look(joining=True)

    def _send(self, data: bytes, generation: int) -> None:
        write_atomically(self._path(self.name, _STATE), data)
        self._beat()

    def _look(self, *, joining: bool) -> None:
        now = self._beat()
        found = set()
        for path in self._folder.glob(f"*{_ALIVE}"):
            peer = path.name.removesuffix(_ALIVE)
            try:
                valid_name(peer)
                status = path.lstat()
            except (InvalidValueError, FileNotFoundError):  # hidden and foreign files; one that leaves just now
                continue
            if peer != self.name:
                found.add(peer)
                age = (now - status.st_mtime_ns) / 1e9
                live = abs(age) <= self._hearing.patience
                self._hearing.saw(peer, (status.st_ino, status.st_mtime_ns), live=live)
        for peer in set(self._hearing.known()) - found:
            self._hearing.gone(peer)

    def _version(self, peer: str) -> Hashable | None:
        try:
            return _identity(self._path(peer, _STATE).lstat())
        except FileNotFoundError:
            return None

    def _fetch(self, peer: str, version: Hashable) -> bytes | None:
        path = self._path(peer, _STATE)
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
                raise CorruptFileError("is no regular file")
            if status.st_size > self._most_bytes:
                raise CorruptFileError(f"has {status.st_size} bytes; at most {self._most_bytes} are taken")
            with path.open("rb") as file:
                if _identity(os.fstat(file.fileno())) != version:
                    return None
                return file.read(status.st_size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptFileError(f"cannot be read ({error})") from error

    def _depart(self) -> None:
        if self.generation >= 0:  # who comes back goes on from it
            write_atomically(self._path(self.name, _LEFT), str(self.generation))
        self._path(self.name, _ALIVE).unlink(missing_ok=True)
        self._path(self.name, _STATE).unlink(missing_ok=True)

    def _before(self) -> int:
        """The last generation of this name that the folder knows of."""
        found = -1
        try:
            with self._path(self.name, _LEFT).open("rb") as file:
                found = max(found, int(file.read(32)))
        except FileNotFoundError:
            pass
        except ValueError as error:
            self._hearing.refuse(self.name, f"{self.name}{_LEFT} holds no generation ({error})")
        try:
            data = self._fetch(self.name, self._version(self.name))
            return found if data is None else max(found, unpack(data, most_bytes=self._most_bytes).generation)
        except CorruptFileError as error:
            self._hearing.refuse(self.name, f"the state before {error}")
            return found

    def _beat(self) -> int:
        """Touch the sign of life; its time by the folder's clock, in ns."""
        path = self._path(self.name, _ALIVE)
        try:
            os.utime(path)
        except FileNotFoundError:
            write_atomically(path, b"")
        return path.lstat().st_mtime_ns

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{name}{suffix}"


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
