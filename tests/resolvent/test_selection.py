import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.resolvent.selection import Indexed, SelectiveSampler

FEW = settings(max_examples=60, deadline=None, derandomize=True)


def losses_of(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).exponential(size=n))


def told(n, epochs=1000, losses=None, **options):
    """A sampler that has seen all losses once, and is at the beginning of epoch 1."""
    sampler = SelectiveSampler(n, epochs, **options)
    sampler.update(list(sampler), losses_of(n)[list(range(n))] if losses is None else losses)
    sampler.update(range(n), losses_of(n) if losses is None else losses)
    return sampler


@FEW
@given(st.integers(1, 200), st.floats(0, 0.95), st.integers(0, 5))
def test_keeps_all_above_the_mean_and_the_share_below(n, drop, seed):
    losses = losses_of(n, seed)
    sampler = told(n, losses=losses, drop=drop, seed=seed)
    sampler.set_epoch(1)
    length, chosen = len(sampler), list(sampler)
    assert length == len(chosen) == len(set(chosen))
    low = set(torch.nonzero(losses < losses.mean()).flatten().tolist())
    assert set(range(n)) - low <= set(chosen)
    assert abs(len(low & set(chosen)) - (1 - drop) * len(low)) < 1
    weights = dict(zip(chosen, sampler.weights(chosen).tolist(), strict=True))
    for i in chosen:
        assert weights[i] == pytest.approx(1 / (1 - drop) if i in low else 1)


def test_expected_gradient_is_that_of_all_data():
    generator = torch.Generator().manual_seed(0)
    n = 37
    gradients = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    sampler = told(n, epochs=10**6, drop=0.4)
    found = []
    for _ in range(1500):
        chosen = list(sampler)
        found.append((sampler.weights(chosen).double()[:, None] * gradients[chosen]).sum(0))
    found = torch.stack(found)
    error = (found.mean(0) - gradients.sum(0)) / (found.std(0) / 1500**0.5)
    assert error.abs().max() < 4
    assert found.std(0).min() > 0.1


def test_first_epoch_and_last_ones_take_all():
    sampler = SelectiveSampler(100, epochs=16)
    lengths = []
    for _ in range(16):
        chosen = list(sampler)
        lengths.append(len(chosen))
        assert len(chosen) == len(sampler)
        if len(chosen) == 100:
            assert (sampler.weights(chosen) == 1).all()
        sampler.update(chosen, losses_of(100)[chosen])
    assert lengths[0] == lengths[14] == lengths[15] == 100
    assert max(lengths[1:14]) < 75
    assert sampler.samples_seen == sum(lengths)
    assert sampler.saved == pytest.approx(1 - sum(lengths) / 1600)


@pytest.mark.parametrize(("epochs", "anneal", "whole"), [(8, 0.125, 1), (10, 0.125, 2), (10, 0.0, 0), (4, 1.0, 4)])
def test_length_of_the_annealing(epochs, anneal, whole):
    sampler = told(50, epochs, anneal=anneal)
    lengths = []
    for epoch in range(1, epochs):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert sum(length == 50 for length in lengths) == min(whole, epochs - 1)


def test_unknown_and_broken_losses_stay():
    sampler = SelectiveSampler(6, 100, drop=0.9)
    sampler.update([0, 1, 2, 3], [float("nan"), float("inf"), 0.0, 9.0])
    sampler.set_epoch(1)
    assert set(sampler) >= {0, 1, 3, 4, 5}


@pytest.mark.parametrize("spare", ["incoherent", "coherent"])
def test_coherence_spares_a_half(spare):
    coherences = np.arange(100.0)
    losses = torch.tensor([0.0, 1.0] * 50)
    sampler = told(100, losses=losses, drop=0.9, coherences=coherences, spare=spare)
    gone = set()
    for _ in range(30):
        gone |= set(range(100)) - set(sampler)
    expected = range(50, 100, 2) if spare == "incoherent" else range(0, 50, 2)
    assert gone == set(expected)


