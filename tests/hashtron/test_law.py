"""The capacity law, its dampers, and one contract for all policies."""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.hashtron.backward.dampers import DAMPERS, Damper, ExponentialSmoothing, FixedPercent, MovingAverage, limited
from tithe.hashtron.backward.histories import History, Neuron, Sums, histories_from_plain, histories_to_plain
from tithe.hashtron.backward.law import CapacityLaw, premodulo_of, regime
from tithe.hashtron.backward.margin import TAU, capacity, in_gold_zone
from tithe.hashtron.backward.policies import POLICIES, Constant, Policy, Shuffled, policy
from tithe.hashtron.backward.records import Record, as_rows

MOST = 2**32 - 1
OPTIONS = {"constant": {"premodulo": 64}, "shuffled": {"seed": 3}}
SUMLESS = ("none", "constant")
DAMPED = (None, MovingAverage(3), ExponentialSmoothing(0.3), FixedPercent(25))


@st.composite
def sums(draw: Callable, largest: int = MOST) -> Sums:
    samples = draw(st.integers(1, largest))
    pivotal = draw(st.integers(1, samples))
    return Sums(draw(st.integers(-pivotal, pivotal)), pivotal, samples)


@st.composite
def total_and_most(draw: Callable) -> tuple[int, int]:
    most = draw(st.one_of(st.integers(1, 300), st.integers(1, MOST)))
    return draw(st.integers(-most, most)), most


pasts = st.builds(
    lambda given, sums: History(given, tuple(sums)),
    st.one_of(st.none(), st.integers(1, MOST)),
    st.lists(sums(), min_size=1, max_size=12),
)
layers = st.lists(pasts, min_size=1, max_size=6).map(lambda found: {(1, i): past for i, past in enumerate(found)})


# --- the law itself


@given(total_and_most())
def test_the_premodulo_is_the_capacity_squared_within_its_bounds(pair: tuple[int, int]) -> None:
    total, most = pair
    exact = max(Fraction(1), Fraction(most, abs(total) + 1))
    found = premodulo_of(total, most)
    assert 1 <= found <= min(most**2, MOST)
    assert found == min(MOST, math.floor(exact**2))
    if most < 2**31:
        assert float(capacity(total, most)) == float(exact)


@given(total_and_most(), st.data())
def test_it_never_rises_with_the_sum(pair: tuple[int, int], data: st.DataObject) -> None:
    total, most = pair
    larger = data.draw(st.integers(abs(total), most))
    assert premodulo_of(larger, most) <= premodulo_of(total, most) == premodulo_of(-total, most)
    reverse = CapacityLaw(reverse=True)
    low, high = (reverse.step(History(None, (Sums(size, most, most),)), None) for size in (total, larger))
    assert low <= high


def test_its_ends_and_where_32_bits_end() -> None:
    assert [premodulo_of(total, 100) for total in (0, 1, 24, 99, 100)] == [10_000, 2_500, 16, 1, 1]
    assert premodulo_of(0, 65_535) == 65_535**2 < MOST
    assert premodulo_of(0, 65_536) == premodulo_of(0, MOST) == MOST
    assert premodulo_of(1, 131_071) == 131_071**2 // 4 < MOST == premodulo_of(1, 131_072)


@pytest.mark.parametrize(("total", "most"), [(0, 0), (6, 5), (-6, 5), (0, 2**32), (0, -1)])
def test_sums_that_cannot_be_are_refused(total: int, most: int) -> None:
    with pytest.raises(InvalidValueError):
        premodulo_of(total, most)
    if most:
        with pytest.raises(InvalidValueError):
            regime(total, most)


@given(total_and_most())
def test_regimes_are_exact(pair: tuple[int, int]) -> None:
    total, most = pair
    expected = "noisy" if total**2 <= most else "collapsed" if 5 * abs(total) >= 4 * most else "gold"
    assert regime(total, most) == expected
    if most < 2**31:
        assert bool(in_gold_zone(total, most)) == (expected == "gold")


