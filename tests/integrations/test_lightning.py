"""A real training by Lightning: what is validated, what is saved, what is left."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tithe.errors import InvalidStateError
from tithe.integrations.lightning import ResolventCallback
from tithe.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore")  # about the number of workers, and the like
LAYOUT = {"net.1.weight": (8, 8)}


class Digits(LightningModule):
    """A small classifier that notes the weights with which it validates and tests."""

    def __init__(self, optimizers: int = 1, fails_at: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
        self.optimizers_wanted, self.fails_at = optimizers, fails_at
        self.automatic_optimization = optimizers < 2
        self.seen: list[Tensor] = []
        self.trained: list[Tensor] = []

    def training_step(self, batch, index):
        self.trained.append(self.net[1].weight.detach().clone())
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.seen.append(self.net[1].weight.detach().clone())
        if len(self.seen) == self.fails_at:
            raise ZeroDivisionError
        self.log("loss", cross_entropy(self.net(batch[0]), batch[1]))

    test_step = validation_step

    def predict_step(self, batch, index):
        self.seen.append(self.net[1].weight.detach().clone())

    def configure_optimizers(self):
        made = [torch.optim.Adam(self.parameters(), lr=1e-2) for _ in range(self.optimizers_wanted)]
        return made if len(made) > 1 else made[0] if made else None


class Saving(Callback):
    """Saves while the module validates."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_epoch_end(self, trainer, module):
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


def trainer(folder: Path, *callbacks: Callback, epochs: int = 2, **more) -> Trainer:
    settings = {
        "accelerator": "cpu", "devices": 1, "max_epochs": epochs, "logger": False, "num_sanity_val_steps": 0,
        "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
    }  # fmt: skip
    return Trainer(callbacks=[*callbacks], **settings | more)


@pytest.fixture
def loader(digits: tuple[Tensor, Tensor]) -> DataLoader:
    return DataLoader(TensorDataset(*digits), batch_size=16)


@pytest.fixture
def valid(digits: tuple[Tensor, Tensor]) -> DataLoader:
    return DataLoader(TensorDataset(*digits), batch_size=96)


def averages(path: Path) -> dict[str, Tensor]:
    checkpoint = torch.load(path, weights_only=True)  # so it holds nothing but tensors and plain types
    return checkpoint["callbacks"]["ResolventCallback"]["trajectory"]["averages"]


def hooks(optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def test_validation_has_the_averages_and_training_its_own_weights(tmp_path: Path, loader, valid) -> None:
    plain, module = Digits(), Digits()
    trainer(tmp_path).fit(plain, loader, valid)
    saved = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    run = trainer(tmp_path, ResolventCallback(tau=20), saved, num_sanity_val_steps=1)
    run.fit(module, loader, valid)
    assert len(module.trained) == 12
    assert all(torch.equal(a, b) for a, b in zip(module.trained, plain.trained, strict=True))  # nothing else changed
    for epoch, seen in enumerate(module.seen[1:]):
        expected = averages(tmp_path / f"epoch={epoch}.ckpt")["net.1.weight"]
        assert torch.equal(seen, expected)
        assert not torch.equal(seen, plain.seen[epoch])
    live = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(live["net.1.weight"], plain.net[1].weight)  # a checkpoint is one of plain training
    assert torch.equal(module.net[1].weight, module.seen[-1])  # and the averages are left
    assert hooks(run.optimizers[0]) == 0


def test_the_trained_weights_are_left_if_asked_for(tmp_path: Path, loader, valid) -> None:
    plain, module = Digits(), Digits()
    trainer(tmp_path, epochs=1).fit(plain, loader, valid)
    callback = ResolventCallback(finish="live")
    trainer(tmp_path, callback, epochs=1).fit(module, loader, valid)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), plain.parameters(), strict=True))
    assert callback.attached is None
    assert callback.state_dict() == {}


