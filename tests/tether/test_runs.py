"""``tithe tether demo`` and ``train``: what they read, refuse and leave behind."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tithe.cli import main
from tithe.errors import CorruptFileError, InvalidValueError
from tithe.ledger import Ledger
from tithe.tether import Generations, read_numbers, write_numbers
from tithe.tether.config import read_config
from tithe.tether.demo import demo

CONFIG = """
features = 5

[[member]]
name = "north"
inputs = "north.txt"
labels = "north-labels.txt"

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
steps = 120
rate = 0.01

[policy]
interval = 10
"""


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name, turn in (("north", 0), ("south", 0), ("east", 1)):
        x = torch.randn(80, 5, generator=generator)
        y = (x[:, :3].argmax(1) + turn) % 3
        if name == "north":
            write_numbers(tmp_path / "north.txt", x)
            write_numbers(tmp_path / "north-labels.txt", y)
        else:
            np.save(tmp_path / f"{name}.npy", x.numpy())
            np.save(tmp_path / f"{name}-labels.npy", y.numpy())
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def test_train(folder, capsys):
    out = folder / "out"
    assert main(["tether", "train", str(folder / "config.toml"), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "north" in shown and "nobody" in shown and "Models and pictures" in shown
    outcomes = json.loads((out / "outcome.json").read_text())
    assert [o["group"] for o in outcomes] == [["north", "south"], ["north", "south"], ["east"]]
    assert all(o["accuracy"] > 0.6 for o in outcomes)
    plain = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    plain.load_state_dict(load_file(out / "north.safetensors"))
    assert {path.suffix for path in out.iterdir()} >= {".png", ".db", ".safetensors", ".json"}
    assert any(mark.what == "merge" for mark in Generations(out / "generations").list())
    with Ledger(out / "runs.db") as ledger:
        assert {e.kind for e in ledger.read(run="population 1")} >= {"start", "loss", "merge", "groups"}


def test_trained_afresh_in_the_same_folder_is_another_run_with_the_same_result(folder):
    out = folder / "out"
    for _ in range(2):
        assert main(["tether", "train", str(folder / "config.toml"), "--out", str(out), "--fresh"]) == 0
        found = load_file(out / "east.safetensors")
    with Ledger(out / "runs.db") as ledger:
        assert {e.run for e in ledger.read()} == {"population 1", "population 2"}
    assert main(["tether", "train", str(folder / "config.toml"), "--out", str(folder / "new")]) == 0
    again = load_file(folder / "new" / "east.safetensors")
    assert all(torch.equal(found[name], again[name]) for name in found)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("[model]", "[modle]", InvalidValueError, "has modle; it may have"),
        ("hidden = [16]", "hidden = 16", InvalidValueError, "hidden is 16"),
        ("hidden = [16]", "width = [16]", InvalidValueError, "has width"),
        ("rate = 0.01", 'rate = "fast"', InvalidValueError, "rate is 'fast'"),
        ("rate = 0.01", "rate = -1", InvalidValueError, "rate is -1; use above 0"),
        ("rate = 0.01", "checkpoint = 0", InvalidValueError, "checkpoint is 0; use at least 1"),
        ("steps = 120", "steps = true", InvalidValueError, "steps is True"),
        ("interval = 10", "interval = 0", InvalidValueError, "interval is 0"),
        ("interval = 10", 'measure = "taste"', InvalidValueError, "measure is 'taste'"),
        ('name = "south"', 'name = "north"', InvalidValueError, "two members have one name"),
        ('name = "south"\n', "", InvalidValueError, "member 2 lacks name"),
        ("features = 5", "features = ", CorruptFileError, "no TOML file"),
    ],
)
def test_a_wrong_config_is_refused(folder, old, new, error, message):
    path = folder / "config.toml"
    path.write_text(CONFIG.replace(old, new, 1))
    with pytest.raises(error, match=message):
        read_config(path)


def test_one_member_is_none(folder):
    path = folder / "config.toml"
    path.write_text('[[member]]\nname = "a"\ninputs = "a"\nlabels = "b"\n')
    with pytest.raises(InvalidValueError, match="two or more tables"):
        read_config(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("north-labels.txt", b"0 1 x", "line 1, column 5"),
        ("south.npy", b"\x80\x04K\x01.", "holds no numbers"),
        ("south-labels.npy", b"", "holds no numbers"),
    ],
)
def test_wrong_data_are_refused_in_one_line(folder, capsys, name, content, message):
    (folder / name).write_bytes(content)
    assert main(["tether", "train", str(folder / "config.toml"), "--out", str(folder / "out")]) == 1
    assert message in capsys.readouterr().err and not (folder / "out").exists()


def test_pickled_arrays_are_not_loaded(folder, capsys):
    np.save(folder / "south.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert main(["tether", "train", str(folder / "config.toml"), "--out", str(folder / "out")]) == 1
    assert "holds no numbers" in capsys.readouterr().err


def test_demo(tmp_path, capsys):
    assert main(["tether", "demo", "--out", str(tmp_path), "--epochs", "4"]) == 0
    shown = capsys.readouterr().out
    assert "plateaus" in shown and "source" in shown
    names = {path.name for path in tmp_path.iterdir()}
    assert {"data_input.txt", "labels_input.txt", "tether_other_model.txt", "scatter.png", "descent.png"} <= names
    assert read_numbers(tmp_path / "data_input.txt", (1797, 64)).max() == 1


def test_in_the_demo_uniform_tethers_always_pass_the_source_s_test_and_never_ours(tmp_path):
    meetings = demo(tmp_path, epochs=5)
    assert meetings and all(m.dot > 50 and m.centred < 0.1 and m.done == "drift" for m in meetings)


def test_in_the_demo_alike_tethers_merge_five_times_an_epoch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    demo(tmp_path / "first", epochs=1)
    like = read_numbers(tmp_path / "first" / "final_tethers.txt", (64, 64))
    write_numbers(tmp_path / "second" / "tether_other_model.txt", like + 0.1 * torch.rand(64, 64, generator=generator))
    meetings = demo(tmp_path / "second", epochs=5)
    assert {m.done for m in meetings} <= {"merge", "nothing"} and any(m.done == "merge" for m in meetings)
    marks = Generations(tmp_path / "second" / "generations").list()
    assert sum(mark.what == "merge" for mark in marks) == sum(m.done == "merge" for m in meetings)
    with pytest.raises(InvalidValueError, match="at least 1"):
        demo(tmp_path / "third", epochs=0)
