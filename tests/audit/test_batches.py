"""Each way to choose samples gives whole batches, and the samplers are the public ones."""

import itertools

import pytest
import torch

from tithe.audit.training.batches import BATCH, batches
from tithe.errors import InvalidValueError
from tithe.resolvent import SelectiveSampler

SAMPLES, STEPS = 400, 60
COHERENCES = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(0))


def taken(choice, seeds=(3, 1, 3), count=6, losses=None):
    following = batches(choice, seeds, COHERENCES, STEPS)
    found = []
    for _ in range(count):
        rows, weights = following(None if losses is None or not found else losses[found[-1][0]])
        assert rows.shape == (len(seeds), BATCH) and rows.dtype == torch.int64
        found.append((rows, weights))
    return found


@pytest.mark.parametrize("choice", ["shuffled", "skipping", "selective", "alike", "mixed"])
def test_an_epoch_has_no_sample_twice_and_depends_on_the_seed_alone(choice):
    whole = SAMPLES * 7 // 10 // BATCH if choice == "skipping" else SAMPLES // BATCH
    found = taken(choice, count=2 * whole, losses=COHERENCES)
    for epoch in (found[:whole], found[whole:]):
        for network in range(3):
            assert len({int(i) for rows, _ in epoch for i in rows[network]}) == whole * BATCH or choice == "selective"
    first, other = (torch.stack([rows for rows, _ in found[part]]) for part in (slice(0, whole), slice(whole, None)))
    assert torch.equal(first[:, 0], first[:, 2]) and not torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(first, other)
    again = taken(choice, seeds=(1,), count=2 * whole, losses=COHERENCES)
    assert all(torch.equal(a[0], b[1]) for (a, _), (b, _) in zip(again, found, strict=True))


def test_coherence_orders_batches():
    spread = {choice: torch.stack([COHERENCES[rows] for rows, _ in taken(choice)]).std(-1).mean() for choice in
              ("alike", "shuffled", "mixed")}  # fmt: skip
    assert spread["alike"] < 0.8 * spread["shuffled"]
    means = {choice: torch.stack([COHERENCES[rows] for rows, _ in taken(choice)]).mean(-1).std() for choice in
             ("shuffled", "mixed")}  # fmt: skip
    assert means["mixed"] < 0.3 * means["shuffled"]


def test_selection_is_that_of_the_sampler():
    losses = COHERENCES.double()
    found = taken("selective", seeds=(5,), count=20, losses=losses)
    sampler, expected = SelectiveSampler(SAMPLES, -(-STEPS * BATCH // SAMPLES), seed=5), []
    while len(expected) < 20:
        indices = iter(sampler)
        while len(rows := list(itertools.islice(indices, BATCH))) == BATCH:
            expected.append((torch.tensor(rows), sampler.weights(rows)))
            sampler.update(rows, losses[rows])
    for (rows, weights), (their_rows, their_weights) in zip(found, expected, strict=False):
        assert torch.equal(rows[0], their_rows) and torch.equal(weights[0], their_weights)
    assert any((weights == 2).any() for _, weights in found) and sampler.saved > 0.1


def test_unknown_choice():
    with pytest.raises(InvalidValueError, match="choice is 'best'; use one of 'shuffled'"):
        batches("best", [0], COHERENCES, STEPS)
