"""Decisions out of losses: what a policy refuses, who goes with whom, plateaus, and what is remembered of losses."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.tether.policy import MergePolicy, Plateau, clusters, transfer
from tithe.tether.watch import Watch

NAN, INF = math.nan, math.inf
WRONG = {
    "interval": [0, -1, 2.5, NAN, INF, True, "25", None],
    "probe": [0, -1, 1.5, "3", None],
    "measure": ["cka", "euclid", None, 1],
    "threshold": [NAN, "0.1", None],
    "features": [NAN, "0.8", True],
    "merge": ["mean", None],
    "weighted": ["no", 1, None],
    "optimizer_state": ["yes", 0, None],
    "alarm": [0, -0.1, 1.01, NAN, INF, None, "0.5"],
    "recheck": [0, -3, 1.5, "8"],
    "drift": ["stay", None, True],
    "repulsion": [-0.1, NAN, INF, None, "0.1"],
    "most_distance": [0, -1.0, NAN, INF, None],
    "when": ["always", None],
    "plateau": [0.02, "flat", True],
    "most_merges": [-1, 0.5, "1"],
}
RIGHT = {
    "interval": [1, np.int64(7)],
    "probe": [1],
    "measure": ["transfer", "update", "cosine", "centred", "dot"],
    "threshold": [-1.0, 0, 50.0, -INF, INF],
    "features": [None, 0.5],
    "merge": ["average", "spherical"],
    "weighted": [True],
    "optimizer_state": [False],
    "alarm": [1, 0.01],
    "recheck": [1, None],
    "drift": ["leave", "repel"],
    "repulsion": [0, 2.0],
    "most_distance": [0.01, 3],
    "when": ["interval", "plateau"],
    "plateau": [None, Plateau()],
    "most_merges": [None, 0, 3],
}


def test_every_field_is_tried():
    assert {field.name for field in dataclasses.fields(MergePolicy)} == WRONG.keys() == RIGHT.keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_policy_refuses_what_is_out_of_range(name, value):
    with pytest.raises(InvalidValueError, match=f"{name} is .*; use "):
        MergePolicy(**{name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_a_policy_takes_what_is_in_range(name, value):
    policy = MergePolicy(**{name: value})
    assert getattr(policy, name) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(policy, name, value)


@pytest.mark.parametrize("options", [{"loss": -0.1}, {"loss": NAN}, {"gradient": -1}, {"gradient": NAN}, {"loss": "0"}])
def test_a_plateau_refuses(options):
    with pytest.raises(InvalidValueError):
        Plateau(**options)


@pytest.mark.parametrize(
    ("plateau", "losses", "change", "expected"),
    [
        (Plateau(), [1.0, 1.01], INF, True),
        (Plateau(), [1.01, 1.0], INF, True),
        (Plateau(), [1.0, 1.02001], INF, False),
        (Plateau(), [1.0, 0.5], 0.0, False),  # gradients are left out by default
        (Plateau(), [0.5, 9.0, 0.5], INF, False),  # only the last two count
        (Plateau(), [1.0], INF, False),
        (Plateau(), [], INF, False),
        (Plateau(), [NAN, 1.0], INF, False),
        (Plateau(), [1.0, NAN], INF, False),
        (Plateau(), [INF, INF], INF, False),
        (Plateau(gradient=0.1), [1.0, 0.5], 0.09, True),
        (Plateau(gradient=0.1), [], 0.09, True),
        (Plateau(gradient=0.1), [1.0, 0.5], 0.1, False),
        (Plateau(loss=0.0), [1.0, 1.0], 1.0, False),
    ],
)
def test_plateaus(plateau, losses, change, expected):
    assert plateau.reached(losses, change) is expected


def matrix(count, seed):
    """Symmetric, of different numbers, so that nothing depends on ties."""
    found = torch.rand(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return ((found + found.T) / 2).fill_diagonal_(1.0)


sizes = st.integers(0, 9)
seeds = st.integers(0, 2**20)
thresholds = st.floats(-1.2, 1.2)
lost = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from([-INF, NAN])), max_size=8)


def spoilt(found, entries):
    for i, j, value in entries:
        if i != j and max(i, j) < len(found):
            found[i, j] = found[j, i] = value
    return found


@settings(max_examples=150, deadline=None)
@given(count=sizes, seed=seeds, threshold=thresholds, entries=lost)
def test_clusters_hold_all_members_once_in_order(count, seed, threshold, entries):
    found = clusters(spoilt(matrix(count, seed), entries), threshold)
    assert sorted(i for group in found for i in group) == list(range(count))
    assert found == sorted(sorted(group) for group in found) and all(found)


@settings(max_examples=150, deadline=None)
@given(count=sizes, seed=seeds, threshold=thresholds, entries=lost, data=st.data())
def test_clusters_do_not_depend_on_the_order(count, seed, threshold, entries, data):
    given = spoilt(matrix(count, seed), entries)
    order = data.draw(st.permutations(range(count)))
    permuted = clusters(given[order][:, order], threshold)
    assert sorted(sorted(order[i] for i in group) for group in permuted) == clusters(given, threshold)


@settings(max_examples=150, deadline=None)
@given(
    count=sizes,
    seed=seeds,
    threshold=st.sampled_from([-1e12, -INF, -1.0, 0.0]),
    entries=lost,
    scale=st.sampled_from([1.0, 1e12, 1e-9]),
)
def test_members_that_are_kept_apart_never_join(count, seed, threshold, entries, scale):
    given = spoilt(matrix(count, seed) * scale, entries)
    for group in clusters(given, threshold):
        assert all(given[i, j] > -INF for i in group for j in group if i != j)


@settings(max_examples=100, deadline=None)
@given(count=st.integers(2, 9), seed=seeds, threshold=thresholds)
def test_groups_go_together_on_average_and_do_not_with_each_other(count, seed, threshold):
    given = matrix(count, seed)
    found = clusters(given, threshold)
    for a in found:
        for b in found:
            if a < b:
                assert given[a][:, b].mean() < threshold + 1e-9
    if len(found) == 1:
        assert max(float(given[i][[j for j in range(count) if j != i]].max()) for i in range(count)) >= threshold


@settings(max_examples=50, deadline=None)
@given(count=st.integers(2, 8), seed=seeds, low=thresholds, high=thresholds)
def test_a_lower_threshold_only_unites(count, seed, low, high):
    given = matrix(count, seed)
    fine, coarse = clusters(given, max(low, high)), clusters(given, min(low, high))
    assert all(any(set(group) <= set(whole) for whole in coarse) for group in fine)


def test_clusters_at_the_threshold_and_beyond():
    given = torch.tensor([[1.0, 0.1], [0.1, 1.0]], dtype=torch.float64)
    assert clusters(given, 0.1) == [[0, 1]] and clusters(given, 0.1000001) == [[0], [1]]
    assert clusters(given, INF) == [[0], [1]] and clusters(given, -INF) == [[0, 1]]
    assert clusters(given * -1e300, -INF) == [[0, 1]]
    assert clusters(torch.tensor([[1.0, INF], [INF, 1.0]]), 5.0) == [[0, 1]]
    assert clusters(torch.tensor([[1.0, INF], [-INF, 1.0]]), -INF) == [[0], [1]]
    assert clusters(torch.full((3, 3), NAN), -5.0) == [[0], [1], [2]]
    assert clusters(torch.full((3, 3), 2), 2) == [[0, 1, 2]]  # integers, all alike
    assert clusters(torch.ones(3, 3, dtype=torch.bfloat16, requires_grad=True), 0.5) == [[0, 1, 2]]


def test_one_bad_pair_keeps_two_good_groups_apart_however_well_the_others_go():
    given = torch.full((4, 4), 1e10)
    given[0, 3] = given[3, 0] = -INF
    assert clusters(given, 0.5) in ([[0, 1, 2], [3]], [[0], [1, 2, 3]], [[0, 1], [2, 3]], [[0, 2], [1, 3]])


def test_asymmetric_compatibility_counts_by_its_mean():
    assert clusters(torch.tensor([[1.0, 0.9], [0.1, 1.0]]), 0.49) == [[0, 1]]
    assert clusters(torch.tensor([[1.0, 0.9], [0.1, 1.0]]), 0.51) == [[0], [1]]


@pytest.mark.parametrize("bad", [torch.ones(2, 3), torch.ones(3), torch.ones(2, 2, 2), torch.tensor(1.0)])
def test_clusters_refuse(bad):
    with pytest.raises(InvalidValueError, match="square"):
        clusters(bad, 0.5)
    with pytest.raises(InvalidValueError, match="threshold"):
        clusters(torch.ones(2, 2), NAN)


def losses(count, seed, own=0.5):
    """Random ones above those of the members' own weights, who all gained."""
    found = own + 3 * torch.rand(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return found.fill_diagonal_(own), torch.full((count,), 2.0, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 6), seed=seeds, data=st.data())
