from __future__ import annotations

import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tithe.data import catalogue, locate
from tithe.data.catalogue import DataFile, Description


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has no data: an empty cache of its own and no TITHE_DATA_DIR."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(locate, "cache_dir", lambda: folder)
    monkeypatch.setattr(locate, "_TIMEOUT", (1.0, 1.0))
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.gate = threading.Barrier(1)  # how many must ask before one is answered

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.gate.wait(timeout=30)
        body = self.server.pages.get(self.path[1:])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ratings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DataFile]:
    """Makes ``content`` the MovieLens of the catalogue, to be fetched from ``urls``."""

    def install(content: bytes, *urls: str) -> DataFile:
        entry = catalogue.SETS["movielens-100k"]
        digest = hashlib.sha256(content).hexdigest()
        file = dataclasses.replace(entry.files[0], urls=urls, sha256=digest)
        changed: Description = dataclasses.replace(entry, files=(file,))
        monkeypatch.setitem(catalogue.SETS, "movielens-100k", changed)
        return file

    return install
