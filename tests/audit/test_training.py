"""Races are fair: a stack is so many separate networks, and nothing that is tuned has seen the test set."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tithe.audit.training.race import Curve, Entry, Inputs, run
from tithe.audit.training.recipes import RECIPES, field, gradient_change, penalty, recipe
from tithe.audit.training.stacks import StackedAdam, StackedCNN, StackedMLP
from tithe.audit.training.study import Plan, compete, split, tune
from tithe.data import load
from tithe.errors import InvalidValueError
from tithe.resolvent import GradientFilter, Regularizer, TrajectoryFilter

SEEDS = (3, 1, 4)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    train_x, test_x = (x.reshape(-1, 8, 8) for x in (data.train_x[:600], data.test_x))
    return data._replace(train_x=train_x, train_y=data.train_y[:600], test_x=test_x)


def mlp_alone(stack, index):
    """Network ``index`` of a stack as plain layers."""
    layers = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data, layer.bias.data = weight[index].T.detach().clone(), bias[index, 0].detach().clone()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn_alone(stack, index, channels):
    layers = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        kernels, outputs = weight[index].T.detach().clone(), weight.shape[2]
        if len(layers) < 3 * stack.convolutions:
            layer = nn.Conv2d(channels, outputs, 3, padding=1)
            layer.weight.data, channels = kernels.reshape(outputs, channels, 3, 3), outputs
            layers += [layer, nn.ReLU(), nn.MaxPool2d(2)]
        else:
            layer = nn.Linear(weight.shape[1], outputs)
            layer.weight.data = kernels
            layers += [*([] if isinstance(layers[-1], nn.ReLU) else [nn.Flatten()]), layer, nn.ReLU()]
        layer.bias.data = bias[index, 0].detach().clone()
    return nn.Sequential(*layers[:-1])


def mlp():
    return StackedMLP(SEEDS, (6, 5, 4, 3)), noise(7, 6), mlp_alone


def cnn(shape=(2, 9, 8), channels=(3, 4)):
    return StackedCNN(SEEDS, shape, channels, 6, 3), noise(7, *shape), lambda s, i: cnn_alone(s, i, shape[0])


KINDS = {
    "mlp": mlp,
    "cnn": cnn,
    "one channel": lambda: cnn((1, 8, 8), (3, 4)),
    "one convolution": lambda: cnn((8, 4, 4), (5,)),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def parameters_alone(stack, index):
    """The stack's parameters as a separate network holds them."""
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        yield weight[index].T
        yield bias[index, 0]


@kinds
def test_a_stack_is_separate_networks(make):
    stack, x, alone = make()
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    out = stack(x)
    nn.functional.cross_entropy(out.flatten(0, 1), y.repeat(3), reduction="sum").backward()
    own = torch.stack([noise(*x.shape, seed=s) for s in range(3)])  # inputs of each network's own
    for index in range(3):
        network = alone(stack, index)
        torch.testing.assert_close(out[index], network(x))
        torch.testing.assert_close(stack(own)[index], network(own[index]))
        first = network[:2]
        torch.testing.assert_close(stack.first(x)[index], first(x))
        nn.functional.cross_entropy(network(x), y, reduction="sum").backward()
        for (weight, bias), layer in zip(
            zip(stack.weights, stack.biases, strict=True), [m for m in network if hasattr(m, "weight")], strict=True
        ):
            torch.testing.assert_close(weight.grad[index].T, layer.weight.grad.flatten(1), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(bias.grad[index, 0], layer.bias.grad, rtol=1e-4, atol=1e-5)


def test_seeds_alone_make_the_weights():
    stack, other = StackedMLP([5, 7, 5], (4, 3, 2)), StackedMLP([7], (4, 3, 2))
    for a, b in zip(stack.parameters(), other.parameters(), strict=True):
        assert torch.equal(a[0], a[2]) and not torch.equal(a[0], a[1]) and torch.equal(a[1], b[0])
    many = StackedMLP([0], (400, 300))
    assert many.weights[0].abs().max() <= 1 / 20  # as nn.Linear: uniform within 1/√inputs
    assert float(many.weights[0].detach().std()) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.01)


