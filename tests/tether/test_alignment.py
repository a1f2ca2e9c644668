"""Aligned models compute what they did, permuted copies are recovered, and averages of strangers become models."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.data import load
from tithe.errors import InvalidStateError, InvalidValueError
from tithe.tether.alignment import align
from tithe.tether.averaging import average
from tithe.tether.chains import hidden_layers
from tithe.tether.parametrization import attach


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MODELS = {
    "linear": (lambda: [nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3)], (16, 4)),
    # A descent from the order that there is gets stuck here: the layers at the ends, which tell nodes apart, are small.
    "small ends": (lambda: [nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1)], (16, 4)),
    "no bias": (lambda: [nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 3, bias=False)], (16, 4)),
    "norm": (lambda: [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)],
             (16, 4)),
    "conv": (lambda: [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 2), nn.ReLU(),
                      nn.Flatten(), nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, 3)], (5, 1, 8, 8)),
    "one layer": (lambda: [nn.Linear(4, 3)], (16, 4)),
}  # fmt: skip


def made(kind, seed=0):
    build, shape = MODELS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(*build())
        if kind == "small ends":
            for tensor in (*model[0].parameters(), model[2].bias, *model[4].parameters()):
                tensor.data *= 0.01
        for module in model:
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # as after some training
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval(), noise(*shape)


def state(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
def shuffled(model, seed):
    """A copy with its hidden nodes in another order, by code of its own."""
    model = copy.deepcopy(model)
    g = torch.Generator().manual_seed(seed)
    for hidden in hidden_layers(model):
        order = torch.randperm(hidden.nodes, generator=g)
        for module in (hidden.layer, *hidden.norms):
            for name, tensor in module.state_dict().items():
                if name != "num_batches_tracked":
                    tensor.copy_(tensor[order])
        weight = hidden.reader.weight
        per = weight.shape[1] // hidden.nodes
        inputs = torch.cat([torch.arange(per) + per * node for node in order.tolist()])
        weight.copy_(weight[:, inputs])
    return model


@pytest.mark.parametrize("kind", list(MODELS))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), drawn=st.booleans())
def test_a_permuted_copy_is_recovered_exactly(kind, seed, drawn):
    model, x = made(kind, seed)
    other = shuffled(model, seed + 1)
    torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-5)
    generator = torch.Generator().manual_seed(seed) if drawn else None
    assert align(other, model, generator=generator) is other and equal(state(other), state(model))
    mean = average([state(model), state(other)])
    assert all(torch.equal(mean[name], tensor) for name, tensor in state(model).items())


@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("seed", range(3))
def test_the_function_stays_and_the_distance_shrinks(kind, seed):
    model, x = made(kind, seed)
    reference, _ = made(kind, seed + 50)
    before, kept, theirs = model(x), state(model), state(reference)
    places = [id(parameter) for parameter in model.parameters()]
    align(model, reference)
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
    assert equal(state(reference), theirs) and places == [id(parameter) for parameter in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def distance(mine):
        return sum(float((mine[name] - theirs[name]).square().sum()) for name in names)

    assert distance(state(model)) <= distance(kept) + 1e-6
    assert kind == "one layer" or distance(state(model)) < 0.98 * distance(kept)
    for name in names:  # the same entries in another order
        torch.testing.assert_close(state(model)[name].flatten().sort().values, kept[name].flatten().sort().values)
    again = state(model)
    assert equal(state(align(model, reference)), again)  # it was an optimum


def test_one_hidden_layer_gets_the_best_of_all_permutations():
    model, _ = made("no bias")
    model[0], model[2] = nn.Linear(2, 5, bias=False), nn.Linear(5, 1, bias=False)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for seed, layer in enumerate((model[0], model[2], reference[0], reference[2])):
            layer.weight.copy_(noise(*layer.weight.shape, seed=seed))
        best = max(
            float((model[0].weight[list(p)] * reference[0].weight).sum()
                  + (model[2].weight[:, list(p)] * reference[2].weight).sum())
            for p in itertools.permutations(range(5))
        )  # fmt: skip
        align(model, reference)
        found = sum(float((model[i].weight * reference[i].weight).sum()) for i in (0, 2))
    assert found == pytest.approx(best)


@pytest.mark.parametrize("which", ["sgd", "adam"])
def test_the_optimiser_comes_along(which):
    """Training after the alignment is the training that would have been, in another order."""

    def steps(model, optimizer, count):
        for seed in range(count):
            optimizer.zero_grad()
            model(noise(16, 4, seed=seed)).square().mean().backward()
            optimizer.step()

    def fresh():
        model, _ = made("norm", 3)
        kind = torch.optim.SGD if which == "sgd" else torch.optim.Adam
        options = {"lr": 0.05, "momentum": 0.9} if which == "sgd" else {"lr": 0.01, "amsgrad": True}
        optimizer = kind(model.parameters(), **options)
        steps(model, optimizer, 5)
        return model, optimizer

    (plain, plain_optimizer), (model, optimizer) = fresh(), fresh()
    reference, x = made("norm", 4)
    align(model, reference, optimizer=optimizer)
    assert not torch.equal(model[0].weight, plain[0].weight)
    rows = {tuple(row.tolist()): i for i, row in enumerate(plain[0].weight)}
    order = torch.tensor([rows[tuple(row.tolist())] for row in model[0].weight])
    assert torch.equal(model[0].weight.grad, plain[0].weight.grad[order])
    steps(plain, plain_optimizer, 5)
    steps(model, optimizer, 5)
    torch.testing.assert_close(model(x), plain(x), rtol=1e-3, atol=1e-5)


def test_averages_of_strangers_are_models_after_alignment():
    train_x, train_y, test_x, test_y = (torch.as_tensor(part) for part in load("digits"))
    train_x, test_x = (part.flatten(1).float() / 16 for part in (train_x, test_x))

    def build():
        sizes = [64, 128, 128, 128, 128]
        hidden = [m for i, o in itertools.pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(128, 10))

    def trained(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = build()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1.0)
        g = torch.Generator().manual_seed(seed)
        for _ in range(15):
            for rows in torch.randperm(len(train_x), generator=g).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(train_x[rows]), train_y[rows]).backward()
                optimizer.step()
        return model

    @torch.no_grad()
    def accuracy(model):
        return float((model(test_x).argmax(1) == test_y).float().mean())

    def accuracy_of_average(a, b):
        model = build()
        model.load_state_dict(average([a.state_dict(), b.state_dict()]))
        return accuracy(model)

    first, second = trained(1), trained(2)
    own = accuracy(second)
    before = accuracy_of_average(first, second)
    align(second, first, generator=torch.Generator().manual_seed(0))
    after = accuracy_of_average(first, second)
    assert accuracy(second) == pytest.approx(own, abs=0.006)  # the same sums in another order
    assert min(own, accuracy(first)) > 0.9 and before < 0.6 and after > 0.85


def test_hostile_input_changes_nothing():
    model, _ = made("conv")
    linear, _ = made("linear")
    before, kept = state(model), state(linear)
    wider = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3))
    deeper = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 7), nn.Linear(7, 3))
    normed = nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))
    layer_norm = nn.Sequential(nn.Linear(4, 9), nn.LayerNorm(9), nn.Linear(9, 3))
    grouped = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 2, 3))
    broken = copy.deepcopy(linear)
    with torch.no_grad():
        broken[2].weight[0, 0] = float("nan")
    tethered = copy.deepcopy(linear)
    attach(tethered, layers=["2.weight"])
    for mine, reference, error, match in [
        (model, linear, InvalidValueError, "hidden layers are 0, 4, 7 and in the reference 0, 2"),
        (linear, wider, InvalidValueError, r"2.weight has shape \(7, 9\) and in the reference \(8, 9\)"),
        (linear, deeper, InvalidValueError, "hidden layers are 0, 2 and in the reference 0, 2, 4"),
        (linear, normed, InvalidValueError, "0 is followed by other modules"),
        (layer_norm, layer_norm, InvalidValueError, "0 cannot be followed through 1 .LayerNorm"),
        (grouped, grouped, InvalidValueError, "0 has 2 groups"),
        (linear, broken, InvalidValueError, r"2\.weight has entries that are NaN"),
        (broken, linear, InvalidValueError, r"2\.weight has entries that are NaN"),
        (tethered, linear, InvalidStateError, "2 has tethers"),
    ]:
        with pytest.raises(error, match=match):
            align(mine, reference)
    with pytest.raises(InvalidValueError, match="at least 1 sweep"):
        align(linear, linear, iterations=0)
    optimizer = torch.optim.Adafactor(linear.parameters())
    linear(noise(2, 4)).sum().backward()
    with torch.no_grad():
        for parameter in linear.parameters():
            optimizer.state[parameter]["row_var"] = torch.zeros(len(parameter), 2)
    with pytest.raises(InvalidValueError, match=r"row_var of 0\.weight"):
        align(linear, made("linear", 5)[0], optimizer=optimizer)
    assert equal(state(model), before) and equal(state(linear), kept)


def test_a_tethered_reference_counts_as_it_computes():
    model, _ = made("linear")
    reference = shuffled(model, 1)
    attach(reference, init=0.5)
    plain = copy.deepcopy(reference)
    align(model, reference)
    assert torch.equal(model[0].weight * 0.5, plain[0].weight)
