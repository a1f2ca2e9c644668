"""What both callbacks are made of, and what they write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tithe.errors import CorruptFileError, InvalidStateError, InvalidValueError
from tithe.integrations import Attached, Settings
from tithe.integrations.attached import copy_averages
from tithe.integrations.state_files import has_state, read_state, write_state
from tithe.ledger import Ledger

ROOT = Path(__file__).parents[2]
LAYOUT = {"0.weight": (2, 2)}


def small() -> tuple[nn.Sequential, torch.optim.SGD]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().sum().backward()
        optimizer.step()


def hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    return (
        len(optimizer._optimizer_step_pre_hooks)
        + len(optimizer._optimizer_step_post_hooks)
        + sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    )


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tau": 0.5}, "tau is 0.5"),
        ({"power": float("nan")}, "power is nan"),
        ({"phi": -1.0}, "phi is -1"),
        ({"stride": 0}, "stride is 0"),
        ({"finish": "best"}, "finish is 'best'.*'averaged', 'live'"),
        ({"layout": LAYOUT}, "power= or monitor="),
    ],
)
def test_what_cannot_be_used_is_refused_before_training(settings: dict, told: str) -> None:
    with pytest.raises(InvalidValueError, match=told):
        Settings(**settings)


def test_averages_are_lent_out_and_taken_back_however_blocks_nest() -> None:
    model, optimizer = small()
    attached = Attached(model, optimizer, Settings(tau=5))
    train(model, optimizer, 4)
    live = weights(model)
    with attached.averaged():
        averaged = weights(model)
        with attached.averaged():
            assert same(weights(model), averaged)
        assert attached.lent
        with attached.live():
            assert same(weights(model), live)
        assert same(weights(model), averaged)
    assert not attached.lent
    assert same(weights(model), live)
    assert not same(averaged, live)
    with pytest.raises(ZeroDivisionError), attached.averaged():
        1 / 0  # noqa: B018
    assert same(weights(model), live)


@pytest.mark.parametrize("finish", ["averaged", "live"])
def test_the_end_leaves_no_hooks_and_the_weights_that_were_asked_for(tmp_path: Path, finish: str) -> None:
    model, optimizer = small()
    with Ledger(tmp_path / "runs.db") as ledger:
        settings = Settings(tau=5, power=-1, layout=LAYOUT, monitor=ledger, stride=2, finish=finish)
        attached = Attached(model, optimizer, settings)
        assert hooks(model, optimizer) == 3
        train(model, optimizer, 5)
        assert [event.payload["step"] for event in ledger.read(run="run")] == [2, 4]
    live = weights(model)
    with attached.averaged():
        averaged = weights(model)
    attached.swap_in()
    attached.finish()
    assert hooks(model, optimizer) == 0
    assert same(weights(model), averaged if finish == "averaged" else live)


def test_a_layout_that_does_not_fit_leaves_nothing_on_the_optimizer() -> None:
    model, optimizer = small()
    with pytest.raises(InvalidValueError, match="inputs of shape"):
        Attached(model, optimizer, Settings(power=-1, layout={"0.weight": (3, 3)}))
    assert hooks(model, optimizer) == 0


def test_a_state_goes_through_files_and_training_goes_on_alike(tmp_path: Path) -> None:
    settings = Settings(tau=5, power=-1, layout=LAYOUT, monitor=Ledger(tmp_path / "runs.db"), stride=2)
    model, optimizer = small()
    attached = Attached(model, optimizer, settings)
    train(model, optimizer, 3)
    write_state(tmp_path / "checkpoint", attached.state())
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, optimizer, 3, seed=1)

    other, its_optimizer = small()
    other.load_state_dict(whole)
    assert has_state(tmp_path / "checkpoint")
    resumed = Attached(other, its_optimizer, settings, read_state(tmp_path / "checkpoint"))
    train(other, its_optimizer, 3, seed=1)
    for one in (attached, resumed):
        assert one.trajectory.steps == one.monitor.steps == 6
        one.finish()
    assert same(weights(model), weights(other))


def test_a_state_of_another_training_is_refused() -> None:
    model, optimizer = small()
    attached = Attached(model, optimizer, Settings(power=-1))
    state = attached.state()
    attached.remove()
    with pytest.raises(InvalidStateError, match="power=-1, and this one has power=None"):
        Attached(model, optimizer, Settings(), state)
    other = nn.Linear(2, 2)
    with pytest.raises(InvalidValueError, match="another model"):
        copy_averages(other, state)
    with pytest.raises(InvalidValueError, match="another model"):
        Attached(other, None, Settings(), state)
    assert hooks(model, optimizer) == 0


@pytest.mark.parametrize("damage", ["{", "[]", "{}", json.dumps({"version": 9}), json.dumps({"version": 1})])
def test_damaged_files_are_told_as_such(tmp_path: Path, damage: str) -> None:
    model, optimizer = small()
    write_state(tmp_path, Attached(model, optimizer, Settings()).state())
    (tmp_path / "resolvent.json").write_text(damage)
    with pytest.raises(CorruptFileError, match="hold no state"):
        read_state(tmp_path)


def test_damaged_tensors_are_told_as_such(tmp_path: Path) -> None:
    model, optimizer = small()
    write_state(tmp_path, Attached(model, optimizer, Settings()).state())
    (tmp_path / "resolvent.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(CorruptFileError, match="hold no state"):
        read_state(tmp_path)


def test_frameworks_are_not_imported_before_they_are_used_and_the_error_names_the_extra() -> None:
    code = """
import importlib, sys
import tithe.integrations
print([name for name in ("accelerate", "lightning", "transformers") if name in sys.modules])
for name in ("lightning", "transformers"):
    sys.modules[name] = None
    try:
        importlib.import_module(f"tithe.integrations.{name}")
    except tithe.errors.MissingExtraError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    none, *errors = done.stdout.splitlines()
    assert none == "[]"
    assert [error.split(": ")[1] for error in errors] == [
        "pip install 'tithe[lightning]'",
        "pip install 'tithe[transformers]'",
    ]


def test_the_plain_loop_runs() -> None:
    command = [sys.executable, str(ROOT / "examples" / "train_less.py"), "--quick"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(" steps as usual, after " in line for line in lines)
