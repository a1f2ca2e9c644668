"""Averages of weights against the closed form, and that they come and go without a trace."""

import copy
import math

import pytest
import torch
from torch import nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.golden import PHI
from tithe.resolvent import TrajectoryFilter, response


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        model(noise(8, 3, seed=step)).square().mean().backward()
        optimizer.step()


def state(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lent(filtered):
    with filtered.swapped_in() as model:
        return state(model)


def moved(filtered, parameter, values):
    """What is lent after the parameter has taken each of the values in turn."""
    found = []
    for value in values:
        with torch.no_grad():
            parameter.copy_(torch.as_tensor(value))
        filtered.update()
        with filtered.swapped_in():
            found.append(parameter.detach().clone())
    return torch.stack(found)


def single(value=0.0, dtype=torch.float64):
    model = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.constant_(model.weight, value)
    return model


def test_equals_the_closed_form():
    values = noise(60, dtype=torch.float64).cumsum(0)
    model = single(7.0)
    found = moved(TrajectoryFilter(model, tau=4), model.weight, values).flatten()
    average, expected = 7.0, []
    for t, value in enumerate(values.tolist()):
        decay = min(1 - 1 / 4, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * value
        expected.append(average)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_in_the_long_run_weights_fall_off_geometrically():
    values = noise(200, dtype=torch.float64)
    model = single()
    found = moved(TrajectoryFilter(model, tau=5), model.weight, values)[-1].item()
    shares = 0.2 * 0.8 ** torch.arange(200, dtype=torch.float64)  # 0.8²⁰⁰ is nothing
    assert found == pytest.approx(float((shares * values.flip(0)).sum()), abs=1e-9)


def test_the_first_weights_are_forgotten():
    model = single(1000.0)
    found = moved(TrajectoryFilter(model, tau=100), model.weight, [0.0] * 100).flatten()
    # The plain average would hold 1000 · 0.99¹⁰⁰ = 366 of it.
    assert found[-1] < 1e-6 and (found.diff() < 0).all()


@pytest.mark.parametrize("tau", [1.87, 3.0, 10.0])
@pytest.mark.parametrize("omega", [0.1, 0.7, 2.0, math.pi])
def test_power_response_is_the_resolvent_of_the_second_difference(tau, omega):
    """A weight that swings at ω: what is left of its power, once the beginning is forgotten."""
    steps = 600
    model = nn.Linear(2, 1, bias=False).double()
    filtered = TrajectoryFilter(model, tau=tau)
    times = omega * torch.arange(steps, dtype=torch.float64)
    found = moved(filtered, model.weight, torch.stack([times.cos(), times.sin()], 1)[:, None])
    left = found[-100:].square().sum(-1).flatten()
    expected = 1 / (1 + filtered.phi * 2 * (1 - math.cos(omega)))
    torch.testing.assert_close(left, torch.full_like(left, expected), rtol=1e-6, atol=0)
    k = torch.tensor(2 * math.sin(omega / 2), dtype=torch.float64)  # the second difference is −k²
    assert expected == pytest.approx(float(response(k, filtered.phi)))


def test_phi():
    assert TrajectoryFilter(single(), tau=100).phi == 9900
    golden = (1 + math.sqrt(1 + 4 * PHI)) / 2
    assert TrajectoryFilter(single(), tau=golden).phi == pytest.approx(PHI) and golden == pytest.approx(1.87, abs=0.01)


def test_tau_of_one_averages_nothing():
    model = single(5.0)
    assert moved(TrajectoryFilter(model, tau=1), model.weight, [1.0, -2.0, 3.0]).flatten().tolist() == [1, -2, 3]


def test_lent_and_given_back_exactly():
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    filtered = TrajectoryFilter(model, tau=10, optimizer=optimizer)
    train(model, optimizer, 5)
    before, places = state(model), [p.data_ptr() for p in model.parameters()]
    with filtered.swapped_in() as inside:
        assert inside is model and not torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
        assert torch.equal(model[1].num_batches_tracked, before["1.num_batches_tracked"])
        model(noise(8, 3))  # in training mode: changes the statistics
        with torch.no_grad():
            model[0].weight.zero_()
    assert equal(state(model), before) and places == [p.data_ptr() for p in model.parameters()]
    first = lent(filtered)
    assert equal(lent(filtered), first) and not first["0.weight"].eq(0).any()
    with pytest.raises(ZeroDivisionError), filtered.swapped_in():
        raise ZeroDivisionError
    assert equal(state(model), before) and equal(lent(filtered), first)


def test_training_is_the_same_with_and_without():
    ends = []
    for watched in (False, True):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        filtered = TrajectoryFilter(model, tau=10, optimizer=optimizer) if watched else None
        for step in range(6):
            train(model, optimizer, 1, start=step)
            if filtered:
                lent(filtered)
        ends.append(state(model))
    assert equal(*ends)


def test_neither_nested_nor_trained_inside():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    filtered = TrajectoryFilter(model, optimizer=optimizer)
    before = state(model)
    with filtered.swapped_in():
        with pytest.raises(InvalidStateError, match="swapped in already"), filtered.swapped_in():
            pass
        with pytest.raises(InvalidStateError, match="outside of the with block"):
            filtered.update()
        with pytest.raises(InvalidStateError, match="outside of the with block"):
            optimizer.step()
    assert equal(state(model), before) and filtered.steps == 0
    lent(filtered)


def test_statistics_of_batchnorm_are_measured_anew():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    filtered = TrajectoryFilter(model, tau=3, optimizer=optimizer)
    train(model, optimizer, 6)
    model.eval()
    before = state(model)
    batches = [noise(8, 3, seed=s) for s in range(4)]
    filtered.refresh_statistics([(x, None) for x in batches])
    assert equal(state(model), before) and not any(module.training for module in model.modules())
    with filtered.swapped_in():
        with torch.no_grad():
            hidden = model[0](torch.stack(batches))
        torch.testing.assert_close(model[1].running_mean, hidden.mean((0, 1)))
        torch.testing.assert_close(model[1].running_var, hidden.var(1).mean(0))
    averaged = lent(filtered)
    filtered.refresh_statistics(batches)  # tensors do, too
    assert all(torch.allclose(tensor, averaged[name]) for name, tensor in lent(filtered).items() if "num" not in name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_no_small_steps(dtype):
    model = single(1.0, dtype)
    filtered = TrajectoryFilter(model, tau=1000)
    for _ in range(4000):
        with torch.no_grad():
            model.weight.fill_(2.0)
        filtered.update()
    assert filtered.state_dict()["averages"]["weight"].dtype == torch.float32
    with filtered.swapped_in():
        assert model.weight.dtype == dtype and model.weight.item() == pytest.approx(2.0, abs=0.02)


def test_complex_weights_are_averaged():
    model = nn.Linear(1, 1, bias=False, dtype=torch.complex64)
    nn.init.constant_(model.weight, 0)
    found = moved(TrajectoryFilter(model, tau=1.25), model.weight, [1 + 2j, 0])
    torch.testing.assert_close(found.flatten(), torch.tensor([0.9 + 1.8j, (0.9 + 1.8j) * 2 / 11]))


def test_mixed_dtypes_and_frozen_weights():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double(), nn.Linear(2, 2).half())
    model[0].requires_grad_(False)
    filtered = TrajectoryFilter(model, tau=2)
    filtered.update()
    before = state(model)
    assert equal(lent(filtered), before)


def test_tied_weights():
    model = nn.ModuleDict({"embed": nn.Embedding(4, 3), "out": nn.Linear(3, 4, bias=False)})
    model["out"].weight = model["embed"].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    filtered = TrajectoryFilter(model, tau=10, optimizer=optimizer)
    start = model["out"].weight.detach().clone()
    model["out"].weight.grad = torch.ones(4, 3)
    optimizer.step()
    assert list(filtered.state_dict()["averages"]) == ["embed.weight"]
    with filtered.swapped_in():
        assert model["out"].weight is model["embed"].weight
        torch.testing.assert_close(model["out"].weight.detach(), start - 0.9)  # averaged once: of the step, 9/10


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    def fresh(tau=10.0):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, TrajectoryFilter(model, tau=tau, optimizer=optimizer)

    model, optimizer, filtered = fresh()
    train(model, optimizer, 8)
    first_model, first_optimizer, first = fresh()
    train(first_model, first_optimizer, 4)
    saved = [first_model.state_dict(), first_optimizer.state_dict(), first.state_dict()]
    torch.save(saved, tmp_path / "run.pt")
    later_model, later_optimizer, later = fresh(tau=3.0)
    loaded = torch.load(tmp_path / "run.pt", weights_only=True)
    for part, its in zip((later_model, later_optimizer, later), loaded, strict=True):
        part.load_state_dict(its)
    assert later.tau == 10 and later.steps == 4 and equal(lent(later), lent(first))
    train(later_model, later_optimizer, 4, start=4)
    assert later.steps == 8 and equal(state(later_model), state(model)) and equal(lent(later), lent(filtered))


def test_states_of_other_models_are_refused():
    filtered = TrajectoryFilter(network())
    good = filtered.state_dict()
    for change in ({"averages": {}}, {"averages": {**good["averages"], "x": torch.zeros(1)}},
                   {"averages": {**good["averages"], "0.bias": torch.zeros(6)}}):  # fmt: skip
        with pytest.raises(InvalidValueError, match="another model"):
            filtered.load_state_dict(copy.deepcopy(good) | change)


def test_with_accumulation_a_step_counts_once():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    filtered = TrajectoryFilter(model, optimizer=optimizer)
    for micro in range(8):
        model(noise(8, 3, seed=micro)).square().mean().backward()
        if micro % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    assert filtered.steps == 2


@pytest.mark.parametrize("fused", [False, True])
def test_skipped_steps_of_a_gradient_scaler_do_not_count(fused):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    filtered = TrajectoryFilter(model, optimizer=optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in (1.0, math.inf, 1.0):
        before, steps = lent(filtered), filtered.steps
        optimizer.zero_grad()
        scaler.scale(model(factor * noise(8, 3)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert filtered.steps == steps + (factor == 1.0) and equal(lent(filtered), before) == (factor != 1.0)
    assert filtered.steps == 2


def test_a_closure_counts_once():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    filtered = TrajectoryFilter(model, optimizer=optimizer)

    def closure():
        optimizer.zero_grad()
        loss = model(noise(8, 3)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert filtered.steps == 1


def test_removed_it_follows_no_longer():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    filtered = TrajectoryFilter(model, optimizer=optimizer)
    train(model, optimizer, 2)
    before = lent(filtered)
    filtered.remove()
    filtered.remove()
    train(model, optimizer, 2)
    assert filtered.steps == 2 and equal(lent(filtered), before) and not optimizer._optimizer_step_post_hooks
    filtered.update()
    assert filtered.steps == 3 and not equal(lent(filtered), before)


def test_averages_are_nearer_to_the_minimum_than_noisy_weights():
    """What it is for: with noisy gradients at a constant rate, the averages lie nearer to the minimum."""
    model = nn.Linear(50, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    filtered = TrajectoryFilter(model, tau=50, optimizer=optimizer)
    for step in range(300):
        model.weight.grad = model.weight.detach() + noise(1, 50, seed=step)
        optimizer.step()
    assert lent(filtered)["weight"].norm() < 0.5 * model.weight.norm()


@pytest.mark.parametrize("tau", [0.5, 0.0, -3.0, math.nan, math.inf])
def test_what_cannot_be_used_is_named(tau):
    with pytest.raises(InvalidValueError, match=f"tau is {tau}"):
        TrajectoryFilter(single(), tau=tau)


@pytest.mark.gpu
def test_on_cuda():
    found = []
    for device in ("cpu", "cuda"):
        model = network().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        filtered = TrajectoryFilter(model, tau=5, optimizer=optimizer)
        for step in range(4):
            optimizer.zero_grad()
            model(noise(8, 3, seed=step).to(device)).square().mean().backward()
            optimizer.step()
        filtered.refresh_statistics([noise(8, 3)], device)
        found.append({name: tensor.cpu() for name, tensor in lent(filtered).items()})
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-3, atol=1e-5)
