"""Averaged weights, filtered gradients and coherence in trainings by Hugging Face's Trainer: one callback."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import nn
from torch.optim import Optimizer

from tithe.errors import InvalidStateError, MissingExtraError
from tithe.golden import PHI
from tithe.integrations.attached import Attached, Finish, Settings, copy_averages
from tithe.integrations.state_files import has_state, read_state, write_state
from tithe.ledger import Ledger

try:
    from accelerate.optimizer import AcceleratedOptimizer
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as error:
    raise MissingExtraError("this callback needs transformers: pip install 'tithe[transformers]'") from error

__all__ = ["ResolventCallback"]


class ResolventCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not looked at for types
    """Averages a model's weights while a Trainer trains it, and evaluates with the averages.

    A Trainer tells its callbacks when an evaluation is over, not when it begins, nor from where training is resumed,
    nor that it failed. So this one is not passed as ``callbacks=[...]`` but joins a trainer, whose public methods
    ``train``, ``evaluation_loop`` and ``save_model`` it then goes around: ``ResolventCallback().join(trainer)``.

    The inner optimiser's own steps are followed, so accumulation of gradients and steps that a gradient scaler skips
    count rightly. While training runs, ``evaluate`` and ``predict`` use the averaged weights, and training goes on from
    its own, also if they raise. Afterwards they use what the model has, which is what ``finish`` says.

    Checkpoints keep the trained weights as ever, and the averages beside them: ``resolvent.safetensors``, by the names
    of the model's parameters, and ``resolvent.json``. ``train(resume_from_checkpoint=...)`` goes on as if it had never
    stopped. With ``load_best_model_at_end`` and ``finish="averaged"`` it is the averages of the best checkpoint that
    are left.

    Args:
        tau: time constant of the averages in optimiser steps, as for ``TrajectoryFilter``.
        power: if given, gradients are filtered, too: 1 damps short waves, −1 whitens, as for ``GradientFilter``.
        phi: of that resolvent.
        layout: how the inputs of some Linear weights lie, by the weight's name: {"encoder.weight": (28, 28)}; for
            ``power`` and ``monitor``.
        monitor: a ledger for the coherence of the layers, as for ``Monitor``; ``None`` records none.
        run: which run of the ledger it belongs to.
        stride: record every so many optimiser steps.
        finish: which weights the model has after ``train``: ``"averaged"``, or those that were trained, ``"live"``.
            After an exception they are the trained ones.

    Raises ``InvalidValueError`` for what cannot be used. Memory: one copy of the weights, a second one during
    evaluation. Source: MISSION R2, R7; Izmailov et al. 2018, arXiv:1803.05407.

    >>> callback = ResolventCallback(tau=200)  # callback.join(trainer); trainer.train()
    >>> callback.attached is None
    True
    """

    def __init__(
        self,
        tau: float = 100.0,
        *,
        power: float | None = None,
        phi: float = PHI,
        layout: Mapping[str, tuple[int, ...]] | None = None,
        monitor: Ledger | None = None,
        run: str = "run",
        stride: int = 50,
        finish: Finish = "averaged",
    ) -> None:
        self._settings = Settings(tau, power, phi, layout, monitor, run, stride, finish)
        self._trainer: Trainer | None = None
        self._around: dict[str, Callable[..., Any]] = {}
        self._resumed: str | None = None
        self.attached: Attached | None = None

    def join(self, trainer: Trainer) -> Self:
        """Take part in the trainings of a trainer, until ``leave``.

        Args:
            trainer: any, also of a derived class.

        Returns:
            The callback itself. Raises ``InvalidStateError`` where it is with a trainer already, or where weights are
            sharded.
        """
        if self._trainer is not None:
            raise InvalidStateError("this callback is with a trainer already; call leave() first, or make another")
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise InvalidStateError(
                "FSDP and DeepSpeed shard the weights, and they are averaged whole: use DDP, or train without this"
            )
        self._trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        ways: dict[str, Callable[..., Any]] = {
            "train": self._train, "evaluation_loop": self._evaluate, "save_model": self._save,
        }  # fmt: skip
        for name, way in ways.items():
            self._around[name] = functools.partial(way, getattr(trainer, name))
            setattr(trainer, name, self._around[name])
        return self

    def leave(self) -> None:
        """Leave the trainer as it was. ``InvalidStateError`` during training, or where others went around it since."""
        trainer = self._trainer
        if trainer is None:
            return
        if self.attached is not None:
            raise InvalidStateError("the trainer is training; call leave() after it")
        if any(vars(trainer).get(name) is not way for name, way in self._around.items()):
            raise InvalidStateError("someone else has replaced methods of this trainer since; let them leave first")
        for name, way in self._around.items():
            before: Any = way.args[0]  # type: ignore[attr-defined]  # a partial
            delattr(trainer, name)
            if getattr(trainer, name) != before:  # it was replaced before we came
                setattr(trainer, name, before)
        trainer.remove_callback(self)
        self._trainer, self._around = None, {}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the filters on the inner optimiser. ``InvalidStateError`` where no trainer was joined."""
        if self._trainer is None:
            raise InvalidStateError(
                "a callback alone does not see where evaluation begins: instead of callbacks=[ResolventCallback(...)] "
                "write ResolventCallback(...).join(trainer)"
            )
        if self.attached is not None:  # a batch size was too large, and training begins again
            self.attached.remove()
        while isinstance(optimizer, AcceleratedOptimizer):
            optimizer = optimizer.optimizer
        if model is None or not isinstance(optimizer, Optimizer):
            raise InvalidStateError(
                f"the trainer has the optimizer {optimizer!r}; this callback follows one of torch.optim"
            )
        earlier = None
        if self._resumed is not None and has_state(self._resumed):
            earlier = read_state(self._resumed)
        elif self._resumed is not None:
            warnings.warn(f"{self._resumed} holds no averaged weights; averaging begins afresh", stacklevel=2)
        self.attached = Attached(model, optimizer, self._settings, earlier)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Take everything off, and leave the weights that were asked for."""
        attached, self.attached = self.attached, None
        best = state.best_model_checkpoint if args.load_best_model_at_end else None
        if attached is None:
            return
        if best is None:
            attached.finish()
            return
        attached.remove()
        if self._settings.finish == "averaged" and has_state(best):
            assert model is not None
            copy_averages(model, read_state(best))
        elif self._settings.finish == "averaged":
            warnings.warn(f"{best} holds no averaged weights; its trained ones are left", stacklevel=2)

    def _train(
        self, train: Callable[..., Any], resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        assert self._trainer is not None
        if resume_from_checkpoint is True:
            self._resumed = get_last_checkpoint(self._trainer.args.output_dir)
        else:
            self._resumed = resume_from_checkpoint or None
        try:
            return train(resume_from_checkpoint, *args, **kwargs)
        finally:
            if self.attached is not None:  # it failed
                self.attached.remove()
            self.attached = self._resumed = None

    def _evaluate(self, evaluation_loop: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.attached is None:
            return evaluation_loop(*args, **kwargs)
        with self.attached.averaged():
            return evaluation_loop(*args, **kwargs)

    def _save(self, save_model: Callable[..., Any], output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        assert self._trainer is not None
        if self.attached is None:
            save_model(output_dir, *args, **kwargs)
            return
        with self.attached.live():
            save_model(output_dir, *args, **kwargs)
        if self._trainer.args.should_save:
            write_state(self._trainer.args.output_dir if output_dir is None else output_dir, self.attached.state())
