import sys

import pytest
import torch
from torch import nn

from tithe.errors import InvalidStateError, InvalidValueError, MissingExtraError
from tithe.ledger import Ledger
from tithe.resolvent.layer_signals import Signals, of_activation, of_weight, summaries
from tithe.resolvent.measures import coherence, white_noise_coherence
from tithe.resolvent.monitor import Monitor


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 3)
        )


def train(model, optimizer, steps):
    generator = seeded()
    for _ in range(steps):
        x = torch.randn(5, 1, 8, 8, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return x


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_records_what_coherence_says():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = Monitor(model, stride=3).attach(optimizer)
    train(model, optimizer, 2)
    before = [p.detach().clone() for p in model.parameters()]
    x = train(model, optimizer, 1)
    found = {(e["layer"], e["what"]): e for e in monitor.history()}
    assert set(found) == {
        ("0", "activations"), ("2", "activations"),
        ("0", "gradients"), ("0", "weights"), ("4", "gradients"), ("4", "weights"),
    }  # fmt: skip
    grad, weight = model[0].weight.grad, model[0].weight
    power = grad.square().sum((2, 3))
    expected = float((coherence(grad, (2, 3)) * power).sum() / power.sum())
    assert found["0", "gradients"]["coherence"] == pytest.approx(expected, rel=1e-5)
    assert found["0", "weights"]["rms"] == pytest.approx(float(weight.detach().square().mean().sqrt()), rel=1e-5)
    out = nn.functional.conv2d(x, before[0], before[1])  # of the weights before the step, before the ReLU in place
    power = out.square().sum((2, 3))
    expected = float((coherence(out, (2, 3)) * power).sum() / power.sum())
    assert found["0", "activations"]["coherence"] == pytest.approx(expected, rel=1e-5)
    entry = found["4", "weights"]
    assert not entry["ordered"] and entry["noise"] == pytest.approx(white_noise_coherence((144,)))
    assert entry["coherence"] == pytest.approx(entry["noise"], abs=0.1)
    assert all(e["step"] == 3 for e in monitor.history())
    assert monitor.lattice("gradients") == [(3, found["0", "gradients"]["coherence"])]  # the Linear has no order
    mean = (found["0", "activations"]["coherence"] + found["2", "activations"]["coherence"]) / 2
    assert monitor.lattice("activations") == [(3, pytest.approx(mean))]
    assert "hidden units" in monitor.skipped["4: activations"]
    assert "no two neighbours" in monitor.skipped["2: weights"]


def test_hooks_are_there_only_at_the_stride_and_gone_afterwards():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Monitor(model, stride=4).attach(optimizer) as monitor:
        seen = []
        for _ in range(9):
            seen.append(hooks(model))
            train(model, optimizer, 1)
        assert seen == [0, 0, 0, 3, 0, 0, 0, 3, 0]
        with pytest.raises(InvalidStateError, match=r"remove\(\) first"):
            monitor.attach(optimizer)
    train(model, optimizer, 8)
    assert hooks(model) == 0 and monitor.steps == 9 and not optimizer._optimizer_step_post_hooks
    assert sorted({e["step"] for e in monitor.history()}) == [4, 8]


def test_every_step_and_removal_when_hooks_lie_there():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = Monitor(model, stride=1, what=["activations"]).attach(optimizer)
    train(model, optimizer, 3)
    assert hooks(model) == 3 and [step for step, _ in monitor.lattice("activations")] == [1, 2, 3]
    monitor.remove()
    monitor.remove()
    assert hooks(model) == 0


def test_training_is_the_same_with_and_without():
    weights = []
    for watched in (False, True):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        if watched:
            Monitor(model, stride=1).attach(optimizer)
        train(model, optimizer, 5)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_into_a_ledger(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Ledger(tmp_path / "runs.db") as ledger:
        with Monitor(model, ledger, run="a", stride=2).attach(optimizer) as monitor:
            train(model, optimizer, 4)
        events = ledger.read(run="a", system="resolvent", kind="coherence")
        assert [event.payload["step"] for event in events] == [2, 4]
        assert len(monitor.history()) == 12
        assert monitor.lattice("weights")[-1] == (4, events[-1].payload["lattice"]["weights"])
        assert Monitor(model, ledger, run="a").history() == monitor.history()


def test_a_layout_gives_a_linear_an_order():
    model = nn.Sequential(nn.Linear(64, 5), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = Monitor(model, stride=1, layout={"0": (8, 8)}, what=["weights"], centre=True).attach(optimizer)
    optimizer.step()
    first, second = monitor.history()
    assert first["ordered"] and first["grid"] == [8, 8] and not second["ordered"]
    assert monitor.lattice("weights") == [(1, first["coherence"])]


def test_dead_layers_and_missing_gradients_do_not_count():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3))
    nn.init.zeros_(model[0].weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = Monitor(model, stride=1).attach(optimizer)
    optimizer.step()  # without a forward or backward pass
    found = monitor.history()
    assert [(e["layer"], e["what"]) for e in found] == [("0", "weights"), ("1", "weights")]
    assert found[0]["rms"] == 0 and monitor.lattice("weights") == [(1, found[1]["coherence"])]
    assert monitor.lattice("gradients") == [] and "not run" in monitor.skipped["0: activations"]


def test_signals_of_activations():
    def grid(module, *shape, axes=None):
        found = of_activation(module, torch.zeros(shape), axes, 64)
        return found if isinstance(found, str) else found.grid

    assert grid(nn.Conv1d(2, 2, 3), 4, 2, 9) == (9,)
    assert grid(nn.Conv2d(2, 2, 3), 2, 9, 7) == (9, 7)  # without a batch
    assert grid(nn.ReLU(), 4, 2, 9, 7) == (9, 7)
    assert grid(nn.Linear(2, 5), 4, 9, 5) == (9,)
    assert grid(nn.GRU(2, 5), 9, 4, 5) == (9,)
    assert grid(nn.GRU(2, 5, batch_first=True), 4, 9, 5) == (9,)
    assert grid(nn.ReLU(), 4, 2, 9, axes=(2,)) == (9,)
    assert "is not known" in grid(nn.ReLU(), 4, 2, 9)
    assert "does not have the axes" in grid(nn.ReLU(), 4, 2, axes=(3,))
    assert "no floating-point" in of_activation(nn.ReLU(), [1], None, 4)


def test_few_signals_are_spread_over_batch_and_channels():
    x = torch.arange(64 * 16.0).reshape(64, 16, 1, 1).expand(64, 16, 2, 2)
    chosen = of_activation(nn.ReLU(), x, None, 256).values[:, 0, 0].long()
    assert len(chosen.unique()) == 256
    assert (chosen % 16).bincount(minlength=16).min() >= 12 and (chosen // 16).bincount(minlength=64).min() >= 3


def test_signals_of_weights():
    assert of_weight(nn.Linear(12, 3), torch.zeros(3, 12), (3, 2, 2), 9).values.shape == (9, 2, 2)
    assert "does not fit" in of_weight(nn.Linear(12, 3), torch.zeros(3, 12), (3, 3), 9)
    assert "no ordered axis" in of_weight(nn.LayerNorm(4), torch.zeros(4), None, 9)
    assert "sparse" in of_weight(nn.Embedding(4, 4), torch.zeros(4, 4).to_sparse(), None, 9)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_summary_does_not_depend_on_scale(scale):
    x = torch.randn(10, 16, generator=seeded())
    value, rms = (scale * 0 + v for v in summaries([Signals(x * scale)], centre=True)[0].tolist())
    assert value == pytest.approx(float(summaries([Signals(x)], centre=True)[0, 0]), rel=1e-5)
    assert rms / scale == pytest.approx(float(summaries([Signals(x)], centre=True)[0, 1]), rel=1e-5)


@pytest.mark.parametrize("centre", [False, True])
def test_layers_are_summed_up_as_each_alone_and_by_power(centre):
    shapes = [(5, 8), (3, 4, 4), (5, 8), (1, 9), (3, 4, 4), (5, 8)]
    values = [torch.randn(shape, generator=seeded()) * (i + 1) for i, shape in enumerate(shapes)]
    found = summaries([Signals(x) for x in values], centre)
    for x, (mean, rms) in zip(values, found.tolist(), strict=True):
        grid = tuple(range(1, x.ndim))
        x = x - x.mean(grid, keepdim=True) if centre else x
        power = x.square().mean(grid)
        assert mean == pytest.approx(float((coherence(x, grid, centre) * power).sum() / power.sum()), rel=1e-5)
        assert rms == pytest.approx(float(power.mean().sqrt()), rel=1e-5)
    assert summaries([Signals(torch.zeros(2, 4))], centre).tolist() == [[1, 0]]


def test_picture(monkeypatch):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = Monitor(model, stride=2).attach(optimizer)
    assert len(monitor.plot().axes) == 3
    train(model, optimizer, 6)
    panels = monitor.plot().axes
    assert [panel.get_title() for panel in panels] == ["activations", "gradients", "weights"]
    assert [len(panel.lines) for panel in panels] == [3, 3, 3]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="plots"):
        monitor.plot()


def test_layers_by_pattern():
    model = nn.ModuleDict({"stem": nn.Conv2d(1, 1, 3), "head": nn.Sequential(nn.Linear(3, 3), nn.ReLU())})
    monitor = Monitor(model, layers=["head.*"])
    assert list(monitor._layers) == ["head.0", "head.1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride is 0"), ({"signals": 0}, "signals is 0"), ({"what": ["biases"]}, "activations"),
        ({"what": []}, "one or more"), ({"layers": "x*"}, "no layer is named 'x*'"),
        ({"layout": {"9": (2, 2)}}, r"name \['9'\]"), ({"model": nn.ReLU()}, "no convolution and no Linear"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(options, message):
    with pytest.raises(InvalidValueError, match=message.replace("*", r"\*")):
        Monitor(**{"model": network()} | options)


@pytest.mark.gpu
def test_on_cuda():
    found = []
    for device in ("cpu", "cuda"):
        model = network().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        monitor = Monitor(model, stride=1).attach(optimizer)
        model(torch.randn(5, 1, 8, 8, generator=seeded()).to(device)).square().mean().backward()
        optimizer.step()
        found.append([(e["layer"], e["what"], pytest.approx(e["coherence"], rel=1e-2)) for e in monitor.history()])
    assert [e[:2] for e in found[0]] == [e[:2] for e in found[1]]
    assert [e[2].expected for e in found[0]] == [e[2] for e in found[1]]
