"""Model files: the reference's bytes come back, and no file, however hostile, does harm."""

import contextlib
import hashlib
import json
import pickle
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import VECTORS, random_network, vectors

from tithe.errors import CorruptFileError, InvalidValueError, ModelFileError
from tithe.files import write_atomically
from tithe.hashtron import Filter, Hashtron, Layer, Network, Topology, load, model_files, save
from tithe.hashtron.counts import Parity, Sum
from tithe.hashtron.lzw import expand
from tithe.hashtron.topology import TOPOLOGIES

GOOD = (VECTORS / "squareroot_medium.json.t.zlib").read_bytes()


def lzw(data: bytes) -> bytes:
    """As Go's ``compress/lzw`` writes it: lowest bits first, 8 bits a literal, cleared when the table is full."""
    codes, table, width, next_code = [(256, 9)], {bytes([i]): i for i in range(256)}, 9, 258
    prefix = b""
    for byte in data:
        longer = prefix + bytes([byte])
        if longer in table:
            prefix = longer
            continue
        codes.append((table[prefix], width))
        if next_code == 4095:
            codes.append((256, 12))
            table, width, next_code = {bytes([i]): i for i in range(256)}, 9, 258
        else:
            table[longer] = next_code
            width += next_code == 1 << width
            next_code += 1
        prefix = bytes([byte])
    if prefix:
        codes.append((table[prefix], width))
        width += next_code == 1 << width and width < 12
    codes.append((257, width))
    packed = shift = 0
    for code, bits in codes:
        packed |= code << shift
        shift += bits
    return packed.to_bytes(-(-shift // 8), "little")


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.json.t.zlib"
    path.write_bytes(content)
    return path


def refused(folder: Path, content: bytes, message: str, topology: Topology | None = None) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(write(folder, content), topology)


@pytest.mark.parametrize(("name", "topology"), [("squareroot_medium", "squareroot"), ("isalnum", None)])
def test_the_reference_comes_back(name: str, topology: str | None, tmp_path: Path) -> None:
    original = VECTORS / f"{name}.json.t.zlib"
    path = save(load(original, topology), tmp_path / "again.json.t.zlib")
    assert zlib.decompress(path.read_bytes()) == zlib.decompress(original.read_bytes())
    again = load(path)  # the topology lies beside it
    assert again.topology == load(original, topology).topology
    assert again.neurons == load(original, topology).neurons


@pytest.mark.parametrize("vector", vectors("hashtron_vectors"), ids=lambda v: v["json"][:24])
def test_every_neuron(vector: dict, tmp_path: Path) -> None:
    path = write(tmp_path, zlib.compress(f"[\n{vector['json']}]\n".encode()))
    program = tuple(map(tuple, vector["program"]))
    assert load(path).neurons == (Hashtron(program, Filter.from_hex(vector["quaternary"])),)


def test_older_files(tmp_path: Path) -> None:
    text = zlib.decompress(GOOD)
    assert expand(lzw(text), 1 << 20) == text
    path = write(tmp_path, lzw(text))
    assert load(path, "squareroot").neurons == load(VECTORS / "squareroot_medium.json.t.zlib", "squareroot").neurons
    refused(tmp_path, lzw(text)[:-3], "damaged.*ends early")
    refused(tmp_path, lzw(text) + b"more", "damaged.*4 bytes follow the end")
    refused(tmp_path, lzw(b"a" * (1 << 17))[:90] + b"\xff" * 9, "damaged")


@settings(deadline=None, max_examples=60)
@given(data=st.one_of(st.binary(max_size=300), st.text("ab", max_size=30000).map(str.encode)))
def test_lzw_unpacks_what_was_packed(data: bytes) -> None:
    assert expand(lzw(data), 1 << 20) == data


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_lzw_of_anything_ends(data: bytes) -> None:
    with contextlib.suppress(CorruptFileError):
        assert len(expand(data, 1000)) <= 1000


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1 << 20))
def test_every_network_comes_back(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    network = random_network(np.random.default_rng(seed))
    folder = tmp_path_factory.mktemp("models")
    first, second = save(network, folder / "a"), save(load(folder / "a"), folder / "b")
    again = load(second)
    assert (again.topology, again.neurons) == (network.topology, network.neurons)
    assert first.read_bytes() == second.read_bytes()


def test_topologies(tmp_path: Path) -> None:
    for topology in TOPOLOGIES.values():
        assert Topology.from_json(topology.to_json()) == topology
    path = write(tmp_path, GOOD)
    with pytest.raises(ModelFileError, match=r"455 neurons and does not say.*topology=.*squareroot.*topology.json"):
        load(path)
    with pytest.raises(ModelFileError, match="455 neurons, the topology 2"):
        load(path, Topology((Layer(2),)))
    with pytest.raises(InvalidValueError, match="no topology 'cubicroot'"):
        load(path, "cubicroot")
    beside = tmp_path / "model.json.t.zlib.topology.json"
    beside.write_text(TOPOLOGIES["squareroot"].to_json())
    assert load(path).topology == TOPOLOGIES["squareroot"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"null",
        b"{}",
        b'{"before": 7}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"version": 2}',
        b'{"version": 1, "answer": "bits", "layers": []}',
        b'{"version": 1, "answer": "bits", "layers": 7}',
        b'{"version": 1, "answer": ["bits"], "layers": [{"neurons": 1}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": "1"}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": 1, "more": 2}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": 1, "combiner": {"kind": "evil"}}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": 1, "combiner": {"kind": ["sum"]}}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": 1, "combiner": {"kind": "sum", "dims": 1e9}}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": 1, "combiner": {"kind": "sum", "dims": [[1]]}}]}',
        b'{"version": 1, "answer": "bits", "layers": [{"neurons": ' + b"9" * 5000 + b"}]}",
        b" " * (1 << 21),
    ],
)
def test_topologies_that_are_none(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, zlib.compress(b"[\n[]]\n"))
    (tmp_path / "model.json.t.zlib.topology.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"topology\.json"):
        load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[\n]\n",
        "[\n[]\n",
        "[\n[],]\n",
        "[\n[]]\n[]",
        "[\n[,]]\n",
        "[\n[[1,2],]]\n",
        "[\n[[1,2,3]]]\n",
        "[\n[[1]]]\n",
        "[\n[[-1,2]]]\n",
        "[\n[[1,2.5]]]\n",
        "[\n[[1,1e3]]]\n",
        "[\n[[4294967296,2]]]\n",
        "[\n[[1,-2]]]\n",
        "[\n[[1,2],[3,4294967295]]]\n",
        "[\n[[1," + "9" * 100_000 + "]]]\n",
        '[\n["0"]]\n',
        '[\n["xy"]]\n',
        '[\n["00","00"]]\n',
        '[\n["00",[1,2]]]\n',
        "[\n[null]]\n",
        "[\n[true]]\n",
        '[\n{"a":1}]\n',
        "[" * 1_000_000,
        '[\n["' + "0" * 1_000_000,
        "__import__('os').system('true')",
    ],
)
def test_texts_that_are_no_model(text: str, tmp_path: Path) -> None:
    for packed in (zlib.compress(text.encode()), lzw(text.encode()) if len(text) < 1000 else b""):
        refused(tmp_path, packed, "model")


