"""Which neuron is trained next, which pairs go together, and which capacity is recommended."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.law import regime
from tithe.hashtron.backward.pairs import anti_correlated_pairs
from tithe.hashtron.backward.recommendation import recommended_capacity
from tithe.hashtron.backward.records import Record
from tithe.hashtron.backward.selection import Choice, select


@st.composite
def layer(draw: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(1, 12))
    most = [draw(st.integers(0, 400)) for _ in range(count)]
    totals = [draw(st.integers(-each, each)) for each in most]
    known, done = (np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count))) for _ in range(2))
    return np.array(totals), np.array(most), known, done


def off_middle(total: int, most: int) -> float:
    return round(abs(abs(total) / most - (1 / math.sqrt(most) + 0.8) / 2), 12)


# --- select


@given(layer(), st.integers(0, 99))
def test_a_choice_is_what_it_says(found: tuple, seed: int) -> None:
    totals, most, known, done = found
    choice = select(totals, most, known=known, done=done, seed=seed)
    assert choice == select(totals, most, known=known, done=done, seed=seed)
    if done.all():
        assert choice is None
        return
    assert choice is not None and not done[list(choice.neurons)].any()
    left = [i for i in range(len(totals)) if not done[i]]
    gold = [i for i in left if known[i] and regime(totals[i], most[i]) == "gold"]
    moderate = [i for i in left if 4 * int(totals[i]) ** 2 > most[i] and 10 * abs(int(totals[i])) < 9 * most[i]]
    if not known[left].all():
        assert choice == Choice(tuple(i for i in left if not known[i]), "probe")
    elif gold:
        assert choice == Choice((min(gold, key=lambda i: off_middle(totals[i], most[i])),), "gold")
    elif moderate:
        assert choice == Choice((min(moderate, key=lambda i: off_middle(totals[i], most[i])),), "moderate")
    else:
        assert choice.why == "random" and len(choice.neurons) == 1
        assert most[choice.neurons[0]] or not most[left].any()


@given(layer(), st.integers(0, 99), st.one_of(st.none(), st.integers(0, 3)))
def test_a_sweep_takes_every_neuron_once(found: tuple, seed: int, most_probes: int | None) -> None:
    totals, most, known, done = found
    order, probed, known, before = [], 0, known.copy(), done.copy()
    done = done.copy()
    while (choice := select(
        totals, most, known=known, done=done, seed=[seed, len(order)],
        most_probes=None if most_probes is None else most_probes - probed,
    )) is not None:  # fmt: skip
        if choice.why == "probe":
            assert not known[list(choice.neurons)].any()
            known[list(choice.neurons)] = True
            probed += len(choice.neurons)
        else:
            order += choice.neurons
            done[list(choice.neurons)] = True
    assert sorted(order) == np.flatnonzero(~before).tolist()
    assert most_probes is None or probed <= most_probes


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ([10, 45, 80], Choice((1,), "gold")),
        ([11, 79, 90], Choice((0,), "gold")),  # both are 0.34 off: the first
        ([79, 11, 90], Choice((0,), "gold")),
        ([20, 71, 80], Choice((0,), "gold")),
        ([-45, 45, 45], Choice((0,), "gold")),
        ([40, 49, -49], Choice((1,), "gold")),
        ([10, 80, 100], Choice((0,), "moderate")),
        ([0, 81, 89], Choice((1,), "moderate")),
        ([6, 85, 100], Choice((0,), "moderate")),
    ],
)
def test_which_of_three(totals: list[int], expected: Choice) -> None:
    assert select(totals, 100, seed=0) == expected


def test_random_ones_depend_on_the_seed_alone_and_reach_all() -> None:
    totals, most = [0, 5, 90, 100, 0], [100, 100, 100, 100, 0]
    picks = [select(totals, most, seed=seed) for seed in range(60)]
    assert picks == [select(totals, most, seed=seed) for seed in range(60)]
    assert {choice.neurons[0] for choice in picks} == {0, 1, 2, 3}  # not the one without votes
    assert {choice.why for choice in picks} == {"random"}
    assert select([0, 0], 0, done=[False, True], seed=0) == Choice((0,), "random")
    generator = np.random.default_rng(5)
    assert len({select(totals, most, seed=generator).neurons for _ in range(60)}) == 4


def test_probes_have_a_limit() -> None:
    unknown = np.zeros(20, bool)
    seen = set()
    for seed in range(40):
        choice = select(np.zeros(20, int), 100, known=unknown, seed=seed, most_probes=3)
        assert (
            choice.why == "probe" and len(set(choice.neurons)) == 3 and list(choice.neurons) == sorted(choice.neurons)
        )
        seen |= {*choice.neurons}
    assert seen == set(range(20))
    picks = {select(np.zeros(20, int), 100, known=unknown, seed=seed, most_probes=0).neurons for seed in range(200)}
    assert len(picks) == 20
    known = unknown.copy()
    known[7] = True
    assert select(np.full(20, 40), 100, known=known, seed=0, most_probes=0) == Choice((7,), "gold")
    assert select(np.full(20, 999), 100, known=unknown, seed=0).why == "probe"  # sums that are not known do not matter


def test_averages_of_sums_may_be_fractions() -> None:
    assert select([90.5, 5.2, 4.9], 100, seed=0) == Choice((1,), "moderate")
    assert select([9.9, 10.1], 100, seed=0) == Choice((1,), "gold")


def test_another_tau_moves_the_zone_and_its_middle() -> None:
    assert select([45, 60], 100, seed=0, tau=0.8).neurons == (0,)
    assert select([45, 60], 100, seed=0, tau=1.0).neurons == (1,)
    assert select([45, 60], 100, seed=0, tau=0.45) == Choice((0,), "moderate")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"totals": [[1]], "most": 9}, "totals have shape"),
        ({"totals": [1, 2], "most": [9, 9, 9]}, "most has shape"),
        ({"totals": [1, 2], "most": 9, "known": [True]}, "known is bool"),
        ({"totals": [1, 2], "most": 9, "done": [0, 1]}, "done is int"),
        ({"totals": [1, 12], "most": 9}, "12 of 9"),
        ({"totals": [1, 2], "most": 9, "tau": 0}, "tau is 0"),
        ({"totals": [1, 2], "most": 9, "known": [False, False], "most_probes": -1}, "most_probes is -1"),
    ],
)
def test_select_says_what_cannot_be(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        select(**arguments, seed=0)


# --- pairs


def brute_force(votes: np.ndarray) -> dict[tuple[int, int], tuple[float, int, float]]:
    found = {}
    for i, j in combinations(range(votes.shape[1]), 2):
        both = votes[(votes[:, i] != 0) & (votes[:, j] != 0)][:, [i, j]].astype(int)
        if len(both) and len({*both[:, 0]}) > 1 and len({*both[:, 1]}) > 1:
            table = [[np.sum((both == (a, b)).all(1)) for b in (1, -1)] for a in (1, -1)]
            p = fisher_exact(table, alternative="less").pvalue
            found[i, j] = (np.corrcoef(both.T)[0, 1], len(both), p * math.comb(votes.shape[1], 2))
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 20), st.integers(2, 6), st.sampled_from([0.0, 0.4]))
def test_pairs_are_those_of_fishers_exact_test(seed: int, neurons: int, silent: float) -> None:
    random = np.random.default_rng(seed)
    common = random.normal(size=(60, 1)) * random.normal(size=neurons)
    votes = np.where(common + random.normal(size=(60, neurons)) > random.normal(size=neurons), 1, -1).astype(np.int8)
    votes[random.random(votes.shape) < silent] = 0
    expected = {pair: each for pair, each in brute_force(votes).items() if each[0] < 0 and each[2] <= 0.05}
    found = anti_correlated_pairs(votes, most=20)
    assert {pair.neurons for pair in found} == set(expected)
    for pair in found:
        correlation, together, chance = expected[pair.neurons]
        assert (pair.correlation, pair.together) == (pytest.approx(correlation), together)
        assert pair.chance == pytest.approx(chance, rel=1e-6)
    assert [pair.correlation for pair in found] == sorted(pair.correlation for pair in found)
    assert anti_correlated_pairs(votes, most=2) == found[:2]


def test_two_opposites_are_found_among_a_thousand_that_are_none() -> None:
    random = np.random.default_rng(11)
    votes = random.random((2000, 1000)) < random.random(1000)
    votes[:, 700] = ~votes[:, 3] ^ (random.random(2000) < 0.3)
    found = anti_correlated_pairs(votes)
    assert [pair.neurons for pair in found] == [(3, 700)]
    assert found[0].together == 2000 and found[0].chance < 1e-10
    assert found == anti_correlated_pairs(np.where(votes, 1, -1))


def test_independent_neurons_are_hardly_ever_a_pair() -> None:
    random = np.random.default_rng(12)
    runs = [anti_correlated_pairs(random.random((50, 12)) < 0.5) for _ in range(200)]
    assert sum(bool(found) for found in runs) <= 20  # 10 expected at most, at 5 %


def test_opposite_habits_are_no_anti_correlation() -> None:
    """One votes mostly true, the other mostly false, independently: they disagree, but by no more than that."""
    random = np.random.default_rng(13)
    votes = random.random((3000, 2)) < (0.9, 0.1)
    assert (votes[:, 0] != votes[:, 1]).mean() > 0.75
    assert anti_correlated_pairs(votes) == []


def test_who_votes_always_the_same_or_never_is_no_pair() -> None:
    one = np.tile([1, -1], 50)
    votes = np.stack([one, np.ones(100), np.zeros(100), -np.ones(100), -one], 1)
    assert [pair.neurons for pair in anti_correlated_pairs(votes)] == [(0, 4)]
    apart = np.where(np.arange(100)[:, None] < 50, [1, 0], [0, 1]) * one[:, None]
    assert anti_correlated_pairs(apart) == []  # never asked together
    assert anti_correlated_pairs(one[:4, None] * [1, -1]) == []  # four samples prove nothing: 1 in 6
    assert anti_correlated_pairs(np.zeros((0, 3))) == anti_correlated_pairs(np.zeros((5, 0))) == []


@pytest.mark.parametrize(
    ("votes", "options", "message"),
    [
        (np.zeros(3), {}, "votes have shape"),
        (np.full((3, 2), 2), {}, "votes must be bool, or -1, 0 and 1 alone"),
        (np.full((3, 2), math.nan), {}, "votes must be bool"),
        (np.full((3, 2), "a"), {}, "votes are <U1"),
        (np.zeros((3, 2)), {"most": 0}, "most is 0"),
        (np.zeros((3, 2)), {"significance": 0}, "significance is 0"),
    ],
)
def test_pairs_say_what_cannot_be(votes: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises((InvalidValueError, InvalidDTypeError), match=message):
        anti_correlated_pairs(votes, **options)


# --- recommendation


def run(capacities: list[int], gains: list[float], number: int = 1, **options: object) -> list[Record]:
    """A run that trains neurons with these capacities, each of which adds that much to the accuracy."""
    levels = np.cumsum([0.2, *gains]).tolist()
    return [
        Record(
            1, i, number, float(i), votes=1, outputs=0, samples=100, pivotal=9,
            premodulo=capacity**2, eval=level, **options,
        )
        for i, (capacity, level) in enumerate(zip([3, *capacities], levels, strict=True))
    ]  # fmt: skip


def noise(count: int, seed: int, scale: float = 0.002) -> list[float]:
    return (np.random.default_rng(seed).standard_t(3, count) * scale).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_capacity_that_adds_most_is_recommended(seed: int) -> None:
    capacities = [4, 16, 64] * 100
    gains = [
        each + 0.003 * (capacity == 16) for each, capacity in zip(noise(300, seed, 0.001), capacities, strict=True)
    ]
    found = recommended_capacity(run(capacities, gains))
    assert found is not None and (found.capacity, found.low, found.high) == (16, 16, 16)
    assert (found.records, found.compared) == (100, 300)
    assert abs(found.gain - 0.003) < 4 * found.error < 0.001


def test_the_smallest_of_equally_good_ones_is_recommended() -> None:
    chosen = [recommended_capacity(run([4, 64] * 100, noise(200, seed))) for seed in range(40)]
    assert sum(found.capacity == 4 for found in chosen) >= 26  # 34 expected: within one standard error or better


def test_a_few_wild_gains_do_not_decide() -> None:
    capacities = [4, 64] * 50
    gains = [0.001 if capacity == 4 else 0.0 for capacity in capacities]
    gains[1], gains[3] = 0.3, -0.1  # two of the 50 at 64
    assert np.mean(gains[1::2]) > np.mean(gains[::2])
    assert recommended_capacity(run(capacities, gains)).capacity == 4


def test_too_little_is_no_recommendation() -> None:
    assert recommended_capacity([]) is None
    assert recommended_capacity(run([4] * 200, noise(200, 0))) is None  # nothing to compare with
    assert recommended_capacity(run([4] * 200 + [64] * 19, noise(219, 0))) is None
    enough = run([4] * 200 + [64] * 20, noise(220, 0))
    assert recommended_capacity(enough).compared == 220
    assert recommended_capacity(enough, least=21) is None


def test_what_does_not_count() -> None:
    capacities, gains = [4, 64] * 20, [0.01, 0.0] * 20
    assert recommended_capacity(run(capacities, gains)).capacity == 4
    assert recommended_capacity(run(capacities, gains, stale=True)) is None
    assert recommended_capacity(run(capacities, gains, final=True)) is None
    assert recommended_capacity(run(capacities, [math.nan] * 40)) is None
    first, second = run([4, 64] * 10, [0.01, 0.0] * 10, 1), run([4, 64] * 10, [0.01, 0.0] * 10, 2)
    both = [record for pair in zip(first, second, strict=True) for record in pair]
    found = recommended_capacity(both)  # two runs at the same time
    assert (found.records, found.compared, found.gain) == (20, 40, pytest.approx(0.01, rel=1e-3))
    with pytest.raises(InvalidValueError, match="least is 4"):
        recommended_capacity([], least=4)


def test_no_capacity_below_the_best_is_recommended_that_is_worse() -> None:
    found = recommended_capacity(run([2, 8, 32] * 40, [-0.001, 0.001, 0.0] * 40))
    assert found.capacity == 8 and found.error < 1e-6
