"""Averages of states: against the closed form, whatever the order, and without a trace of the inputs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.tether.averaging import average


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def states(count, dtype=torch.float32, seed=0):
    return [{"w": noise(4, 3, seed=seed + i, dtype=dtype), "b": noise(3, seed=seed + 50 + i)} for i in range(count)]


def test_mean_and_weighted_mean():
    given = states(3)
    stack = torch.stack([state["w"] for state in given])
    torch.testing.assert_close(average(given)["w"], stack.mean(0))
    expected = (stack * torch.tensor([0.5, 0.0, 1.5])[:, None, None]).sum(0) / 2
    torch.testing.assert_close(average(given, [0.5, 0.0, 1.5])["w"], expected)
    assert list(average(given)) == ["w", "b"]


def test_weights_need_not_sum_to_one():
    given = states(3)
    torch.testing.assert_close(average(given, [1, 2, 3]), average(given, [10, 20, 30]))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=6),
    how=st.sampled_from(["average", "spherical"]),
    data=st.data(),
)
def test_the_order_does_not_matter(seed, weights, how, data):
    given = states(len(weights), dtype=torch.float64, seed=seed)
    order = data.draw(st.permutations(range(len(weights))))
    found = average([given[i] for i in order], [weights[i] for i in order], how)
    torch.testing.assert_close(found, average(given, weights, how), rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=6))
def test_spherical_has_the_direction_of_the_mean_and_the_mean_norm(seed, weights):
    given = states(len(weights), dtype=torch.float64, seed=seed)
    found, mean = (average(given, weights, how)["w"] for how in ("spherical", "average"))
    shares = [weight / sum(weights) for weight in weights]
    norm = sum(share * state["w"].norm() for share, state in zip(shares, given, strict=True))
    assert float(found.norm()) == pytest.approx(float(norm))
    assert float((found * mean).sum() / (found.norm() * mean.norm())) == pytest.approx(1)
    assert found.norm() >= mean.norm() * (1 - 1e-9)


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(0.01, 3.0))
def test_spherical_of_two_is_the_middle_of_the_arc(angle):
    ends = [{"w": 2 * torch.tensor([math.cos(x), math.sin(x)], dtype=torch.float64)} for x in (0, angle)]
    expected = 2 * torch.tensor([math.cos(angle / 2), math.sin(angle / 2)], dtype=torch.float64)
    torch.testing.assert_close(average(ends, how="spherical")["w"], expected)


def test_spherical_where_all_cancels_out():
    w = noise(10)
    opposed = [{"w": w}, {"w": -w}, {"w": torch.zeros(10)}]
    assert average(opposed, how="spherical")["w"].eq(0).all()
    rounding = average([{"w": w}, {"w": -w}], [1 / 3 + 1e-9, 1 / 3], how="spherical")["w"]
    assert rounding.norm() < 1e-5  # noise is not blown up to the norm of a weight


@pytest.mark.parametrize("how", ["average", "spherical"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept_and_one_state_is_itself(how, dtype):
    given = states(1, dtype=dtype)
    found = average(given, how=how)
    assert found["w"].dtype == dtype and torch.equal(found["w"], given[0]["w"])


def test_half_precision_neither_overflows_nor_loses_small_members():
    big = [{"w": torch.full((100,), 60000.0, dtype=torch.float16)} for _ in range(4)]
    assert average(big)["w"].eq(60000).all() and average(big, how="spherical")["w"].eq(60000).all()
    small = [{"w": torch.tensor([value], dtype=torch.bfloat16)} for value in [256.0] + [258.0] * 7]
    assert average(small)["w"].item() == 258.0  # 257.75; sums in bfloat16 would be off


def test_double_precision_is_kept():
    given = [{"w": torch.tensor([1.0 + x], dtype=torch.float64)} for x in (1e-12, 3e-12)]
    for how in ("average", "spherical"):
        assert average(given, how=how)["w"].item() - 1 == pytest.approx(2e-12, rel=1e-3)


def test_counts_come_from_the_first_and_complex_numbers_are_averaged():
    first = {"n": torch.tensor(3), "on": torch.tensor([True]), "z": torch.tensor([1 + 2j])}
    second = {"n": torch.tensor(9), "on": torch.tensor([False]), "z": torch.tensor([3 - 4j])}
    found = average([first, second])
    assert found["n"].item() == 3 and found["on"].item() is True and found["z"].item() == 2 - 1j
    assert found["n"].data_ptr() != first["n"].data_ptr()
    spherical = average([first, second], how="spherical")["z"]
    assert spherical.abs().item() == pytest.approx((5**0.5 + 5) / 2)


@pytest.mark.parametrize("how", ["average", "spherical"])
@pytest.mark.parametrize("count", [1, 3])
def test_inputs_are_neither_changed_nor_shared(how, count):
    given = states(count)
    given[0]["scalar"] = torch.tensor(2.0, requires_grad=True)
    for state in given[1:]:
        state["scalar"] = torch.tensor(4.0)
    before = [{name: tensor.detach().clone() for name, tensor in state.items()} for state in given]
    found = average(given, how=how)
    for tensor in found.values():
        assert not tensor.requires_grad
        tensor.zero_()
    assert all(torch.equal(state[name], kept[name]) for state, kept in zip(given, before, strict=True) for name in kept)


def test_views_and_strides():
    stack = noise(2, 3, 4)
    given = [{"w": stack[i].T, "e": stack[i, 0, :1].expand(5)} for i in range(2)]
    found = average(given)
    torch.testing.assert_close(found["w"], stack.mean(0).T)
    torch.testing.assert_close(found["e"], stack[:, 0, :1].mean(0).expand(5))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("how", ["average", "spherical"])
def test_states_without_weight_are_not_looked_at(bad, how):
    good, diverged = states(2)
    diverged["w"][0, 0] = bad
    assert torch.equal(average([diverged, good], [0, 2], how)["w"], good["w"])
    assert not average([diverged, good], [1, 2], how)["w"].isfinite().all()


def test_empty_states_and_tensors():
    assert average([{}, {}]) == {}
    assert average([{"w": torch.ones(0)}] * 2, how="spherical")["w"].shape == (0,)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [0, 0], [-1, 2], [math.nan, 1], [math.inf, 1], [1e308, 1e308], []])
def test_weights_that_are_none(weights):
    with pytest.raises(InvalidValueError, match="weight"):
        average(states(2), weights)


def test_states_that_do_not_fit():
    first, second = states(2)
    with pytest.raises(InvalidValueError, match="state"):
        average([])
    with pytest.raises(InvalidValueError, match="other tensors than the first: b"):
        average([first, {"w": second["w"]}])
    with pytest.raises(InvalidValueError, match=r"w has the shapes \(3, 4\)"):
        average([first, second | {"w": second["w"].T}])
    with pytest.raises(InvalidValueError, match="dtypes"):
        average([first, second | {"w": second["w"].long()}])
    with pytest.raises(InvalidValueError, match="median"):
        average([first, second], how="median")
