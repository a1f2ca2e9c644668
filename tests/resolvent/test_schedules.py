import io
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LinearLR, SequentialLR

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent.operator import apply
from tithe.resolvent.regularizer import Regularizer
from tithe.resolvent.schedules import BandSchedule, QuarterSchedule, golden_phases

FEW = settings(max_examples=60, deadline=None, derandomize=True)


def optimizer(*rates):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates or (1.0,)]
    return torch.optim.SGD(groups)


def run(schedule, steps, group=0):
    found = []
    for _ in range(steps):
        found.append(float(schedule.optimizer.param_groups[group]["lr"]))
        schedule.optimizer.step()
        schedule.step()
    return found


@FEW
@given(st.integers(1, 5000), st.integers(1, 8), st.floats(1, 3), st.sampled_from(["first", "last"]))
def test_phases_are_in_proportion(total, phases, ratio, longest):
    begins = golden_phases(total, phases, ratio=ratio, longest=longest)
    assert begins[0] == 0 and begins == sorted(begins) and len(begins) == phases and begins[-1] <= total
    shares = [ratio**-i for i in range(phases)]
    shares = shares if longest == "first" else shares[::-1]
    for i, begin in enumerate(begins):
        assert abs(begin - total * sum(shares[:i]) / sum(shares)) <= 0.5 + 1e-6


def test_golden_proportions():
    assert golden_phases(10**6) == [0, 447214, 723607, 894427]  # 1/√5, then each φ times shorter
    assert golden_phases(8, ratio=1) == [0, 2, 4, 6]
    assert golden_phases(10**6, longest="last") == [0, 105573, 276393, 552786]


def test_rates_fall_by_the_golden_ratio():
    schedule = QuarterSchedule(optimizer(0.1, 2.0), 100)
    expected = [schedule.rates(group) for group in (0, 1)]
    assert run(schedule, 100) == pytest.approx(expected[0])
    levels = sorted(set(expected[1]), reverse=True)
    assert levels == pytest.approx([2.0, 2 / PHI, 2 / PHI**2, 2 / PHI**3])
    assert schedule.phase == 3
    assert run(schedule, 5, 1) == pytest.approx([2 / PHI**3] * 5)


@FEW
@given(st.integers(1, 60), st.integers(1, 6))
def test_short_trainings_skip_phases_and_not_rates(total, phases):
    schedule = QuarterSchedule(optimizer(), total, phases=phases)
    expected = schedule.rates()
    assert len(expected) == total
    assert run(schedule, total) == pytest.approx(expected)


@pytest.mark.parametrize("options", [{}, {"ratio": 2.0, "lengths": 1.0, "phases": 3}, {"longest": "last"}])
def test_state_round_trip(options):
    whole = run(QuarterSchedule(optimizer(0.3), 50, **options), 50)
    first = optimizer(0.3)
    schedule = QuarterSchedule(first, 50, **options)
    run(schedule, 23)
    file = io.BytesIO()
    torch.save((schedule.state_dict(), first.state_dict()), file)
    file.seek(0)
    state, of_optimizer = torch.load(file, weights_only=True)
    second = optimizer(0.3)
    other = QuarterSchedule(second, 7)
    other.load_state_dict(state)
    second.load_state_dict(of_optimizer)
    assert run(other, 27) == pytest.approx(whole[23:])


def test_goes_on_by_last_epoch():
    first = optimizer(0.3)
    whole = QuarterSchedule(first, 50).rates()
    run(QuarterSchedule(first, 50), 21)  # the rate is still that of step 21
    schedule = QuarterSchedule(first, 50, last_epoch=21)
    assert run(schedule, 28) == pytest.approx(whole[22:])


def test_chains():
    own, warm = QuarterSchedule(optimizer(), 40).rates(), [0.5] * 3 + [1.0] * 37
    shared = optimizer()
    chained = ChainedScheduler([ConstantLR(shared, 0.5, 3), QuarterSchedule(shared, 40)])
    chained.optimizer = shared
    assert run(chained, 40) == pytest.approx([a * b for a, b in zip(own, warm, strict=True)])
    shared = optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR of torch steps its parts by a number, which torch deprecates
        sequence = SequentialLR(shared, [LinearLR(shared, 0.1, 1.0, 10), QuarterSchedule(shared, 40)], [10])
        sequence.optimizer = shared
        assert run(sequence, 50)[10:] == pytest.approx(own)


def test_rates_that_are_tensors():
    weight = torch.zeros(1, requires_grad=True)
    schedule = QuarterSchedule(torch.optim.Adam([weight], lr=torch.tensor(0.5), foreach=False), 10)
    expected = schedule.rates()
    assert run(schedule, 10) == pytest.approx(expected)


def test_a_band_widens():
    seen = []
    schedule = BandSchedule(seen.append, 100)
    for _ in range(120):
        schedule.step()
    assert seen == pytest.approx([PHI**-3, PHI**-2, PHI**-1, 1.0])
    assert schedule.values().count(1.0) == 11 and len(schedule.values()) == 100
    assert schedule.value == 1.0


def test_an_attribute_of_a_filter():
    penalty, x = Regularizer(1.0, form="fraction"), torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    schedule = BandSchedule((penalty, "phi"), 4, values=[0.0, 1.0, 2.0, 4.0], lengths=1)
    removed = []
    for phi in schedule.values():
        removed.append(float(penalty(x)))
        assert removed[-1] == pytest.approx(float((x - apply(x, 1, phi)).square().sum() / x.square().sum()), abs=1e-6)
        schedule.step()
    assert removed == sorted(removed) and removed[0] < 1e-9


def test_state_of_a_band():
    first, second = [], []
    schedule = BandSchedule(first.append, 100, values=[3, 2, 1])
    for _ in range(60):
        schedule.step()
    other = BandSchedule(second.append, 7)
    other.load_state_dict(schedule.state_dict())
    assert second[-1] == first[-1] == other.value
    for _ in range(40):
        schedule.step()
        other.step()
    assert second[-1] == first[-1] == 1 and other.values() == schedule.values()
    with pytest.raises(InvalidStateError, match="has no begins"):
        other.load_state_dict({"total_steps": 1, "last_step": 0, "phase_values": [1.0]})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: golden_phases(0), "total_steps is 0"),
        (lambda: golden_phases(5, 0), "phases is 0"),
        (lambda: golden_phases(5, ratio=0.5), "ratio is 0.5"),
        (lambda: golden_phases(5, longest="middle"), "'first' or 'last'"),
        (lambda: QuarterSchedule(optimizer(), 5, ratio=0.0), "ratio is 0.0"),
        (lambda: BandSchedule(print, 5, values=[]), "phases is 0"),
        (lambda: BandSchedule((Regularizer(), "width"), 5), "Regularizer has no attribute 'width'"),
    ],
)
def test_what_cannot_be_used_is_named(call, message):
    with pytest.raises(InvalidValueError, match=message):
        call()


def test_a_target_that_is_none():
    with pytest.raises(InvalidDTypeError, match="pass a function of the value"):
        BandSchedule(3, 5)
