"""A run that is killed and started again ends as one that never was: the same files, bookmarks and events."""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tithe.cli import main
from tithe.ledger import Ledger
from tithe.ledger.payload import encode_payload
from tithe.locks import locked
from tithe.parallel import threads
from tithe.tether import Generations, Population
from tithe.tether.checkpoints import read_checkpoint, write_checkpoint

FORKSERVER = multiprocessing.get_context("forkserver")  # imports torch once for all children
FORKSERVER.set_forkserver_preload(["tithe.tether.runs", "torch._dynamo", "matplotlib.pyplot"])
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

CONFIG = """
[[member]]
name = "north"
inputs = "north.npy"
labels = "north-labels.npy"

[[member]]
name = "south"
inputs = "south.npy"
labels = "south-labels.npy"

[[member]]
name = "east"
inputs = "east.npy"
labels = "east-labels.npy"

[model]
hidden = [16]

[training]
steps = 100
rate = 0.01
optimizer = "adam"
checkpoint = 7

[policy]
interval = 10
"""
OPTIMIZERS = ("adam", "sgd")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with samples and configurations, and what runs leave that nobody interrupts."""
    folder = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for name, turn in (("north", 0), ("south", 0), ("east", 1)):
        x = torch.randn(80, 5, generator=generator)
        np.save(folder / f"{name}.npy", x.numpy())
        np.save(folder / f"{name}-labels.npy", ((x[:, :3].argmax(1) + turn) % 3).numpy())
    for name in OPTIMIZERS:
        (folder / f"{name}.toml").write_text(CONFIG.replace('"adam"', f'"{name}"'))
        assert train(folder / f"{name}.toml", folder / name, pictures=True) == 0
    return folder


def train(config, out, *options, pictures=False):
    """Pictures take half of the time, and are of the events: most runs here have no matplotlib."""
    with threads(1), pytest.MonkeyPatch.context() as patch:
        if not pictures:
            patch.setitem(sys.modules, "matplotlib.figure", None)
        return main(["tether", "train", str(config), "--out", str(out), *options])


def left(out):
    """All that a run leaves, but for times of day and pictures."""
    with Ledger(out / "runs.db") as ledger:
        events = [(e.run, e.system, e.kind, encode_payload(e.payload)) for e in ledger.read()]
    kept = Generations(out / "generations")
    assert kept.damaged() == {}
    marks = [
        (m.number, m.what, m.step, m.members, m.before, m.after, [
            (member, name, tensor.numpy().tobytes())
            for member, tensors in kept.restore(m.number).items() for name, tensor in tensors.items()
        ])
        for m in kept.list()
    ]  # fmt: skip
    files = [path for path in out.iterdir() if path.is_file() and path.name != "runs.db" and path.suffix != ".png"]
    return {"events": events, "bookmarks": marks, "files": {path.name: path.read_bytes() for path in files}}


def results(out):
    return left(out)["files"]


def pictures_in(out):
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def progress(out):
    """In which phase and at which step the last checkpoint was made."""
    try:
        kept = read_checkpoint(out / "run.checkpoint")
    except FileNotFoundError:
        return (0, 0)
    return (int(kept["alone"] is not None), kept["population"]["steps"])


def test_what_is_left(data):
    """So that what follows compares something."""
    found = left(data / "adam")
    kinds = [kind for _, _, kind, _ in found["events"]]
    assert kinds.count("start") == 1 and kinds.count("loss") == 10 and kinds.count("merge") > 5
    assert {run for run, *_ in found["events"]} == {"population 1"}
    assert [mark[1] for mark in found["bookmarks"]].count("merge") == kinds.count("merge")
    models = {f"{name}.safetensors" for name in ("north", "south", "east")}
    assert models | {"outcome.json"} <= found["files"].keys()
    assert "run.checkpoint" not in found["files"]
    assert {"descent.png", "family-tree.png"} <= pictures_in(data / "adam").keys()


def test_the_command_killed_again_and_again(data, tmp_path):
    config, out, chance = data / "sgd.toml", tmp_path / "out", random.Random(0)
    command = [sys.executable, "-m", "tithe", "tether", "train", str(config), "--out", str(out)]
    reached = []
    for place in ((0, 14), (1, 35)):
        with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
            while progress(out) < place:
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
        reached.append(progress(out))
    assert reached == sorted(set(reached)) and reached[-1] < (1, 100)  # each went on from where the last one was
    assert train(config, out) == 0
    assert left(out) == left(data / "sgd")


# Of what, which function; at which call of it the process dies; whether after it or before.
MOMENTS = {
    "before there is a checkpoint": ("tithe.tether.progress", "write_checkpoint", 1, False),
    "before the first event": ("tithe.ledger:Ledger", "extend", 1, False),
    "after the first event": ("tithe.ledger:Ledger", "extend", 1, True),
    "half of a checkpoint is written": ("tithe.files:os", "fsync", 20, False),
    "between checkpoint and events": ("tithe.ledger:Ledger", "extend", 25, False),
    "after the events": ("tithe.ledger:Ledger", "extend", 25, True),
    "after a bookmark": ("tithe.tether:Generations", "mark", 8, True),
    "before the first model": ("tithe.tether.runs", "write_atomically", 1, False),
    "after the outcome": ("tithe.tether.runs", "write_atomically", 4, True),
    "in the pictures": ("tithe.tether.runs", "draw", 1, False),
    "before the checkpoint goes": ("tithe.tether.progress", "discard", 1, False),
    "after it went": ("tithe.tether.progress", "discard", 1, True),
}
PICTURED = ("between checkpoint and events", "in the pictures")

DEADLY = """
import importlib, itertools, os, signal
from tithe.cli import main
from tithe.parallel import threads

