"""Importance against closed forms and against what removing a node does; choices of nodes."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.data import load
from tithe.errors import InvalidValueError
from tithe.tether.nodes import importance, tether_nodes
from tithe.tether.parametrization import attach


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Text(nn.Module):
    def __init__(self, frozen=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.hidden, self.out = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 3)
        self.requires_grad_(not frozen)

    def forward(self, tokens):
        return self.out(torch.relu(self.hidden(self.embed(tokens))).mean(1))


def images():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Dropout(0.5),
                             nn.Flatten(), nn.Linear(5 * 16, 3))  # fmt: skip


def test_gradient_of_a_linear_layer_in_closed_form():
    """Of a squared error of one layer it is mean |h · 2(h − y) / n| over the samples."""
    model, x, y = nn.Linear(4, 3), noise(8, 4), noise(8, 3, seed=1)
    found = importance(model, x, y)
    h = model(x).detach()
    torch.testing.assert_close(found[""], (h * 2 * (h - y) / y.numel()).abs().mean(0))
    torch.testing.assert_close(importance(model, x)[""], (2 * h * h / h.numel()).mean(0))


def test_channels_are_means_over_samples_and_positions():
    model = nn.Conv1d(2, 3, 2)
    for x in (noise(4, 2, 6), noise(2, 6)):  # with and without a batch
        h = model(x).detach()
        axes = (0, 2) if x.ndim == 3 else (1,)
        torch.testing.assert_close(importance(model, x)[""], (2 * h * h / h.numel()).mean(axes))


def test_rows_of_an_embedding():
    model, tokens = Text(), torch.tensor([[0, 1, 1], [5, 1, 0]])
    y = torch.tensor([0, 2])
    found = importance(model, tokens, y)
    model.zero_grad()
    nn.functional.cross_entropy(model(tokens), y).backward()
    torch.testing.assert_close(found["embed"], (model.embed.weight * model.embed.weight.grad).abs().mean(1).detach())
    assert found["embed"].count_nonzero() == 3 and found["embed"][[0, 1, 5]].all()


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_weights_make_no_difference(frozen):
    tokens, y = torch.tensor([[0, 1, 1], [5, 1, 0]]), torch.tensor([0, 2])
    expected, found = importance(Text(), tokens, y), importance(Text(frozen), tokens, y)
    assert all(torch.equal(found[name], values) for name, values in expected.items())
    with torch.no_grad():
        again = importance(Text(frozen), tokens, y)
    assert all(torch.equal(again[name], values) for name, values in expected.items())


def test_a_node_that_nobody_reads_has_none_and_a_louder_one_has_more():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
        model[2].weight[:, 1] = 3 * model[2].weight[:, 0]
        model[2].weight[:, 4] = 0
    found = importance(model, noise(64, 4), loss=lambda h: h.sum())["0"]
    assert found[4] == 0
    torch.testing.assert_close(found[1], 3 * found[0])


def test_removing_what_is_important_costs_more():
    x, y, *_ = (torch.as_tensor(part) for part in load("digits"))
    x = x.flatten(1).float() / 16
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    g = torch.Generator().manual_seed(0)
    for rows in torch.randperm(len(x), generator=g).repeat(5).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()

    @torch.no_grad()
    def without(nodes):
        cut = copy.deepcopy(model)
        cut[2].weight[:, nodes] = 0
        return float(nn.functional.cross_entropy(cut(x), y))

    order = importance(model, x, y)["0"].argsort()
    whole, least, most = without([]), without(order[:8]), without(order[-8:])
    assert least < 1.2 * whole and most > 2 * whole


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_no_trace(training):
    model = images().train(training)
    model[1].eval()  # modes may differ
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    random = torch.get_rng_state()
    x, y = noise(3, 1, 6, 6), torch.tensor([0, 1, 2])
    first = importance(model, x, y)
    assert all(torch.equal(a, b) for a, b in zip(first.values(), importance(model, x, y).values(), strict=True))
    assert list(first) == ["0", "5"] and all(values.isfinite().all() and values.any() for values in first.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes and torch.equal(torch.get_rng_state(), random)
    assert all((parameter.grad == 1).all() for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any(values.requires_grad for values in first.values())
    with pytest.raises(RuntimeError):
        importance(model, noise(3, 2, 6, 6), y)  # the wrong number of channels
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_by_weight_and_by_a_function():
    model = images()
    found = importance(model, None, how="weight")
    torch.testing.assert_close(found["0"], model[0].weight.detach().square().sum((1, 2, 3)).sqrt())
    seen = {}

    def mean_activation(name, weight, activation, gradient):
        seen[name] = (tuple(weight.shape), tuple(activation.shape), tuple(gradient.shape))
        return activation.mean(0)

    found = importance(model, noise(3, 1, 6, 6), torch.tensor([0, 1, 2]), how=mean_activation)
    assert seen == {"0": ((5, 1, 3, 3), (48, 5), (48, 5)), "5": ((3, 80), (3, 3), (3, 3))}
    model.eval()
    torch.testing.assert_close(found["0"], model[0](noise(3, 1, 6, 6)).mean((0, 2, 3)).detach())


def test_shared_and_unreached_layers():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.unused = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x, shift):
            return self.a(self.a(x)) + shift

    model, x = Twice(), noise(4, 3)
    found = importance(model, (x, torch.zeros(3)), loss=torch.sum)
    first = model.a(x).detach()
    second, pulled = model.a(first).detach(), model.a.weight.detach().sum(0).expand(4, 3)
    torch.testing.assert_close(found["a"], torch.cat([first * pulled, second]).abs().mean(0))
    assert torch.equal(found["unused"], torch.zeros(2))


def test_tethers_count_as_the_layer_computes():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = noise(8, 4)
    plain = importance(model, x), importance(model, None, how="weight")
    attach(model, init=0.5)
    assert torch.allclose(importance(model, None, how="weight")["0"], plain[1]["0"] / 2)
    assert not torch.allclose(importance(model, x)["0"], plain[0]["0"])


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_the_top_share_is_taken(values, share):
    found = tether_nodes({"a": torch.tensor(values)}, share)["a"]
    assert found.dtype == torch.int64 and len(found) == max(1, round(share * len(values)))
    assert found.tolist() == sorted(set(found.tolist()))
    rest = [value for i, value in enumerate(values) if i not in found.tolist()]
    assert not rest or min(values[i] for i in found.tolist()) >= max(rest)


def test_ties_and_broken_numbers():
    assert tether_nodes({"a": torch.zeros(5)}, 0.4)["a"].tolist() == [0, 1]
    values = torch.tensor([math.nan, 1.0, -math.inf, math.inf, 2.0])
    assert tether_nodes({"a": values}, 0.6)["a"].tolist() == [1, 3, 4]
    assert tether_nodes({}) == {}


def test_hostile_input_is_named():
    model = nn.Linear(2, 2)
    for share in (0, -0.1, 1.01, math.nan):
        with pytest.raises(InvalidValueError, match="share is"):
            tether_nodes({"a": torch.ones(3)}, share)
    with pytest.raises(InvalidValueError, match=r"importance of a has shape \(2, 2\)"):
        tether_nodes({"a": torch.ones(2, 2)})
    with pytest.raises(InvalidValueError, match="ReLU has no Linear"):
        importance(nn.ReLU(), noise(2, 2))
    with pytest.raises(InvalidValueError, match="how is 'other'"):
        importance(model, noise(2, 2), how="other")
    with pytest.raises(InvalidValueError, match="no scalar"):
        importance(model, noise(2, 2), loss=lambda h: h)
    with pytest.raises(InvalidValueError, match="no scalar"):
        importance(model, noise(2, 2), loss=lambda h: h.detach().sum())
    with pytest.raises(InvalidValueError, match=r"how gives shape \(1,\) for '', which has 2 nodes"):
        importance(model, noise(2, 2), how=lambda *_: torch.ones(1))
    with pytest.raises(InvalidValueError, match="puts out a tuple"):
        importance(Pair(), noise(2, 2))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)

    def forward(self, x):
        return self.a(x), x
