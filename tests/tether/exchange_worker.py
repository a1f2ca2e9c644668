"""Real processes for the tests of exchange: run as a script, it starts one for each job that it reads, a line each.

Torch is imported once, and every job runs in a fork. Lines in: JSON jobs; lines out: process ids. A job writes JSON
lines into its log.
"""

import dataclasses
import json
import os
import pickle
import signal
import sys
import time
from datetime import timedelta
from multiprocessing.connection import Client
from pathlib import Path

import torch
from torch import distributed as dist

from tithe.errors import InvalidStateError, TitheError
from tithe.tether.exchange import FolderExchange, GroupExchange, StoreExchange

SIZE = 300_000  # entries: over one piece of the store


def state(name, generation):
    """What the member sends in this generation: the receiver can tell every entry."""
    whole = torch.full((SIZE,), float(generation))
    whole[::2] += sum(name.encode())
    return {"whole": whole, "row": torch.arange(8.0) * generation}


class Deadly:
    """A store that kills its own process in the midst of a state: after so many pieces, before the record."""

    def __init__(self, store, sets):
        self._store, self._sets = store, sets

    def __getattr__(self, name):
        return getattr(self._store, name)

    def set(self, key, value):
        self._store.set(key, value)
        if len(value) == 1 << 20:
            self._sets -= 1
            if self._sets == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def made(job):
    name, patience = job["name"], job.get("patience", 30.0)
    if job["kind"] == "folder":
        if deaths := job.get("dies_in_publication"):
            replace = Path.replace

            def deadly(path, target):
                nonlocal deaths
                deaths -= Path(target).suffix == ".safetensors"
                if deaths == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return replace(path, target)

            Path.replace = deadly
        return FolderExchange(job["place"], name, patience=patience)
    store = dist.TCPStore("127.0.0.1", job["place"], is_master=False, timeout=timedelta(seconds=20))
    if deaths := job.get("dies_in_publication"):
        store = Deadly(store, deaths)
    return StoreExchange(store, name, patience=patience)


def exchange(job, tell):
    """Publish and collect until the time is up or the peer has been heard up to ``hears``; then leave."""
    with made(job) as member:
        first = generation = member.generation + 1
        tell(joined=first)
        end = time.monotonic() + job["seconds"]
        while time.monotonic() < end and not Path(job["stop"]).exists():
            member.publish(state(member.name, generation), generation=generation, step=generation)
            for message in member.collect(state(member.name, 0)):
                expected = state(message.sender, message.generation)
                valid = all(torch.equal(message.tensors[name], expected[name]) for name in expected)
                tell(heard=message.sender, generation=message.generation, valid=valid)
            generation += 1
        tell(done=generation - first, refused=member.refused)


def group(job, tell):
    """A rank that collects; the last one dies before the second time."""
    torch.manual_seed(job["rank"])
    dist.init_process_group(
        "gloo", init_method=f"file://{job['place']}", rank=job["rank"], world_size=2, timeout=timedelta(seconds=20)
    )
    member = GroupExchange()
    for generation in range(2):
        if generation == 1 and job["rank"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        member.publish(state(member.name, generation), generation=generation)
        try:
            tell(heard=[message.sender for message in member.collect(state("", 0))], peers=member.peers())
        except InvalidStateError as error:
            tell(error=str(error), peers=member.peers())
    try:
        member.publish(state(member.name, 9), generation=9)
    except InvalidStateError as error:
        tell(again=str(error))
    os._exit(0)  # the broken group would wait for its peer


def puppet(job, tell):
    """A rank that does what it is told over a connection: name of a method and its arguments; answers or errors."""
    if job["backend"] == "nccl":
        torch.cuda.set_device(job["rank"])
    dist.init_process_group(job["backend"], init_method=f"file://{job['place']}", rank=job["rank"], world_size=2)
    member = None
    with Client(job["address"], "AF_UNIX") as connection:
        connection.send(job["rank"])
        while (order := pickle.loads(connection.recv_bytes())) is not None:
            method, positional, named = order
            try:
                if method == "make":
                    member = GroupExchange(name=job["name"], **named)
                    answer = None
                elif method in ("name", "generation", "refused"):
                    answer = getattr(member, method)
                elif method == "collect":
                    device = "cuda" if job["backend"] == "nccl" else "cpu"
                    like = {name: tensor.to(device) for name, tensor in positional[0].items()}
                    answer = [on_cpu(message, device) for message in member.collect(like)]
                else:
                    answer = getattr(member, method)(*positional, **named)
                connection.send_bytes(pickle.dumps((answer, None)))
            except TitheError as error:
                connection.send_bytes(pickle.dumps((None, error)))


def on_cpu(message, device):
    """With NCCL a state stays on the GPU; the tests are told of it by way of the CPU."""
    assert {tensor.device.type for tensor in message.tensors.values()} <= {device}
    return dataclasses.replace(message, tensors={name: tensor.cpu() for name, tensor in message.tensors.items()})


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    for line in sys.stdin:
        job = json.loads(line)
        if pid := os.fork():
            print(pid, flush=True)
            continue
        sys.stdin.close()
        with Path(job["log"]).open("a") as log:

            def tell(log=log, **what):
                log.write(json.dumps(what) + "\n")
                log.flush()

            {"exchange": exchange, "group": group, "puppet": puppet}[job["do"]](job, tell)
        os._exit(0)


if __name__ == "__main__":
    main()
