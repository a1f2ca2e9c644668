import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.resolvent.batching import CoherenceBatchSampler, dataset_coherences, place
from tithe.resolvent.measures import coherence

FEW = settings(max_examples=60, deadline=None, derandomize=True)
ORDERS = ("alike", "mixed", "ascending", "descending", "random")


def scores(n, seed=0):
    return np.random.default_rng(seed).random(n)


@FEW
@given(
    st.integers(1, 130), st.integers(1, 17), st.sampled_from(ORDERS), st.integers(1, 4), st.integers(0, 9),
    st.integers(1, 3), st.booleans(), st.data(),
)  # fmt: skip
def test_each_sample_once_in_batches_of_equal_size(n, size, order, ranks, seed, window, ties, data):
    keys = np.round(scores(n), 1) if ties else scores(n)
    n_each = n // ranks
    if n_each == 0:
        return
    options = {"order": order, "seed": seed, "window": window, "world_size": ranks}
    shards = [CoherenceBatchSampler(keys, size, rank=rank, **options) for rank in range(ranks)]
    for _ in range(2):
        found = [list(shard) for shard in shards]
        for shard, batches in zip(shards, found, strict=True):
            assert len(shard) == len(batches) == -(-n_each // size)
            assert [len(b) for b in batches] == [len(b) for b in found[0]]
            assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)
        together = [i for batches in found for batch in batches for i in batch]
        assert len(together) == len(set(together)) == n_each * ranks
        assert n_each * ranks == n or n - len(together) < ranks
        assert set(together) <= set(range(n))