@given(st.integers(2, 65_535), st.integers(2, MOST // 5))
def test_regimes_change_exactly_at_their_borders(root: int, fifth: int) -> None:
    assert regime(root, root**2) == "noisy"
    assert regime(root + 1, root**2) == "gold"
    assert regime(4 * fifth, 5 * fifth) == "collapsed"
    assert regime(4 * fifth - 1, 5 * fifth) == "gold"
    if 5 * fifth < 2**31:
        assert in_gold_zone([4 * fifth - 1, 4 * fifth], 5 * fifth).tolist() == [True, False]


@pytest.mark.parametrize(("most", "expected"), [(0, "N"), (1, "NN"), (2, "NNC"), (3, "NNGC"), (4, "NNNGC")])
def test_regimes_of_few_votes(most: int, expected: str) -> None:
    assert "".join(regime(total, most)[0].upper() for total in range(most + 1)) == expected


def test_another_tau() -> None:
    assert regime(50, 100) == "gold"
    assert regime(50, 100, 0.5) == regime(-50, 100, 0.5) == "collapsed"
    assert regime(99, 100, 1.0) == "gold" != regime(99, 100, TAU)
    for tau in (0, 1.01, math.nan):
        with pytest.raises(InvalidValueError, match="tau"):
            regime(50, 100, tau)


# --- limits of a step


@given(st.integers(1, MOST), st.integers(1, MOST), st.integers(2, 100))
def test_a_step_is_clamped_and_goes_as_far_as_it_may(target: int, given: int, ratio: int) -> None:
    found = limited(target, given, ratio)
    assert 1 <= found <= MOST and found <= given * ratio and found * ratio >= given
    assert min(target, given) <= found <= max(target, given)
    if given <= target * ratio and target <= given * ratio:
        assert found == target
    elif target > given:
        assert found + 1 > min(given * ratio, MOST)
    else:
        assert (found - 1) * ratio < given


@given(pasts, st.integers(1, MOST), st.sampled_from([2, 10, 50]))
def test_the_law_changes_by_ten_times_at_most(past: History, given: int, most_change: int) -> None:
    free, held = CapacityLaw(most_change=None), CapacityLaw(most_change=most_change)
    first = held.premodulo((0, 0), {(0, 0): History(None, past.sums)})
    assert first == free.premodulo((0, 0), {(0, 0): past})  # nothing to differ from, or any difference
    found = held.premodulo((0, 0), {(0, 0): History(given, past.sums)})
    assert given <= found * most_change and found <= given * most_change
    assert found == limited(first, given, most_change)


# --- dampers


@pytest.mark.parametrize("name", DAMPERS)
@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
def test_every_damper_weighs_the_newest_most(name: str, count: int) -> None:
    damper = DAMPERS[name]()
    weights = damper.weights(count)
    assert len(weights) == min(count, damper.reads) and all(weight > 0 for weight in weights)
    assert list(weights) == sorted(weights, reverse=True)


@given(pasts, st.sampled_from(DAMPED))
def test_a_damped_capacity_lies_between_those_of_its_sums(past: History, damper: Damper | None) -> None:
    law = CapacityLaw(damper=damper)
    size, most = law.smoothed(past)
    single = [Fraction(each.pivotal, abs(each.total) + 1) for each in past.sums[-law.reads :]]
    assert min(single) <= Fraction(most) / (size + 1) <= max(single)


def swings(damper: Damper, one: int, other: int, most: int, steps: int) -> list[Fraction]:
    """How much the damped |S| changes from sum to sum once the window is full, with alternating sums."""
    law, past, sizes = CapacityLaw(damper=damper), History(), []
    for step in range(damper.reads + steps):
        past = past.after(Sums((one, other)[step % 2], most, most), keep=damper.reads)
        sizes.append(law.smoothed(past)[0])
    return [abs(b - a) for a, b in pairwise(sizes[damper.reads - 1 :])]


@given(st.integers(-100, 100), st.integers(-100, 100), st.integers(1, 9))
def test_alternating_sums_under_a_moving_average(one: int, other: int, window: int) -> None:
    expected = 0 if window % 2 == 0 else Fraction(abs(abs(one) - abs(other)), window)
    assert swings(MovingAverage(window), one, other, 100, 4) == [expected] * 4


@given(st.lists(st.integers(0, 1000), min_size=12, max_size=40), st.integers(1, 8))
def test_any_sums_under_a_moving_average(sizes: list[int], window: int) -> None:
    law, past, found = CapacityLaw(damper=MovingAverage(window)), History(), []
    for size in sizes:
        past = past.after(Sums(size, 1000, 1000))
        found.append(law.smoothed(past)[0])
    for i in range(window, len(sizes)):
        seen = sizes[i - window : i + 1]
        assert abs(found[i] - found[i - 1]) <= Fraction(max(seen) - min(seen), window)


@settings(deadline=None, max_examples=50)
@given(st.integers(-100, 100), st.integers(-100, 100), st.integers(5, 100))
def test_alternating_sums_under_exponential_smoothing(one: int, other: int, hundredths: int) -> None:
    weight = Fraction(hundredths, 100)
    expected = abs(abs(one) - abs(other)) * weight / (2 - weight)
    assert swings(ExponentialSmoothing(hundredths / 100), one, other, 100, 3) == [expected] * 3


def test_an_exponential_window_leaves_out_a_hundredth() -> None:
    for hundredths in (5, 10, 30, 50, 90, 99):
        weight = Fraction(hundredths, 100)
        reads = ExponentialSmoothing(hundredths / 100).reads
        assert (1 - weight) ** reads <= Fraction(1, 100) and reads % 2 == 0
        assert reads == 2 or (1 - weight) ** (reads - 2) > Fraction(1, 100)
    weights = ExponentialSmoothing(0.3).weights(5)
    assert all(10 * b == 7 * a for a, b in pairwise(weights))


@given(st.lists(sums(), min_size=2, max_size=20), st.sampled_from([1, 12.5, 20, 150]))
def test_any_sums_under_a_fixed_percentage(found: list[Sums], percent: float) -> None:
    law, past = CapacityLaw(damper=FixedPercent(percent), most_change=None), History()
    for each in found:
        past = past.after(each)
        new = law.premodulo((0, 0), {(0, 0): past})
        if past.given is not None:
            assert abs(new - past.given) <= max(1, past.given * Fraction(str(percent)) / 100)
        past = History(new, past.sums)


def test_a_fixed_percentage_gets_away_from_one_and_back() -> None:
    law, given = CapacityLaw(damper=FixedPercent(20)), 1
    up, down = History(None, (Sums(0, 100, 100),)), History(None, (Sums(100, 100, 100),))
    path = [given := law.step(up, given) for _ in range(50)]
    assert path[:5] == [2, 3, 4, 5, 6] and path[-1] == 10_000
    path = [given := law.step(down, given) for _ in range(60)]
    assert path[-1] == 1


@given(st.integers(1, 10**6), st.sampled_from([1, 12.5, 20, 150]))
def test_a_percentage_up_and_down_again_ends_where_it_began(given: int, percent: float) -> None:
    damper = FixedPercent(percent)
    assert damper.limit(1, damper.limit(MOST, given)) == given


@pytest.mark.parametrize("damper", DAMPED)
def test_a_damper_swings_no_more_than_none(damper: Damper | None) -> None:
    """Amplitude of the premodulo itself, in octaves, under sums that alternate between noisy and collapsed."""

    def amplitude(law: CapacityLaw) -> float:
        past, given = History(), []
        for step in range(60):
            past = past.after(Sums((0, 1000)[step % 2], 1000, 1000))
            past = History(law.premodulo((0, 0), {(0, 0): past}), past.sums)
            given.append(math.log2(past.given or 0))
        return max(abs(b - a) for a, b in pairwise(given[-20:]))

    undamped = amplitude(CapacityLaw(most_change=None))
    assert undamped == pytest.approx(math.log2(1000**2))
    clamped = amplitude(CapacityLaw())
    assert clamped == pytest.approx(math.log2(10), rel=0.01)
    assert damper is None or amplitude(CapacityLaw(damper=damper)) < 0.7 * clamped


@pytest.mark.parametrize(
    "make",
    [
        lambda: MovingAverage(0),
        lambda: MovingAverage(2.5),
        lambda: ExponentialSmoothing(0.04),
        lambda: ExponentialSmoothing(1.01),
        lambda: ExponentialSmoothing(math.nan),
        lambda: FixedPercent(0),
        lambda: FixedPercent(math.inf),
        lambda: FixedPercent("much"),
        lambda: CapacityLaw(most_change=1),
        lambda: CapacityLaw(of="neurons"),
    ],
)
def test_dampers_and_laws_say_what_cannot_be(make: Callable) -> None:
    with pytest.raises((InvalidValueError, InvalidDTypeError), match="is "):
        make()


# --- the contract of policies


def every_policy() -> list[tuple[str, Policy]]:
    found: list[tuple[str, Policy]] = []
    for name, options in POLICIES.items():
        for damper in DAMPED if "damper" in options else (None,):
            damped = {} if damper is None else {"damper": damper}
            found.append((name, policy(name, **OPTIONS.get(name, {}), **damped)))
    return found


each_policy = pytest.mark.parametrize(("name", "each"), every_policy(), ids=lambda x: x if isinstance(x, str) else "")


@each_policy
@settings(deadline=None, max_examples=20)
@given(histories=layers)
def test_a_policy_gives_the_same_number_within_32_bits_and_changes_little(
    name: str, each: Policy, histories: dict
) -> None:
    before = dict(histories)
    for neuron, past in histories.items():
        found = each.premodulo(neuron, histories)
        assert type(found) is int and 1 <= found <= MOST
        assert each.premodulo(neuron, histories) == found  # asking changes nothing
        if name not in SUMLESS and past.given is not None:
            assert past.given <= 10 * found and found <= 10 * past.given
    assert histories == before


@each_policy
@settings(deadline=None, max_examples=20)
@given(histories=layers)
def test_a_policy_reads_no_more_than_it_says(name: str, each: Policy, histories: dict) -> None:
    short = {n: History(past.given, past.sums[-max(1, each.reads) :]) for n, past in histories.items()}
    voteless = {n: past.after(Sums(0, 0, 9)) for n, past in histories.items()}
    for neuron in histories:
        expected = each.premodulo(neuron, histories)
        assert each.premodulo(neuron, short) == each.premodulo(neuron, voteless) == expected


@each_policy
def test_a_policy_says_where_it_needs_sums(name: str, each: Policy) -> None:
    for histories in ({}, {(1, 2): History()}, {(1, 2): History(7, (Sums(0, 0, 5),))}):
        if name in SUMLESS:
            assert each.premodulo((1, 2), histories) >= 1
        else:
            with pytest.raises(InvalidValueError, match=r"neuron 1\.2 has no sum with votes"):
                each.premodulo((1, 2), histories)


@each_policy
@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), sums(10**6), st.booleans()), min_size=1, max_size=25), cut=st.integers()
)
def test_taken_up_again_equals_never_stopped(name: str, each: Policy, steps: list, cut: int) -> None:
    def run(stop: int | None) -> list[int]:
        """Trainings and probes of three neurons; at ``stop`` all goes through JSON, and the policy is made anew."""
        by, histories, given = each, {(0, i): History(None, (Sums(i, 9, 9),)) for i in range(3)}, []
        for number, (position, sums, probe) in enumerate(steps):
            if number == stop:
                histories = histories_from_plain(json.loads(json.dumps(histories_to_plain(histories))))
                damper = getattr(getattr(each, "law", each), "damper", None)
                by = policy(name, **OPTIONS.get(name, {}), **({} if damper is None else {"damper": damper}))
            neuron: Neuron = (0, position)
            past = histories[neuron].after(sums, keep=max(1, each.reads))
            histories[neuron] = past
            if not probe:
                given.append(by.premodulo(neuron, histories))
                histories[neuron] = History(given[-1], past.sums)
        return given

    assert run(cut % len(steps)) == run(None)


