"""Grown models compute what they did, and train on with their optimisers."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.growth import grow
from tithe.tether.parametrization import attach


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {
            "linear": (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), (9, 4)),
            "norm": (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)), (9, 4)),
            "conv": (nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 3)), (9, 2, 6, 6)),
            "flat": (nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2)), (9, 2, 6, 6)),
        }
        model, shape = models[kind]
        return model, noise(*shape)


def train(model, optimizer, x, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
}


@pytest.mark.parametrize("how", ["zero", "split"])
@pytest.mark.parametrize("kind", ["linear", "norm", "conv", "flat"])
@pytest.mark.parametrize("which", list(OPTIMIZERS))
def test_the_function_stays_and_training_goes_on(kind, how, which):
    model, x = made(kind)
    optimizer = OPTIMIZERS[which](model.parameters())
    train(model, optimizer, x, 3)
    moment = "momentum_buffer" if which == "sgd" else "exp_avg"
    kept = optimizer.state[model[0].weight][moment].clone()
    model.eval()
    before = model(x)
    grow(model, "0", 7, optimizer, torch.Generator().manual_seed(1), how=how)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-6)
    assert len(model[0].weight) == 13
    state = optimizer.state[model[0].weight][moment]
    assert torch.equal(state[:6], kept) and not state[6:].any() and state.shape == model[0].weight.shape
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    assert len(optimizer.state) == len(list(model.parameters()))
    fresh = model[0].weight[6:].detach().clone()
    model.train()
    train(model, optimizer, x, 3)
    assert not torch.equal(model[0].weight[6:], fresh)


def test_an_old_loss_may_live_on():
    model, x = made("linear")
    optimizer = OPTIMIZERS["adam"](model.parameters())
    loss = model(x).square().mean()
    loss.backward()
    grow(model, "2", 3, optimizer)
    again = model(x).square().mean()
    again.backward()  # while the graph of the old parameters is still held
    assert loss.requires_grad
    optimizer.step()
    assert model[2].weight.grad.shape == model[2].weight.shape == (8, 6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.sampled_from(["zero", "split"]), st.integers(0, 99))
def test_any_count(count, how, seed):
    model, x = made("flat")
    before = model(x)
    grow(model, "0", count, generator=torch.Generator().manual_seed(seed), how=how)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
    assert (model[0].out_channels, model[3].in_features) == (6 + count, 16 * (6 + count))


def test_the_same_seed_gives_the_same_nodes():
    models = [copy.deepcopy(made("norm")[0]) for _ in range(2)]
    for model in models:
        grow(model, "0", 3, generator=torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in models), strict=True))


def test_hostile_input_changes_nothing():
    model, _ = made("linear")
    before = copy.deepcopy(model.state_dict())
    for layer, count, how, match in [
        ("0", 0, "zero", "at least 1"),
        ("4", 1, "zero", "leaves the model"),
        ("1", 1, "zero", "no layer is called '1'"),
        ("0", 1, "other", "'split'"),
    ]:
        with pytest.raises(InvalidValueError, match=match):
            grow(model, layer, count, how=how)
    attach(model, layers=["2.weight"])
    with pytest.raises(InvalidStateError, match="2 has tethers"):
        grow(model, "0", 1)
    attached = {name.replace("parametrizations.weight.original", "weight"): x for name, x in model.state_dict().items()}
    assert all(torch.equal(x, attached[name]) for name, x in before.items())