@kinds
def test_multiply_adds_are_those_of_the_layers(make):
    stack, x, alone = make()
    network = alone(stack, 0)
    costs, signal = [], x[:1]
    for layer in network:
        signal = layer(signal)
        if hasattr(layer, "weight"):
            costs.append(layer.weight.numel() * (signal[0, 0].numel() if signal.ndim == 4 else 1))
    assert stack.multiply_adds == sum(costs)
    assert stack.training_multiply_adds == 3 * sum(costs) - costs[0]  # of its inputs, the first layer has no gradients


@kinds
def test_stacked_adam_is_adamw_network_by_network(make):
    stack, x, alone = make()
    rates, decays = [0.1, 0.003, 0.03], [0.0, 0.5, 3.0]
    optimizer = StackedAdam(stack, torch.tensor(rates), torch.tensor(decays))
    networks = [alone(stack, i) for i in range(3)]
    others = [
        torch.optim.AdamW(n.parameters(), lr=r, weight_decay=d) for n, r, d in zip(networks, rates, decays, strict=True)
    ]
    factors = torch.tensor([1.0, 0.5, 0.1])
    for step in range(5):
        optimizer.factor = factors if step else 1.0
        optimizer.zero_grad()
        stack(x).square().mean((1, 2)).sum().backward()
        optimizer.step()
        for network, other, rate, factor in zip(networks, others, rates, factors.tolist(), strict=True):
            other.param_groups[0]["lr"] = rate * (factor if step else 1.0)
            other.zero_grad()
            network(x).square().mean().backward()
            other.step()
    for index, network in enumerate(networks):
        for a, b in zip(parameters_alone(stack, index), network.parameters(), strict=True):
            torch.testing.assert_close(a, b.reshape(a.shape), rtol=1e-3, atol=1e-5)


def inputs():
    x, y = noise(300, 6), noise(300, 6) @ noise(6, 3, seed=1)
    return Inputs(x[:200], y[:200].argmax(1), x[200:], y[200:].argmax(1), x[:200, 0])


def race(entries, **options):
    return run(inputs(), lambda seeds: StackedMLP(seeds, (6, 5, 3)), entries, 30, **{"every": 5} | options).accuracy


OTHERS = [Entry(8, 0.3), Entry(3, 0.01, horizon=20), Entry(2, 0.1, decay=1.0)]


@pytest.mark.parametrize("tau", [0.0, 4.0])
def test_a_race_is_reproducible_and_does_not_depend_on_who_else_runs(tau):
    mine = Entry(3, 0.03, horizon=40, decay=0.1)
    alone = race([mine], tau=tau)
    assert alone.shape == (6, 1) and 0.5 < alone[-1, 0] <= 1
    together = race([*OTHERS, mine], tau=tau)
    assert np.array_equal(together, race([*OTHERS, mine], tau=tau))
    np.testing.assert_allclose(together[:, 3:], alone, atol=0.011)  # a sample of 100, by rounding
    np.testing.assert_allclose(race([mine, *OTHERS[::-1]], tau=tau)[:, :1], alone, atol=0.011)
    assert len({tuple(column) for column in together.T}) == 4


def test_a_penalty_weighs_the_same_however_many_run():
    added = penalty(replace(recipe("penalty (R1)", "mlp"), strength=3.0))
    mine = Entry(3, 0.03)
    alone = race([mine], penalty=added)
    np.testing.assert_allclose(race([mine, *OTHERS], penalty=added)[:, :1], alone, atol=0.011)
    assert np.abs(race([mine]) - alone).max() > 0.05