# --- what the single policies are


def test_what_each_policy_gives() -> None:
    histories = {(0, i): History(None, (Sums(total, 100, 1000),)) for i, total in enumerate((0, 9, 24, 100))}

    def given(name: str, **options: int) -> list[int]:
        return [policy(name, **options).premodulo(neuron, histories) for neuron in histories]

    assert given("none") == [MOST] * 4
    assert given("constant", premodulo=64) == [64] * 4
    assert given("law") == [10_000, 100, 16, 1]
    assert given("law_n") == [1_000_000, 10_000, 1600, 98]
    assert given("reversed") == [1, 1, 1, 10_000]
    for seed in range(5):
        assert sorted(given("shuffled", seed=seed)) == sorted(given("law"))
    assert len({tuple(given("shuffled", seed=seed)) for seed in range(20)}) > 3


@given(layers, st.integers(0, 99))
def test_shuffled_sums_are_all_used_and_by_others(histories: dict, seed: int) -> None:
    law = CapacityLaw(most_change=None)
    alone = {neuron: History(None, past.sums) for neuron, past in histories.items()}
    own = [law.premodulo(neuron, alone) for neuron in alone]
    other = [Shuffled(law, seed).premodulo(neuron, alone) for neuron in alone]
    assert sorted(own) == sorted(other)
    if len(own) > 1 and len(set(own)) == len(own):
        assert all(a != b for a, b in zip(own, other, strict=True))


