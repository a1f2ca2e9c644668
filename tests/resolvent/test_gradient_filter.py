"""One contract for the filter on every optimiser of torch, and what it filters, keeps and refuses."""

import copy
import math

import pytest
import torch
from torch import nn

from tithe.errors import InvalidStateError, InvalidValueError
from tithe.resolvent import GradientFilter, apply

SKIPPED = {
    "SparseAdam": "takes sparse gradients only, and these have no axes to filter",
    "Muon": "takes matrices only; see test_muon",
}
OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)
each = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in SKIPPED])


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten(),
            nn.Linear(50, 4),
        ).double()  # fmt: skip


def backward(model, seed=0):
    model.zero_grad()
    loss = model(noise(6, 2, 7, 7, seed=seed)).square().mean()
    loss.backward()
    return loss


def make(name, parameters, **options):
    return getattr(torch.optim, name)(parameters, **({} if name in ("Adafactor", "LBFGS") else {"lr": 0.01}) | options)


def closed(model, optimizer):
    """A step by a closure, which all optimisers take and LBFGS needs."""
    optimizer.step(lambda: backward(model))


def by_hand(gradient, dims=(2, 3), power=1.0):
    """What the filter should make of a gradient: the operator, then the norm that it had."""
    new = apply(gradient, dims, power=power)
    return new * gradient.norm() / new.norm()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def alike(a, b):
    return all(torch.allclose(a[name], b[name], rtol=1e-9, atol=1e-12) for name in a)


def same_weights(model, other):
    return alike(weights(model), weights(other))


def test_every_optimizer_is_in_the_contract():
    assert set(SKIPPED) <= {*OPTIMIZERS, "Muon"} and {"SGD", "AdamW", "LBFGS"} <= set(OPTIMIZERS)


@each
@pytest.mark.parametrize("power", [1.0, -1.0])
def test_a_step_is_that_of_the_optimizer_on_filtered_gradients(name, power):
    plain, filtered, expected = network(), network(), network()
    plain_step, step, reference = (make(name, m.parameters()) for m in (plain, filtered, expected))
    GradientFilter(step, power=power)

    def changed():
        loss = backward(expected)
        with torch.no_grad():
            expected[0].weight.grad.copy_(by_hand(expected[0].weight.grad, power=power))
        return loss

    for _ in range(2):
        closed(plain, plain_step)
        closed(filtered, step)
        reference.step(changed)
        assert same_weights(filtered, expected)
    assert not torch.allclose(filtered[0].weight, plain[0].weight, rtol=1e-6)


@each
def test_one_step_changes_nothing_but_kernels(name):
    if name == "LBFGS":
        pytest.skip("its direction is one of all parameters together")
    plain, filtered = network(), network()
    optimizer = make(name, filtered.parameters())
    assert "filtered=1 of 7 parameters" in repr(GradientFilter(optimizer, power=-1))
    closed(plain, make(name, plain.parameters()))
    closed(filtered, optimizer)
    before, after = weights(plain), weights(filtered)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"0.weight"}  # the other convolution has kernels of one point


@each
def test_with_and_without_a_closure(name):
    if name == "LBFGS":
        pytest.skip("works by closures only")
    by_closure, by_keyword, plain = network(), network(), network()
    for model, call in [(by_closure, 0), (by_keyword, 1), (plain, 2)]:
        optimizer = make(name, model.parameters())
        GradientFilter(optimizer, power=1)
        if call == 0:
            loss = optimizer.step(lambda m=model: backward(m))
        elif call == 1:
            assert optimizer.step(closure=lambda m=model: backward(m)) == loss > 0
        else:
            backward(model)
            assert optimizer.step() is None
    assert same_weights(by_closure, by_keyword) and same_weights(by_closure, plain)


@each
def test_removing_leaves_nothing_behind(name):
    plain, filtered = network(), network()
    optimizer = make(name, filtered.parameters())
    GradientFilter(optimizer, power=1).remove()
    closed(plain, make(name, plain.parameters()))
    closed(filtered, optimizer)
    assert same_weights(plain, filtered) and not optimizer._optimizer_step_pre_hooks


@each
def test_the_state_of_the_optimizer_goes_on_as_without(name):
    whole, parts = network(), network()
    one = make(name, whole.parameters())
    GradientFilter(one, power=-1)
    for _ in range(3):
        closed(whole, one)
    first = make(name, parts.parameters())
    GradientFilter(first, power=-1)
    closed(parts, first)
    saved = copy.deepcopy(first.state_dict())
    later = make(name, parts.parameters())
    later.load_state_dict(saved)
    GradientFilter(later, power=-1)
    for _ in range(2):
        closed(parts, later)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # NAdam keeps a product in float32, and loads it wider


