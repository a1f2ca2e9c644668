"""What lies in the folder or the store and is no member's state: it is refused with a reason, and the rest goes on."""

import json
import os
import socket
import sys
import time

import pytest
import safetensors.torch
import torch
from torch import distributed as dist

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.exchange import FolderExchange, GroupExchange, Message, StoreExchange, pack, serve

LIKE = {"w": torch.zeros(3)}
SOUND = pack(Message("eve", 3, 0, {"w": torch.ones(3)}))


def refused(member, reason, sender="eve"):
    """The member takes nothing, says why once, and stays sound."""
    assert member.collect(LIKE) == []
    assert member.collect(LIKE) == []
    ((who, told),) = member.refused
    assert who == sender and reason in told
    return True


def altered(data, place):
    changed = bytearray(data)
    changed[place] ^= 64
    return bytes(changed)


BAD = {
    "nothing": (b"", "truncated"),
    "text": (b"hello, this is no tensor", "announce"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "announce"),
    "truncated": (SOUND[:-1], "truncated"),
    "altered": (altered(SOUND, -1), "checksum"),
    "another format": (safetensors.torch.save({"w": torch.ones(3)}), "no message"),
    "by another": (pack(Message("mallory", 3, 0, {"w": torch.ones(3)})), "by 'mallory', in the place of 'eve'"),
    "by oneself": (pack(Message("bob", 3, 0, {"w": torch.ones(3)})), "by 'bob'"),
}


# The folder.


@pytest.fixture
def bob(tmp_path):
    return FolderExchange(tmp_path, "bob")


@pytest.mark.parametrize("kind", BAD)
def test_files_that_are_no_states(tmp_path, bob, kind):
    (tmp_path / "eve.alive").touch()
    (tmp_path / "eve.safetensors").write_bytes(BAD[kind][0])
    assert refused(bob, BAD[kind][1])


def test_a_file_that_is_mended_is_taken(tmp_path, bob):
    (tmp_path / "eve.alive").touch()
    (tmp_path / "eve.safetensors").write_bytes(SOUND[:-1])
    assert refused(bob, "truncated")
    (tmp_path / "eve.safetensors").write_bytes(SOUND)
    assert [message.generation for message in bob.collect(LIKE)] == [3]


def test_an_old_state_that_is_put_back(tmp_path, bob):
    eve = FolderExchange(tmp_path, "eve")
    eve.publish({"w": torch.ones(3)}, generation=0)
    old = (tmp_path / "eve.safetensors").read_bytes()
    eve.publish({"w": torch.ones(3)}, generation=1)
    assert len(bob.collect(LIKE)) == 1
    (tmp_path / "eve.safetensors").write_bytes(old)
    assert refused(bob, "generation 0 is not newer than 1")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "socket", "huge"])
def test_files_that_are_no_files(tmp_path, bob, kind):
    path = tmp_path / "eve.safetensors"
    (tmp_path / "eve.alive").touch()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)  # takes no room
    assert refused(bob, "at most 4294967296" if kind == "huge" else "no regular file")


def test_files_that_are_not_of_members(tmp_path, bob):
    for name in (".alive", "..alive", "a.b.alive", "ä.alive", "x" * 65 + ".alive", "notes.txt", "eve.safetensors"):
        (tmp_path / name).write_bytes(SOUND)
    (tmp_path / "thumbs").mkdir()
    assert bob.collect(LIKE) == [] and bob.refused == [] and bob.peers() == []


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_sign_of_life_of_another_time_must_move(tmp_path, bob, shift):
    alive, then = tmp_path / "eve.alive", time.time() + shift
    alive.touch()
    os.utime(alive, (then, then))
    (tmp_path / "eve.safetensors").write_bytes(SOUND)
    assert bob.collect(LIKE) == []
    os.utime(alive, (then + 1, then + 1))  # whatever its clock says, it does something
    assert [message.sender for message in bob.collect(LIKE)] == ["eve"] and bob.refused == []


def test_coming_back_to_a_damaged_state(tmp_path):
    FolderExchange(tmp_path, "eve").publish({"w": torch.ones(3)}, generation=5)
    path = tmp_path / "eve.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    eve = FolderExchange(tmp_path, "eve")
    ((who, told),) = eve.refused
    assert (eve.generation, who) == (-1, "eve") and "truncated" in told
    eve.publish({"w": torch.ones(3)}, generation=6)
    assert FolderExchange(tmp_path, "eve").generation == 6


def test_coming_back_to_a_damaged_note(tmp_path):
    (tmp_path / "eve.left").write_text("seven")
    eve = FolderExchange(tmp_path, "eve")
    assert eve.generation == -1 and "holds no generation" in eve.refused[0][1]


