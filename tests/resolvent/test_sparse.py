"""Sparse inference: what is left out, that the rest is exact, and the way there and back."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.resolvent.sparse import SparseLinear, SparsityReport, pruned, restore, sparsify, timing
from tithe.resolvent.sparse.importance import FACTORS, column_weights, floors, scores, threshold
from tithe.resolvent.sparse.kernels import compiled, gathered, skipping
from tithe.resolvent.sparse.layers import attach, detach, place_of
from tithe.resolvent.sparse.timing import Race

KERNELS = {"compiled": compiled.skipping, "gathered": gathered.skipping, "chosen": skipping}


@pytest.fixture(autouse=True)
def _skipping_always_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that do not hang on the machine's mood."""

    def race(layer: SparseLinear, x: Tensor) -> tuple[Race, ...]:
        layer.pruning.place, layer.pruning.rows = place_of(x), 8
        return tuple(Race(rows, 2e-6, 1e-6, 0.5, 0.6) for rows in timing.ROWS)

    monkeypatch.setattr("tithe.resolvent.sparse.convert.race", race)


def network(seed: int = 0, hidden: int = 48, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (nn.Linear(12, hidden, bias), nn.ReLU(), nn.Linear(hidden, hidden, bias), nn.ReLU(), nn.Linear(hidden, 5))
    return nn.Sequential(*layers).eval()


def images(rows: int = 200, seed: int = 1) -> Tensor:
    return torch.randn(rows, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    rows=st.integers(1, 5), inputs=st.integers(1, 70), outputs=st.integers(1, 90), share=st.floats(0, 1),
    bias=st.booleans(), threads=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_kernels(
    kernel: str, rows: int, inputs: int, outputs: int, share: float, bias: bool, threads: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    x, columns = torch.randn(rows, inputs, generator=g), torch.randn(inputs, outputs, generator=g)
    least, start = torch.rand(inputs, generator=g) * 3 * share, torch.randn(outputs, generator=g) if bias else None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = KERNELS[kernel](least, columns, start)(x)
    finally:
        torch.set_num_threads(before)
    wanted = x.masked_fill(x.abs() < least, 0).double() @ columns.double() + (0 if start is None else start)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_parts_of_a_large_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_SPLIT", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x, columns = torch.randn(4, 65), torch.randn(65, 203)
    found = compiled.skipping(torch.full((65,), 0.5), columns, None)(x)
    torch.testing.assert_close(found, x.masked_fill(x.abs() < 0.5, 0) @ columns, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_what_is_not_finite_is_passed_on(kernel) -> None:
    layer = nn.Linear(3, 2)
    layer.weight.data[0, 2] = torch.inf
    least = floors(column_weights(layer.weight, FACTORS), 100.0, FACTORS)
    product = kernel(least, layer.weight.detach().T.contiguous(), layer.bias)
    for x in ([torch.nan, 0, 0], [0, torch.inf, 0], [0, 0, 0.0]):
        row = torch.tensor([x])
        assert torch.equal(product(row).isfinite(), layer(row).isfinite()), x


@given(keep=st.floats(0.01, 1), by=st.sets(st.sampled_from(FACTORS), min_size=1), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_thresholds_keep_the_share(keep: float, by: set, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x, weights = torch.randn(40, 30, generator=g), column_weights(torch.randn(7, 30, generator=g), list(by))
    values = scores(x, weights, list(by))
    least = threshold(values.flatten().sort().values, keep)
    kept = ~(x.abs() < floors(weights, least, list(by)))
    share = float(kept.float().mean())
    assert share >= keep - 1e-6
    if "magnitude" in by:
        assert share <= keep + 2 / x.numel()
    else:
        assert bool((kept == kept[0]).all())  # the same in all samples


@given(seed=st.integers(0, 30), hidden=st.integers(1, 60), bias=st.booleans(), rows=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_keeping_all_is_exact(seed: int, hidden: int, bias: bool, rows: int) -> None:
    model = network(seed, hidden, bias)
    plain, x = copy.deepcopy(model), images(rows, seed + 5) * 1e-3  # smaller than all of calibration
    report = sparsify(model, images(), keep=1)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)
    assert all(layer.threshold == 0 and layer.error == 0 for layer in report.layers)
    assert report.bound.upper == 0


def test_zeros_of_relu_are_left_out() -> None:
    model = network()
    report = sparsify(model, images(), keep=1)
    assert [round(x.zeros + x.kept, 6) for x in report.layers] == [1, 1, 1]
    assert report.layers[1].zeros > 0.2
    assert report.receipt.ratio("flops") < 0.8


def test_keep_holds_on_calibration() -> None:
    report = sparsify(network(hidden=200), images(2000), keep=0.2)
    first, *others = report.layers
    assert first.kept == 1 and first.threshold == 0  # the model's own inputs
    assert all(abs(layer.kept - 0.2) < 0.02 for layer in others)
    assert sparsify(network(), images(), keep=0.2, layers="0").layers[0].kept == pytest.approx(0.2, abs=0.03)


def test_skips_for_few_rows_only_and_prunes_all_on_request() -> None:
    model = network()
    plain = copy.deepcopy(model)
    sparsify(model, images(), keep=0.2)
    x = images(9)
    with torch.inference_mode():
        assert torch.equal(model(x), plain(x))
        few = model(x[:8])
        assert not torch.allclose(few, plain(x[:8]))
        with pruned(model):
            torch.testing.assert_close(model(x)[:8], few, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(x[0]), few[0], rtol=1e-4, atol=1e-5)  # without a batch axis
        torch.testing.assert_close(model(x[:8].view(2, 4, 12)).view(8, 5), few)
        assert model(x[:0]).shape == (0, 5)


def test_tolerance_of_the_output_and_of_a_metric() -> None:
    model, x = network(), images(400)
    for tol in (0.0, 0.02, 0.2):
        report = sparsify(model, x, tol=tol)
        with pruned(model), torch.no_grad():
            found = model(x[::2])
        restore(model)
        plain = model(x[::2])
        assert (found - plain).norm() <= tol * plain.norm() + 1e-6
    assert report.layers[1].kept < 0.5
    labels = network()(x).argmax(1)
    report = sparsify(model, x, tol=0.05, metric=lambda m: float((m(x).argmax(1) == labels).float().mean()))
    assert report.loss is not None and 0 <= report.loss <= 0.05


def test_restore_gives_the_very_same_model() -> None:
    model = network()
    before, text = dict(model.named_parameters()), repr(model)
    state = copy.deepcopy(model.state_dict())
    sparsify(model, images(), keep=0.3)
    assert list(model.state_dict()) == list(state)
    assert restore(model) is model
    assert repr(model) == text and all(type(m) is not SparseLinear for m in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter is before[name] and torch.equal(parameter, state[name])
    assert not set(vars(model[2])) - set(vars(nn.Linear(1, 1))) and not dict(model.named_buffers())


def test_follows_changed_weights() -> None:
    model, other = network(), network(7)
    sparsify(model, images(), keep=1)
    x = images(2)

    def same_as(wanted: nn.Module) -> None:
        torch.testing.assert_close(model(x), wanted(x), rtol=1e-4, atol=1e-5)

    with torch.inference_mode():
        model(x)
    model.load_state_dict(other.state_dict())
    with torch.inference_mode():
        same_as(other)
    model.load_state_dict(network(8).state_dict(), assign=True)
    for p in model.parameters():
        p.requires_grad_(True)
    with torch.inference_mode():
        same_as(network(8))
    with torch.no_grad():
        model[2].weight.mul_(2)
        model[4].bias.add_(1)
        wanted = network(8)
        wanted[2].weight.mul_(2)
        wanted[4].bias.add_(1)
        same_as(wanted)
    fresh = network(9)
    fresh.load_state_dict(model.state_dict())  # and back into a plain model


def test_training_and_gradients_are_plain() -> None:
    model = network()
    plain = copy.deepcopy(model)
    sparsify(model, images(), keep=0.2)
    x = images(2)
    assert torch.equal(model(x), plain(x))  # a gradient is asked for
    model(x).sum().backward()
    plain(x).sum().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    with torch.inference_mode():
        assert not torch.equal(model(x), plain(x))
        with torch.autocast("cpu"):
            assert torch.equal(model(x), plain(x))
        model.train()
        assert torch.equal(model(x), plain(x))
        with pruned(model):
            assert torch.equal(model(x), plain(x))


def test_copies_files_and_conversions() -> None:
    model, x = network(), images(3)
    sparsify(model, images(), keep=0.3)
    with torch.inference_mode():
        wanted = model(x)
        assert torch.equal(copy.deepcopy(model)(x), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), wanted)
        wide = copy.deepcopy(model).double()
        full = restore(copy.deepcopy(model)).double()
        assert torch.equal(wide(x.double()), full(x.double()))  # not what it was timed for: plain
        assert torch.equal(wide.float()(x), wanted)
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        try:
            assert torch.equal(model(x), restore(copy.deepcopy(model))(x))
        finally:
            torch.set_num_threads(before)


def test_any_dtype_has_a_way() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        model = network().to(dtype)
        plain = copy.deepcopy(model)
        sparsify(model, images().to(dtype), keep=1)
        x = images(2).to(dtype)
        with torch.inference_mode():
            torch.testing.assert_close(model(x), plain(x), rtol=3e-2, atol=3e-2)


def test_calls_with_tuples_mappings_and_shared_layers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.unused = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
            return {"y": self.inner(self.inner(x * scale).relu())}

    model = Twice().train()
    for inputs in ((images(), 2.0), {"x": images(), "scale": 2.0}):
        report = sparsify(model, inputs, keep=0.5)
        assert [layer.name for layer in report.layers] == ["inner"] and model.training
        restore(model)
    with pytest.raises(InvalidValueError, match="does not call unused"):
        sparsify(model, images(), keep=0.5, layers=["inner", "unused"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidValueError, "one of keep"),
        ({"keep": 0.2, "tol": 0.1}, InvalidValueError, "one of keep"),
        ({"keep": 0}, InvalidValueError, "keep is 0"),
        ({"keep": 1.5}, InvalidValueError, "keep is 1.5"),
        ({"keep": float("nan")}, InvalidValueError, "keep is nan"),
        ({"keep": "a"}, InvalidDTypeError, "keep is a str"),
        ({"tol": -1}, InvalidValueError, "tol is -1"),
        ({"tol": float("inf")}, InvalidValueError, "tol is inf"),
        ({"keep": 0.2, "by": ()}, InvalidValueError, "name one or more"),
        ({"keep": 0.2, "by": ["size"]}, InvalidValueError, "name one or more"),
        ({"keep": 0.2, "layers": "1"}, InvalidValueError, "fits no nn.Linear"),
        ({"keep": 0.2, "inputs": [1, 2]}, InvalidDTypeError, "inputs is a list"),
        ({"keep": 0.2, "inputs": images(1)}, InvalidValueError, "1 sample"),
        ({"keep": 0.2, "inputs": ()}, InvalidValueError, "0 samples"),
        ({"keep": 0.2, "model": nn.Sequential(nn.ReLU())}, InvalidValueError, "calls no nn.Linear"),
    ],
)
def test_errors(arguments: dict, error: type, message: str) -> None:
    arguments = {"model": network(), "inputs": images()} | arguments
    with pytest.raises(error, match=message):
        sparsify(**arguments)


def test_errors_leave_the_model_plain() -> None:
    model = network()

    def fails(model: nn.Module) -> float:
        if any(isinstance(m, SparseLinear) for m in model.modules()):
            raise KeyError("metric")
        return 1.0

    with pytest.raises(KeyError):
        sparsify(model, images(), tol=0.1, metric=fails)
    assert all(type(m) is not SparseLinear for m in model.modules())
    sparsify(model, images(), keep=0.5)
    with pytest.raises(InvalidStateError, match="restore"):
        sparsify(model, images(), keep=0.5)


def test_report() -> None:
    report = sparsify(network(), images(), keep=0.25)
    assert isinstance(report, SparsityReport)
    assert len(str(report).splitlines()) == 6 and "sparse up to 8 rows" in str(report)
    found = report.to_dict()
    assert list(found) == ["asked", "by", "place", "layers", "loss", "receipt"]
    assert found["asked"] == "keep=0.25" and len(found["layers"][0]["races"]) == 4
    assert report.receipt.ratio("seconds") == 0.5
    assert report.bound.scope == "calibration" and report.bound.confidence == 0.99


def test_bound_holds_for_further_samples() -> None:
    model = network(hidden=100)
    plain = copy.deepcopy(model)
    bound = sparsify(model, images(1000), keep=0.3).bound
    x = images(2000, seed=3)
    with pruned(model), torch.no_grad():
        errors = (model(x) - plain(x)).norm(dim=1) / plain(x).norm(dim=1)
    assert float((errors > bound.upper).float().mean()) < 0.03


def test_the_race_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = attach(nn.Linear(16, 4).eval(), torch.zeros(16))
    calls = []

    def paired(a, b, pairs, device):
        a(), b()
        calls.append(layer.pruning.rows)
        ratio = 0.5 if len(calls) < 3 else 1.2
        return type("C", (), {"seconds": (1e-6, 2e-6), "ratio": ratio, "high": ratio + 0.1})()

    monkeypatch.setattr(timing, "paired", paired)
    races = timing.race(layer, torch.randn(40, 16))
    assert calls == [1, 2, 4] and layer.pruning.rows == 2 and len(races) == 3
    assert type(detach(layer)) is nn.Linear


def test_times_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tithe.resolvent.sparse.convert.race", timing.race)
    report = sparsify(network(hidden=64), images(), keep=0.5)
    assert all(race.dense > 0 and race.sparse > 0 for layer in report.layers for race in layer.races)


TRITON = """
import torch
from tithe.resolvent.sparse.kernels import gathered, triton_rows
device = {device!r}
g = torch.Generator().manual_seed(0)
for rows, inputs, outputs in ((1, 1, 1), (2, 33, 130), (3, 100, 77), (1, 200, 300)):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        x, columns = torch.randn(rows, inputs, generator=g), torch.randn(inputs, outputs, generator=g)
        x, columns, bias = x.to(dtype), columns.to(dtype), torch.randn(outputs, generator=g).to(dtype)
        floors = torch.rand(inputs, generator=g).to(dtype)
        for plus in (bias, None):
            wide = [t if t is None else t.float() for t in (floors, columns, plus)]
            want = gathered.skipping(*wide)(x.float())
            on = [t if t is None else t.to(device) for t in (floors, columns, plus)]
            got = triton_rows.skipping(*on)(x.to(device)).cpu()
            assert got.dtype == dtype
            torch.testing.assert_close(got.float(), want, rtol=tolerance, atol=tolerance)
nan = triton_rows.skipping(*(t.to(device) for t in (torch.ones(2), torch.ones(2, 3), torch.ones(3))))
assert nan(torch.tensor([[torch.nan, 0.0]], device=device)).isnan().all()
print("same")
"""


def test_triton_interpreted() -> None:
    pytest.importorskip("triton", reason="Triton is not made for this platform")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    code = TRITON.format(device="cpu")
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "same", run.stderr


@pytest.mark.gpu
def test_triton_compiled() -> None:
    exec(TRITON.format(device="cuda"), {})


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_model_on_a_gpu(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(hidden=300).to("cuda", dtype), images().to("cuda", dtype)
    plain = copy.deepcopy(model)
    sparsify(model, x, keep=1)
    with torch.inference_mode():
        torch.testing.assert_close(model(x[:4]), plain(x[:4]), rtol=3e-2, atol=3e-2)
        assert torch.equal(model.cpu().float()(x[:4].cpu().float()), plain.cpu().float()(x[:4].cpu().float()))
    restore(model)
    monkeypatch.setattr("tithe.resolvent.sparse.convert.race", timing.race)
    assert sparsify(model.cuda(), x.float(), keep=0.2).place.device == "cuda"