module, _, inner = owner.partition(":")
owner = importlib.import_module(module)
owner = getattr(owner, inner) if inner else owner
calls, do = itertools.count(1), getattr(owner, name)

def deadly(*arguments, **options):
    last = next(calls) == at
    if last and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    done = do(*arguments, **options)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

setattr(owner, name, deadly)
with threads(1):
    main(["tether", "train", config, "--out", out])
"""


def train_and_die(config, out, owner, name, at, after):
    scope = {"config": str(config), "out": str(out), "owner": owner, "name": name, "at": at, "after": after}
    process = FORKSERVER.Process(target=exec, args=(DEADLY, scope))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_the_worst_moments(data, tmp_path, moment, capsys):
    config, out = data / "adam.toml", tmp_path / "out"
    train_and_die(config, out, *MOMENTS[moment])
    assert train(config, out, pictures=moment in PICTURED) == 0
    assert left(out) == left(data / "adam")
    if moment in PICTURED:
        assert pictures_in(out) == pictures_in(data / "adam")
    assert ("finished before" in capsys.readouterr().err) == (moment == "after it went")


@pytest.fixture(scope="module")
def killed(data):
    """A folder with a run that was killed between a checkpoint and its events."""
    train_and_die(data / "adam.toml", data / "killed", *MOMENTS["between checkpoint and events"])
    return data / "killed"


def test_a_finished_run_is_not_repeated_but_shown(data, tmp_path, capsys):
    out = shutil.copytree(data / "adam", tmp_path / "out")
    before = left(out)
    assert train(data / "adam.toml", out) == 0
    shown = capsys.readouterr()
    assert "this run was finished before; --fresh trains anew" in shown.err
    assert "north" in shown.out and "held-out accuracy" in shown.out
    assert left(out) == before
    (out / "outcome.json").write_text("[{}]")
    assert train(data / "adam.toml", out) == 1
    assert "outcome.json is damaged" in capsys.readouterr().err
    (out / "south.safetensors").unlink()  # then it is not finished
    assert train(data / "adam.toml", out) == 0
    assert results(out) == results(data / "adam")
    with Ledger(out / "runs.db") as ledger:
        assert {event.run for event in ledger.read()} == {"population 1", "population 2"}


def test_another_configuration_after_a_finished_run_is_another_run(data, tmp_path, capsys):
    out = shutil.copytree(data / "adam", tmp_path / "out")
    assert train(data / "sgd.toml", out) == 0
    assert "training.optimizer was adam and is sgd" in capsys.readouterr().err
    assert results(out) == results(data / "sgd")


DIFFERENCES = [
    ("rate = 0.01", "rate = 0.02", "training.rate was 0.01 and is 0.02"),
    ("interval = 10", "interval = 11", "policy.interval was 10 and is 11"),
    ("hidden = [16]", "hidden = [16, 8]", "model.hidden was [16] and is [16, 8]"),
    ("east-labels", "south-labels", "samples.east was"),
    ('"east"', '"west"', "members was"),
]


def test_an_interrupted_run_of_another_configuration_is_refused(data, killed, tmp_path, capsys):
    out, config = shutil.copytree(killed, tmp_path / "out"), data / "other.toml"
    for old, new, message in DIFFERENCES:
        config.write_text(CONFIG.replace(old, new))
        assert train(config, out) == 1
        shown = " ".join(capsys.readouterr().err.split())
        assert message in shown and "--fresh" in shown and "Traceback" not in shown
        assert left(out) == left(killed)
    config.write_text(CONFIG.replace("checkpoint = 7", "checkpoint = 50"))  # how often it is kept is another matter
    assert train(config, out) == 0
    assert left(out) == left(data / "adam")


def damaged(path, how):
    raw, kept = path.read_bytes(), read_checkpoint(path)
    middle = len(raw) // 2
    if how == "one bit":
        path.write_bytes(raw[:middle] + bytes([raw[middle] ^ 4]) + raw[middle + 1 :])
    elif how == "truncated":
        path.write_bytes(raw[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "of something else":
        write_checkpoint(path, {"steps": 3})
    else:
        write_checkpoint(path, {**kept, "told": kept["told"] - 1, "events": []})


def test_a_checkpoint_that_cannot_be_right_is_refused(data, killed, tmp_path, capsys):
    for how in ("one bit", "truncated", "empty", "of something else", "older"):
        out = shutil.copytree(killed, tmp_path / how)
        damaged(out / "run.checkpoint", how)
        before = left(out)
        assert train(data / "adam.toml", out) == 1
        shown = " ".join(capsys.readouterr().err.split())
        assert "run.checkpoint" in shown and "--fresh" in shown and "Traceback" not in shown
        assert left(out) == before
    assert train(data / "adam.toml", out, "--fresh") == 0
    assert results(out) == results(data / "adam")
    anew = [kind for run, _, kind, _ in left(out)["events"] if run == "population 2"]
    assert anew == [kind for _, _, kind, _ in left(data / "adam")["events"]]


def test_an_interruption_by_keyboard_says_how_to_go_on(data, tmp_path, capsys, monkeypatch):
    out, steps = tmp_path / "out", itertools.count(1)

    def interrupt(population, batches, step=Population.step):
        if next(steps) == 140:
            raise KeyboardInterrupt
        return step(population, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Population, "step", interrupt)
        with pytest.raises(SystemExit, match="130"):
            train(data / "adam.toml", out)
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert train(data / "adam.toml", out) == 0
    assert "members together, after step 35" in capsys.readouterr().err
    assert left(out) == left(data / "adam")


def test_two_at_once_are_one_too_many(data, killed, tmp_path, capsys):
    out = shutil.copytree(killed, tmp_path / "out")
    with locked(out):
        assert train(data / "adam.toml", out) == 1
        assert train(data / "adam.toml", out, "--fresh") == 1
    assert capsys.readouterr().err.count("somebody else is at work in") == 2
    assert left(out) == left(killed)


def test_what_a_user_should_know_is_said(data, killed, tmp_path, capsys):
    out = shutil.copytree(killed, tmp_path / "out")
    for path in out.glob("runs.db*"):
        path.unlink()
    kept = read_checkpoint(out / "run.checkpoint")
    kept["surroundings"]["threads"] = 64
    write_checkpoint(out / "run.checkpoint", kept)
    assert train(data / "adam.toml", out, pictures=True) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert f"members together, after step {kept['population']['steps']}" in shown
    assert f"{kept['told']} events of 'population 1' are lost" in shown
    assert "not go on bit by bit" in shown and "threads was 64 and is 1" in shown
    assert left(out)["bookmarks"] == left(data / "adam")["bookmarks"]