@FEW
@given(st.integers(1, 100), st.integers(1, 12), st.sampled_from(ORDERS))
def test_drop_last_leaves_whole_batches(n, size, order):
    if n < size:
        with pytest.raises(InvalidValueError, match="make no batch"):
            CoherenceBatchSampler(scores(n), size, order=order, drop_last=True)
        return
    sampler = CoherenceBatchSampler(scores(n), size, order=order, drop_last=True)
    batches = list(sampler)
    assert [len(b) for b in batches] == [size] * (n // size) == [size] * len(sampler)


def spread(keys, batches):
    return np.mean([np.ptp(keys[batch]) for batch in batches])


def test_alike_is_narrow_and_mixed_has_the_whole_range():
    keys = scores(1000)
    found = {order: list(CoherenceBatchSampler(keys, 20, order=order, window=1)) for order in ORDERS}
    assert spread(keys, found["alike"]) < 0.05 < 0.85 < spread(keys, found["random"])
    means = {order: np.array([keys[batch].mean() for batch in batches]) for order, batches in found.items()}
    assert (np.diff(means["ascending"]) > -0.01).all() and (np.diff(means["descending"]) < 0.01).all()
    assert abs(np.corrcoef(np.arange(50), means["alike"])[0, 1]) < 0.4
    assert means["mixed"].std() < 0.2 * means["random"].std()
    for batch in found["mixed"]:  # one of each stratum
        assert np.array_equal(np.sort(np.argsort(np.argsort(keys))[batch] // 50), np.arange(20))


def test_a_wider_window_mixes_neighbours_anew():
    keys = scores(400)
    narrow, wide = (CoherenceBatchSampler(keys, 20, window=window) for window in (1, 5))
    assert spread(keys, list(narrow)) < spread(keys, list(wide)) < 0.4
    first, second = ({tuple(sorted(batch)) for batch in list(wide)} for _ in range(2))
    assert not first & second


def test_the_union_over_ranks_is_mixed():
    keys = np.arange(96.0)
    shards = [CoherenceBatchSampler(keys, 4, order="mixed", rank=r, world_size=3) for r in range(3)]
    for step in zip(*(list(shard) for shard in shards), strict=True):
        assert np.array_equal(np.sort(np.concatenate(step)) // 8, np.arange(12))


def test_the_short_batch_lies_anywhere_and_leaves_out_anyone():
    keys = np.arange(21.0)
    sampler = CoherenceBatchSampler(keys, 4, order="ascending", window=1)
    assert len({[len(b) for b in sampler].index(1) for _ in range(40)}) > 3
    dropping = CoherenceBatchSampler(keys, 4, drop_last=True)
    left_out = {i for _ in range(200) for i in set(range(21)) - {i for batch in dropping for i in batch}}
    assert left_out == set(range(21))


def test_short_mixed_batch_has_the_whole_range():
    keys = np.arange(105.0)
    for seed in range(10):
        short = next(b for b in CoherenceBatchSampler(keys, 20, order="mixed", seed=seed) if len(b) == 5)
        assert np.array_equal(np.sort(short) // 21, np.arange(5))


def test_same_seed_same_epochs_other_seed_others():
    def epochs(seed):
        sampler = CoherenceBatchSampler(scores(50), 8, seed=seed)
        return [list(sampler) for _ in range(3)]

    assert epochs(1) == epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_in_a_loader(workers):
    data = TensorDataset(torch.arange(50))
    sampler = CoherenceBatchSampler(scores(50), 6, order="mixed")
    whole = [[batch.tolist() for (batch,) in DataLoader(data, batch_sampler=sampler)] for _ in range(2)]
    sampler = CoherenceBatchSampler(scores(50), 6, order="mixed")
    list(sampler)
    loader = iter(DataLoader(data, batch_sampler=sampler, num_workers=workers))
    batch = [next(loader)[0] for _ in range(4)][-1]
    state = sampler.state_dict(consumed=4)
    assert workers or state == sampler.state_dict()
    assert batch.tolist() == whole[1][3]
    fresh = CoherenceBatchSampler(scores(50), 6, order="mixed")
    fresh.load_state_dict(state)
    fresh.set_epoch(1)  # as trainers do at the beginning of the epoch that is resumed
    assert len(fresh) == 9
    assert [batch.tolist() for (batch,) in DataLoader(data, batch_sampler=fresh)] == whole[1][4:]
    assert fresh.epoch == 1 and len(list(fresh)) == 9 and fresh.epoch == 2


def test_state_at_the_end_of_an_epoch_leads_to_the_next():
    sampler = CoherenceBatchSampler(scores(20), 5)
    list(sampler)
    other = CoherenceBatchSampler(scores(20), 5)
    other.load_state_dict(sampler.state_dict())
    assert list(other) == list(sampler)


def test_a_state_of_another_order_is_refused():
    state = CoherenceBatchSampler(scores(20), 5).state_dict()
    with pytest.raises(InvalidStateError, match="batch_size is 5, here 4"):
        CoherenceBatchSampler(scores(20), 4).load_state_dict(state)
    with pytest.raises(InvalidStateError, match="digest"):
        CoherenceBatchSampler(scores(20, 1), 5).load_state_dict(state)
    with pytest.raises(InvalidValueError, match="consumed is 7; this epoch has 4"):
        CoherenceBatchSampler(scores(20), 5).state_dict(consumed=7)


def test_coherences_of_tensors_and_datasets():
    images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = coherence(images, (2, 3), centre=True).mean(1)
    for dims in ((1, 2), (-2, -1)):
        torch.testing.assert_close(dataset_coherences(images, dims, chunk=4).float(), expected)
    pairs = TensorDataset(images, torch.zeros(10))
    torch.testing.assert_close(dataset_coherences(pairs, (1, 2), chunk=3).float(), expected)


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ([[0.1]], {}, "one finite number"), ([], {}, "one finite number"), ([float("nan")], {}, "one finite number"),
        ([0.1], {"order": "odd"}, "use one of 'alike'"), ([0.1], {"batch_size": 0}, "batch_size is 0"),
        ([0.1], {"window": 0}, "window is 0"), ([0.1], {"seed": -1}, "seed is -1"),
        ([0.1], {"rank": 2, "world_size": 2}, "rank is 2 of world_size 2"), ([0.1], {"world_size": 2}, "no batch"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(keys, options, message):
    with pytest.raises(InvalidValueError, match=message):
        CoherenceBatchSampler(keys, **{"batch_size": 1} | options)


def test_other_errors():
    with pytest.raises(InvalidDTypeError, match="real number"):
        CoherenceBatchSampler(["a"], 1)
    with pytest.raises(InvalidValueError, match="the first one is 0"):
        CoherenceBatchSampler([0.1], 1).set_epoch(-1)
    assert place(None, None) == (0, 1)
