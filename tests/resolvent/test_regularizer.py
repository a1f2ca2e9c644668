"""The penalty against its definition over frequencies, on activations and on gradients."""

import math

import pytest
import torch
from torch import nn

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent import Regularizer
from tithe.resolvent.regularizer import ordered_axes


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def removed(x, dims, phi=PHI):
    """|X̂ − r·X̂|² of every wave, over the whole spectrum."""
    waves = torch.fft.fftn(x, dim=dims, norm="ortho")
    k = torch.meshgrid(*[2 * math.pi * torch.fft.fftfreq(x.shape[d], dtype=x.dtype) for d in dims], indexing="ij")
    response = 1 / (1 + phi * sum(a**2 for a in k))
    shape = [x.shape[d] if d in dims else 1 for d in range(x.ndim)]
    return (waves * (1 - response.reshape(shape))).abs().square()


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((9,), (0,)), ((4, 8), (1,)), ((2, 3, 5), (2,)), ((2, 3, 7, 6), (2, 3)), ((2, 1, 3, 4, 5), (2, 3, 4))],
)
def test_equals_its_definition_over_frequencies(shape, dims):
    x = noise(*shape)
    assert ordered_axes(x) == dims
    torch.testing.assert_close(Regularizer(0.3)(x), 0.3 * removed(x, dims).mean())
    torch.testing.assert_close(Regularizer(0.3, phi=5)(x), 0.3 * removed(x, dims, 5).mean())
    share = removed(x, dims).sum() / x.square().sum()
    torch.testing.assert_close(Regularizer(0.3, form="fraction")(x), 0.3 * share)
    torch.testing.assert_close(Regularizer(2.0, dims=0)(x), 2 * removed(x, (0,)).mean())


def test_energy_falls_with_size_and_the_fraction_does_not():
    x = noise(4, 3, 8, 8)
    torch.testing.assert_close(Regularizer(1.0)(0.1 * x), 0.01 * Regularizer(1.0)(x))
    for scale in (0.1, -1.0, 1e-200, 1e200):
        fraction = Regularizer(1.0, form="fraction")(scale * x)
        torch.testing.assert_close(fraction, Regularizer(1.0, form="fraction")(x))
        assert 0 < fraction < 1


def test_what_is_smooth_costs_nothing():
    for form in ("energy", "fraction"):
        assert Regularizer(1.0, form=form)(torch.full((2, 9), 3.0)) == pytest.approx(0, abs=1e-12)
        zero = torch.zeros(2, 9, requires_grad=True)
        Regularizer(1.0, form=form)(zero).backward()
        assert torch.equal(zero.grad, torch.zeros(2, 9))
    alternating = torch.tensor([1.0, -1.0] * 4)
    assert Regularizer(1.0, form="fraction")(alternating) == pytest.approx((1 - 1 / (1 + PHI * math.pi**2)) ** 2)


@pytest.mark.parametrize("form", ["energy", "fraction"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(form, dtype):
    x = (noise(3, 2, 9) * 300).to(dtype)
    penalty = Regularizer(1.0, form=form)(x)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty.double(), Regularizer(1.0, form=form)(x.double()), rtol=1e-4, atol=0)


@pytest.mark.parametrize("form", ["energy", "fraction"])
@pytest.mark.parametrize("shape", [(2, 7), (1, 2, 4, 3)])
def test_derivatives_of_first_and_second_order(form, shape):
    x = noise(*shape).requires_grad_()
    assert torch.autograd.gradcheck(Regularizer(1.0, form=form), x)
    assert torch.autograd.gradgradcheck(Regularizer(1.0, form=form), x)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()), nn.Conv2d(3, 2, 3, padding=1), nn.Flatten()
        ).double()


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_watching_penalises_what_the_layers_put_out():
    model, x = network(), noise(4, 1, 6, 6)
    regularizer = Regularizer(0.5)
    first = model[0](x)
    outputs = {"0": first, "0.0": model[0][0](x), "0.1": first, "1": model[1](first)}
    for layers, names in [
        ("1", ["1"]), (["0.0", "1"], ["0.0", "1"]), ("0.*", ["0.0", "0.1"]), ("[01]", ["0", "1"]), (["1", "1"], ["1"])
    ]:  # fmt: skip
        with regularizer.watching(model, layers) as penalties:
            model(x)
            total = penalties.total()
        torch.testing.assert_close(total, sum(regularizer(outputs[name]) for name in names))