def test_a_race_is_plain_training():
    """The same by a loop as one would write it."""
    data = inputs()
    entry = Entry(3, 0.05, horizon=20, decay=0.2)
    network = mlp_alone(StackedMLP([3], (6, 5, 3)), 0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, weight_decay=0.2)
    filtered = TrajectoryFilter(network, 4.0, optimizer=optimizer)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    generator = torch.Generator().manual_seed(3)
    readings, plain = [], []
    while len(readings) < 4:
        order = torch.randperm(200, generator=generator)
        for start in range(0, 200 - 63, 64):
            rows = order[start : start + 64]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(data.train_x[rows]), data.train_y[rows]).backward()
            optimizer.step()
            schedule.step()
            if filtered.steps % 5 == 0:
                plain.append(float((network(data.test_x).argmax(1) == data.test_y).double().mean()))
                with filtered.swapped_in():
                    readings.append(float((network(data.test_x).argmax(1) == data.test_y).double().mean()))
    for tau, expected in ((4.0, readings), (0.0, plain)):
        found = race([entry, *OTHERS], tau=tau)[:4, 0]
        np.testing.assert_allclose(found, expected[:4], atol=0.011)
    assert readings[:4] != plain[:4]


def test_readings_do_not_depend_on_how_many_samples_are_read_at_once():
    assert np.array_equal(race(OTHERS, at_once=7), race(OTHERS))


def test_steps_to():
    curve = Curve(np.array([[0.1, 0.9, 0.0, 0.5], [0.6, 0.2, 0.0, 0.5], [0.7, 0.95, 0.0, 0.5]]), every=20)
    assert curve.steps_to(0.6).tolist() == [40, 20, math.inf, math.inf]
    assert curve.steps_to(0.5).tolist() == [40, 20, math.inf, 20]


def test_split_is_fixed_and_whole(digits):
    (train_x, train_y), (held_x, held_y) = split(digits)
    assert len(held_x) == len(held_y) == 120 and len(train_x) == len(train_y) == 480
    both = np.concatenate([train_x, held_x]).reshape(600, -1)
    assert np.array_equal(np.sort(both, 0), np.sort(digits.train_x.reshape(600, -1), 0))
    assert np.array_equal(split(digits)[1][0], held_x)


PLAN = Plan("mlp", 0.7, 30, (0.001, 0.03), (20, 30), every=5)


@pytest.mark.parametrize(
    ("name", "net"),
    [
        ("constant rate", "mlp"), ("cosine", "mlp"), ("PCA front end, averaged", "mlp"),
        ("full stack", "mlp"), ("full stack", "cnn"),
    ],
)  # fmt: skip
def test_tuning_never_looks_at_the_test_set(digits, name, net):
    one, plan = recipe(name, net), replace(PLAN, net=net, target=0.7 if net == "mlp" else 0.6)
    rng = np.random.default_rng(0)
    poisons = [
        (np.full(digits.test_x.shape, np.nan), np.full(digits.test_y.shape, -1)),
        (digits.test_x * 1000.0, rng.permutation(digits.test_y)),
        (np.zeros((0, 8, 8)), np.zeros(0, np.int64)),
    ]
    choice = tune(one, plan, digits, (0, 1), "cpu")
    assert choice.rate == 0.03 and math.isfinite(choice.steps) and (choice.horizon > 0) == one.cosine
    for x, y in poisons[: 3 if net == "mlp" else 1]:
        assert tune(one, plan, digits._replace(test_x=x, test_y=y), (0, 1), "cpu") == choice


def test_where_no_choice_reaches_the_target_the_nearest_is_taken(digits):
    choice = tune(
        recipe("constant rate", "mlp"), replace(PLAN, target=1.01, rates=(1e-5, 0.03, 1e-6)), digits, (0, 1), "cpu"
    )
    assert choice.rate == 0.03 and choice.steps == math.inf


