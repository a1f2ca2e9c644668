"""Averaged weights, filtered gradients and coherence in trainings by Lightning: one callback."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from tithe.errors import InvalidStateError, MissingExtraError
from tithe.golden import PHI
from tithe.integrations.attached import Attached, Finish, Settings
from tithe.ledger import Ledger

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
except ImportError as error:
    raise MissingExtraError("this callback needs Lightning: pip install 'tithe[lightning]'") from error

__all__ = ["ResolventCallback"]

_SHARDED = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)


class ResolventCallback(Callback):  # type: ignore[misc]  # Lightning is not looked at for types
    """Averages a model's weights while Lightning trains it, and validates with the averages.

    The optimiser's own steps are followed, so accumulation of gradients and steps that a gradient scaler skips count
    rightly. Validation runs on the averaged weights; training goes on from its own, also if validation raises.

    Checkpoints keep the trained weights under ``state_dict``, so training goes on from them with or without this
    callback, and the averages as the callback's state; ``fit(ckpt_path=...)`` goes on as if it had never stopped.
    ``validate``, ``test`` and ``predict`` with ``ckpt_path`` use the averages of that checkpoint; without it, whatever
    weights the model has, which after ``fit`` are those that ``finish`` says.

    Args:
        tau: time constant of the averages in optimiser steps, as for ``TrajectoryFilter``.
        power: if given, gradients are filtered, too: 1 damps short waves, −1 whitens, as for ``GradientFilter``.
        phi: of that resolvent.
        layout: how the inputs of some Linear weights lie, by the weight's name in the LightningModule:
            {"net.0.weight": (28, 28)}; for ``power`` and ``monitor``.
        monitor: a ledger for the coherence of the layers, as for ``Monitor``; ``None`` records none.
        run: which run of the ledger it belongs to.
        stride: record every so many optimiser steps.
        finish: which weights the model has when Lightning is done: ``"averaged"``, or those that were trained,
            ``"live"``. After an exception they are the trained ones.

    Raises ``InvalidValueError`` for what cannot be used; when training begins, ``InvalidStateError`` where the module
    does not have exactly one optimiser, or a strategy shards its weights. Memory: one copy of the weights, a second one
    during validation. Source: MISSION R2, R7; Izmailov et al. 2018, arXiv:1803.05407.

    >>> callback = ResolventCallback(tau=200, finish="live")  # Trainer(callbacks=[callback]).fit(module, loader)
    >>> callback.state_dict()
    {}
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
        self._loaded: dict[str, Any] | None = None
        self.attached: Attached | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run; the state of a checkpoint comes after this."""
        self.attached = self._loaded = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the filters on the optimiser. ``InvalidStateError`` where there is not exactly one."""
        if isinstance(trainer.strategy, _SHARDED):
            raise InvalidStateError(
                f"{type(trainer.strategy).__name__} shards the weights, and they are averaged whole: use DDP, or train "
                "without this callback"
            )
        own = set(pl_module.parameters())  # where the module gives no optimiser, Lightning makes one of nothing
        optimizers = [o for o in trainer.optimizers if any(p in own for g in o.param_groups for p in g["params"])]
        if len(optimizers) != 1:
            raise InvalidStateError(
                f"{type(pl_module).__name__}.configure_optimizers gives {len(optimizers)} optimizers; this callback "
                "follows the steps of exactly one. With several, attach TrajectoryFilter(model, optimizer=...) to the "
                "one that counts"
            )
        self.attached = Attached(pl_module, optimizers[0], self._settings, self._loaded)
        self._loaded = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lend the averages out."""
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take them back, before a checkpoint is written."""
        self._swap_out()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lend out the averages of the checkpoint."""
        self._swap_in(pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take them back."""
        self._swap_out()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lend out the averages of the checkpoint."""
        self._swap_in(pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take them back."""
        self._swap_out()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take everything off, when the last checkpoint is written."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the trained weights and no hooks; the averages stay for a checkpoint that others may write now."""
        if self.attached is not None:
            self.attached.remove()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finish a run on a checkpoint; a fit that was broken off without an exception is left as it was."""
        if stage == "fit" and self.attached is not None:
            self.attached.remove()
            self.attached = None
        self._finish()
        self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint: mappings of numbers and tensors, empty outside of a run."""
        return {} if self.attached is None else self.attached.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what a checkpoint has until the run begins."""
        self._loaded = state_dict

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Where someone saves during validation, save the trained weights nevertheless."""
        if self.attached is not None and self.attached.lent:
            with self.attached.live():
                checkpoint["state_dict"] = copy.deepcopy(trainer.strategy.lightning_module_state_dict())

    def _swap_in(self, model: nn.Module) -> None:
        if self.attached is None and self._loaded is not None:
            self.attached = Attached(model, None, self._settings, self._loaded)
        if self.attached is not None:
            self.attached.swap_in()

    def _swap_out(self) -> None:
        if self.attached is not None:
            self.attached.swap_out()

    def _finish(self) -> None:
        if self.attached is not None:
            self.attached.finish()
            self.attached = None
