"""Rows of tether nodes there and back, between unequal models, and files that are whole and sound or refused."""

import copy
import json
import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.tether.advertising import advertise, put_rows, read_advertisement, rows_of
from tithe.tether.compatibility import compatibility
from tithe.tether.exchange import Message, pack
from tithe.tether.nodes import importance, tether_nodes
from tithe.tether.parametrization import attach

NODES = {"0": torch.tensor([1, 3]), "3": torch.tensor([0])}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(width=5, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 4, 3))


def state(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_rows_there_and_back():
    model, other = network(), network(seed=1)
    rows = rows_of(model, NODES)
    assert {name: tuple(tensor.shape) for name, tensor in rows.items()} == {
        "0.weight": (2, 1, 3, 3), "0.bias": (2,), "3.weight": (1, 20), "3.bias": (1,),
    }  # fmt: skip
    assert torch.equal(rows["0.weight"], model[0].weight[[1, 3]]) and not rows["0.weight"].requires_grad
    before = state(other)
    assert put_rows(other, NODES, rows) == {}
    assert equal(rows_of(other, NODES), rows)
    for name, (layer, others) in {"0.weight": ("0", [0, 2, 4]), "3.bias": ("3", [1, 2])}.items():
        assert torch.equal(other.state_dict()[name][others], before[name][others]), layer
    rows["0.weight"].zero_()  # copies
    assert model[0].weight[[1, 3]].any() and other[0].weight[[1, 3]].any()


@given(st.integers(0, 99), st.floats(0.05, 1))
@settings(max_examples=20, deadline=None)
def test_putting_back_changes_nothing(seed, share):
    model = network(seed=seed)
    nodes = tether_nodes(importance(model, noise(4, 1, 4, 4)), share)
    before = state(model)
    put_rows(model, nodes, rows_of(model, nodes))
    assert equal(state(model), before)


def test_unequal_models_share_what_fits():
    small, large = network(5), network(9)
    nodes = {"0": torch.tensor([2, 8]), "3": torch.tensor([0]), "gone": torch.tensor([0])}
    rows = rows_of(large, nodes, strict=False)
    assert set(rows) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert set(rows_of(small, nodes, strict=False)) == {"3.weight", "3.bias"}  # it has no node 8
    assert -1 <= compatibility(rows_of(small, nodes, strict=False), rows) <= 1  # at the same nodes
    before = state(small)
    left_out = put_rows(small, nodes, rows, strict=False)
    assert left_out == {
        "0.weight": "5 nodes, and node 8 is asked for", "0.bias": "5 nodes, and node 8 is asked for",
        "3.weight": "torch.float32 (1, 36) for floating-point (1, 20)",
    }  # fmt: skip
    after = state(small)
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"3.bias"}
    assert after["3.bias"][0] == large[3].bias[0]
    with pytest.raises(InvalidValueError, match="node 8"):
        put_rows(small, nodes, rows)
    with pytest.raises(InvalidValueError, match="'gone': no Linear"):
        rows_of(large, nodes)
    assert equal(state(small), after)


