"""Bookmarks come back bit by bit or not at all, whoever marks beside us and whenever we are killed."""

import dataclasses
import math
import multiprocessing
import os
import random
import threading
import time
from datetime import datetime

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.errors import CorruptFileError, InvalidDTypeError, InvalidValueError
from tithe.tether.differences import Change
from tithe.tether.generations import Generations
from tithe.tether.sealed import DTYPES

FORKSERVER = multiprocessing.get_context("forkserver")  # imports torch once for all children
FORKSERVER.set_forkserver_preload(["tithe.tether.generations"])


def states(seed=0, members=("a", "b")):
    g = torch.Generator().manual_seed(seed)
    return {m: {"w": torch.randn(3, 4, generator=g), "b": torch.randn(3, generator=g)} for m in members}


def same(a, b):
    """Equal bit by bit: names in order, dtypes, shapes, and NaN as any other pattern of bits."""
    return list(a) == list(b) and all(
        list(a[m]) == list(b[m])
        and all(
            (x.dtype, x.shape) == (y.dtype, y.shape)
            and torch.equal(x.reshape(-1).view(torch.uint8), y.reshape(-1).view(torch.uint8))
            for x, y in zip(a[m].values(), b[m].values(), strict=True)
        )
        for m in a
    )


@pytest.fixture(params=["memory", "folder"])
def generations(request, tmp_path):
    return Generations(tmp_path / "kept" if request.param == "folder" else None)


@pytest.fixture
def folder(tmp_path):
    """Of five bookmarks."""
    kept = Generations(tmp_path)
    for step in range(5):
        kept.mark("merge", states(step), step=step)
    return kept


def file(kept, number):
    return kept.folder / f"generation-{number:06d}.safetensors"


def test_what_is_kept_is_listed(generations):
    before, after = {"a": 0.5, "b": math.inf}, {"b": math.nan}
    first = generations.mark("start", states(), step=0)
    second = generations.mark(
        "merge", states(1), step=7, before=before, after=after, compatibility=torch.tensor([[1, 0.1], [0.1, 1]]),
        note="a \n note ü",
    )  # fmt: skip
    third = generations.mark("final", {"x": {}}, step=9)
    listed = generations.list()
    assert [one.number for one in listed] == [1, 2, 3] and listed[0] == first and listed[2] == third
    assert (first.what, first.step, first.members, first.before, first.after) == ("start", 0, ("a", "b"), None, None)
    assert (first.compatibility, first.note, first.nbytes) == (None, "", 2 * 15 * 4)
    assert third.members == ("x",) and third.nbytes == 0
    for one in (second, listed[1]):
        assert one.before == before and list(one.after) == ["b"] and math.isnan(one.after["b"])
        assert one.compatibility == ((1.0, float(torch.tensor(0.1))), (float(torch.tensor(0.1)), 1.0))
        assert one.note == "a \n note ü" and datetime.fromisoformat(one.when).utcoffset().total_seconds() == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.step = 3


def test_states_come_back_bit_by_bit(generations):
    g = torch.Generator().manual_seed(0)
    odd = {
        str(dtype): torch.randint(0, 256, (6, 16), generator=g, dtype=torch.uint8).view(dtype)
        for dtype in DTYPES
        if dtype != torch.bool
    }
    odd["bool"] = torch.tensor([True, False])
    odd |= {"scalar": torch.tensor(3), "none": torch.zeros(0, 3), "halves": torch.zeros(2, 0, dtype=torch.bfloat16)}
    odd["nan"] = torch.tensor([math.nan, -math.nan, -0.0, math.inf])
    state = {"one": odd, "two": {}}
    assert len(odd) == len(DTYPES) + 4
    kept = generations.mark("start", state, step=0)
    assert same(generations.restore(kept.number), state)


def test_views_shared_memory_parameters_and_conjugates(generations):
    base = torch.arange(12.0)
    model = nn.Linear(2, 2)
    state = {
        "a": {"base": base, "view": base[2:8], "t": base.view(3, 4).T, "wide": base[:1].expand(5), "w": model.weight},
        "b": {"base": base, "conj": torch.tensor([1 + 2j]).conj(), "neg": torch.tensor([1 + 2j]).conj().imag},
    }
    generations.mark("start", state, step=0)
    found = generations.restore(1)
    for member in state:
        for name, tensor in state[member].items():
            assert torch.equal(found[member][name], tensor) and not found[member][name].requires_grad
    pointers = [tensor.untyped_storage().data_ptr() for state in found.values() for tensor in state.values()]
    assert len(set(pointers)) == len(pointers)