def test_the_test_set_decides_the_race(digits):
    one = recipe("cosine", "mlp")
    choice = tune(one, PLAN, digits, (0, 1), "cpu")
    result = compete(one, PLAN, choice, digits, (5, 6, 7), "cpu")
    assert result.steps.shape == (3,) and np.isfinite(result.steps).all() and (result.accuracy > 0.7).all()
    place = field(one, "mlp", split(digits)[0], (digits.test_x, digits.test_y), "cpu")
    assert np.array_equal(result.multiply_adds, result.steps * 64 * place.training_multiply_adds)
    wrong = digits._replace(test_y=(digits.test_y + 1) % 10)
    missed = compete(one, PLAN, choice, wrong, (5, 6, 7), "cpu")
    assert np.isinf(missed.steps).all() and (missed.accuracy < 0.2).all()


def test_inputs_are_standardised_by_training_images_alone(digits):
    train, test = (digits.train_x, digits.train_y), (digits.test_x, digits.test_y)
    for one in {(r.front, r.nets[0]): r for r in RECIPES}.values():
        net = one.nets[0]
        place, other = (field(one, net, train, t, "cpu") for t in (test, (digits.test_x * 3.0, digits.test_y)))
        assert torch.equal(place.inputs.train_x, other.inputs.train_x)
        stack = place.make([0])
        assert stack(place.inputs.train_x[:2]).shape == (1, 2, 10)
        front = place.multiply_adds - stack.multiply_adds
        assert front == place.training_multiply_adds - stack.training_multiply_adds
        assert (front == 0) == (one.front == "pixels")
        assert place.inputs.train_x.mean().abs() < 0.2 and 0.5 < place.inputs.train_x.std() < 1.5


def test_recipes_change_what_the_public_names_change(digits):
    """The filter and the penalty on a stack are those of GradientFilter and Regularizer on separate networks."""
    x = noise(5, 2, 8, 8)
    stack = StackedCNN(SEEDS, (2, 8, 8), (3, 4), 6, 10)
    stack(x).square().sum().backward()
    one = recipe("whitened gradients", "cnn")
    change = gradient_change(one, "cnn", (8, 8))
    networks = [cnn_alone(stack, i, 2) for i in range(3)]
    change(stack)
    for index, network in enumerate(networks):
        network(x).square().sum().backward()
        GradientFilter(torch.optim.SGD(network.parameters(), lr=1), power=-1).filter()
        for weight, layer in zip(stack.weights, [m for m in network if hasattr(m, "weight")], strict=True):
            torch.testing.assert_close(weight.grad[index].T, layer.weight.grad.flatten(1), rtol=1e-3, atol=1e-3)
    penalised = recipe("penalty (R1)", "cnn")
    expected = sum(Regularizer(penalised.strength)(network[:2](x)) for network in networks)
    torch.testing.assert_close(penalty(penalised)(stack, torch.stack([x] * 3)), expected)
    plain = recipe("constant rate", "cnn")
    assert gradient_change(plain, "cnn", (8, 8)) is None and penalty(plain) is None
    flat = StackedMLP(SEEDS, (64, 5, 10))
    flat(noise(5, 64)).square().sum().backward()
    alone = mlp_alone(flat, 1)
    gradient_change(recipe("damped gradients (R2)", "mlp"), "mlp", (8, 8))(flat)
    alone(noise(5, 64)).square().sum().backward()
    optimizer = torch.optim.SGD(alone.parameters(), lr=1)
    GradientFilter(optimizer, power=1, layout={"0.weight": (8, 8)}, model=alone).filter()
    torch.testing.assert_close(flat.weights[0].grad[1].T, alone[0].weight.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(flat.weights[1].grad[1].T, alone[2].weight.grad, rtol=1e-3, atol=1e-4)
    assert gradient_change(recipe("full stack", "mlp"), "mlp", (8, 8)) is None  # its coefficients have no order


def test_recipes_by_name():
    assert len({(r.name, net) for r in RECIPES for net in r.nets}) == sum(len(r.nets) for r in RECIPES)
    with pytest.raises(InvalidValueError, match="there is no recipe 'x' for 'mlp'; use one of 'constant rate'"):
        recipe("x", "mlp")