def test_going_on_from_a_checkpoint_is_as_if_it_had_never_stopped(tmp_path: Path, loader, valid) -> None:
    with Ledger(tmp_path / "runs.db") as ledger:
        modules = []
        for run in ("whole", "parts"):
            settings = {"tau": 20, "power": -1, "layout": LAYOUT, "monitor": ledger, "stride": 4, "run": run}
            if run == "parts":
                first = trainer(tmp_path, ResolventCallback(**settings), ModelCheckpoint(tmp_path), epochs=1)
                first.fit(Digits(), loader, valid)
                path = first.checkpoint_callback.best_model_path
            modules.append(Digits())
            last = trainer(tmp_path, ResolventCallback(**settings), epochs=2)
            last.fit(modules[-1], loader, valid, ckpt_path=path if run == "parts" else None)
        steps = {run: [event.payload["step"] for event in ledger.read(run=run)] for run in ("whole", "parts")}
    whole, parts = modules
    assert steps == {"whole": [4, 8, 12], "parts": [4, 8, 12]}
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert torch.equal(whole.seen[-1], parts.seen[-1])
    assert hooks(last.optimizers[0]) == 0


@pytest.mark.parametrize("finish", ["averaged", "live"])
def test_tests_of_a_checkpoint_have_its_averages(tmp_path: Path, loader, valid, finish: str) -> None:
    saved = ModelCheckpoint(tmp_path, filename="x")
    trainer(tmp_path, ResolventCallback(tau=20), saved, epochs=1).fit(Digits(), loader, valid)
    expected = averages(tmp_path / "x.ckpt")["net.1.weight"]
    live = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]["net.1.weight"]
    module = Digits()
    run = trainer(tmp_path, ResolventCallback(finish=finish))
    run.test(module, valid, ckpt_path=tmp_path / "x.ckpt", verbose=False)
    assert torch.equal(module.seen[-1], expected)
    assert torch.equal(module.net[1].weight, expected if finish == "averaged" else live)
    run.predict(module, valid)  # no checkpoint: whatever the model has
    assert torch.equal(module.seen[-1], module.net[1].weight)


def test_accumulation_counts_steps_of_the_optimizer(tmp_path: Path, loader, valid) -> None:
    saved = ModelCheckpoint(tmp_path, filename="x")
    callback = ResolventCallback(power=1)
    run = trainer(tmp_path, callback, saved, epochs=1, accumulate_grad_batches=3, gradient_clip_val=1.0)
    run.fit(Digits(), loader, valid)
    state = torch.load(tmp_path / "x.ckpt", weights_only=True)["callbacks"]["ResolventCallback"]
    assert state["trajectory"]["steps"] == run.global_step == 2


def test_saving_during_validation_saves_the_trained_weights(tmp_path: Path, loader, valid) -> None:
    plain, module = Digits(), Digits()
    trainer(tmp_path, epochs=1).fit(plain, loader, valid)
    run = trainer(tmp_path, ResolventCallback(tau=20), Saving(tmp_path / "x.ckpt"), epochs=1)
    run.fit(module, loader, valid)
    live = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(live["net.1.weight"], plain.net[1].weight)
    assert torch.equal(averages(tmp_path / "x.ckpt")["net.1.weight"], module.seen[-1])


def test_a_validation_that_fails_leaves_the_trained_weights(tmp_path: Path, loader, valid) -> None:
    plain, module = Digits(), Digits(fails_at=1)
    trainer(tmp_path, epochs=1).fit(plain, loader, valid)
    run = trainer(tmp_path, ResolventCallback(tau=20), epochs=1)
    with pytest.raises(ZeroDivisionError):
        run.fit(module, loader, valid)
    assert torch.equal(module.net[1].weight, plain.net[1].weight)
    assert not torch.equal(module.net[1].weight, module.seen[-1])
    assert hooks(run.optimizers[0]) == 0


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_optimizer_is_wanted(tmp_path: Path, loader, count: int) -> None:
    with pytest.raises(InvalidStateError, match=f"gives {count} optimizers.*exactly one"):
        trainer(tmp_path, ResolventCallback()).fit(Digits(optimizers=count), loader)


def test_sharded_weights_are_refused() -> None:
    class Sharding:
        strategy = FSDPStrategy()

    with pytest.raises(InvalidStateError, match="FSDPStrategy shards"):
        ResolventCallback().on_fit_start(Sharding(), Digits())