def having(option):
    return [
        name for name in OPTIMIZERS if name not in SKIPPED and option in make(name, network().parameters()).defaults
    ]


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for option in ("foreach", "fused") for name in having(option)]
)
def test_foreach_and_fused(name, option):
    models = [network(), network()]
    for model, value in zip(models, (False, True), strict=True):
        try:
            optimizer = make(name, model.parameters(), **{option: value})
        except RuntimeError as error:
            pytest.skip(str(error))
        GradientFilter(optimizer, power=1)
        for seed in range(2):
            backward(model, seed)
            optimizer.step()
    assert same_weights(*models)
    plain = network()
    optimizer = make(name, plain.parameters(), **{option: True})
    for seed in range(2):
        backward(plain, seed)
        optimizer.step()
    assert not torch.allclose(plain[0].weight, models[0][0].weight, rtol=1e-6)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon():
    layer = nn.Linear(16, 3, bias=False)
    optimizer = torch.optim.Muon(layer.parameters(), lr=0.01)
    GradientFilter(optimizer, power=1, layout={"weight": (4, 4)}, model=layer)
    layer(torch.randn(2, 16, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    expected = by_hand(layer.weight.grad.reshape(3, 4, 4), (1, 2)).reshape(3, 16)
    optimizer.step()
    torch.testing.assert_close(layer.weight.grad, expected)


def test_norms_are_kept_each_for_itself():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 5), nn.Conv1d(2, 2, 3), nn.Conv2d(1, 1, 9)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [noise(*p.shape, seed=seed) * 10.0 ** (3 * seed - 12) for seed, p in enumerate(model.parameters())]
    for power in (1.0, -1.0, 0.3):
        for p, old in zip(model.parameters(), before, strict=True):
            p.grad = old.clone()
        GradientFilter(optimizer, power=power, model=model).filter()
        for p, old in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(p.grad.norm(), old.norm())
            assert p.ndim == 1 or not torch.allclose(p.grad, old, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.Conv1d, (4, 2, 5)), (nn.Conv2d, (4, 2, 3)), (nn.Conv3d, (4, 2, 3)), (nn.Conv2d, (4, 2, (1, 5))),
        (nn.Conv2d, (4, 2, 9)), (nn.Conv3d, (2, 2, 5)),  # more points than a matrix is made for
        (nn.ConvTranspose2d, (4, 2, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("power", [1.0, -1.0])
def test_kernels_are_filtered_along_their_axes(kind, shape, groups, power):
    layer = kind(*shape, groups=groups).double()
    layer.weight.grad, layer.bias.grad = noise(*layer.weight.shape), noise(*layer.bias.shape)
    old = layer.weight.grad.clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    GradientFilter(optimizer, power=power, model=layer).filter()
    expected = by_hand(old, tuple(range(2, old.ndim)), power)
    torch.testing.assert_close(layer.weight.grad, expected)
    torch.testing.assert_close(layer.bias.grad, noise(*layer.bias.shape), rtol=0, atol=0)
    layer.weight.grad = old.clone()
    GradientFilter(optimizer, power=power).filter()  # without the model, one-dimensional kernels are not known as such
    torch.testing.assert_close(layer.weight.grad, old if kind is nn.Conv1d else expected)


def test_many_at_once_as_on_a_gpu():
    model = nn.Sequential(nn.Conv2d(2, 3, 5), nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 5)).double()
    filtered = GradientFilter(torch.optim.SGD(model.parameters(), lr=0.1), power=-1)
    gradients = [noise(*layer.weight.shape) for layer in model]
    filtered._replace(gradients, (5, 5))
    for layer, gradient in zip(model, gradients, strict=True):
        torch.testing.assert_close(gradient, by_hand(noise(*layer.weight.shape), power=-1.0))


def test_depthwise():
    layer = nn.Conv2d(4, 4, 3, groups=4).double()
    layer.weight.grad = noise(4, 1, 3, 3)
    GradientFilter(torch.optim.SGD(layer.parameters(), lr=0.1), power=1).filter()
    torch.testing.assert_close(layer.weight.grad, by_hand(noise(4, 1, 3, 3)))


@pytest.mark.parametrize(
    ("shape", "dims"), [((4, 6), (1, 2)), ((2, 4, 3), (2, 3)), ((24,), (1,)), ((1, 24), (1, 2)), ((2, 3, 4), (2, 3))]
)
def test_layout_says_how_the_inputs_of_a_linear_lie(shape, dims):
    model = nn.Sequential(nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    filtered = GradientFilter(optimizer, power=-1, layout={"0.weight": shape}, model=model)
    assert "filtered=1 of 4" in repr(filtered)
    for p in model.parameters():
        p.grad = noise(*p.shape)
    filtered.filter()
    expected = by_hand(noise(5, 24).reshape(5, *shape), dims, -1.0).reshape(5, 24)
    torch.testing.assert_close(model[0].weight.grad, expected)
    for p in list(model.parameters())[1:]:
        assert torch.equal(p.grad, noise(*p.shape))


def test_hidden_units_are_refused():
    model = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InvalidValueError, match=r"'2\.weight' are the outputs of '0': hidden units have no order"):
        GradientFilter(optimizer, power=1, layout={"2.weight": (4, 4)}, model=model)
    assert not optimizer._optimizer_step_pre_hooks
    GradientFilter(optimizer, power=1, layout={"2.weight": (4, 4)}, model=model, force=True)
    convolved = nn.Sequential(
        nn.Linear(9, 9), nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(9, 2)
    )
    GradientFilter(
        torch.optim.SGD(convolved.parameters(), lr=0.1), power=1, layout={"4.weight": (3, 3)}, model=convolved
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": {"0.weight": (3, 3)}, "model": None}, "pass model="),
        ({"layout": {"1.weight": (3, 3)}}, "layout names '1.weight'; the model's parameters are 0.weight"),
        ({"layout": {"0.weight": (3, 4)}}, r"shape \(3, 4\), which is 12 of them"),
        ({"layout": {"0.weight": (-3, -3)}}, "name the weight"),
        ({"layout": {"0.weight": ()}}, "name the weight"),
        ({"layout": {"0.weight": (1, 1, 3, 3)}}, r"\(channels, H, W\)"),
        ({"layout": {"0.bias": (4, 4)}}, "name the weight"),
        ({"power": math.nan}, "power is nan"),
        ({"phi": -1.0}, "phi is -1"),
    ],
)
def test_what_cannot_be_used_is_named(options, message):
    model = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InvalidValueError, match=message):
        GradientFilter(optimizer, **{"power": 1.0, "model": model} | options)
    assert not optimizer._optimizer_step_pre_hooks
    with pytest.raises(TypeError, match="power"):
        GradientFilter(optimizer)