def test_each_forward_pass_counts_once():
    model, x = network(), noise(4, 1, 6, 6)
    with Regularizer(1.0).watching(model, "1") as penalties:
        model(x)
        first = penalties.total()
        with pytest.raises(InvalidStateError, match="no watched layer has run"):
            penalties.total()
        model(x)
        model(x)  # as with accumulation
        torch.testing.assert_close(penalties.total(), 2 * first)


def test_hooks_are_gone_after_the_block():
    model = network()
    with Regularizer(1.0).watching(model, "*"):
        assert hooks(model) == 5
    assert hooks(model) == 0
    with pytest.raises(ZeroDivisionError), Regularizer(1.0).watching(model, "*"):
        raise ZeroDivisionError
    assert hooks(model) == 0
    with pytest.raises(InvalidValueError, match=r"no layer is named 'x'; the model has 0, 0.0, 0.1, 1, 2"):  # noqa: SIM117
        with Regularizer(1.0).watching(model, ["1", "x"]):
            pass
    assert hooks(model) == 0


@pytest.mark.parametrize("form", ["energy", "fraction"])
def test_training_smooths_the_activations(form):
    model, x = network(), noise(4, 1, 6, 6)
    regularizer = Regularizer(1.0, form=form)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    seen = []
    with regularizer.watching(model, "0.0") as penalties:
        for _ in range(30):
            optimizer.zero_grad()
            out = model(x)
            loss = (out.mean() - 1).square() + penalties.total()
            loss.backward()
            optimizer.step()
            seen.append(float(regularizer(model[0][0](x).detach())))
            penalties.total()
    assert seen[-1] < 0.7 * seen[0]


def test_activations_that_are_changed_in_place_afterwards():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(inplace=True))
    for form in ("energy", "fraction"):
        with Regularizer(1.0, form=form).watching(model, "0") as penalties:
            out = model(torch.ones(2, 1, 9) + torch.arange(9))
            (out.sum() + penalties.total()).backward()


def test_penalty_of_gradients_is_the_sum_over_parameters():
    model, x = network(), noise(4, 1, 6, 6)
    loss = model(x).square().mean()
    weights = [model[0][0].weight, model[1].weight]
    gradients = torch.autograd.grad(loss, weights, retain_graph=True)
    regularizer = Regularizer(0.5)
    torch.testing.assert_close(regularizer.of_gradients(loss, weights), sum(map(regularizer, gradients)))
    # What has one axis has no order, unless one says so; what has no gradient counts as 0.
    loss = model(x).square().mean()
    with_biases = regularizer.of_gradients(loss, [*model.parameters(), nn.Parameter(torch.ones(3))])
    torch.testing.assert_close(with_biases, sum(map(regularizer, gradients)))
    bias = model[1].bias
    loss = model(x).square().mean()
    assert regularizer.of_gradients(loss, [bias]) == 0 and Regularizer(0.5, dims=0).of_gradients(loss, [bias]) > 0


def test_penalising_gradients_changes_the_update_and_penalising_grad_does_not():
    x = noise(4, 1, 6, 6)
    regularizer = Regularizer(10.0)

    def update(how):
        model = network()
        loss = model(x).square().mean()
        if how == "of_gradients":
            loss = loss + regularizer.of_gradients(loss, [model[1].weight])
        elif how == ".grad":
            loss.backward(retain_graph=True)
            loss = loss + regularizer(model[1].weight.grad)
            model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(update(".grad"), update("plain"))
    assert not torch.allclose(update("of_gradients"), update("plain"))


def test_gradients_of_gradients_are_exact():
    weight = noise(3, 5).requires_grad_()
    regularizer = Regularizer(1.0)
    # The gradient of Σw³/6 is w²/2.
    found = torch.autograd.grad(regularizer.of_gradients(weight.pow(3).sum() / 6, [weight]), weight)
    (expected,) = torch.autograd.grad(regularizer(weight.square() / 2), weight)
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"strength": -1.0}, "strength is -1"), ({"strength": math.nan}, "strength is nan"), ({"form": "l2"}, "'energy'")],
)
def test_what_cannot_be_used_is_named(options, message):
    with pytest.raises(InvalidValueError, match=message):
        Regularizer(**options)


def test_signals_that_cannot_be_used_are_named():
    for form in ("energy", "fraction"):
        with pytest.raises(InvalidDTypeError, match="x is a tuple"):
            Regularizer(form=form)((torch.zeros(3),))
        with pytest.raises(InvalidValueError, match="distinct axes"):
            Regularizer(dims=4, form=form)(torch.zeros(3))
        with pytest.raises(InvalidValueError, match="empty"):
            Regularizer(form=form)(torch.zeros(0, 3))