def test_a_bookmark_is_a_copy_both_ways(generations):
    live = states()
    generations.mark("start", live, step=0)
    for tensor in live["a"].values():
        tensor.zero_()
    restored = generations.restore(1)
    assert same(restored, states())
    restored["a"]["w"].zero_()
    assert same(generations.restore(1), states())


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.dictionaries(st.text(max_size=8), st.integers(0, 3)), min_size=1))
def test_names_may_be_any_text(tables):
    state = {m: {n: torch.full((k,), float(k)) for n, k in table.items()} for m, table in tables.items()}
    generations = Generations()
    kept = generations.mark("drift", state, step=0, before=dict.fromkeys(state, 0.1), note="".join(state))
    assert kept.members == tuple(state) and generations.list() == [kept] and same(generations.restore(1), state)


def test_awkward_names_in_a_folder(tmp_path):
    names = ["", ".", "a.b/c d", "../../x", "__metadata__", "\x00", "0", "ü\U0001f600", '"{}', "\ud800"]
    state = {m: {n: torch.tensor([float(i)]) for i, n in enumerate(names)} for m in names}
    Generations(tmp_path).mark("start", state, step=0, before=dict.fromkeys(names, 1.0))
    again = Generations(tmp_path)
    assert same(again.restore(1), state) and again.list()[0].before == dict.fromkeys(names, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["generation-000001.safetensors"]


def test_a_folder_goes_on_where_it_was(folder):
    again = Generations(folder.folder)
    assert again.list() == folder.list() and [one.step for one in again.list()] == [0, 1, 2, 3, 4]
    assert again.mark("final", states(9), step=9).number == 6
    assert same(folder.restore(6), states(9)) and folder.list()[-1].what == "final"


def test_files_are_plain_safetensors(folder):
    tensors = safetensors.torch.load_file(file(folder, 3))
    assert len(tensors) == 4 and torch.equal(tensors["0"], states(2)["a"]["w"])


def test_oldest_are_pruned_but_neither_the_first_nor_the_last(tmp_path):
    for kept in (Generations(most=4), Generations(tmp_path, most=4)):
        for step in range(7):
            kept.mark("start" if step == 0 else "merge", states(step), step=step)
        assert [one.number for one in kept.list()] == [1, 5, 6, 7] and same(kept.restore(1), states(0))
        assert kept.prune() == ()
        assert kept.prune(most=3) == (5,) and kept.prune(most=1) == (6,) and kept.prune(most=1, most_bytes=1) == ()
        assert [one.number for one in kept.list()] == [1, 7]
        assert kept.mark("merge", states(), step=8).number == 8
        with pytest.raises(InvalidValueError, match=r"no bookmark 5; there are 1, 7, 8"):
            kept.restore(5)


def test_pruned_by_bytes():
    kept = Generations(most_bytes=4 * 120)
    for step in range(6):
        kept.mark("merge", states(step), step=step)
    assert [one.number for one in kept.list()] == [1, 4, 5, 6]
    assert kept.prune(most_bytes=479) == (4,)
    kept.mark("merge", {"a": {"w": torch.zeros(1000)}}, step=6)  # larger than the limit by itself
    assert [one.number for one in kept.list()] == [1, 7]


def test_differences(generations):
    one = {"a": {"w": torch.tensor([3.0, 4.0]), "z": torch.zeros(2), "n": torch.tensor([math.nan]), "e": torch.ones(0),
                 "i": torch.tensor([2**62, 0]), "s": torch.ones(2), "old": torch.ones(1)}, "gone": {"w": torch.ones(1)},
           "empty": {}}  # fmt: skip
    two = {"a": {"w": torch.tensor([3.0, 4.5], dtype=torch.bfloat16), "z": torch.tensor([0.0, 1.0]),
                 "n": torch.tensor([math.nan]), "e": torch.ones(0), "i": torch.tensor([2**62 + 1, 0]),
                 "s": torch.ones(3), "new": torch.ones(1)}, "come": {"v": torch.ones(1)}}  # fmt: skip
    generations.mark("start", one, step=0)
    generations.mark("merge", two, step=1)
    found = generations.diff(1, 2)
    changes = found.changes["a"]
    assert list(found.changes) == ["a"] and list(changes) == ["w", "z", "n", "e", "i"]
    assert changes["w"] == Change(0.1, 0.5) and changes["z"] == Change(math.inf, 1.0) and changes["e"] == Change(0, 0)
    assert math.isnan(changes["n"].relative) and changes["i"] == Change(2.0**-62, 1.0)
    assert found.shapes == {"a": {"s": ((2,), (3,))}}
    assert found.only_first == {"a": ("old",), "gone": ("w",), "empty": ()}
    assert found.only_second == {"a": ("new",), "come": ("v",)}
    itself = generations.diff(2, 2)
    assert set(itself.changes["a"].values()) - {itself.changes["a"]["n"]} == {Change(0.0, 0.0)}
    assert not (itself.shapes or itself.only_first or itself.only_second)


def test_differences_of_complex_truths_and_half():
    kept = Generations()
    kept.mark(
        "start", {"a": {"c": torch.tensor([3 + 4j]), "b": torch.tensor([True]), "h": torch.ones(2).half()}}, step=0
    )
    kept.mark(
        "merge", {"a": {"c": torch.tensor([0j]), "b": torch.tensor([False]), "h": 2 * torch.ones(2).half()}}, step=0
    )
    assert kept.diff(1, 2).changes["a"] == {"c": Change(1.0, 5.0), "b": Change(1.0, 1.0), "h": Change(1.0, 1.0)}


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, -1, -61])
def test_truncated_files(folder, keep):
    path = file(folder, 3)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFileError, match=r"generation-000003\.safetensors is damaged"):
        folder.restore(3)
    assert [one.number for one in folder.list()] == [1, 2, 4, 5]
    assert list(folder.damaged()) == ["generation-000003.safetensors"]
    assert folder.mark("merge", states(), step=6).number == 6 and same(folder.restore(2), states(1))