def test_parameters_that_change_their_dtype_are_filtered_as_before():
    layer = nn.Conv2d(2, 3, 3)
    filtered = GradientFilter(torch.optim.SGD(layer.parameters(), lr=0.1), power=-1)
    found = []
    for dtype in (torch.float32, torch.float64):
        layer.to(dtype).weight.grad = torch.arange(54, dtype=dtype).reshape(3, 2, 3, 3).cos()
        filtered.filter()
        found.append(layer.weight.grad)
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[1], torch.arange(54, dtype=dtype).reshape(3, 2, 3, 3).cos())


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 9, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    filtered = GradientFilter(optimizer, power=1, layout={"weight": (3, 3)}, model=table)
    before = table.weight.detach().clone()
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(InvalidValueError, match="sparse gradient"):
        optimizer.step()
    assert torch.equal(table.weight, before)
    filtered.remove()
    GradientFilter(optimizer, power=1)  # not asked to filter it, it lets it pass
    optimizer.step()
    assert not torch.equal(table.weight, before)


def test_missing_and_zero_gradients():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    filtered = GradientFilter(optimizer, power=1)
    optimizer.step()
    filtered.filter()
    assert all(p.grad is None for p in model.parameters())
    model[0].weight.grad = torch.zeros_like(model[0].weight)
    optimizer.step()
    assert torch.equal(model[0].weight.grad, torch.zeros_like(model[0].weight))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_other_dtypes(dtype):
    layer = nn.Conv2d(2, 3, 3, dtype=dtype)
    real = noise(2, *layer.weight.shape) * 10_000  # whitened, these leave float16
    layer.weight.grad = (torch.complex(*real) if dtype.is_complex else real[0]).to(dtype)
    wide = layer.weight.grad.to(torch.complex128 if dtype.is_complex else torch.float64)
    GradientFilter(torch.optim.SGD(layer.parameters(), lr=0.1), power=-1).filter()
    parts = [apply(part, (2, 3), power=-1) for part in (wide.real, wide.imag if dtype.is_complex else 0 * wide)]
    new = torch.complex(*parts) if dtype.is_complex else parts[0]
    found = layer.weight.grad
    assert found.dtype == dtype and found.isfinite().all()
    torch.testing.assert_close(found.to(new.dtype), new * wide.norm() / new.norm(), rtol=0.02, atol=100.0)