def test_white_space_and_capitals_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, zlib.compress(b' [ [ [7 , 10] ,\n[ 3, -2 ], "0A" ] ] '))
    assert load(path).neurons == (Hashtron(((7, 10), (4, 12)), Filter(b"\x0a")),)


def test_files_of_another_kind(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return pytest.fail, ("a pickle was executed",)

    for content in (b"", b"PK\x03\x04", pickle.dumps(Harmful()), b"[\n[]]\n", b"\x1f\x8b\x08", bytes(100)):
        refused(tmp_path, content, "a model file is a zlib or LZW stream")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


def test_truncated_anywhere(tmp_path: Path) -> None:
    for length in [*range(0, len(GOOD), 29), *range(len(GOOD) - 9, len(GOOD))]:
        with pytest.raises(ModelFileError):
            load(write(tmp_path, GOOD[:length]), "squareroot")
    refused(tmp_path, GOOD + b"more", "4 bytes follow its end")


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for at in rng.integers(16, 8 * len(GOOD), 100).tolist():
        damaged = bytearray(GOOD)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(ModelFileError):
            load(write(tmp_path, bytes(damaged)), "squareroot")


BOMBS = [(b"", b" "), (b"[", b"["), (b"[", b"[],"), (b"[[", b"[1,0],"), (b'[["', b"00")]


@pytest.mark.parametrize(("head", "unit"), BOMBS, ids=lambda part: part.decode() or "nothing")
def test_bombs_stay_within_memory(head: bytes, unit: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_MOST_BYTES", "_MOST_NEURONS", "_MOST_PAIRS"):
        monkeypatch.setattr(model_files, limit, getattr(model_files, limit) // 16)
    bomb = zlib.compress(head + unit * (4_000_000 // len(unit)), 9)
    assert len(bomb) < 20_000
    path = write(tmp_path, bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 400e6 / 16
    finally:
        tracemalloc.stop()


def test_too_large_when_expanded(tmp_path: Path) -> None:
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(65)) + packer.flush()
    refused(tmp_path, bomb, "more than 67108864 bytes")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(Topology((Layer(1),)), [Hashtron()])
    path = save(network, tmp_path / "model")
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(network.replace(0, Hashtron(((1, 2),))), path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "model.topology.json"]


def two_networks() -> list[Network]:
    """Of as many neurons, which only their topologies tell apart."""
    rng = np.random.default_rng(0)
    combiners = (Sum((4, 1)), Parity(4))
    return [Network.random(Topology((Layer(4, 0, combiner),)), rng) for combiner in combiners]


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
@pytest.mark.parametrize("by_hand", [False, True])
def test_an_interrupted_save_leaves_the_old_network_or_the_new(
    writes: int, by_hand: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two_networks()
    path, beside = save(old, tmp_path / "model"), tmp_path / "model.topology.json"
    if by_hand:
        beside.write_text(old.topology.to_json())  # which has no checksum
    left = writes

    def write(target: Path, content: str | bytes) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("disk full")
        return write_atomically(target, content)

    with monkeypatch.context() as patch, contextlib.suppress(OSError):
        patch.setattr(model_files, "write_atomically", write)
        save(new, path)
    found, expected = load(path), old if writes < 2 else new
    assert (found.topology, found.neurons) == (expected.topology, expected.neurons)
    for network in (old, new):  # and what is left behind is in nobody's way
        assert load(save(network, path)).topology == network.topology
    assert beside.read_bytes() == Path(f"{save(new, tmp_path / 'other')}.topology.json").read_bytes()


def test_an_interrupted_save_over_a_single_hashtron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, zlib.compress(b"[\n[[7,2]]]\n"))
    old = load(path)  # it has no topology beside it
    monkeypatch.setattr(
        model_files, "write_atomically", lambda to, what: write_atomically(to, what) if to != path else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        save(two_networks()[0], path)
    assert (load(path).topology, load(path).neurons) == (old.topology, old.neurons)


def test_the_topology_of_another_model(tmp_path: Path) -> None:
    first, second = two_networks()
    path = save(first, tmp_path / "model")
    path.write_bytes(save(second, tmp_path / "other").read_bytes())
    with pytest.raises(ModelFileError, match=r"topology\.json is for another model.*pass topology="):
        load(path)
    assert load(path, second.topology).neurons == second.neurons
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelFileError, match="model is damaged"):
        load(path)


def test_the_topology_beside_says_which_model_it_is_for(tmp_path: Path) -> None:
    path = save(Network(Topology((Layer(1),)), [Hashtron()]), tmp_path / "model")
    found = json.loads((tmp_path / "model.topology.json").read_text())
    assert found["layers"] == [{"neurons": 1, "premodulo": 0, "combiner": None}]
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