def test_transfer_is_symmetric_at_most_one_and_follows_the_members(count, seed, data):
    given, first = losses(count, seed)
    found = transfer(given, first)
    assert torch.equal(found, found.T) and (found <= 1).all() and found.diagonal().eq(1).all()
    order = data.draw(st.permutations(range(count)))
    assert torch.equal(transfer(given[order][:, order], first[order]), found[order][:, order])
    torch.testing.assert_close(transfer(given * 7, first * 7), found)  # no unit of losses


def test_transfer_is_the_share_of_the_own_gain():
    given = torch.tensor([[1.0, 1.0, 2.0], [1.5, 0.5, 9.0], [2.0, 0.5, 1.0]])
    found = transfer(given, torch.tensor([2.0, 2.5, 2.0]))
    assert found[0, 1].item() == pytest.approx(min(0.5 / 1.0, 1.5 / 2.0))
    assert found[0, 2].item() == 0 and found[1, 2].item() == pytest.approx(-7)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 6), seed=seeds, data=st.data())
def test_who_gained_nothing_goes_with_none(count, seed, data):
    given, first = losses(count, seed)
    member = data.draw(st.integers(0, count - 1))
    given[member, member] = data.draw(st.sampled_from([2.0, 3.0, INF, NAN]))
    others = [i for i in range(count) if i != member]
    found = transfer(given, first)
    assert found[member, others].eq(-INF).all() and found[others, member].eq(-INF).all()
    assert found[others][:, others].isfinite().all()
    assert [member] in clusters(found, -1e30)


