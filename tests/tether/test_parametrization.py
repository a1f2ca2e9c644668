"""Tethers on all kinds of layers: outputs, gradients, state, and that they come and go without a trace."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.tether.parametrization import Tether, attach, detach, tethers


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


class Tied(nn.Module):
    """Embedding and head with one weight."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.inner(self.embedding(x)).tanh())


class SelfTied(nn.Module):
    """One parameter under two names of one module."""

    def __init__(self):
        super().__init__()
        self.there = nn.Parameter(torch.randn(4, 4))
        self.back = self.there

    def forward(self, x):
        return x @ self.there @ self.back


class Reused(nn.Module):
    """One module in two places."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([self.first, nn.ReLU(), self.first])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, x):
        return self.inner(x, x, x)[0]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner = kind(8, 6, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.inner(x)[0]


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3), nn.Flatten(), nn.Linear(128, 3)
    )


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


WORDS = torch.tensor([[0, 3, 6], [1, 1, 5]])
CASES = {
    "linear": (lambda: nn.Linear(4, 3), noise(5, 4)),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)), noise(5, 4)),
    "mlp": (mlp, noise(5, 4)),
    "convolutions": (convolutions, noise(3, 2, 8, 8)),
    "embedding bag": (lambda: nn.EmbeddingBag(7, 4), WORDS),
    "tied": (Tied, WORDS),
    "self-tied": (SelfTied, noise(5, 4)),
    "reused": (Reused, noise(5, 4)),
    "attention": (Attention, noise(2, 5, 8)),
    "attention of other widths": (lambda: Attention(kdim=8, vdim=8, bias=False, add_bias_kv=True), noise(2, 5, 8)),
    "encoder": (encoder, noise(2, 5, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), noise(2, 5, 8)),
    "gru": (lambda: Recurrent(nn.GRU), noise(2, 5, 8)),
    "rnn": (lambda: Recurrent(nn.RNN), noise(2, 5, 8)),
    "lstm cell": (lambda: nn.Sequential(nn.LSTMCell(4, 3), Take()), noise(5, 4)),
    "weight norm on another": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)), noise(5, 4),
    ),
    "parameter list": (lambda: Listed(), noise(5, 4)),
}  # fmt: skip


class Take(nn.Module):
    def forward(self, x):
        return x[0]


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([noise(4, 4, seed=i) for i in range(2)])

    def forward(self, x):
        for weight in self.weights:
            x = x @ weight
        return x


def built(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def multiplied(make, found):
    """The same model with each weight multiplied by hand."""
    model = built(make)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tether in found.items():
            parameters[name].mul_(tether)
    return model


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("training", [False, True])
def test_layers_compute_with_the_product(case, training):
    make, x = case
    model = built(make)
    found = attach(model, init="uniform", generator=generator())
    by_hand = multiplied(make, found)
    expected = by_hand.train(training)(x)
    torch.testing.assert_close(model.train(training)(x), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(expected, built(make).train(training)(x), atol=1e-3)
    with torch.no_grad():  # in eval mode transformers and attention take another path without gradients
        torch.testing.assert_close(model.eval()(x), by_hand.eval()(x), rtol=0, atol=2e-6)


def test_detached_is_the_plain_class_with_the_same_outputs(case):
    make, x = case
    model, plain = built(make).eval(), built(make, seed=1).eval()
    names = [name for name, _ in model.named_parameters()]
    attach(model, init="uniform", generator=generator())
    before = model(x)
    assert detach(model) is model and tethers(model) == {}
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-6)
    assert [name for name, _ in model.named_parameters()] == names  # optimisers know parameters by their order
    assert [type(m).__name__ for m in model.modules()] == [type(m).__name__ for m in plain.modules()]
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(x), before, rtol=0, atol=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_stay_bit_for_bit(case):
    make, x = case
    model, plain = built(make), built(make)
    attach(model, init="uniform", generator=generator())
    for _ in range(20):
        model(x).sum().backward()
    expected = sorted(p.flatten().tolist() for p in plain.parameters())
    assert sorted(p.flatten().tolist() for p in model.parameters()) == expected


def test_ones_change_nothing(case):
    make, x = case
    model = built(make).eval()
    before = model(x)
    attach(model)
    assert torch.equal(model(x), before)


def test_copies_are_independent(case):
    make, x = case
    model = built(make).eval()
    found = attach(model, init=0.5)
    before = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), before)
    for tether in tethers(twin).values():
        tether.zero_()
    assert torch.equal(model(x), before) and not torch.equal(twin(x), before)
    for tether in found.values():
        tether.mul_(2)
    torch.testing.assert_close(model(x), built(make).eval()(x), rtol=0, atol=1e-6)  # what attach gave back is live


def test_what_is_done_to_a_copy_is_not_done_to_its_original(case):
    make, x = case
    model = built(make).eval()
    attach(model, init=0.5)
    before = model(x)
    twin = detach(copy.deepcopy(model))
    torch.testing.assert_close(twin(x), before, rtol=0, atol=1e-6)
    assert torch.equal(model(x), before)
    again = copy.deepcopy(model)
    detach(model)
    assert torch.equal(again(x), before)


def test_tethers_on_a_copy_of_a_parametrized_model():
    model = nn.MultiheadAttention(4, 2, kdim=4, vdim=3, batch_first=True)
    parametrizations.spectral_norm(model, "q_proj_weight")
    twin = copy.deepcopy(model)
    assert list(attach(twin, init=0.5)) == ["k_proj_weight", "v_proj_weight", "out_proj.weight"]
    assert not parametrize.is_parametrized(model, "k_proj_weight") and model.k_proj_weight.is_leaf
    detach(twin)
    assert model.eval()(noise(1, 2, 4), noise(1, 2, 4), noise(1, 2, 3))[0].isfinite().all()


def test_tied_weights_have_one_tether_and_stay_tied():
    for layers in (None, ["embedding"], ["head"], ["head.weight"], ["embedding", "head"]):
        model = Tied()
        found = attach(model, init=0.5, layers=layers)
        assert "embedding.weight" in found and "head.weight" not in found
        tether = model.head.parametrizations.weight[0]
        assert tether is model.embedding.parametrizations.weight[0]
        expected = model.embedding.parametrizations.weight.original.detach() * 0.5
        detach(model)
        assert model.head.weight is model.embedding.weight and torch.equal(model.head.weight, expected)


def test_tethers_by_the_second_name_of_a_tied_weight():
    model = Tied()
    attach(model, init={"head.weight": torch.full((7, 4), 2.0)}, layers=["embedding"])
    assert tethers(model)["embedding.weight"].eq(2).all()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, ["0.weight", "3.weight"]),
        (["3"], ["3.weight"]),
        ("3", ["3.weight"]),
        (["*.weight"], ["0.weight", "3.weight"]),
        (["3", "0.weight", "0"], ["0.weight", "3.weight"]),
        (["1.weight"], ["1.weight"]),  # a vector, by its full name
        (lambda name, weight: weight.ndim == 1 and name.startswith("3"), ["3.bias"]),
    ],
)
def test_choice_of_weights(layers, expected):
    assert list(attach(mlp(), layers=layers)) == expected


def test_names_may_hold_wildcards_themselves():
    model = nn.ModuleDict({"a[0]": nn.Linear(2, 2), "a0": nn.Linear(2, 2)})
    assert list(attach(copy.deepcopy(model), layers=["a[0].weight"])) == ["a[0].weight"]
    assert "a[0].weight" in attach(model, layers=["a[0]"])


def snapshot(model):
    return (
        {name: (id(p), p.tolist()) for name, p in model.named_parameters(remove_duplicate=False)},
        list(model.state_dict()), [type(m) for m in model.modules()], repr(model),
    )  # fmt: skip


def last_only(bad):
    return lambda name, weight: bad(weight) if name.startswith("3") else torch.ones_like(weight)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"init": last_only(lambda w: torch.ones(2, 2))}, InvalidValueError),
        ({"init": last_only(lambda w: w * float("nan"))}, InvalidValueError),
        ({"init": last_only(lambda w: w + 1j)}, InvalidDTypeError),
        ({"init": last_only(lambda w: "ones")}, InvalidDTypeError),
        ({"init": last_only(lambda w: w[9, 9])}, IndexError),
        ({"init": {"0.weight": torch.ones(6, 4)}}, InvalidValueError),
        ({"init": "zeros"}, InvalidValueError),
        ({"init": float("inf")}, InvalidValueError),
        ({"init": None}, InvalidDTypeError),
        ({"init": torch.ones(2)}, InvalidValueError),
        ({"layers": []}, InvalidValueError),
        ({"layers": ["0", "missing"]}, InvalidValueError),
        ({"layers": lambda name, weight: False}, InvalidValueError),
        ({"theta": lambda w, t: (w * t).double() if len(w) == 3 else w * t}, InvalidValueError),
        ({"theta": lambda w, t: (w * t)[:, :2] if len(w) == 3 else w * t}, InvalidValueError),
        ({"theta": lambda w, t: w * t if len(w) != 3 else w @ t}, RuntimeError),
        ({"theta": torch.Tensor.mul_, "init": 0.5}, InvalidValueError),
        ({"theta": lambda w, t: t.mul_(w)}, InvalidValueError),
        ({"theta": lambda w, t: None}, InvalidDTypeError),
    ],
)
def test_a_failed_attach_leaves_the_model_as_it_was(options, error):
    model = mlp()
    before = snapshot(model)
    with pytest.raises(error):
        attach(model, **options)
    assert snapshot(model) == before
    attach(model)
    assert len(tethers(model)) == 2


def test_what_cannot_be_registered_is_rolled_back():
    class Stubborn(nn.Linear):
        def __delattr__(self, name):
            raise RuntimeError("no")

    model = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2), Stubborn(2, 2))
    before = snapshot(model[:2])
    with pytest.raises(RuntimeError, match="no"):
        attach(model, init=0.5)
    assert snapshot(model[:2]) == before and tethers(model) == {}
    assert not any(module._forward_hooks for module in model.modules())


def test_tethers_twice_are_refused():
    model = mlp()
    attach(model, layers=["0"])
    with pytest.raises(InvalidStateError, match=r"0\.weight"):
        attach(model, layers=["3"])
    assert list(tethers(model)) == ["0.weight"]


def test_other_parametrizations_are_left_alone():
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 4)).eval()
    plain = copy.deepcopy(model)
    assert list(attach(model, init=0.5)) == ["1.weight"]
    torch.testing.assert_close(model(noise(2, 4)), (plain(noise(2, 4)) - plain[1].bias) / 2 + plain[1].bias)
    detach(model)
    assert parametrize.is_parametrized(model[0], "weight") and list(model.state_dict()) == list(plain.state_dict())
    with pytest.raises(InvalidValueError):
        attach(model, layers=["0"])


def test_a_parametrization_on_top_of_a_tether_is_no_reason_for_half_a_detach():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    attach(model, init=0.5)
    parametrizations.spectral_norm(model[1])
    with pytest.raises(InvalidStateError, match="other parametrizations"):
        detach(model)
    assert list(tethers(model)) == ["0.weight", "1.weight"]


def test_lazy_weights_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    with pytest.raises(InvalidStateError, match="call the model once"):
        attach(model)
    model(noise(2, 4))
    assert len(attach(model)) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_that_of_the_weight(dtype):
    model = nn.Linear(4, 3).to(dtype)
    found = attach(model, init=lambda name, weight: torch.full((3, 4), 0.5, dtype=torch.float64))
    assert found["weight"].dtype == dtype and model(noise(2, 4).to(dtype)).dtype == dtype
    with pytest.raises(InvalidValueError, match="finite"):
        attach(nn.Linear(2, 2).half(), init=1e6)


def test_on_meta_and_loaded_later():
    model = nn.Sequential(nn.Linear(4, 3, device="meta"))
    attach(model, init="uniform", generator=generator())
    assert tethers(model)["0.weight"].is_meta
    real = nn.Sequential(nn.Linear(4, 3))
    attach(real, init=0.3)
    model.load_state_dict(real.state_dict(), assign=True)
    assert torch.equal(model(noise(2, 4)), real(noise(2, 4)))
    detach(model)
    assert torch.equal(model[0].weight, detach(real)[0].weight)


@pytest.mark.parametrize("trainable", [False, True])
def test_frozen_weights_stay_frozen(trainable):
    model = mlp().requires_grad_(False)
    attach(model, init=0.5, trainable=trainable)
    assert [name.split(".")[-1] for name, p in model.named_parameters() if p.requires_grad] == (
        ["tether", "tether"] if trainable else []
    )
    detach(model)
    assert not any(p.requires_grad for p in model.parameters())


def test_integer_and_complex_parameters_are_no_weights():
    model = nn.Module()
    model.counts = nn.Parameter(torch.ones(2, 2, dtype=torch.long), requires_grad=False)
    model.phases = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    with pytest.raises(InvalidValueError, match="none"):
        attach(model)


@pytest.mark.parametrize("make", [mlp, Tied, encoder])
def test_state_dict_round_trip(make, tmp_path):
    x = next(x for m, x in CASES.values() if m is make)
    model, other = built(make).eval(), built(make, seed=1).eval()
    attach(model, init="uniform", generator=generator())
    attach(other)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    third = built(make, seed=2).eval()
    attach(third)
    save_model(model, tmp_path / "whole.safetensors")  # names one of the tied
    load_model(third, tmp_path / "whole.safetensors")
    assert torch.equal(third(x), model(x))
    for tether in tethers(model).values():
        tether.mul_(2)
    save_file({n: t.clone() for n, t in model.state_dict().items()}, tmp_path / "state.safetensors")
    third.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(third(x), model(x)) and not torch.equal(other(x), model(x))


@pytest.mark.parametrize("trainable", [False, True])
def test_training_moves_tethers_only_where_asked(trainable):
    model = mlp()
    found = attach(model, init=0.7, trainable=trainable)
    before = {name: tether.detach().clone() for name, tether in found.items()}
    weight = model[0].parametrizations.weight.original.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(noise(8, 4)).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(before[name], tether) != trainable for name, tether in tethers(model).items())
    assert not torch.equal(weight, model[0].parametrizations.weight.original)


def test_gradients():
    tether = Tether(noise(3, 2, dtype=torch.float64), trainable=True)

    def output(weight, values, x):
        return torch.func.functional_call(tether, {"tether": values}, (weight,)) @ x

    operands = [noise(*shape, seed=i, dtype=torch.float64) for i, shape in enumerate([(3, 2), (3, 2), (2, 4)])]
    assert torch.autograd.gradcheck(output, [x.requires_grad_() for x in operands])


def test_gradient_of_a_weight_is_the_tether_times_that_of_the_effective_one():
    model, x = nn.Linear(3, 2).double(), noise(4, 3, dtype=torch.float64)
    values = noise(2, 3, seed=1, dtype=torch.float64)
    attach(model, init={"weight": values}, trainable=True)
    model(x).square().sum().backward()
    plain = detach(copy.deepcopy(model))
    plain.zero_grad()
    plain(x).square().sum().backward()
    parametrized = model.parametrizations.weight
    torch.testing.assert_close(parametrized.original.grad, values * plain.weight.grad)
    torch.testing.assert_close(parametrized[0].tether.grad, parametrized.original.detach() * plain.weight.grad)


def test_theta_is_replaceable():
    model = nn.Linear(3, 2, bias=False)
    weight = model.weight.detach().clone()
    attach(model, init=0.25, theta=lambda w, t: w + t)
    torch.testing.assert_close(model(torch.eye(3)), (weight + 0.25).T)
    torch.testing.assert_close(detach(model).weight.detach(), weight + 0.25)


def test_autocast():
    model = mlp()
    attach(model, init="uniform", generator=generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(noise(8, 4))
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert model[0].parametrizations.weight.original.grad.dtype == torch.float32
    torch.testing.assert_close(found.float(), model(noise(8, 4)), rtol=0.1, atol=0.05)


def test_export():
    model = convolutions().eval()
    attach(model, init="uniform", generator=generator())
    x = noise(3, 2, 8, 8)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))
    assert sum(name.endswith("tether") for name in exported.state_dict) == 3


SLOW = [pytest.param(backend, marks=pytest.mark.slow) for backend in ("aot_eager", "inductor")]


@pytest.mark.parametrize("backend", ["eager", *SLOW])
def test_compile(backend):
    model, x = Tied(), WORDS
    found = attach(model, init="uniform", generator=generator())
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    found["embedding.weight"].mul_(0.5)  # tethers are inputs of the graph, no constants
    torch.testing.assert_close(compiled(x), model(x))


def test_uniform_is_uniform_and_drawn_by_the_generator():
    first, second = (attach(nn.Linear(200, 300), init="uniform", generator=generator(3))["weight"] for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() >= 0 and first.max() <= 1
    assert first.mean() == pytest.approx(0.5, abs=0.01) and first.var() == pytest.approx(1 / 12, abs=0.002)


def test_tensors_that_are_given_are_not_kept():
    given = torch.full((3, 4), 0.5)
    model = nn.Linear(4, 3)
    attach(model, init={"weight": given})
    given.zero_()
    assert tethers(model)["weight"].eq(0.5).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20), st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6))
def test_bake_is_the_product(seed, values):
    model = nn.Linear(3, 2)
    weight = noise(2, 3, seed=seed)
    model.weight.data.copy_(weight)
    tether = torch.tensor(values).view(2, 3)
    attach(model, init=lambda name, w: tether)
    assert torch.equal(model.weight, weight * tether)
    assert torch.equal(detach(model).weight, weight * tether)


def test_detach_of_a_plain_model_does_nothing():
    model = mlp()
    before = snapshot(model)
    assert detach(model) is model and snapshot(model) == before
