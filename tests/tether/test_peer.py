"""Peers by an exchange: who merges, who does not, and what a crash and a return do."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from tithe.tether import MergePolicy
from tithe.tether.exchange import FolderExchange, StoreExchange
from tithe.tether.peer import Peer

LOSS = nn.functional.cross_entropy
POLICY = MergePolicy(interval=10, probe=2)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


TEACHER = network(9)


class Task:
    def __init__(self, seed, shift=0, turned=False):
        self.generator, self.shift = torch.Generator().manual_seed(seed), shift
        self.x = torch.randn(64, 8, generator=self.generator)
        with torch.no_grad():
            self.y = TEACHER(self.x.flip(1) if turned else self.x).argmax(1)

    def batch(self):
        rows = torch.randint(64, (16,), generator=self.generator)
        return self.x[rows], (self.y[rows] + self.shift) % 4


@pytest.fixture(params=["folder", "store"])
def exchanges(request, tmp_path):
    store = HashStore()
    return lambda name: FolderExchange(tmp_path, name) if request.param == "folder" else StoreExchange(store, name)


def peer(exchange, policy=POLICY):
    model = copy.deepcopy(network())
    return Peer(model, LOSS, torch.optim.Adam(model.parameters(), lr=0.01), exchange, policy)


def run(peers, tasks, steps):
    for _ in range(steps):
        for one, task in zip(peers, tasks, strict=True):
            one.step(task.batch())


def distance(one, other, layer):
    ours, theirs = (p.model[layer].weight.detach() for p in (one, other))
    return float((ours - theirs).norm() / ours.norm())


def test_mates_merge_and_others_do_not(exchanges):
    tasks = [Task(1), Task(2), Task(3, shift=1, turned=True)]
    peers = [peer(exchanges(name)) for name in "abc"]
    run(peers, tasks, 100)
    assert set(peers[0].merged) == {"b"} and set(peers[1].merged) == {"a"} and not peers[2].merged
    assert distance(peers[0], peers[1], 2) < 0.3 * distance(peers[0], peers[2], 2)
    for one in peers:
        one.exchange.leave()


def test_other_labels_share_all_but_the_outputs(exchanges):
    tasks = [Task(1), Task(2, shift=1)]
    peers, alone = [peer(exchanges(name)) for name in "ab"], [peer(exchanges(name)) for name in "cd"]
    run(peers, tasks, 80)
    assert set(peers[0].merged) == {"b"} and peers[0].merged["b"] < 0
    apart = MergePolicy(interval=10, probe=2, features=None)
    for one in alone:
        one.policy = apart
    for one in peers:
        one.exchange.leave()
    run(alone, [Task(1), Task(2, shift=1)], 80)
    assert not alone[0].merged
    assert distance(*peers, 0) < 0.7 * distance(*alone, 0) and distance(*peers, 2) > 0.3


def test_a_peer_that_comes_back_takes_over_what_its_mates_have_learned(exchanges):
    tasks = [Task(1), Task(2)]
    first, second = (peer(exchanges(name)) for name in "ab")
    run([first, second], tasks, 60)
    generation = second.exchange.generation
    again = peer(exchanges("b"))  # a new process under the same name, from the first weights
    assert again.exchange.generation == generation
    run([first, again], tasks, 20)
    assert set(again.merged) == {"a"} and distance(first, again, 0) < 0.2
    run([first, again], tasks, 20)
    assert set(first.merged) == {"b"}


def test_a_silent_peer_is_not_waited_for(exchanges):
    tasks = [Task(1), Task(2)]
    first, second = (peer(exchanges(name)) for name in "ab")
    run([first, second], tasks, 40)
    assert first.merged
    run([first], tasks[:1], 30)
    assert not first.merged and first.steps == 70


def test_a_change_of_task_ends_the_merging(exchanges):
    tasks = [Task(1), Task(2)]
    policy = MergePolicy(interval=10, probe=2, features=None)
    peers = [peer(exchanges(name), policy) for name in "ab"]
    run(peers, tasks, 85)
    assert peers[0].merged and peers[1].merged
    tasks[1].shift = 2
    run(peers, tasks, 45)
    assert not peers[0].merged and not peers[1].merged
    assert all(float(LOSS(one.model(task.x), (task.y + task.shift) % 4).detach()) < 0.7
               for one, task in zip(peers, tasks, strict=True))  # fmt: skip


def test_nan_of_a_peer_is_refused(exchanges):
    tasks = [Task(1), Task(2)]
    first, second = (peer(exchanges(name)) for name in "ab")
    run([first, second], tasks, 20)
    with torch.no_grad():
        second.model[0].weight[0, 0] = torch.nan
    generation = second.exchange.generation
    run([first, second], tasks, 40)
    assert all(p.isfinite().all() for p in first.model.parameters())
    assert second.exchange.generation == generation and not first.merged
