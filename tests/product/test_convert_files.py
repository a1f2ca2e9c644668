"""Converted models from files: bit for bit those that were saved, or an error that leaves the model as it was."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import ResidualBlock, convert_all, model_and_inputs
from torch import Tensor, nn

import tithe
from tithe.calibration import outputs
from tithe.errors import InvalidDTypeError, InvalidStateError, ModelFileError
from tithe.product import load_converted, save_converted
from tithe.product.conversion.layers import attach, converted_layers
from tithe.product.conversion.ways import Cast, LowRank, Tf32


def run(model: nn.Module, inputs: object) -> Tensor:
    with torch.inference_mode():
        return outputs(model, inputs)


def fresh(kind: str) -> nn.Module:
    """A model of this kind with other weights."""
    model, _ = model_and_inputs(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


@pytest.mark.parametrize("kind", ["mlp", "block", "encoder", "tied"])
def test_loaded_models_are_those_that_were_saved(kind: str, tmp_path: Path) -> None:
    model, inputs = model_and_inputs(kind)
    expected = run(convert_all(model, inputs), inputs)
    path = save_converted(model, tmp_path / "sub" / "model.safetensors")
    other = fresh(kind)
    assert load_converted(other, path) is other
    assert converted_layers(other).keys() == converted_layers(model).keys()
    assert torch.equal(run(other, inputs), expected)
    assert str(other) == str(model)
    for name, x in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], x)
    assert torch.equal(run(tithe.restore(other), inputs), run(tithe.restore(model), inputs))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_weights_that_are_used_as_they_are_come_from_the_file_once(tmp_path: Path, memory_format: object) -> None:
    x = torch.randn(2, 3, 6, 6)
    model, other = (nn.Sequential(nn.Conv2d(3, 5, 3)).to(memory_format=memory_format).eval() for _ in range(2))
    attach(model[0], Tf32(model[0].weight.detach(), model[0].bias.detach()))
    path = save_converted(model, tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in safetensors.torch.load_file(path).values()) < 1.1 * model[0].weight.numel()
    load_converted(other, path)
    assert other[0].conversion.way.weight.data_ptr() == other[0].weight.data_ptr()
    assert torch.equal(run(other, x), run(model, x))


def test_every_way_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4, bias=False)), torch.randn(7, 6)
    attach(model[0], LowRank(torch.randn(2, 6), torch.randn(5, 2), torch.randn(5)), rows=3)
    attach(model[1], Cast(torch.randn(4, 5).bfloat16(), torch.zeros(4)))
    model.eval()
    other = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4, bias=False)).eval()
    load_converted(other, save_converted(model, tmp_path / "m"))
    assert torch.equal(run(other, x), run(model, x)) and torch.equal(run(other, x[:2]), run(model, x[:2]))
    assert other[0].conversion.rows == 3


def test_files_are_plain_state_dicts_for_others(tmp_path: Path) -> None:
    model, inputs = model_and_inputs("block")
    plain = run(model, inputs)
    path = save_converted(convert_all(model, inputs), tmp_path / "model.safetensors")
    found = safetensors.torch.load_file(path)
    other = ResidualBlock().eval()
    other.load_state_dict({name: x for name, x in found.items() if not name.startswith("tithe/")})
    assert torch.equal(run(other, inputs), plain)


def test_tied_weights_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    model, words = model_and_inputs("tied")
    path = save_converted(model, tmp_path / "model.safetensors")
    assert sorted(safetensors.torch.load_file(path)) == ["embedding.weight", "hidden.bias", "hidden.weight"]
    other = load_converted(fresh("tied"), path)
    assert other.decoder.weight is other.embedding.weight and torch.equal(run(other, words), run(model, words))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    model = nn.Linear(12, 3).eval()
    convert_all(model, torch.randn(32, 12))
    path = save_converted(model, tmp_path_factory.mktemp("saved") / "model.safetensors")
    return path, path.read_bytes()


def refused(model: nn.Module, path: Path, words: str = ".") -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelFileError, match=words):
        load_converted(model, path)
    assert not converted_layers(model)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_is_missed(saved: tuple[Path, bytes], tmp_path: Path, at: int, bit: int) -> None:
    raw = bytearray(saved[1])
    raw[at % len(raw)] ^= 1 << bit
    (tmp_path / "flipped").write_bytes(raw)
    refused(nn.Linear(12, 3), tmp_path / "flipped")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999, 1.001])
def test_files_that_end_early_or_late_are_refused(saved: tuple[Path, bytes], tmp_path: Path, share: float) -> None:
    raw = saved[1] + b"\0" * 100
    (tmp_path / "cut").write_bytes(raw[: int(share * len(saved[1]))])
    refused(nn.Linear(12, 3), tmp_path / "cut", "cannot be loaded")


def edited(raw: bytes, change: Callable[[dict], None]) -> bytes:
    """The file with another header."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    head = json.loads(header["__metadata__"]["tithe"])
    change(head)
    header["__metadata__"]["tithe"] = json.dumps(head)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]