def test_every_changed_byte_is_found(tmp_path):
    kept = Generations(tmp_path)
    kept.mark("start", {"a": {"w": torch.zeros(2), "v": torch.ones(2)}}, step=0, before={"a": 0.5})
    path = file(kept, 1)
    raw = path.read_bytes()
    spaces = {at for at in range(8, len(raw)) if raw[at : at + 1] == b" "}  # padding of the header may be any blank
    unnoticed = set()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        try:
            kept.restore(1)
        except CorruptFileError:
            continue
        unnoticed.add(at)
    assert unnoticed <= spaces and len(spaces) < len(raw) / 4
    path.write_bytes(raw + b"\x00")
    assert kept.list() == [] and "and should have" in kept.damaged()[path.name]


def test_a_bit_of_a_tensor_is_found_when_it_is_read(folder):
    path = file(folder, 2)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CorruptFileError, match="checksum over the tensors"):
        folder.restore(2)
    assert "checksum over the tensors" in folder.damaged()[path.name] and len(folder.damaged()) == 1


def test_foreign_files_break_nothing(folder):
    where = folder.folder
    safetensors.torch.save_file({"w": torch.ones(2)}, where / "generation-000007.safetensors")
    safetensors.torch.save_file(
        {"w": torch.ones(2)}, where / "generation-000008.safetensors", {"tithe": '{"format":1}'}
    )
    (where / "generation-000009.safetensors").mkdir()
    (where / "generation-000010.safetensors").write_bytes(b"\xff" * 4096)
    (where / "generation-000011.safetensors").write_bytes((10**9).to_bytes(8, "little") + b"{}")
    (where / "generation-000012.safetensors").write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000)
    (where / "generation-000013.safetensors").symlink_to(where / "nowhere")
    os.mkfifo(where / "generation-000014.safetensors")
    for ignored in ("generation-0000001.safetensors", "generation-1.safetensors", "generation-x.safetensors",
                    "generation-٠٠٠٠٠١.safetensors", "notes.txt", ".generation-000001.safetensors.x.part"):  # fmt: skip
        (where / ignored).write_text("hello")
    assert [one.number for one in folder.list()] == [1, 2, 3, 4, 5]
    assert list(folder.damaged()) == [f"generation-{n:06d}.safetensors" for n in (7, 8, 9, 10, 11, 12, 14)]
    for number, path in ((n, str(file(folder, n))) for n in (7, 8, 9, 10, 11, 12, 14)):
        with pytest.raises(CorruptFileError) as caught:
            folder.restore(number)
        assert path in str(caught.value) and len(str(caught.value)) < len(path) + 330
    assert folder.mark("merge", states(), step=0).number == 15 and folder.prune(most=2) == (2, 3, 4, 5)
    told = folder.damaged()
    assert "another file" in told["generation-000007.safetensors"]
    assert "is no file" in told["generation-000009.safetensors"]