def test_transfer_of_what_is_no_number():
    given, first = losses(3, 0)
    given[0, 1], first[2] = NAN, NAN
    found = transfer(given, first)
    assert found[0, 1].item() == found[1, 0].item() == -INF
    assert found[2].tolist() == [-INF, -INF, 1] and found[0, 2].item() == -INF
    assert clusters(found, -INF) == [[0], [1], [2]]
    assert transfer(torch.zeros(0, 0), torch.zeros(0)).shape == (0, 0)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((3, 3), (2,)), ((3,), (3,)), ((3, 3), (3, 1)), ((2, 2), (1,))])
def test_transfer_refuses(shapes):
    with pytest.raises(InvalidValueError, match=r"use \(M, M\)"):
        transfer(*(torch.ones(shape) for shape in shapes))


def watched(*intervals, first=2.0):
    watch = Watch(first=first)
    for interval in intervals:
        for loss in interval:
            watch.add(loss)
        watch.close()
    return watch


def test_watch_takes_means_of_intervals():
    watch = watched([1.0, 2.0, None], [], [None], [0.5])
    assert watch.losses == [1.5, 0.5] and watch.intervals == 4 and watch.last == 0.5
    assert watched().last == 2.0 and watched([], []).last == 2.0 and math.isnan(Watch().last)


def test_watch_remembers_the_worst_five_steps_in_a_row_of_the_last_interval():
    assert watched([0.0] * 5 + [1.0] * 5 + [0.0] * 5).worst == 1.0
    assert watched([0.0] * 9 + [1.0] + [0.0] * 9).worst == pytest.approx(0.2)  # one batch is bad luck
    assert watched([9.0] * 9, [1.0] * 9, [1.0] * 9).worst == 1.0
    assert watched([1.0, 3.0]).worst == 2.0  # too few
    assert math.isnan(watched([0.0] * 5 + [NAN] + [0.0] * 9).worst)  # NaN is the worst, and stays it


@pytest.mark.parametrize(
    ("intervals", "share", "expected"),
    [
        ([[1.0] * 9, [0.5] * 9], 0.5, False),
        ([[0.5] * 9, [1.2] * 9], 0.5, False),
        ([[0.5] * 9, [1.3] * 9], 0.5, True),  # of 1.5 more than 0.75 are lost
        ([[0.5] * 9, [1.9] * 9], 1.0, False),
        ([[0.5] * 9, [2.1] * 9], 1.0, True),
        ([[0.5] * 9, [NAN] * 9], 0.5, True),
        ([[0.5] * 9, [INF] * 9], 0.5, True),
        ([[NAN] * 9, [0.5] * 9, [0.5] * 9], 0.5, False),  # it has recovered
        ([[3.0] * 9, [3.0] * 9], 0.5, False),
        ([[3.0] * 9, [3.1] * 9], 0.5, True),  # it never gained
        ([], 0.5, False),
        ([[], []], 0.5, False),
    ],
)
def test_alarm(intervals, share, expected):
    assert watched(*intervals).alarmed(share) is expected


def test_a_restart_begins_where_the_member_is_now():
    watch = watched([1.0] * 9, [1.5] * 9)
    watch.add(7.0)
    watch.restart()
    assert (watch.first, watch.losses, watch.intervals, watch.last) == (1.5, [], 0, 1.5)
    watch.close()
    assert watch.losses == [] and not watch.alarmed(0.5)
    fresh = Watch()
    fresh.restart()
    assert math.isnan(fresh.first)


def test_watches_share_nothing():
    one, other = Watch(), Watch()
    one.add(1.0)
    one.close()
    one.before["w"] = torch.ones(1)
    assert other.losses == [] and other.before == {}