def test_shuffled_stays_in_the_layer_and_keeps_what_each_was_given() -> None:
    histories = {(0, 0): History(40, (Sums(0, 100, 100),)), (0, 1): History(None, (Sums(100, 100, 100),))}
    histories[1, 0] = History(None, (Sums(9, 100, 100),))
    shuffled = Shuffled(seed=1)
    assert shuffled.premodulo((1, 0), histories) == 100  # alone
    assert shuffled.premodulo((0, 0), histories) == 4  # 1 is asked for, 40/10 is as near as it may be
    assert shuffled.premodulo((0, 1), histories) == 10_000


def test_a_policy_by_name_takes_dampers_by_name() -> None:
    assert policy("law") == CapacityLaw()
    assert policy("law", damper="moving_average") == CapacityLaw(damper=MovingAverage())
    assert policy("law_n", damper={"name": "exponential", "weight": 0.2}, most_change=3) == CapacityLaw(
        "samples", ExponentialSmoothing(0.2), 3
    )
    assert policy("shuffled", seed=2, damper=FixedPercent(5)) == Shuffled(CapacityLaw(damper=FixedPercent(5)), 2)
    assert policy("none") == Constant() == Constant(MOST)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("laws", {}, "no policy 'laws'; use one of none, constant, law, law_n, reversed, shuffled"),
        (None, {}, "no policy None"),
        ("none", {"premodulo": 3}, "'none' has no option premodulo; it has none"),
        ("law", {"seed": 3}, "'law' has no option seed; it has damper, most_change"),
        ("constant", {}, "'constant' needs the option premodulo"),
        ("constant", {"premodulo": 0}, "premodulo is 0; use a whole number from 1 to 4294967295"),
        ("constant", {"premodulo": 2**32}, "premodulo is 4294967296"),
        ("constant", {"premodulo": 2.5}, "premodulo is 2.5"),
        ("shuffled", {}, "'shuffled' needs the option seed"),
        ("shuffled", {"seed": -1}, "seed is -1"),
        ("law", {"damper": "mean"}, "no damper 'mean'; use one of moving_average, exponential, percent"),
        ("law", {"damper": {"window": 3}}, "no damper None"),
        ("law", {"damper": {"name": "percent", "window": 3}}, "damper 'percent' cannot be made with"),
        ("law", {"damper": 3}, "damper is 3"),
        ("law", {"most_change": 0}, "most_change is 0; use a whole number from 2 on"),
    ],
)
def test_a_policy_says_what_cannot_be(name: str, options: dict, message: str) -> None:
    with pytest.raises((InvalidValueError, InvalidDTypeError), match=message):
        policy(name, **options)


