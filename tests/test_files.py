import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tithe import files
from tithe.files import create_exclusively, discard, write_atomically

OLD, NEW = "old" * 400_000, "new" * 400_000


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def run_until_killed(code, *arguments):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_text_is_utf8_and_bytes_stay_bytes(tmp_path):
    assert write_atomically(tmp_path / "a.txt", "φ = 1.618…").read_bytes() == "φ = 1.618…".encode()
    assert write_atomically(str(tmp_path / "b.bin"), b"\x00\xff\r\n").read_bytes() == b"\x00\xff\r\n"


def test_parent_folders_are_made_and_old_content_goes(tmp_path):
    target = tmp_path / "a" / "b" / "c.txt"
    for content in ("long" * 1000, "short", ""):
        assert write_atomically(target, content) == target
        assert target.read_text() == content
    assert names_in(target.parent) == ["c.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_before_the_rename_the_old_content_is_whole(tmp_path):
    target = write_atomically(tmp_path / "a.txt", OLD)
    run_until_killed(
        """
        import os, signal, sys
        from tithe import files
        files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
        files.write_atomically(sys.argv[1], "new" * 400_000)
        """,
        target,
    )
    assert target.read_text() == OLD


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_after_the_rename_the_new_content_is_whole(tmp_path):
    target = write_atomically(tmp_path / "a.txt", OLD)
    run_until_killed(
        """
        import os, pathlib, signal, sys
        from tithe import files
        replace = pathlib.Path.replace
        def replace_and_die(self, other):
            replace(self, other)
            os.kill(os.getpid(), signal.SIGKILL)
        pathlib.Path.replace = replace_and_die
        files.write_atomically(sys.argv[1], "new" * 400_000)
        """,
        target,
    )
    assert target.read_text() == NEW


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_at_any_moment_the_content_is_whole(tmp_path):
    target = write_atomically(tmp_path / "a.txt", OLD)
    code = """
    import itertools, sys
    from tithe.files import create_exclusively, discard, write_atomically
    for content in itertools.cycle(["new" * 400_000, "old" * 400_000]):
        write_atomically(sys.argv[1], content)
        print(".", end="", flush=True)
    """
    for rounds in (1, 4, 7):
        command = [sys.executable, "-c", textwrap.dedent(code), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            writer.stdout.read(rounds)
            writer.kill()
        assert target.read_text() in (OLD, NEW)


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_nothing_beside_it(tmp_path, monkeypatch, fails):
    target = write_atomically(tmp_path / "a.txt", "old")

    def fail(*_):
        raise OSError("disk full")

    if fails == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    else:
        monkeypatch.setattr(files.Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_content_that_is_neither_text_nor_bytes_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a.txt", 3)
    assert names_in(tmp_path) == []


def test_of_many_that_create_a_file_one_succeeds(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    assert create_exclusively(path, b"one") and not create_exclusively(path, b"two")
    assert path.read_bytes() == b"one" and path.stat().st_mode & 0o777 == 0o644
    assert names_in(path.parent) == ["a.bin"]
    won = []
    threads = [threading.Thread(target=lambda i=i: won.append(create_exclusively(tmp_path / "b", bytes([i] * 999))))
               for i in range(16)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 15 + [True] and len(set((tmp_path / "b").read_bytes())) == 1


def test_what_killed_processes_left_is_swept_by_age(tmp_path):
    old, young, other = (tmp_path / name for name in (".a.bin.old.part", ".a.bin.young.part", ".a.bin.part.txt"))
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    assert create_exclusively(tmp_path / "b.bin", b"")
    assert names_in(tmp_path) == sorted([young.name, other.name, "b.bin"])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_discarded_file_leaves_no_parts_of_killed_writers(tmp_path):
    target = write_atomically(tmp_path / "a[1].txt", OLD)
    kept = write_atomically(tmp_path / "a[1].txt.b", OLD)
    run_until_killed(
        """
        import os, signal, sys
        from tithe import files
        files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
        files.write_atomically(sys.argv[1], "new" * 400_000)
        """,
        target,
    )
    assert len(names_in(tmp_path)) == 3
    discard(target)
    assert names_in(tmp_path) == [kept.name]
    discard(target)  # there is nothing to do