def test_other_formats_are_named(saved: tuple[Path, bytes], tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(edited(saved[1], lambda head: head.update(version=2)))
    refused(nn.Linear(12, 3), path, "newer than 1; update Tithe")
    path.write_bytes(edited(saved[1], lambda head: head.update(format="tithe.generations")))
    refused(nn.Linear(12, 3), path, "tithe.generations")
    path.write_bytes(edited(saved[1], lambda head: head.update(text=head["text"].replace('"rows": 1', '"rows": 2'))))
    refused(nn.Linear(12, 3), path, "checksum")
    safetensors.torch.save_file({"weight": torch.ones(3, 12), "bias": torch.ones(3)}, path)
    refused(nn.Linear(12, 3), path, "not written by save_converted")
    with pytest.raises(FileNotFoundError):
        load_converted(nn.Linear(12, 3), tmp_path / "none")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (nn.Linear(12, 4), r"'shape': \[3, 12\]"),
        (nn.Linear(12, 3, bias=False), "the model has no bias"),
        (nn.Sequential(nn.Linear(12, 3)), "its layer ''"),
        (nn.Bilinear(12, 12, 3), "Bilinear"),
    ],
)
def test_other_architectures_are_refused(saved: tuple[Path, bytes], other: nn.Module, words: str) -> None:
    refused(other, saved[0], words)


def test_convolutions_of_another_geometry_are_refused(tmp_path: Path) -> None:
    model, inputs = model_and_inputs("block")
    path = save_converted(convert_all(model, inputs), tmp_path / "model")
    other = ResidualBlock()
    other.conv1.stride = (1, 1)
    refused(other, path, "'conv1'")
    wider = ResidualBlock()
    wider.more = nn.Linear(2, 2)
    refused(wider, path, "the file has no more.weight, more.bias")


def test_parts_of_a_way_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(6, 5)
    attach(model, LowRank(torch.randn(2, 7), torch.randn(5, 2), torch.randn(5)))
    refused(nn.Linear(6, 5), save_converted(model, tmp_path / "model"), "inner of a way")


def test_a_converted_model_is_not_loaded_into(saved: tuple[Path, bytes]) -> None:
    model = load_converted(nn.Linear(12, 3), saved[0])
    with pytest.raises(InvalidStateError, match="restore"):
        load_converted(model, saved[0])


def test_states_that_no_file_can_hold(tmp_path: Path) -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> str:
            return "?"

    with pytest.raises(InvalidDTypeError, match="str"):
        save_converted(Odd(1, 1), tmp_path / "model")
    with pytest.raises(InvalidDTypeError, match="meta"):
        save_converted(nn.Linear(1, 1, device="meta"), tmp_path / "model")
    with pytest.raises(InvalidDTypeError, match="complex128"):
        save_converted(nn.Linear(1, 1, dtype=torch.complex128), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_elsewhere_layers_are_plain_and_a_warning_says_so(tmp_path: Path) -> None:
    model, inputs = model_and_inputs("mlp")
    plain = run(model, inputs)
    convert_all(model, inputs)
    for layer in converted_layers(model).values():
        layer.conversion.place = layer.conversion.place._replace(threads=64)
    path = save_converted(model, tmp_path / "model")
    with pytest.warns(UserWarning, match="64 threads.*layers stay plain"):
        other = load_converted(fresh("mlp"), path)
    assert torch.equal(run(other, inputs), plain)


def test_another_processor_computes_the_same_and_a_warning_says_what_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = model_and_inputs("mlp")
    expected = run(convert_all(model, inputs), inputs)
    path = save_converted(model, tmp_path / "model")
    monkeypatch.setattr("tithe.product.conversion.files.describe", lambda **_: {"processor": "Analytical Engine"})
    monkeypatch.setattr("tithe.product.kernels.packed.groups", tuple)  # one without our kernel
    with pytest.warns(UserWarning, match="Analytical Engine.*may not be faster"):
        other = load_converted(fresh("mlp"), path)
    assert float((run(other, inputs) - expected).norm() / expected.norm()) < 1e-3  # where a level is at a tie


def test_parameters_that_changed_before_they_were_saved_are_computed_with_plainly(tmp_path: Path) -> None:
    model, inputs = model_and_inputs("mlp")
    convert_all(model, inputs)
    with torch.no_grad():
        model[4].weight.mul_(2)
    other = load_converted(fresh("mlp"), save_converted(model, tmp_path / "model"))
    x = torch.randn(9, 96)
    with torch.inference_mode(), pytest.warns(UserWarning, match="have changed"):
        assert torch.equal(other[4](x), nn.functional.linear(x, model[4].weight, model[4].bias))
