"""Members that are really killed: the others go on with whole states only, and hear them again when they come back."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from tithe.errors import InvalidStateError
from tithe.tether.exchange import StoreExchange, serve

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by fork")

WORKER = Path(__file__).with_name("exchange_worker.py")
LIMIT = 60.0


@pytest.fixture(scope="module")
def start():
    """Starts a job in a process of its own; returns its id."""
    with subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as nursery:
        started = []

        def begin(**job):
            nursery.stdin.write(json.dumps(job, default=str) + "\n")
            nursery.stdin.flush()
            started.append(int(nursery.stdout.readline()))
            return started[-1]

        yield begin
        for pid in started:
            kill(pid)
        nursery.stdin.close()


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def lines(log):
    """What a job has told so far; one that was killed may have left half a line."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def until(log, found):
    """The first line with this in it; waits for it."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        for line in lines(log):
            if found(line):
                return line
        time.sleep(0.01)
    raise AssertionError(f"waited in vain: {log.name} ends with {lines(log)[-3:]}")


def heard(sender, after):
    return lambda line: line.get("heard") == sender and line["generation"] > after


def scene(start, folder, kind, delay, **first):
    """Two exchange; one is killed, the other goes on, the killed one comes back and is heard again."""
    host = serve() if kind == "store" else None
    job = {
        "do": "exchange",
        "kind": kind,
        "place": host.port if host else folder / "states",
        "seconds": LIMIT,
        "stop": folder / "stop",
    }
    ada, bob, again = folder / "ada.log", folder / "bob.log", folder / "again.log"
    start(**job, name="ada", log=ada)
    pid = start(**job, name="bob", log=bob, **first)
    if delay is not None:
        until(ada, heard("bob", -1))
        until(bob, heard("ada", -1))
        time.sleep(delay)
        kill(pid)
    end = time.monotonic() + LIMIT
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.005)
    last = max((line["generation"] for line in lines(ada) if "heard" in line), default=-1)
    leftovers = len(list((folder / "states").glob(".bob.safetensors.*"))) if kind == "folder" else None

    start(**job, name="bob", log=again)
    joined = until(again, lambda line: "joined" in line)["joined"]
    assert joined >= last + 1  # it goes on after what it had published
    until(ada, heard("bob", joined - 1))
    until(again, heard("ada", -1))
    (folder / "stop").touch()
    for log in (ada, again):
        done = until(log, lambda line: "done" in line)
        assert done["refused"] == [] and done["done"] > 0
        told = [line for line in lines(log) if "heard" in line]
        assert all(line["valid"] for line in told)
        generations = [line["generation"] for line in told]
        assert generations == sorted(set(generations))
    assert "done" not in lines(bob)[-1]  # it was killed indeed
    return leftovers, joined


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_one_is_killed_at_a_random_moment(start, tmp_path, kind):
    scene(start, tmp_path, kind, random.Random(0).uniform(0, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["folder", "store"])
def test_one_is_killed_at_many_random_moments(start, tmp_path, kind, seed):
    scene(start, tmp_path, kind, random.Random(1 + seed).uniform(0, 0.2))


def test_one_is_killed_between_writing_a_file_and_renaming_it(start, tmp_path):
    leftovers, joined = scene(start, tmp_path, "folder", None, dies_in_publication=3)
    assert leftovers == 1 and joined == 2  # generations 0 and 1 were published, 2 was not
    assert not list((tmp_path / "states").glob(".bob.safetensors.*"))  # who comes back cleans up


def test_one_is_killed_between_two_pieces(start, tmp_path):
    _, joined = scene(start, tmp_path, "store", None, dies_in_publication=3)
    assert joined == 2


def test_a_process_group_does_not_survive(start, tmp_path):
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    for rank, log in enumerate(logs):
        start(do="group", rank=rank, place=tmp_path / "group", log=log)
    again = until(logs[0], lambda line: "again" in line)["again"]
    first, second, _ = lines(logs[0])
    assert first == {"heard": ["rank1"], "peers": ["rank1"]}
    assert "StoreExchange or FolderExchange" in second["error"] and second["error"] == again
    assert second["peers"] == [] and lines(logs[1]) == [{"heard": ["rank0"], "peers": ["rank0"]}]


def test_the_host_of_the_store_dies():
    with subprocess.Popen([sys.executable, "-m", "tithe.tether.exchange"], stdout=subprocess.PIPE, text=True) as server:
        port = int(re.fullmatch(r"127\.0\.0\.1:(\d+)\n", server.stdout.readline())[1])
        ada, bob = (StoreExchange(dist.TCPStore("127.0.0.1", port, is_master=False), name) for name in ("ada", "bob"))
        ada.publish({"w": torch.ones(3)}, generation=0)
        assert [message.sender for message in bob.collect({"w": torch.zeros(3)})] == ["ada"]
        server.kill()
    with pytest.raises(InvalidStateError, match=r"python -m tithe\.tether\.exchange"):
        bob.collect({"w": torch.zeros(3)})
    with pytest.raises(InvalidStateError, match="cannot be reached"):
        ada.publish({"w": torch.ones(3)}, generation=1)
    ada.leave()
    bob.leave()