def test_of_a_newer_version_it_says_so(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tithe.tether.bookmarks._VERSION", 2)
        folder.mark("merge", states(), step=0)
    with pytest.raises(CorruptFileError, match=r"version 2; this version of Tithe reads 'tithe.generations', 1"):
        folder.restore(6)


@pytest.mark.parametrize(
    ("kwargs", "error", "told"),
    [
        ({"what": "lunch"}, InvalidValueError, "what is 'lunch'; use one of 'merge', 'drift'"),
        ({"states": {}}, InvalidValueError, "no member to keep"),
        ({"states": {"a": {"w": [1.0]}}}, InvalidDTypeError, "'w' of 'a' is a list"),
        ({"states": {"a": {"w": torch.ones(2, dtype=torch.complex128)}}}, InvalidDTypeError, "complex128"),
        ({"states": {"a": {"w": torch.ones(2, 2).to_sparse()}}}, InvalidDTypeError, "sparse"),
        ({"states": {"a": {"w": torch.ones(2, device="meta")}}}, InvalidDTypeError, "meta"),
        ({"states": {"a": {3: torch.ones(2)}}}, InvalidDTypeError, "3 is a int"),
        ({"states": {3: {}}}, InvalidDTypeError, "3 is a int"),
        ({"before": {"c": 1.0}}, InvalidValueError, r"before has losses of \['c'\]"),
        ({"compatibility": torch.ones(2, 3)}, InvalidValueError, r"shape \(2, 3\)"),
        ({"compatibility": torch.ones(2)}, InvalidValueError, r"shape \(2,\)"),
    ],
)
def test_what_cannot_be_kept_is_named_and_leaves_nothing(generations, kwargs, error, told):
    given = {"what": "merge", "states": states(), "step": 0} | kwargs
    with pytest.raises(error, match=told):
        generations.mark(**given)
    assert generations.list() == [] and generations.mark("start", states(), step=0).number == 1


@pytest.mark.parametrize("limits", [{"most": 0}, {"most": -1}, {"most_bytes": 0}])
def test_limits_that_cannot_be_used(limits):
    with pytest.raises(InvalidValueError, match=next(iter(limits))):
        Generations(**limits)
    with pytest.raises(InvalidValueError, match=next(iter(limits))):
        Generations().prune(**limits)


@pytest.mark.parametrize("number", [0, -1, 99, None, "1"])
def test_numbers_that_are_not_there(generations, number):
    with pytest.raises(InvalidValueError, match=r"there are none"):
        generations.restore(number)


def test_threads_mark_without_loss(generations):
    def work(name):
        for step in range(8):
            generations.mark("merge", states(step, (name,)), step=step)

    threads = [threading.Thread(target=work, args=(f"m{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((one.members[0], one.step) for one in generations.list()) == [
        (f"m{i}", step) for i in range(4) for step in range(8)
    ]
    assert [one.number for one in generations.list()] == list(range(1, 33)) and generations.damaged() == {}


MARKING = """
import torch
from tithe.tether.generations import Generations
generations = Generations(folder, most=100_000)
for step in range(steps):
    states = {name: {"w": torch.full((size,), float(step)), "v": torch.full((size,), -float(step))}}
    told.send(generations.mark("merge", states, step=step, note=name).number)
"""


def marking(folder, name, steps, size):
    told, tell = FORKSERVER.Pipe(duplex=False)
    scope = {"folder": str(folder), "name": name, "steps": steps, "size": size, "told": tell}
    process = FORKSERVER.Process(target=exec, args=(MARKING, scope))
    process.start()
    tell.close()
    return process, told


def acknowledged(told):
    numbers = []
    try:
        while True:
            numbers.append(told.recv())
    except (EOFError, ConnectionResetError):
        told.close()
        return numbers


def test_processes_mark_without_loss(tmp_path):
    writers = [marking(tmp_path, f"m{i}", 25, 100) for i in range(3)]
    numbers = [number for _, told in writers for number in acknowledged(told)]
    for process, _ in writers:
        process.join(60)
        assert process.exitcode == 0
    kept = Generations(tmp_path, most=1000)
    assert sorted(numbers) == list(range(1, 76)) == [one.number for one in kept.list()]
    for one in kept.list():
        assert torch.equal(kept.restore(one.number)[one.note]["w"], torch.full((100,), float(one.step)))


def test_kill_9_leaves_no_half_written_bookmark(tmp_path):
    chance, size, acknowledged_numbers = random.Random(0), 1_000_000, []
    for turn in range(10):
        process, told = marking(tmp_path, f"m{turn}", 100_000, size)
        assert told.poll(60)
        time.sleep(chance.uniform(0, 0.03))
        if turn % 2:  # the moment at which a file appears is the worst for one that is written in place
            there = set(tmp_path.iterdir())
            while process.is_alive() and set(tmp_path.iterdir()) == there:
                pass
        process.kill()
        process.join(60)
        assert process.exitcode == -9
        acknowledged_numbers += acknowledged(told)
    kept = Generations(tmp_path, most=100_000)
    listed = kept.list()
    assert kept.damaged() == {} and len(acknowledged_numbers) >= 10
    assert set(acknowledged_numbers) <= {one.number for one in listed}
    for one in listed:
        found = kept.restore(one.number)[one.note]
        assert torch.equal(found["w"], torch.full((size,), float(one.step))) and torch.equal(found["v"], -found["w"])


def test_what_killed_processes_left_is_swept(tmp_path):
    old, young = (tmp_path / f".generation-000001.safetensors.{name}.part" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    Generations(tmp_path).mark("start", states(), step=0)
    assert not old.exists() and young.exists()
