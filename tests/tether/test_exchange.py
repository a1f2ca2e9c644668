"""One contract for all ways of exchange, in pairs of members; then what those by folder and store promise besides."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import distributed as dist

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.tether.exchange import Exchange, FolderExchange, GroupExchange, StoreExchange, serve

WORKER = Path(__file__).with_name("exchange_worker.py")
LIKE = {"w": torch.zeros(3, 2), "count": torch.zeros(1, dtype=torch.int64)}


def state(value, **changes):
    return {"w": torch.full((3, 2), float(value)), "count": torch.tensor([int(value)])} | changes


class Pair:
    """Ada and Bob; all rounds are such that a collective exchange can take part."""

    def __init__(self, ada, bob):
        self.ada, self.bob = ada, bob

    def collect(self, like=LIKE):
        return self.ada.collect(like), self.bob.collect(like)


class Puppet:
    """A member in another process."""

    def __init__(self, connection):
        self.connection = connection

    def order(self, method, *positional, **named):
        self.connection.send_bytes(pickle.dumps((method, positional, named)))  # torch changes send

    def answer(self):
        answer, error = pickle.loads(self.connection.recv_bytes())
        if error is not None:
            raise error
        return answer

    def __getattr__(self, method):
        if method in ("name", "generation", "refused"):
            self.order(method)
            return self.answer()

        def call(*positional, **named):
            self.order(method, *positional, **named)
            return self.answer()

        return call


class PuppetPair(Pair):
    def collect(self, like=LIKE):
        for puppet in (self.ada, self.bob):
            puppet.order("collect", like)
        return self.ada.answer(), self.bob.answer()


@contextlib.contextmanager
def two_processes(folder, backend):
    """Two real processes in one group."""
    if not hasattr(os, "fork"):
        pytest.skip("starts its processes by fork")
    command = [sys.executable, str(WORKER)]
    with (
        Listener(str(folder / "socket"), "AF_UNIX") as listener,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery,
    ):
        for rank, name in enumerate(("ada", "bob")):
            job = {"do": "puppet", "rank": rank, "name": name, "address": listener.address, "backend": backend}
            job |= {"place": str(folder / "group"), "log": str(folder / "log")}
            nursery.stdin.write(json.dumps(job) + "\n")
        nursery.stdin.flush()
        connections = [listener.accept() for _ in range(2)]
        found = {connection.recv(): Puppet(connection) for connection in connections}
        yield found[0], found[1]
        for connection in connections:
            connection.send_bytes(pickle.dumps(None))
            connection.close()
        nursery.stdin.close()


@pytest.fixture(scope="module")
def gloo(tmp_path_factory):
    with two_processes(tmp_path_factory.mktemp("gloo"), "gloo") as found:
        yield found


@pytest.fixture(scope="module")
def nccl(tmp_path_factory):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    with two_processes(tmp_path_factory.mktemp("nccl"), "nccl") as found:
        yield found


def population(kind, folder):
    """Makes members of one population: in a folder, or around a store."""
    if kind == "folder":
        return lambda name, **options: FolderExchange(folder / "states", name, **options)
    if kind == "tcp store":
        host = serve()
        client = lambda: dist.TCPStore("127.0.0.1", host.port, is_master=False)  # noqa: E731
    else:
        store = dist.HashStore() if kind == "hash store" else dist.FileStore(str(folder / "store"))
        client = lambda: store  # noqa: E731
    return lambda name, **options: StoreExchange(client(), name, **options)


POSTBOXES = ["folder", "hash store", "tcp store", "file store"]


@pytest.fixture(params=[*POSTBOXES, "gloo", pytest.param("nccl", marks=pytest.mark.gpu)])
def pair(request, tmp_path):
    """Makes a pair, with the same options for both."""
    if request.param in POSTBOXES:
        make = population(request.param, tmp_path)
        return lambda **options: Pair(make("ada", **options), make("bob", **options))

    def made(**options):
        ada, bob = request.getfixturevalue(request.param)
        for puppet in (ada, bob):
            puppet.order("make", **options)
        ada.answer(), bob.answer()
        return PuppetPair(ada, bob)

    return made


@pytest.fixture(params=POSTBOXES)
def make(request, tmp_path):
    """Makes members that come and go."""
    return population(request.param, tmp_path)


def generations(messages):
    return [(message.sender, message.generation) for message in messages]


def test_each_hears_the_other(pair):
    both = pair()
    both.ada.publish(state(1), generation=0, step=25, info={"loss": 0.5, "labels": ["a", None]})
    both.bob.publish(state(2), generation=7)
    (by_bob,), (by_ada,) = both.collect()
    assert (by_ada.sender, by_ada.generation, by_ada.step) == ("ada", 0, 25)
    assert by_ada.info == {"loss": 0.5, "labels": ["a", None]} and by_bob.info == {}
    for message, value in ((by_ada, 1), (by_bob, 2)):
        assert message.tensors.keys() == LIKE.keys()
        assert all(torch.equal(message.tensors[name], state(value)[name]) for name in LIKE)
    assert both.ada.peers() == ["bob"] and both.bob.peers() == ["ada"]
    assert (both.ada.name, both.ada.generation, both.bob.generation) == ("ada", 0, 7)
    assert both.ada.refused == both.bob.refused == []


def test_a_state_is_taken_once(pair):
    both = pair()
    assert both.collect() == ([], [])
    both.ada.publish(state(1), generation=0)
    assert generations(both.collect()[1]) == [("ada", 0)]
    assert both.collect() == ([], [])
    both.ada.publish(state(2), generation=1)
    assert generations(both.collect()[1]) == [("ada", 1)]
    assert both.bob.refused == []


def test_only_the_newest_is_taken(pair):
    both = pair()
    for generation in range(4):
        both.ada.publish(state(generation), generation=generation)
    (message,) = both.collect()[1]
    assert message.generation == 3 and message.tensors["count"] == 3
    assert both.bob.refused == []


@pytest.mark.parametrize("again", [5, 4, 0])
def test_generations_grow(pair, again):
    both = pair()
    both.ada.publish(state(1), generation=5)
    with pytest.raises(InvalidValueError, match="go on from 6"):
        both.ada.publish(state(2), generation=again)
    assert generations(both.collect()[1]) == [("ada", 5)]


REFUSED = [
    (state(1, w=torch.full((3, 2), float("nan"))), "NaN"),
    (state(1, w=torch.full((3, 2), float("-inf"))), "infinite"),
    (state(1, w=torch.full((3, 2), 1e200, dtype=torch.float64)), "infinite as torch.float32"),
    (state(1, w=torch.ones(2, 3)), "shape"),
    (state(1, count=torch.ones(1)), "dtype"),
    (state(1, count=torch.ones(1, dtype=torch.int32)), "dtype"),
    ({"w": torch.ones(3, 2)}, "'count' missing"),
    (state(1, more=torch.ones(9)), "'more' unknown"),
    ({}, "missing"),
]


@pytest.mark.parametrize(("tensors", "reason"), REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(pair, tensors, reason):
    both = pair()
    both.ada.publish(tensors, generation=0)
    both.bob.publish(state(3), generation=0)
    by_bob, by_ada = both.collect()
    assert by_ada == [] and generations(by_bob) == [("bob", 0)]
    ((sender, told),) = both.bob.refused
    assert sender == "ada" and reason in told
    both.ada.publish(state(2), generation=1)  # it is heard again once it sends something sound
    assert generations(both.collect()[1]) == [("ada", 1)] and len(both.bob.refused) == 1


def test_who_lies_far_behind_is_refused(pair):
    both = pair(most_age=3)
    both.ada.publish(state(1), generation=4)
    both.bob.publish(state(1), generation=8)
    by_bob, by_ada = both.collect()
    assert generations(by_bob) == [("bob", 8)] and by_ada == []
    assert both.bob.refused == [("ada", "generation 4 is 4 behind; at most 3 are taken")]
    both.ada.publish(state(1), generation=5)
    assert generations(both.collect()[1]) == [("ada", 5)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_cast(pair, dtype):
    both = pair()
    both.ada.publish(state(1, w=torch.full((3, 2), 1.5, dtype=dtype)), generation=0)
    (message,) = both.collect()[1]
    assert message.tensors["w"].dtype == torch.float32 and torch.equal(message.tensors["w"], torch.full((3, 2), 1.5))


def test_many_kinds_of_tensors(pair):
    both = pair()
    mixed = {
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "complex": torch.tensor([1 + 2j]),
    }
    both.ada.publish(mixed, generation=0)
    (message,) = both.collect(mixed)[1]
    for name, tensor in mixed.items():
        assert message.tensors[name].dtype == tensor.dtype and torch.equal(message.tensors[name], tensor)


def test_a_state_of_many_pieces(pair):
    big = torch.randn(900_000, generator=torch.Generator().manual_seed(0))
    both = pair()
    for generation, size in enumerate((900_000, 10, 600_000)):  # three, one and three pieces of a store
        both.ada.publish({"w": big[:size]}, generation=generation)
        (message,) = both.collect({"w": big[:size]})[1]
        assert torch.equal(message.tensors["w"], big[:size])


@pytest.mark.parametrize(
    ("tensors", "info", "error"),
    [
        (state(1, w=torch.ones(2).to_sparse()), None, InvalidDTypeError),
        (state(1, w=torch.ones(2, dtype=torch.complex128)), None, InvalidDTypeError),
        (state(1), {"loss": float("nan")}, InvalidValueError),
        (state(1, __metadata__=torch.ones(1)), None, InvalidValueError),
        ({"w": torch.ones(300)}, None, InvalidValueError),
    ],
)
def test_what_cannot_be_sent_is_told_to_the_sender(pair, tensors, info, error):
    both = pair(most_bytes=1000)
    with pytest.raises(error):
        both.ada.publish(tensors, generation=3, info=info)
    assert both.collect() == ([], []) and both.ada.generation == -1 and both.bob.refused == []


def test_after_leaving(pair):
    both = pair()
    for member in (both.ada, both.bob):
        member.leave()
        member.leave()
    with pytest.raises(InvalidStateError, match="'ada' has left"):
        both.ada.publish(state(1), generation=0)
    with pytest.raises(InvalidStateError, match="'ada' has left"):
        both.ada.collect(LIKE)


@given(moves=st.lists(st.sampled_from(["ada", "bob", "collect"]), max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["folder", "hash store"])
def test_whatever_they_do_each_hears_the_newest_once(kind, moves, tmp_path_factory):
    make = population(kind, tmp_path_factory.mktemp("moves"))
    both, published, heard = Pair(make("ada"), make("bob")), {"ada": -1, "bob": -1}, {"ada": -1, "bob": -1}
    for move in [*moves, "collect"]:
        if move != "collect":
            published[move] += 1
            getattr(both, move).publish(state(published[move]), generation=published[move])
            continue
        for peer, messages in zip(("bob", "ada"), both.collect(), strict=True):
            new = published[peer] > heard[peer]
            assert generations(messages) == ([(peer, published[peer])] if new else [])
            assert all(message.tensors["count"] == published[peer] for message in messages)
            heard[peer] = published[peer]


def test_all_are_exchanges(make):
    assert isinstance(make("ada"), Exchange)
    assert {name for name in vars(Exchange) if not name.startswith("_")} <= set(dir(GroupExchange))


# Members that come and go: the folder and the stores.


def test_what_is_taken_is_the_receivers_own(make):
    ada, bob, cyd = make("ada"), make("bob"), make("cyd")
    tensors = state(1)
    ada.publish(tensors, generation=0)
    tensors["w"].fill_(9)
    (first,) = bob.collect(LIKE)
    first.tensors["w"].fill_(8)
    (second,) = cyd.collect(LIKE)
    assert torch.equal(second.tensors["w"], torch.ones(3, 2))


def test_three_members(make):
    members = [make(name) for name in ("ada", "bob", "cyd")]
    for value, member in enumerate(members):
        member.publish(state(value), generation=value)
    assert [generations(member.collect(LIKE)) for member in members] == [
        [("bob", 1), ("cyd", 2)],
        [("ada", 0), ("cyd", 2)],
        [("ada", 0), ("bob", 1)],
    ]


def test_who_leaves_is_not_heard_and_can_come_back(make):
    bob = make("bob")
    with make("ada") as ada:
        ada.publish(state(1), generation=4)
        assert bob.peers() == ["ada"]
    assert bob.peers() == [] and bob.collect(LIKE) == [] and bob.refused == []
    ada = make("ada")
    assert ada.generation == 4 and bob.peers() == ["ada"] and bob.collect(LIKE) == []
    ada.publish(state(2), generation=5)
    assert generations(bob.collect(LIKE)) == [("ada", 5)] and bob.refused == []


def test_a_with_block_that_fails_leaves(make):
    bob = make("bob")
    with pytest.raises(ZeroDivisionError), make("ada"):
        assert bob.peers() == ["ada"]
        raise ZeroDivisionError
    assert bob.peers() == []


def test_who_crashes_and_comes_back_goes_on(make):
    bob, ada = make("bob"), make("ada")
    ada.publish(state(1), generation=4)
    assert generations(bob.collect(LIKE)) == [("ada", 4)]
    again = make("ada")  # the first never left
    assert again.generation == 4 and bob.collect(LIKE) == []
    with pytest.raises(InvalidValueError, match="go on from 5"):
        again.publish(state(2), generation=0)
    again.publish(state(2), generation=5)
    assert generations(bob.collect(LIKE)) == [("ada", 5)] and bob.refused == []


def test_the_dead_are_not_heard(make):
    bob, ada = make("bob", patience=0.2), make("ada")
    assert bob.peers() == ["ada"]
    ada.publish(state(1), generation=0)
    assert bob.peers() == ["ada"]
    time.sleep(0.3)
    assert bob.peers() == [] and bob.collect(LIKE) == []
    ada.publish(state(2), generation=1)  # it was only slow
    assert generations(bob.collect(LIKE)) == [("ada", 1)]


def test_who_joins_later_does_not_hear_the_dead(make):
    make("ada").publish(state(1), generation=0)
    time.sleep(0.3)
    bob = make("bob", patience=0.2)
    assert bob.peers() == [] and bob.collect(LIKE) == []


def test_who_joins_later_hears_the_living(make):
    ada = make("ada")
    ada.publish(state(1), generation=0)
    bob = make("bob")
    ada.peers()  # a sign of life
    assert generations(bob.collect(LIKE)) == [("ada", 0)]


def test_a_state_that_is_too_large_for_the_receiver(make):
    ada, bob = make("ada"), make("bob", most_bytes=300)
    ada.publish({"w": torch.ones(300)}, generation=0)
    assert bob.collect({"w": torch.ones(300)}) == []
    assert [(sender, "at most 300" in reason or "to 300" in reason) for sender, reason in bob.refused] == [
        ("ada", True)
    ]
    assert bob.collect({"w": torch.ones(300)}) == [] and len(bob.refused) == 1  # not looked at twice


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": float("nan")}, {"patience": -1}, {"most_age": -1}])
def test_options_that_cannot_be(make, options):
    with pytest.raises(InvalidValueError):
        make("ada", **options)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "x" * 65, "ä"])
def test_names_that_cannot_be(make, name):
    with pytest.raises(InvalidValueError, match="is no name"):
        make(name)


def test_refusals_are_bounded(make):
    ada, bob = make("ada"), make("bob")
    for generation in range(260):
        ada.publish({}, generation=generation)
        bob.collect(LIKE)
    assert len(bob.refused) == 256