# --- histories


@given(st.dictionaries(st.tuples(st.integers(0, 99), st.integers(0, 10**6)), pasts, max_size=4))
def test_histories_are_plain(histories: dict) -> None:
    assert histories_from_plain(json.loads(json.dumps(histories_to_plain(histories)))) == histories


@pytest.mark.parametrize(
    "plain",
    [
        {"2": {"given": None, "sums": []}},
        {"2.-1": {"given": None, "sums": []}},
        {"2.0": {"given": 0, "sums": []}},
        {"2.0": {"given": None}},
        {"2.0": {"given": None, "sums": [[1, 2]]}},
        {"2.0": {"given": None, "sums": [[3, 2, 5]]}},
        {"2.0": {"given": None, "sums": [[1.5, 2, 5]]}},
        {"2.0": None},
    ],
)
def test_what_is_no_history_is_refused(plain: dict) -> None:
    with pytest.raises((InvalidValueError, InvalidDTypeError)):
        histories_from_plain(plain)


def test_a_history_of_records() -> None:
    def record(time: float, votes: int, premodulo: int) -> Record:
        return Record(0, 3, 1, time, votes=votes, outputs=0, samples=100, pivotal=7, premodulo=premodulo)

    past = [record(0.0, -3, 64), record(1.0, 5, 81), record(2.0, 7, 0)]
    expected = History(81, (Sums(-3, 7, 100), Sums(5, 7, 100), Sums(7, 7, 100)))
    assert History.of(past) == History.of(as_rows(past)) == expected
    assert History.of([]) == History() == History.of(past[2:][:0])
    assert History.of(past[2:]).given is None
    assert expected.after(Sums(1, 7, 100), keep=2) == History(81, (Sums(7, 7, 100), Sums(1, 7, 100)))