def test_in_a_training_loop():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.01 * torch.randn(200, generator=generator)
    weight = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.05)
    sampler = SelectiveSampler(200, epochs=8)
    loader = DataLoader(Indexed(torch.utils.data.TensorDataset(x, y)), batch_size=16, sampler=sampler)
    for epoch in range(8):
        sampler.set_epoch(epoch)
        assert len(loader) == -(-len(sampler) // 16)
        for indices, (inputs, targets) in loader:
            losses = (inputs @ weight - targets).square()
            optimizer.zero_grad()
            (losses * sampler.weights(indices)).mean().backward()
            optimizer.step()
            sampler.update(indices, losses)
    assert sampler.saved > 0.2
    assert (x @ weight - y).square().mean() < 0.01


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_the_middle_of_an_epoch(workers):
    def loader(sampler, workers=0):
        return DataLoader(Indexed(torch.arange(60)), batch_size=7, sampler=sampler, num_workers=workers)

    sampler = told(60)
    sampler.set_epoch(1)
    batches = iter(loader(sampler, workers))
    seen = []
    for _ in range(3):
        indices, _items = next(batches)
        sampler.update(indices, torch.ones(7))
        seen += indices.tolist()
    file = io.BytesIO()
    torch.save(sampler.state_dict(), file)
    file.seek(0)
    fresh = SelectiveSampler(60, 1000)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    fresh.set_epoch(1)
    assert len(fresh) == len(sampler) and fresh.samples_seen == sampler.samples_seen
    torch.testing.assert_close(fresh.losses, sampler.losses)
    rest, weights = [], []
    for indices, _ in loader(fresh):
        rest += indices.tolist()
        weights += fresh.weights(indices).tolist()
        fresh.update(indices, torch.ones(len(indices)))
    same = [i for indices, _ in batches for i in indices.tolist()]
    assert rest == same and weights == sampler.weights(rest).tolist()
    assert len(rest) + len(seen) == len(set(rest + seen)) == len(sampler)
    sampler.update(same, torch.ones(len(same)))
    assert list(fresh) == list(sampler) and fresh.epoch == 2 and fresh.saved == sampler.saved


def test_a_resume_before_and_after_an_epoch():
    sampler = told(30)
    sampler.set_epoch(1)
    before = SelectiveSampler(30, 1000)
    before.load_state_dict(sampler.state_dict())
    chosen = list(sampler)
    assert list(before) == chosen
    sampler.update(chosen, torch.ones(len(chosen)))
    after = SelectiveSampler(30, 1000)
    after.load_state_dict(sampler.state_dict())
    assert list(after) == list(sampler) and after.epoch == 2


class Ranks:
    """Sums over threads that stand for processes."""

    def __init__(self, count):
        self.barrier, self.parts = threading.Barrier(count), []

    def total(self, tensor):
        self.barrier.wait()
        self.parts.append(tensor)
        self.barrier.wait()
        found = torch.stack(self.parts).sum(0)
        self.barrier.wait()
        self.parts.clear()
        self.barrier.wait()
        return found


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_have_disjoint_shards_of_equal_length(ranks):
    exchange, n = Ranks(ranks), 100
    samplers = [SelectiveSampler(n, 20, rank=r, world_size=ranks, total=exchange.total) for r in range(ranks)]
    shards = [[] for _ in range(ranks)]

    def train(rank):
        for _ in range(5):
            chosen = list(samplers[rank])
            shards[rank].append(chosen)
            samplers[rank].update(chosen, losses_of(n)[chosen])

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for parts in zip(*shards, strict=True):
        together = [i for part in parts for i in part]
        assert len({len(part) for part in parts}) == 1
        assert len(set(together)) == len(together)
    assert len(shards[0][0]) == n // ranks
    assert len(shards[0][4]) < 0.8 * n // ranks
    assert samplers[0].saved == samplers[1].saved > 0.1
    # The state of one rank serves another: it is at the same place in its own shard.
    samplers[0]._begun = True
    other = SelectiveSampler(n, 20, rank=1, world_size=ranks, total=exchange.total)
    state = samplers[0].state_dict()
    state["done"] = torch.arange(len(shards[0][4])) < 10
    other.load_state_dict(state)
    assert list(other) == shards[1][4][10:]


GLOO = """
import sys, torch
from tithe.resolvent.selection import SelectiveSampler
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
sampler = SelectiveSampler(40, 20)
for _ in range(3):
    chosen = list(sampler)
    sampler.update(chosen, [float(i) for i in chosen])
print(chosen, sampler._plan.tolist(), sep=";")
"""


@pytest.mark.slow
def test_over_torch_distributed(tmp_path):
    command = [sys.executable, "-c", GLOO]
    runs = [subprocess.Popen([*command, str(r), str(tmp_path / "store")], stdout=subprocess.PIPE) for r in range(2)]
    parts = [[eval(part) for part in run.communicate(timeout=120)[0].decode().split(";")] for run in runs]
    assert parts[0][1] == parts[1][1] and not set(parts[0][0]) & set(parts[1][0])
    assert 27 < len(parts[0][1]) < 33


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples is 0"), ({"epochs": 0}, "epochs is 0"), ({"drop": 1.0}, "drop is 1.0"),
        ({"anneal": 2}, "anneal is 2"), ({"spare": "all"}, "spare is 'all'"), ({"seed": -1}, "seed is -1"),
        ({"coherences": [1.0]}, "a finite one for each of 4"), ({"rank": 1}, "rank is 1 of world_size 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(options, message):
    with pytest.raises(InvalidValueError, match=message):
        SelectiveSampler(**{"samples": 4, "epochs": 8} | options)


def test_other_errors():
    sampler = SelectiveSampler(4, 8)
    with pytest.raises(InvalidValueError, match=r"from 0 to 3"):
        sampler.update([4], [1.0])
    with pytest.raises(InvalidValueError, match="reduction='none'"):
        sampler.update([0, 1], torch.tensor(1.0))
    with pytest.raises(InvalidValueError, match="the first one is 0"):
        sampler.set_epoch(-1)
    with pytest.raises(InvalidStateError, match=r"drop is 0\.5, here 0\.4"):
        SelectiveSampler(4, 8, drop=0.4).load_state_dict(sampler.state_dict())
    alone = SelectiveSampler(4, 8, world_size=2)
    assert len(alone) == 2  # without a message
    with pytest.raises(InvalidStateError, match="init_process_group"):
        alone.set_epoch(1)


@pytest.mark.gpu
def test_losses_from_cuda():
    sampler = SelectiveSampler(4, 8)
    sampler.update(torch.tensor([0, 1]).cuda(), torch.tensor([1.0, 2.0], requires_grad=True).cuda() * 2)
    assert sampler.losses[:2].tolist() == [2.0, 4.0]
    assert sampler.weights(torch.tensor([0, 1]).cuda()).device.type == "cpu"
