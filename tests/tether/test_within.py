"""Layers of one model that merge and drift: exact ends, bounded distances, and nothing else touched."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.nodes import tether_nodes
from tithe.tether.parametrization import attach, detach, tethers
from tithe.tether.policy import Plateau
from tithe.tether.within import connect

FIRST, SECOND, THIRD = "0.weight", "2.weight", "4.weight"


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def square(*weights):
    """Layers of one shape with these weights, and one of another shape."""
    layers = []
    for weight in weights:
        layers += [nn.Linear(weight.shape[1], len(weight)), nn.ReLU()]
        layers[-2].weight.data = weight.clone()
    return nn.Sequential(*layers, nn.Linear(len(weights[-1]), 2))


def state(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_pairs_are_found_by_shape():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(4, 4))
    assert connect(model).pairs == (("0.weight", "1.weight"), ("2.weight", "3.weight"))
    model[3].weight = model[2].weight  # tied: one weight is no pair
    assert connect(model).pairs == (("0.weight", "1.weight"),)


@given(amount=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_merging_goes_to_the_mean(amount, seed):
    a, b = noise(4, 4, seed=seed), noise(4, 4, seed=seed + 100)
    model = square(a, b)
    before = state(model)
    layers = connect(model)
    first = layers.compatibility()[FIRST, SECOND]
    layers.merge((SECOND, FIRST), amount)  # either order
    for found, start in ((model[0].weight, a), (model[2].weight, b)):
        torch.testing.assert_close(found.detach(), start + amount * ((a + b) / 2 - start), rtol=1e-5, atol=1e-6)
    assert changed(model, before) <= {FIRST, SECOND}
    assert layers.compatibility()[FIRST, SECOND] >= first - 1e-6


def test_merged_whole_they_are_equal_bit_by_bit():
    model = square(noise(5, 5), noise(5, 5, seed=1) * 1e6)
    connect(model).merge((FIRST, SECOND))
    assert torch.equal(model[0].weight, model[2].weight)


@given(cosine=st.floats(-0.99, 0.999), scale=st.floats(0.1, 10), amount=st.floats(0, 3), most=st.floats(0, 0.99))
@settings(max_examples=60, deadline=None)
def test_drift_is_bounded_and_keeps_the_mean(cosine, scale, amount, most):
    a, b = torch.zeros(2, 2).double(), torch.zeros(2, 2).double()
    a[0, 0] = 1
    b[0, 0], b[1, 1] = scale * cosine, scale * math.sqrt(1 - cosine**2)
    model = square(a, b)
    layers = connect(model)

    def distance():
        x, y = (model[i].weight.detach() for i in (0, 2))
        return float((x - y).norm() / 2 / ((x.square().sum() + y.square().sum()) / 2).sqrt())

    before = distance()
    after = layers.drift((FIRST, SECOND), amount, most)
    x, y = (model[i].weight.detach() for i in (0, 2))
    torch.testing.assert_close(x + y, a + b)
    assert after == pytest.approx(distance())
    assert before - 1e-9 <= after <= max(before, most) + 1e-9
    if amount > 1e-6 and before < most - 1e-6:
        assert after > before
        free = (1 + amount) * (a - b)
        if after < most - 1e-6:
            torch.testing.assert_close(x - y, free)


def test_distances_are_what_the_docstring_says():
    e, f = torch.eye(2)[:1], torch.eye(2)[1:]
    half = 0.5 * e + math.sqrt(0.75) * f
    for other, expected in ((e, 0.0), (half, 0.5), (f, math.sqrt(0.5)), (-e, 1.0)):
        model = square(e, other)
        before = state(model)
        assert connect(model, [(FIRST, SECOND)]).drift((FIRST, SECOND), 0) == pytest.approx(expected)
        assert not changed(model, before)
    assert connect(square(e, e)).drift((FIRST, SECOND), 1.0) == 0  # equal ones have no direction
    assert connect(square(e, -e)).drift((FIRST, SECOND), 1.0) == pytest.approx(1)


def test_step_merges_what_is_compatible_and_lets_the_rest_drift():
    a = noise(6, 6)
    model = square(a, a + 0.1 * noise(6, 6, seed=1), noise(6, 6, seed=2))
    layers = connect(model)
    still = connect(copy.deepcopy(model))
    before = state(model)
    done = layers.step(threshold=0.5, drift=0.1)
    assert done == {(FIRST, SECOND): "merge", (FIRST, THIRD): "drift", (SECOND, THIRD): "drift"}
    assert changed(model, before) == {FIRST, SECOND, THIRD}
    assert set(still.step(threshold=0.5).values()) == {"merge", "stay"}  # drift is off by default
    assert torch.equal(still.model[0].weight, still.model[2].weight) and changed(still.model, before) == {FIRST, SECOND}
    mean = (before[FIRST].double() + before[SECOND].double()) / 2
    torch.testing.assert_close(still.model[0].weight.detach(), mean.float())


def test_what_is_far_enough_stays():
    model = square(noise(6, 6), noise(6, 6, seed=1))
    before = state(model)
    assert connect(model).step(drift=0.1, most_distance=0.3) == {(FIRST, SECOND): "stay"}
    assert not changed(model, before)


def test_three_that_go_together_become_one_mean():
    a = noise(6, 6)
    model = square(a, a + 0.1 * noise(6, 6, seed=1), a + 0.2 * noise(6, 6, seed=2))
    mean = torch.stack([model[i].weight.detach().double() for i in (0, 2, 4)]).mean(0).float()
    assert set(connect(model).step().values()) == {"merge"}
    assert all(torch.equal(model[i].weight, mean) for i in (0, 2, 4))


def test_a_layer_between_two_strangers_merges_with_the_nearer():
    e, f = torch.eye(2)[:1], torch.eye(2)[1:]
    model = square(e, 0.9 * e + 0.7 * f, f)
    done = connect(model, [(FIRST, SECOND), (SECOND, THIRD), (FIRST, THIRD)]).step(threshold=0.5)
    assert done == {(FIRST, SECOND): "merge", (SECOND, THIRD): "stay", (FIRST, THIRD): "stay"}
    assert torch.equal(model[0].weight, model[2].weight) and torch.equal(model[4].weight.detach(), f)


def test_losses_say_when():
    model = square(noise(3, 3), noise(3, 3))
    model[2].weight.data += 0.01
    before = state(model)
    layers = connect(model)
    assert set(layers.step([1.0, 0.5]).values()) == {"stay"} == set(layers.step([1.0]).values())
    assert not changed(model, before)
    assert set(layers.step([1.0, 0.5], plateau=Plateau(loss=0.6)).values()) == {"merge"}
    assert changed(model, before) == {FIRST, SECOND}


def test_tethers_are_merged_where_there_are_any():
    model = square(noise(4, 4), noise(4, 4, seed=1))
    attach(model, init="uniform", generator=torch.Generator().manual_seed(0))
    kept = copy.deepcopy(tethers(model))
    before = state(model)
    layers = connect(model)
    a, b = kept[FIRST], kept[SECOND]
    assert layers.compatibility("dot")[FIRST, SECOND] == pytest.approx(float((a * b).sum()), rel=1e-6)
    assert layers.step(threshold=0.5) == {(FIRST, SECOND): "merge"}  # uniform ones are alike by their mean
    torch.testing.assert_close(tethers(model)[FIRST], (a + b) / 2)
    assert changed(model, before) == {f"{i}.parametrizations.weight.0.tether" for i in (0, 2)}
    detach(model)
    assert layers.compatibility().keys() == {(FIRST, SECOND)}  # of the weights, from now on


def test_moments_are_merged_along():
    model = square(noise(3, 3), noise(3, 3, seed=1))
    optimizer = torch.optim.Adam(model.parameters())
    model(noise(8, 3)).square().sum().backward()
    optimizer.step()
    first, second = (optimizer.state[model[i].weight] for i in (0, 2))
    bias = optimizer.state[model[0].bias]["exp_avg"].clone()
    expected = {key: (first[key] + second[key]) / 2 for key in ("exp_avg", "exp_avg_sq")}
    kept = first["exp_avg"].clone()
    layers = connect(model, optimizer=optimizer)
    layers.drift((FIRST, SECOND), 0.1)
    assert torch.equal(first["exp_avg"], kept)
    layers.merge((FIRST, SECOND))
    for key, mean in expected.items():
        torch.testing.assert_close(first[key], mean)
        assert torch.equal(first[key], second[key])
    assert torch.equal(optimizer.state[model[0].bias]["exp_avg"], bias) and first["step"] == 1
    model(noise(8, 3)).square().sum().backward()
    optimizer.step()
    fresh = torch.optim.Adam(model.parameters())
    connect(model, optimizer=fresh).merge((FIRST, SECOND))  # nothing is remembered yet
    assert not fresh.state


def test_through_nodes_only_their_rows_move():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.Conv1d(2, 5, 2))
    nodes = {"0": torch.tensor([1, 4, 5]), "4": torch.tensor([0, 2]), "5": torch.tensor([3])}
    layers = connect(model, nodes=nodes)
    assert layers.pairs == ((FIRST, THIRD), (FIRST, "5.weight"), (THIRD, "5.weight"))  # rows of 4 entries
    before = state(model)
    layers.merge((FIRST, THIRD))
    assert changed(model, before) == {FIRST, THIRD}
    mean = (before[FIRST][[1, 4]].double() + before[THIRD][[0, 2]]) / 2
    torch.testing.assert_close(model[0].weight[[1, 4]].detach(), mean.float())
    assert torch.equal(model[0].weight[[1, 4]], model[4].weight[[0, 2]])
    for name, rows in ((FIRST, [0, 2, 3, 5]), (THIRD, [1])):  # node 5 has no partner
        assert torch.equal(model.state_dict()[name][rows], before[name][rows])
    assert layers.compatibility()[FIRST, THIRD] == pytest.approx(1)
    before = state(model)
    layers.merge((FIRST, "5.weight"), 0.5)
    assert changed(model, before) == {FIRST, "5.weight"}
    assert torch.equal(model[5].weight[[0, 1, 2, 4]], before["5.weight"][[0, 1, 2, 4]])
    done = layers.step(threshold=-1)
    assert set(done.values()) == {"merge"}
    assert torch.equal(model[5].weight[3].flatten(), model[0].weight[1])


def test_nodes_of_tethers():
    model = square(noise(4, 4), noise(4, 4, seed=1))
    attach(model, init="uniform", generator=torch.Generator().manual_seed(0))
    nodes = tether_nodes({"0": torch.arange(4.0), "2": torch.arange(4.0).flip(0)}, 0.5)
    before = state(model)
    connect(model, nodes=nodes).merge((FIRST, SECOND))
    found = tethers(model)
    assert torch.equal(found[FIRST][2:], found[SECOND][:2])
    assert torch.equal(found[FIRST][:2], before["0.parametrizations.weight.0.tether"][:2])


def test_training_goes_on_after_merges():
    model = square(noise(4, 4), noise(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    layers = connect(model, optimizer=optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model(noise(8, 4)).square().mean().backward()
        optimizer.step()
        layers.step()
    assert model[0].weight.requires_grad and torch.equal(model[0].weight, model[2].weight)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hostile_input_is_named():
    model = square(noise(4, 4), noise(4, 4, seed=1))
    before = state(model)
    layers = connect(model)
    for call, match in [
        (lambda: connect(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))), r"no two weights have one shape.*\(3, 2\)"),
        (lambda: connect(model, [(FIRST, "x")]), "there is no 'x'"),
        (lambda: connect(model, [(FIRST, FIRST)]), "two different weights"),
        (lambda: connect(model, [(FIRST, THIRD)]), r"shape \(4, 4\) and 4\.weight \(2, 4\)"),
        (lambda: connect(model, [(FIRST, SECOND), (SECOND, FIRST)]), "given twice"),
        (lambda: connect(model, nodes={"9": torch.tensor([0])}), r"there is no '9\.weight'"),
        (lambda: connect(model, nodes={"0": torch.tensor([4])}), "nodes of '0'"),
        (lambda: connect(model, nodes={"0": torch.tensor([1, 1])}), "nodes of '0'"),
        (lambda: connect(model, nodes={"0": torch.tensor([0.5])}), "nodes of '0'"),
        (lambda: connect(model, nodes={"0": torch.tensor([0])}), "no two weights"),
        (lambda: layers.merge((FIRST, THIRD)), "is not connected"),
        (lambda: layers.merge((FIRST, SECOND), 1.1), "amount is 1.1"),
        (lambda: layers.merge((FIRST, SECOND), math.nan), "amount is nan"),
        (lambda: layers.step(amount=-1), "amount is -1"),
        (lambda: layers.drift((FIRST, SECOND), -0.1), "amount is -0.1"),
        (lambda: layers.drift((FIRST, SECOND), 0.1, 1.0), "most_distance 1.0"),
        (lambda: layers.compatibility("other"), "other"),
    ]:
        with pytest.raises(InvalidValueError, match=match):
            call()
    assert not changed(model, before)
    attach(model, layers=[FIRST])
    with pytest.raises(InvalidStateError, match=r"2\.weight have no tether"):
        layers.merge((FIRST, SECOND))


def test_broken_weights_neither_merge_nor_drift():
    model = square(noise(3, 3), noise(3, 3))
    model[0].weight.data[0, 0] = math.nan
    before = state(model)
    assert set(connect(model).step(drift=0.5).values()) == {"stay"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items() if name != FIRST)
    assert math.isnan(connect(model).drift((FIRST, SECOND), 0.1))