def test_tethers_come_along():
    model, other = network(), network(seed=1)
    for one in (model, other):
        attach(one, init="uniform", generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model[0].parametrizations.weight[0].tether += 1
    rows = rows_of(model, NODES)
    assert torch.equal(rows["0.parametrizations.weight.0.tether"], model[0].parametrizations.weight[0].tether[[1, 3]])
    put_rows(other, NODES, rows)
    assert torch.equal(other[0].weight[[1, 3]], model[0].weight[[1, 3]])


def test_a_model_that_is_one_layer():
    model, nodes = nn.Embedding(6, 2), {"": torch.tensor([0, 5])}
    rows = rows_of(model, nodes)
    assert list(rows) == ["weight"] and put_rows(nn.Embedding(6, 2), nodes, rows) == {}


@pytest.mark.parametrize("at", [
    torch.tensor([1.0]), torch.tensor([[1]]), torch.tensor([3, 1]), torch.tensor([1, 1]), torch.tensor([-1]),
    torch.tensor([1], dtype=torch.int32), [1],
])  # fmt: skip
def test_nodes_that_cannot_be(at):
    with pytest.raises(InvalidValueError, match="nodes of '0'"):
        rows_of(network(), {"0": at}, strict=False)


def test_rows_that_cannot_be_written_change_nothing():
    model = network()
    before, rows = state(model), rows_of(network(seed=1), NODES)
    for name, bad, match in [
        ("0.bias", torch.ones(3), r"\(3,\) for floating-point \(2,\)"),
        ("0.bias", torch.ones(2, dtype=torch.int64), "torch.int64"),
        ("0.bias", torch.tensor([1.0, float("nan")]), "NaN"),
        ("3.bias", torch.tensor([1e300], dtype=torch.float64), "infinite"),
        ("9.bias", torch.ones(2), "no tensor of that name"),
    ]:
        with pytest.raises(InvalidValueError, match=match):
            put_rows(model, NODES, rows | {name: bad})
        assert equal(state(model), before)
    with pytest.raises(InvalidValueError, match="NaN"):
        put_rows(model, NODES, rows | {"0.bias": torch.full((2,), float("nan"))}, strict=False)
    assert equal(state(model), before)


def advertised(folder, **changes):
    given = {"name": "ada", "step": 7, "info": {"loss": 0.5}} | changes
    return advertise(folder / "ada.safetensors", network(), NODES, **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_files_there_and_back(tmp_path, dtype):
    model = network().to(dtype)
    found = read_advertisement(advertise(tmp_path / "a" / "x", model, NODES, name="ada", step=7, info={"loss": 0.5}))
    assert (found.name, found.step, found.info) == ("ada", 7, {"loss": 0.5})
    assert equal(found.nodes, NODES) and equal(found.rows, rows_of(model, NODES))
    other = network(seed=1)
    assert put_rows(other, found.nodes, found.rows) == {}  # cast to the receiver's dtype
    assert torch.equal(other[0].weight[[1, 3]], model[0].weight[[1, 3]].float())
    single = read_advertisement(advertise(tmp_path / "b", nn.Linear(2, 3), {"": torch.tensor([1])}, name="b"))
    assert list(single.rows) == ["weight", "bias"] or set(single.rows) == {"weight", "bias"}


def test_another_process_reads_it(tmp_path):
    path = advertised(tmp_path)
    code = ("import sys; from tithe.tether.advertising import read_advertisement as read; "
            "found = read(sys.argv[1]); print(found.name, float(found.rows['0.weight'].sum()))")  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    name, total = run.stdout.split()
    assert name == "ada" and float(total) == float(rows_of(network(), NODES)["0.weight"].sum())


def test_no_part_of_a_file_is_ever_there(tmp_path):
    path = advertised(tmp_path)
    before = path.read_bytes()
    with pytest.raises(InvalidValueError, match="JSON"):
        advertised(tmp_path, info={"loss": float("nan")})
    with pytest.raises(InvalidValueError, match="no name"):
        advertised(tmp_path, name="../ada")
    with pytest.raises(InvalidValueError, match="step"):
        advertised(tmp_path, step=-1)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    advertised(tmp_path, step=8)
    assert read_advertisement(path).step == 8 and list(tmp_path.iterdir()) == [path]


def test_every_altered_bit_is_found_or_says_the_same(tmp_path):
    path = advertise(tmp_path / "x", nn.Linear(2, 3), {"": torch.tensor([1])}, name="ada", info={"loss": 0.5})
    data, intact = path.read_bytes(), read_advertisement(path)
    header = int.from_bytes(data[:8], "little") + 8
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            found = read_advertisement(path)
        except CorruptFileError as error:
            assert str(path) in str(error)
            continue
        assert place < header  # such as a blank in the JSON
        assert (found.name, found.step, found.info) == (intact.name, intact.step, intact.info)
        assert equal(found.nodes, intact.nodes) and equal(found.rows, intact.rows)


def test_truncated_longer_and_foreign_files_are_refused(tmp_path):
    path = advertised(tmp_path)
    data = path.read_bytes()
    foreign = [safetensors.torch.save({"w": torch.ones(2)}), b"", b"\x80\x04N.", os.urandom(300), data + b"\0",
               pack(Message("ada", 0, 0, {"w": torch.ones(2)}))]  # fmt: skip
    for content in [*(data[:length] for length in range(0, len(data), 7)), *foreign]:
        path.write_bytes(content)
        with pytest.raises(CorruptFileError):
            read_advertisement(path)
    with pytest.raises(FileNotFoundError):
        read_advertisement(tmp_path / "none")
    with pytest.raises(CorruptFileError, match="no file"):
        read_advertisement(tmp_path)
    path.write_bytes(data)
    assert read_advertisement(path, most_bytes=len(data)).name == "ada"
    with pytest.raises(CorruptFileError, match="no file of at most"):
        read_advertisement(path, most_bytes=len(data) - 1)


def test_a_file_that_says_it_is_huge_takes_no_memory(tmp_path):
    text = json.dumps({"rows/w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
                       "__metadata__": {"tithe": "{}"}}).encode()  # fmt: skip
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CorruptFileError):
        read_advertisement(tmp_path / "x")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptFileError, match="no file of at most"):
        read_advertisement(tmp_path / "sparse")


@pytest.mark.parametrize(("change", "match"), [
    ({"nodes/0": torch.tensor([3, 1])}, "not ascending"),
    ({"nodes/0": torch.tensor([0.5, 1.0])}, "float32"),
    ({"nodes/0": torch.tensor([1])}, "belong to none"),
    ({"rows/9.weight": torch.ones(2)}, "belong to none"),
    ({"rows/0.bias": torch.tensor(1.0)}, "belong to none"),
    ({"other": torch.ones(1)}, "a tensor called 'other'"),
])  # fmt: skip
def test_sound_files_that_make_no_sense_are_refused(tmp_path, change, match):
    tensors = {f"nodes/{layer}": at for layer, at in NODES.items()}
    tensors |= {f"rows/{name}": rows for name, rows in rows_of(network(), NODES).items()}
    info = {"kind": "tithe.tether.advertisement", "info": {}}
    path = tmp_path / "x"
    path.write_bytes(pack(Message("ada", 0, 0, copy.copy(tensors), info)))
    assert read_advertisement(path).name == "ada"
    path.write_bytes(pack(Message("ada", 0, 0, tensors | change, info)))
    with pytest.raises(CorruptFileError, match=match):
        read_advertisement(path)
