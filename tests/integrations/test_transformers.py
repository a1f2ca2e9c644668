"""A real training by Hugging Face's Trainer: what is evaluated, what is saved, what is left."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainerCallback, TrainingArguments

from tithe.errors import InvalidStateError
from tithe.integrations.transformers import ResolventCallback
from tithe.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore")  # about memory that cannot be pinned, and the like
LAST = "classifier.1.weight"


class Images(Dataset):
    def __init__(self, digits: tuple[Tensor, Tensor]) -> None:
        self.x, self.y = digits

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.x[index][None], "labels": self.y[index]}


class Noting(Trainer):
    """Notes the weights with which it trains and evaluates."""

    fails = False

    def training_step(self, model, *args, **kwargs):
        vars(self).setdefault("trained", []).append(weight(model))
        return super().training_step(model, *args, **kwargs)

    def prediction_step(self, model, *args, **kwargs):
        vars(self).setdefault("seen", []).append(weight(model))
        if self.fails:
            raise ZeroDivisionError
        return super().prediction_step(model, *args, **kwargs)


def weight(model) -> Tensor:
    return model.get_parameter(LAST).detach().clone()


def trainer(folder: Path, digits: tuple[Tensor, Tensor], steps: int = 6, callbacks=None, **more) -> Noting:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=10
    )
    settings = {
        "max_steps": steps, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 96, "eval_steps": 2,
        "eval_strategy": "steps", "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2, "seed": 1,
        "lr_scheduler_type": "constant", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        "logging_strategy": "no", "dataloader_pin_memory": False,
    } | more  # fmt: skip
    return Noting(
        ResNetForImageClassification(config), TrainingArguments(str(folder), **settings), train_dataset=Images(digits),
        eval_dataset=Images(digits), callbacks=callbacks,
    )  # fmt: skip


def averages(folder: Path, step: int) -> Tensor:
    return load_file(folder / f"checkpoint-{step}" / "resolvent.safetensors")[LAST]


def hooks(optimizer) -> int:
    inner = optimizer.optimizer
    return len(inner._optimizer_step_pre_hooks) + len(inner._optimizer_step_post_hooks)


@pytest.fixture(scope="module")
def plain(digits: tuple[Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Noting:
    run = trainer(tmp_path_factory.mktemp("plain"), digits)
    run.train()
    return run


def test_evaluation_has_the_averages_and_training_its_own_weights(tmp_path: Path, digits, plain: Noting) -> None:
    run = trainer(tmp_path, digits)
    callback = ResolventCallback(tau=20).join(run)
    run.train()
    assert len(run.trained) == 6
    assert all(torch.equal(a, b) for a, b in zip(run.trained, plain.trained, strict=True))  # nothing else changed
    for step, seen, without in zip((2, 4, 6), run.seen, plain.seen, strict=True):
        assert torch.equal(seen, averages(tmp_path, step))
        assert not torch.equal(seen, without)
    saved = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    assert torch.equal(saved[LAST], weight(plain.model))  # a checkpoint is one of plain training
    assert torch.equal(weight(run.model), run.seen[-1])  # and the averages are left
    assert not list(tmp_path.glob("checkpoint-6/*resolvent*.p*"))
    assert hooks(run.optimizer) == 0
    run.predict(run.eval_dataset)  # training is over: whatever the model has
    assert torch.equal(run.seen[-1], weight(run.model))
    callback.leave()
    assert not {"train", "evaluation_loop", "save_model"} & set(vars(run))
    assert callback not in run.callback_handler.callbacks


def test_going_on_from_a_checkpoint_is_as_if_it_had_never_stopped(tmp_path: Path, digits) -> None:
    with Ledger(tmp_path / "runs.db") as ledger:
        ends = []
        for name in ("whole", "parts"):
            settings = {"tau": 20, "power": -1, "monitor": ledger, "stride": 2, "run": name}
            if name == "parts":
                first = trainer(tmp_path / name, digits, steps=4)
                ResolventCallback(**settings).join(first)
                first.train()
            ends.append(trainer(tmp_path / name, digits))
            ResolventCallback(**settings).join(ends[-1])
            ends[-1].train(resume_from_checkpoint=name == "parts")
        steps = {run: [event.payload["step"] for event in ledger.read(run=run)] for run in ("whole", "parts")}
    whole, parts = ends
    assert steps == {"whole": [2, 4, 6], "parts": [2, 4, 6]}
    assert len(parts.trained) == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True))
    assert torch.equal(whole.seen[-1], parts.seen[-1])


def test_the_averages_of_the_best_checkpoint_are_left(tmp_path: Path, digits) -> None:
    run = trainer(tmp_path, digits, load_best_model_at_end=True, greater_is_better=True)  # the first loss is the worst
    ResolventCallback(tau=20).join(run)
    run.train()
    assert run.state.best_global_step == 2
    assert torch.equal(weight(run.model), averages(tmp_path, 2))


def test_the_trained_weights_are_left_if_asked_for(tmp_path: Path, digits, plain: Noting) -> None:
    run = trainer(tmp_path, digits, save_strategy="no")
    ResolventCallback(finish="live").join(run)
    run.train()
    assert torch.equal(weight(run.model), weight(plain.model))


def test_accumulation_counts_steps_of_the_optimizer(tmp_path: Path, digits) -> None:
    run = trainer(tmp_path, digits, steps=2, gradient_accumulation_steps=3)
    ResolventCallback().join(run)
    run.train()
    assert len(run.trained) == 6
    assert '"steps": 2' in (tmp_path / "checkpoint-2" / "resolvent.json").read_text()


def test_an_evaluation_that_fails_leaves_the_trained_weights(tmp_path: Path, digits, plain: Noting) -> None:
    run = trainer(tmp_path, digits, save_strategy="no")
    run.fails = True
    callback = ResolventCallback(tau=20).join(run)
    with pytest.raises(ZeroDivisionError):
        run.train()
    assert torch.equal(weight(run.model), plain.trained[2])
    assert not torch.equal(weight(run.model), run.seen[-1])
    assert callback.attached is None
    assert hooks(run.optimizer) == 0


class Saving(TrainerCallback):
    """Saves while the trainer evaluates."""

    def on_prediction_step(self, args, state, control, **kwargs):
        self.trainer.save_model(f"{args.output_dir}/during-{state.global_step}")


def test_saving_during_evaluation_saves_the_trained_weights(tmp_path: Path, digits, plain: Noting) -> None:
    saving = Saving()
    run = saving.trainer = trainer(tmp_path, digits, steps=2, callbacks=[saving], save_strategy="no")
    ResolventCallback(tau=20).join(run)
    run.train()
    assert torch.equal(load_file(tmp_path / "during-2" / "model.safetensors")[LAST], plain.trained[2])
    assert torch.equal(load_file(tmp_path / "during-2" / "resolvent.safetensors")[LAST], run.seen[-1])


def test_a_checkpoint_without_averages_begins_them_afresh(tmp_path: Path, digits) -> None:
    trainer(tmp_path, digits, steps=2).train()
    run = trainer(tmp_path, digits, steps=4)
    ResolventCallback().join(run)
    with pytest.warns(UserWarning, match="begins afresh"):
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert '"steps": 2' in (tmp_path / "checkpoint-4" / "resolvent.json").read_text()


def test_a_callback_that_did_not_join_says_how(tmp_path: Path, digits) -> None:
    run = trainer(tmp_path, digits, callbacks=[ResolventCallback()])
    with pytest.raises(InvalidStateError, match=r"\.join\(trainer\)"):
        run.train()


def test_joining_and_leaving_keep_to_their_order(tmp_path: Path, digits) -> None:
    run = trainer(tmp_path, digits)
    first, second = ResolventCallback().join(run), ResolventCallback().join(run)
    with pytest.raises(InvalidStateError, match="with a trainer already"):
        first.join(run)
    with pytest.raises(InvalidStateError, match="someone else"):
        first.leave()
    second.leave()
    first.leave()
    first.leave()  # the second time it does nothing
    assert not {"train", "evaluation_loop", "save_model"} & set(vars(run))
    run.is_fsdp_enabled = True
    with pytest.raises(InvalidStateError, match="shard"):
        first.join(run)
