"""Converted models: right where they are quick, plain bit for bit elsewhere, and plain again when asked for."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Tied, a_way, convert_all, layers_of, model_and_inputs, ways_for
from torch import Tensor, nn
from torch.nn import functional

import tithe
from tithe.calibration import halves, outputs, shift
from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.product.conversion.files import load_converted, save_converted
from tithe.product.conversion.judging import error_bound
from tithe.product.conversion.layers import attach, converted_layers
from tithe.product.conversion.rows import as_output, as_rows, count_rows, matrix
from tithe.product.conversion.ways import LowRank

KINDS = ("mlp", "block", "encoder")
every_kind = pytest.mark.parametrize("kind", KINDS)


def run(model: nn.Module, inputs: Any) -> Tensor:
    with torch.inference_mode():
        return outputs(model, inputs)


def relative(changed: Tensor, plain: Tensor) -> float:
    return float((changed - plain).norm() / plain.norm())


@every_kind
def test_the_report_is_of_the_model_as_it_is_now(kind: str) -> None:
    model, inputs = model_and_inputs(kind)
    state = {name: x.clone() for name, x in model.state_dict().items()}
    plain = outputs_of_checks(model, inputs)
    names = list(layers_of(model))
    report = tithe.convert(model, inputs, tol=0.1)
    assert sorted(layer.name for layer in report.layers) == sorted(names)
    converted = converted_layers(model)
    for layer in report.layers:
        module = model.get_submodule(layer.name)
        assert (layer.way != "plain") == (layer.name in converted)
        assert layer.kind == ("Conv2d" if isinstance(module, nn.Conv2d) else "Linear")
        assert (layer.outputs, layer.inputs) == matrix(module).shape and min(layer.seconds) > 0
        if layer.name in converted:
            assert layer.way == module.conversion.way.name and layer.bound.scope == "calibration"
            assert 0 < layer.bound.estimate <= layer.bound.upper <= 0.1 and 1 <= layer.least <= layer.rows
        else:
            assert layer.tried and layer.bound.upper == 0 and layer.seconds[0] == layer.seconds[1]
            assert all(attempt.reason in str(report) for attempt in layer.tried)
    assert report.bound == shift(plain, outputs_of_checks(model, inputs))
    assert json.loads(json.dumps(report.to_dict()))["receipt"] == json.loads(json.dumps(report.receipt.to_dict()))
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


def outputs_of_checks(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return outputs(model, halves(inputs)[1])


def test_no_layer_is_converted_for_a_tolerance_that_none_keeps() -> None:
    model, inputs = model_and_inputs("mlp")
    before = run(model, inputs)
    report = tithe.convert(model, inputs, tol=1e-9)
    assert [layer.way for layer in report.layers] == ["plain"] * 3 and not converted_layers(model)
    assert "is above tol" in str(report) and report.bound.upper == 0
    assert torch.equal(run(model, inputs), before)


def test_layers_are_named_or_given_as_patterns() -> None:
    model, inputs = model_and_inputs("encoder")
    report = tithe.convert(model, inputs, tol=0.1, layers=["encoder.layer.0.*", "pooler.dense"])
    first = [name for name in layers_of(model) | converted_layers(model) if name.startswith("encoder.layer.0.")]
    assert sorted(layer.name for layer in report.layers) == sorted([*first, "pooler.dense"]) and len(first) == 6
    model, inputs = model_and_inputs("mlp")
    assert [layer.name for layer in tithe.convert(model, inputs, tol=0.1, layers="2").layers] == ["2"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"tol": True}, InvalidDTypeError, "tol is a bool"),
        ({"tol": "1%"}, InvalidDTypeError, "tol is a str"),
        ({"tol": 0.0}, InvalidValueError, "above 0"),
        ({"tol": float("nan")}, InvalidValueError, "finite"),
        ({"layers": "9"}, InvalidValueError, "there are 0, 2, 4"),
        ({"inputs": torch.zeros(1, 48)}, InvalidValueError, "1 sample"),
        ({"inputs": [torch.zeros(4, 48)]}, InvalidDTypeError, "list"),
        ({"model": nn.ReLU()}, InvalidValueError, "calls no"),
    ],
)
def test_arguments_that_cannot_be_used(change: dict[str, Any], error: type[Exception], words: str) -> None:
    model, inputs = model_and_inputs("mlp")
    given: dict[str, Any] = {"model": model, "inputs": inputs, "tol": 0.1, **change}
    with pytest.raises(error, match=words):
        tithe.convert(given.pop("model"), given.pop("inputs"), given.pop("tol"), **given)
    assert not converted_layers(model)


def test_a_converted_model_is_not_converted_again() -> None:
    model, inputs = model_and_inputs("mlp")
    convert_all(model, inputs)
    with pytest.raises(InvalidStateError, match="restore"):
        tithe.convert(model, inputs, tol=0.1)
    assert len(converted_layers(model)) == 3


class Odd(nn.Module):
    """Layers that are called by keyword, given nothing, and never called."""

    def __init__(self) -> None:
        super().__init__()
        self.named, self.empty, self.idle = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.named(input=x)
        self.empty(y[:0])
        return y


def test_layers_that_are_called_in_odd_ways_and_numbers_that_are_not_finite() -> None:
    model = Odd()
    report = tithe.convert(model, torch.randn(16, 6), tol=0.1)
    named, empty = report.layers
    assert (named.name, empty.name, empty.way) == ("named", "empty", "plain") and "no rows" in empty.tried[0].reason
    tithe.restore(model)
    (only,) = tithe.convert(model, torch.full((8, 6), torch.nan), tol=0.1, layers="named").layers
    assert only.way == "plain" and "finite" in only.tried[0].reason
    (half,) = tithe.convert(nn.Linear(6, 6).half(), torch.randn(8, 6).half(), tol=0.1).layers
    assert half.way == "plain" and "float16" in half.tried[0].reason


@every_kind
def test_restored_models_are_plain_bit_for_bit(kind: str) -> None:
    model, inputs = model_and_inputs(kind)
    plain, parameters = copy.deepcopy(model), dict(model.named_parameters())
    convert_all(model, inputs)
    assert len(converted_layers(model)) == len(layers_of(plain))
    assert not torch.equal(run(model, inputs), run(plain, inputs))
    assert relative(run(model, inputs), run(plain, inputs)) < 0.1
    assert tithe.restore(model) is model
    assert all(x is parameters[name] for name, x in model.named_parameters())
    for (name, now), then in zip(model.named_modules(), plain.modules(), strict=True):
        assert type(now) is type(then) and now.__dict__.keys() == then.__dict__.keys(), name
    assert str(model) == str(plain) and torch.equal(run(model, inputs), run(plain, inputs))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_stay_converted_and_lead_their_own_lives(copied: Callable[[nn.Module], nn.Module]) -> None:
    model, inputs = model_and_inputs("block")
    plain = copy.deepcopy(model)
    before = run(convert_all(model, inputs), inputs)
    other = copied(model)
    assert converted_layers(other).keys() == converted_layers(model).keys()
    assert torch.equal(run(other, inputs), before)
    tithe.restore(other)
    assert torch.equal(run(other, inputs), run(plain, inputs)) and torch.equal(run(model, inputs), before)


def test_compiled_models_run_converted_layers() -> None:
    model, inputs = model_and_inputs("mlp")
    expected = run(convert_all(model, inputs), inputs)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(run(compiled, inputs), expected)
    tithe.restore(model)


def test_tied_weights_stay_tied() -> None:
    model, words = model_and_inputs("tied")
    assert isinstance(model, Tied)
    convert_all(model, words)
    assert model.decoder.weight is model.embedding.weight and converted_layers(model).keys() == {"hidden", "decoder"}
    with torch.no_grad():
        model.embedding.weight[3] += 1
    with torch.no_grad(), pytest.warns(UserWarning, match="have changed"):
        changed = model.decoder(torch.ones(4, 32))
    assert torch.equal(changed, functional.linear(torch.ones(4, 32), model.embedding.weight))


def replace_by_data(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data.clone()
    layer.weight.data = layer.weight.data + 1


def replace_twice(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.randn(96, 96))
    layer.weight = nn.Parameter(torch.randn(96, 96))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.add_(0.5),
        lambda layer: layer.bias.mul_(2.0),
        lambda layer: layer.load_state_dict({"weight": torch.ones(96, 96), "bias": torch.ones(96)}),
        replace_by_data,
        replace_twice,
    ],
)
def test_changed_parameters_are_noticed(change: Callable[[nn.Linear], Any]) -> None:
    model, inputs = model_and_inputs("mlp")
    first = run(convert_all(model, inputs), inputs)
    before = copy.deepcopy(model[2].state_dict())
    with torch.no_grad():
        change(model[2])
        x = torch.randn(32, 96)
        with pytest.warns(UserWarning, match="have changed"):
            assert torch.equal(model[2](x), functional.linear(x, model[2].weight, model[2].bias))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once is enough
            model[2](x)
        model[2].load_state_dict(before)
    assert torch.equal(run(model, inputs), first)


@contextmanager
def other_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def autocast() -> Iterator[None]:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("kind", ["mlp", "block"])
@pytest.mark.parametrize("where", ["gradients", "training", "autocast", "double", "threads", "traced", "vmap", "few"])
def test_layers_are_plain_bit_for_bit_where_they_may_not_compute_otherwise(kind: str, where: str) -> None:
    model, x = model_and_inputs(kind)
    plain = copy.deepcopy(model)
    convert_all(model, x)
    given: Any = torch.inference_mode() if where not in ("gradients", "vmap") else torch.enable_grad()
    if where == "few":
        for layer in converted_layers(model).values():
            layer.conversion.rows = 10**6
    if where == "training":
        model.train(), plain.train()
    if where == "double":
        model, plain, x = model.double(), plain.double(), x.double()
    if where == "threads":
        given = other_threads()
    if where == "autocast":
        given = autocast()
    with given, torch.set_grad_enabled(where == "gradients"):
        if where == "vmap":
            assert torch.equal(torch.vmap(model)(x[:, None]), torch.vmap(plain)(x[:, None]))
        elif where == "traced":
            assert torch.equal(torch.jit.trace(model, x, check_trace=False)(x), plain(x))
        else:
            ours, theirs = model(x), plain(x)
            assert torch.equal(ours, theirs) and ours.requires_grad == (where == "gradients")
    if where == "gradients":
        ours.sum().backward(), theirs.sum().backward()
        for p, q in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize(
    ("layer", "shape", "wrong"),
    [
        (nn.Linear(12, 5), (9, 12), (12, 9)),
        (nn.Conv2d(6, 4, 1), (2, 6, 3, 4), (2, 4, 6, 3)),
        (nn.Conv2d(6, 4, 1), (2, 6, 3, 4), (2, 1, 6, 3, 4)),
        (nn.Conv2d(2, 4, 3), (2, 2, 5, 5), (2, 2, 2, 2)),
    ],
)
def test_inputs_that_do_not_fit_are_errors_as_of_the_plain_layer(
    layer: nn.Module, shape: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    plain = copy.deepcopy(layer)
    convert_all(layer.eval(), torch.randn(shape))
    with torch.inference_mode():
        assert layer(torch.randn(shape)).shape == plain(torch.randn(shape)).shape
        with pytest.raises(RuntimeError):
            plain(torch.randn(wrong))
        with pytest.raises(RuntimeError):
            layer(torch.randn(wrong))


def test_shapes_that_layers_take_beside_batches() -> None:
    model, x = model_and_inputs("mlp")
    convert_all(model, x)
    whole = run(model, x)
    with torch.inference_mode():
        assert torch.equal(model(x.view(4, 16, 48)).view(64, 10), whole)
        assert model(x[0]).shape == (10,) and model(x[:0]).shape == (0, 10)
        torch.testing.assert_close(model(x.T.contiguous().T), whole)


@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), ((2, 3), (2, 1))])
def test_rows_make_convolutions(stride: Any, padding: Any, kernel: Any, dilation: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, kernel, stride=stride, padding=padding, dilation=dilation)
    for x in (
        torch.randn(3, 5, 8, 9),
        torch.randn(5, 8, 9),
        torch.randn(2, 5, 7, 6).to(memory_format=torch.channels_last),
    ):
        rows = as_rows(layer, x)
        unfolded = functional.unfold(x if x.dim() == 4 else x[None], kernel, dilation, padding, stride)
        assert count_rows(layer, x.shape) == len(rows)
        assert torch.equal(rows, unfolded.transpose(1, 2).reshape(-1, rows.shape[1])) and rows.is_contiguous()
        with torch.no_grad():
            torch.testing.assert_close(as_output(layer, rows @ matrix(layer).T + layer.bias, x), layer(x))


def activations(kind: str, rows: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 80, generator=rng)
    if kind == "skewed":
        return torch.relu(x) ** 2
    if kind == "outliers":
        return x * torch.where(torch.arange(80) % 16 == 0, 30.0, 1.0) + 2
    if kind == "thin":
        return x[:, :4] @ torch.randn(4, 80, generator=torch.Generator().manual_seed(9)) + 0.003 * x
    return x


@pytest.mark.parametrize("kind", ["normal", "skewed", "outliers", "thin"])
def test_certified_errors_hold_on_fresh_activations(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(80, 48)
    learn, check, fresh = (activations(kind, rows, seed) for rows, seed in ((600, 1), (400, 2), (20_000, 3)))
    ways = ways_for(matrix(layer), layer.bias.detach(), learn, 0.05)
    with torch.no_grad():
        product = layer(fresh) - layer.bias
        for way in ways:
            bound = error_bound(way, layer, check)
            error = float((way(fresh) - layer.bias - product).norm() / product.norm())
            assert bound.estimate < bound.upper and error <= bound.upper * 1.01, way.name
            assert bound.upper < 0.1 * max(1.0, error / 0.05), way.name  # it says something
    assert isinstance(ways[0], LowRank) == (kind == "thin")
    if kind == "thin":
        assert ways[0].share() < 0.25 and ways[0].name in {f"low_rank({r})" for r in range(1, 6)}


def test_one_row_certifies_nothing() -> None:
    layer, x = nn.Linear(8, 8), torch.randn(64, 8)
    assert error_bound(a_way(layer, x), layer, x[:1]).upper == float("inf")


def test_a_parametrized_layer_says_what_stands_in_the_way_of_restoring() -> None:
    model, inputs = model_and_inputs("mlp")
    convert_all(model, inputs)
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(InvalidStateError, match="parametrizations"):
        tithe.restore(model)


@pytest.mark.gpu
def test_models_on_several_devices() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.here, self.there = nn.Linear(64, 64), nn.Linear(64, 32).cuda()

        def forward(self, x: Tensor) -> Tensor:
            return self.there(self.here(x).cuda()).cpu()

    model, x = Both().eval(), torch.randn(256, 64)
    plain = run(model, x)
    report = tithe.convert(model, x, tol=0.05)
    assert [layer.name for layer in report.layers] == ["here", "there"]
    assert relative(run(model, x), plain) < 0.1
    tithe.restore(model)
    for layer in (model.here, model.there):
        rows = torch.randn(256, 64, device=layer.weight.device)
        for way in ways_for(matrix(layer), layer.bias.detach(), rows, 0.05):
            attach(layer, way)
            with torch.inference_mode():
                assert relative(layer(rows), functional.linear(rows, layer.weight, layer.bias)) < 0.05, way.name
            tithe.restore(layer)
    assert torch.equal(run(model, x), plain)


@pytest.mark.gpu
def test_ways_on_a_gpu_come_back_from_files(tmp_path: Path) -> None:
    x = torch.randn(2048, 256, device="cuda")
    model = nn.Sequential(nn.Linear(256, 256)).cuda().eval()
    for way in ways_for(model[0].weight.detach(), model[0].bias.detach(), x, 0.05):
        attach(tithe.restore(model)[0], way)
        save_converted(model, tmp_path / "model.safetensors")
        loaded = load_converted(nn.Sequential(nn.Linear(256, 256)).cuda().eval(), tmp_path / "model.safetensors")
        assert loaded[0].conversion.way.name == way.name
        assert torch.equal(run(loaded, x), run(model, x)), way.name


@pytest.mark.gpu
def test_the_quickest_of_the_rivals_is_taken() -> None:
    model, x = nn.Sequential(nn.Linear(1024, 4096)).cuda().eval(), torch.randn(16384, 1024, device="cuda")
    (layer,) = tithe.convert(model, x, tol=0.01).layers
    assert layer.way in ("tf32", "float16") and layer.bound.upper < 0.002
    assert {attempt.method for attempt in layer.tried} >= {"tf32", "float16"} - {layer.way}


@pytest.mark.gpu
def test_inputs_with_a_large_mean_where_products_are_made_in_tf32() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        model, x = nn.Linear(1024, 256).cuda().eval(), 1000 + torch.randn(8192, 1024, device="cuda")
        (layer,) = tithe.convert(model, x, tol=0.05).layers
        assert (layer.way == "plain") == (not converted_layers(model))
        ways = ways_for(matrix(model), model.bias.detach(), x, 0.05)
        assert len(ways) > 3 and all(way(x).isfinite().all() for way in ways)
    finally:
        torch.set_float32_matmul_precision(before)