def test_channels_last():
    layer = nn.Conv2d(4, 3, 3).double().to(memory_format=torch.channels_last)
    layer.weight.grad = noise(3, 4, 3, 3).to(memory_format=torch.channels_last)
    GradientFilter(torch.optim.SGD(layer.parameters(), lr=0.1), power=1).filter()
    torch.testing.assert_close(layer.weight.grad, by_hand(noise(3, 4, 3, 3)))
    assert layer.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_parametrized_kernels():
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv1d(2, 3, 5)).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    filtered = GradientFilter(optimizer, power=1, model=layer)
    original = layer.parametrizations.weight.original
    original.grad = noise(3, 2, 5)
    filtered.filter()
    torch.testing.assert_close(original.grad, by_hand(noise(3, 2, 5), (2,)))


def test_parameters_that_are_added_later():
    model = network()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    filtered = GradientFilter(optimizer, power=1)
    added = nn.Conv2d(1, 1, 3).double()
    optimizer.add_param_group({"params": added.parameters()})
    added.weight.grad = noise(1, 1, 3, 3)
    filtered.filter()
    torch.testing.assert_close(added.weight.grad, by_hand(noise(1, 1, 3, 3)))


def test_gradient_scaler():
    """A scaled loss gives the same step, unscaled or fused, and a step that overflows is skipped."""
    for options in ({}, {"fused": True}):
        plain, scaled = network().float(), network().float()
        optimizers = [torch.optim.AdamW(m.parameters(), lr=0.01, **options) for m in (plain, scaled)]
        for optimizer in optimizers:
            GradientFilter(optimizer, power=-1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        x = noise(6, 2, 7, 7, dtype=torch.float32)
        for _ in range(2):
            for model, optimizer in zip((plain, scaled), optimizers, strict=True):
                model.zero_grad()
                loss = model(x).square().mean()
                if model is plain:
                    loss.backward()
                    optimizer.step()
                else:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
        before = weights(scaled)
        assert all(torch.allclose(before[n], p, rtol=1e-4, atol=1e-6) for n, p in plain.named_parameters())
        scaled.zero_grad()
        scaler.scale(scaled(x * math.inf).square().mean()).backward()
        scaler.step(optimizers[1])
        scaler.update()
        assert alike(before, weights(scaled))


def test_clipping_and_schedules_work_as_before():
    filtered, expected = network(), network()
    optimizers = [torch.optim.SGD(m.parameters(), lr=1.0, momentum=0.9) for m in (filtered, expected)]
    GradientFilter(optimizers[0], power=1)
    schedules = [torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.1) for o in optimizers]
    for seed in range(3):
        for model, optimizer, schedule in zip((filtered, expected), optimizers, schedules, strict=True):
            backward(model, seed)
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            assert norm > 0.01
            if model is expected:
                model[0].weight.grad.copy_(by_hand(model[0].weight.grad))
            optimizer.step()
            total = nn.utils.get_total_norm([p.grad for p in model.parameters()])
            assert float(total) == pytest.approx(0.01, rel=1e-3)
            schedule.step()
    assert same_weights(filtered, expected)
    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)


def test_state_dict_round_trip():
    def fresh(power, phi=1.0, layout=(3, 3)):
        model = nn.Linear(9, 2).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.weight.grad = noise(2, 9)
        return model, GradientFilter(optimizer, power=power, phi=phi, layout={"weight": layout}, model=model)

    model, one = fresh(-1.0, 3.0)
    other_model, other = fresh(1.0)
    other.filter()  # its matrix is made
    other_model.weight.grad = noise(2, 9)
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict() == {"power": -1.0, "phi": 3.0, "layout": {"weight": [3, 3]}}
    one.filter()
    other.filter()
    assert torch.equal(model.weight.grad, other_model.weight.grad)
    with pytest.raises(InvalidValueError, match="make it alike"):
        fresh(1.0, layout=(9,))[1].load_state_dict(one.state_dict())


def test_removed_twice():
    filtered = GradientFilter(torch.optim.SGD(network().parameters(), lr=0.1), power=1)
    filtered.remove()
    with pytest.raises(InvalidStateError, match="removed before"):
        filtered.remove()


def test_an_optimizer_of_ones_own():
    class Signs(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(p.grad.sign())

    model = network()
    optimizer = Signs(model.parameters())
    GradientFilter(optimizer, power=-1)
    backward(model)
    before, gradient = model[0].weight.detach().clone(), model[0].weight.grad.clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before - by_hand(gradient, power=-1.0).sign())


@pytest.mark.gpu
def test_on_cuda():
    for options in ({}, {"foreach": True}, {"fused": True}):
        models = [network().float(), network().float().cuda()]
        for model in models:
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, **options)
            GradientFilter(optimizer, power=-1)
            model(noise(6, 2, 7, 7).float().to(model[0].weight.device)).square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(models[0][0].weight.grad, models[1][0].weight.grad.cpu(), rtol=1e-3, atol=1e-5)