def test_a_sign_of_life_that_is_cleaned_away_comes_again(tmp_path, bob):
    eve = FolderExchange(tmp_path, "eve")
    (tmp_path / "eve.alive").unlink()
    assert bob.peers() == []
    eve.publish({"w": torch.ones(3)}, generation=0)
    assert [message.sender for message in bob.collect(LIKE)] == ["eve"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        FolderExchange(tmp_path / "file", "bob")


# The store.


class Forger:
    """Writes what it likes into a store, by the keys of a member that is called eve."""

    def __init__(self):
        self.store = dist.HashStore()
        self.bob = StoreExchange(self.store, "bob")
        eve = StoreExchange(self.store, "eve")
        eve.publish({"w": torch.ones(3)}, generation=0)
        assert len(self.bob.collect(LIKE)) == 1
        self.record = json.loads(self.store.get("tithe.exchange/1/latest"))

    def put(self, what, value):
        self.store.set(f"tithe.exchange/1/{what}", value)

    def point(self, **changes):
        self.put("latest", json.dumps(self.record | {"version": 2} | changes).encode())


@pytest.fixture
def forger():
    return Forger()


@pytest.mark.parametrize("kind", sorted(BAD.keys() - {"nothing"}))
def test_pieces_that_are_no_states(forger, kind):
    forger.put("0/0", BAD[kind][0])
    forger.point(slot=0, size=len(BAD[kind][0]))
    assert refused(forger.bob, BAD[kind][1])


@pytest.mark.parametrize(
    "record",
    [b"nonsense", b"[]", b"{}x", b"[" * 9999, b"\xff", b'{"slot": 0, "what": 1}', b'{"size": 1.5}', b'{"size": "9"}',
     b'{"size": true}', b'{"size": 9, "slot": 2}', b'{"size": 9' + b" " * 9999 + b"}", b'{"size": ' + b"9" * 5000],
)  # fmt: skip
def test_records_that_are_none(forger, record):
    forger.put("latest", record)
    assert refused(forger.bob, "record")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 1 << 40}, "to 4294967296 are taken"),
        ({"size": -5}, "are taken"),
        ({"size": 5 << 20}, "lacks pieces"),
        ({"slot": 0}, "lacks pieces"),
        ({"size": 7}, "more or fewer"),
        ({"size": 900}, "more or fewer"),
    ],
)
def test_records_that_lie(forger, changes, reason):
    forger.point(**changes)
    assert refused(forger.bob, reason)


def test_an_old_state_in_the_store(forger):
    forger.point()
    assert refused(forger.bob, "generation 0 is not newer than 0")


class Interrupted:
    """A store at which something happens once, just after a piece was read."""

    def __init__(self, store, happening):
        self._store, self._happening = store, happening

    def __getattr__(self, name):
        return getattr(self._store, name)

    def get(self, key):
        value = self._store.get(key)
        if len(value) == 1 << 20 and self._happening:
            happening, self._happening = self._happening, None
            happening()
        return value


@pytest.mark.parametrize("publications", [1, 2, 3])
def test_a_state_that_is_replaced_while_it_is_read(publications):
    store, big = dist.HashStore(), torch.zeros(600_000)
    ada = StoreExchange(store, "ada")

    def publish():
        for _ in range(publications):
            ada.publish({"w": big + ada.generation + 1}, generation=ada.generation + 1)

    bob = StoreExchange(Interrupted(store, publish), "bob")
    ada.publish({"w": big}, generation=0)
    (message,) = bob.collect({"w": big})
    assert message.generation == (0 if publications == 1 else publications)  # one leaves the slot that is read alone
    assert torch.equal(message.tensors["w"], big + message.generation) and bob.refused == []


def test_one_that_leaves_while_it_is_read():
    store, big = dist.HashStore(), torch.zeros(600_000)
    ada = StoreExchange(store, "ada")
    bob = StoreExchange(Interrupted(store, ada.leave), "bob")
    ada.publish({"w": big}, generation=0)
    assert bob.collect({"w": big}) == [] and bob.refused == [] and bob.peers() == []


def test_members_that_are_none():
    store = dist.HashStore()
    bob = StoreExchange(store, "bob")
    store.add("tithe.exchange/members", 5)  # four that were killed while they joined
    store.set("tithe.exchange/3/name", b"../\xff")
    assert bob.collect(LIKE) == [] and bob.collect(LIKE) == []
    assert [sender for sender, _ in bob.refused] == ["place 3"] and bob.peers() == []
    eve = StoreExchange(store, "eve")
    eve.publish({"w": torch.ones(3)}, generation=0)
    assert [message.sender for message in bob.collect(LIKE)] == ["eve"]


def test_one_that_was_killed_while_it_joined_may_have_two_places():
    store = dist.HashStore()
    bob = StoreExchange(store, "bob")
    place = store.add("tithe.exchange/members", 1) - 1
    store.set(f"tithe.exchange/{place}/name", b"eve")
    assert bob.peers() == ["eve"]
    eve = StoreExchange(store, "eve")
    eve.publish({"w": torch.ones(3)}, generation=0)
    assert [message.sender for message in bob.collect(LIKE)] == ["eve"]


def test_coming_back_to_a_damaged_record(forger):
    forger.put("latest", b"nonsense")
    forger.put("beat", b"nonsense")
    eve = StoreExchange(forger.store, "eve")
    assert eve.generation == -1 and "record" in eve.refused[0][1]
    eve.publish({"w": torch.ones(3)}, generation=6)
    assert [message.generation for message in forger.bob.collect(LIKE)] == [6]


def test_populations_apart_in_one_store():
    store = dist.HashStore()
    ada = StoreExchange(dist.PrefixStore("one", store), "ada")
    bob = StoreExchange(dist.PrefixStore("two", store), "bob")
    ada.publish({"w": torch.ones(3)}, generation=0)
    assert bob.collect(LIKE) == [] and bob.peers() == [] and ada.peers() == []


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000), ("no such host.invalid", 0)])
def test_addresses_that_cannot_be_listened_on(host, port):
    with pytest.raises(InvalidValueError, match="cannot listen"):
        serve(port, host)


def test_a_port_that_is_taken():
    first = serve()
    with pytest.raises(InvalidValueError, match="cannot listen"):
        serve(first.port)


@pytest.mark.skipif(sys.platform != "linux", reason="others have one loopback address")
def test_the_host_listens_where_it_is_told():
    host = serve(host="127.0.0.2")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", host.port), timeout=5)
    socket.create_connection(("127.0.0.2", host.port), timeout=5).close()


def test_no_process_group():
    with pytest.raises(InvalidStateError, match="init_process_group"):
        GroupExchange()
