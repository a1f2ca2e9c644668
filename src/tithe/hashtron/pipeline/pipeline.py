"""The pipeline: trains a network a neuron at a time, backward or forward, and can be interrupted at any moment."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.histories import histories_from_plain, histories_to_plain
from tithe.hashtron.backward.margin import TAU, gold_zone
from tithe.hashtron.backward.policies import Constant, Policy, policy
from tithe.hashtron.backward.staleness import fingerprint
from tithe.hashtron.backward.sum_cache import SumCache
from tithe.hashtron.fitting import fit_network
from tithe.hashtron.network import Network
from tithe.hashtron.pipeline.course import Course, TimeUpError
from tithe.hashtron.pipeline.journal import Journal
from tithe.hashtron.pipeline.recording import Recorder, known_histories, next_run
from tithe.hashtron.pipeline.step import Step
from tithe.hashtron.pipeline.turns import Rules, Turns
from tithe.hashtron.trainee import Trainee
from tithe.hashtron.votes import Loss

__all__ = ["Pipeline", "Run"]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Run:
    """What a pipeline made.

    Attributes:
        network: the trained network.
        steps: all that was done, in order.
        stopped: why it ended early, ``"timeout"``; empty where it did not.
        warnings: what the user should know, in words.
    """

    network: Network
    steps: tuple[Step, ...]
    stopped: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """Trains a network a neuron at a time from the votes of all samples, in sweeps over its layers.

    Backward, a sweep begins with the final layer, its neurons hashed to N keys (phase 0), and goes back to the first,
    layer by layer; within a layer :func:`~tithe.hashtron.select` says which neuron is next. After the first phase 0 at
    least 1 % of the votes for the last hidden layer must be pivotal; else the final neuron becomes a majority, where it
    can. A neuron that cannot be trained waits for the others of its layer and is skipped after ``tries``; where a whole
    layer is stuck, the run goes forward to the final layer once and then on. Forward, a sweep takes all neurons in a
    random order, once each, as the reference does.

    Args:
        direction: ``"backward"`` or ``"forward"``.
        policy: what decides the premodulo of hidden neurons: a name of ``policy``, a mapping with its ``name`` and
            options, or a ``Policy``; by default the capacity law backward, and none forward.
        final: ``"majority"`` makes the neuron of the last layer a threshold on how many of the bits that it reads are
            true, so that as many answers are true as targets (of equal weight each if ``balanced``). Several last
            neurons, whose targets are to be all true or all false, become stairs around it, and so give a margin.
        sweeps: over all layers, at least 1.
        balanced: whether rare targets count as much as frequent ones.
        tries: how often a neuron may fail in a sweep, backward.
        tau: τ of the gold zone, above 0 and at most 1.
        neuron_timeout: seconds after which the training of a neuron counts as failed.
        timeout: seconds of training after which a run ends, with what it has.
        accept: ``"not worse"`` keeps a neuron as it is where the loss of the held-out samples would rise.
        probe: how many samples at most are asked about a neuron of which nothing is known.
        pairs: whether the neuron that is most anti-correlated with the one just trained is next.
        rollback: ``"soft"`` goes forward, whatever the direction is; ``"medium"`` goes in the direction given, but
            reads no sums: random neurons, no premodulo; ``"hard"`` is ``fit_network`` and nothing else: no cache, no
            folder, no steps.

    Raises ``InvalidValueError`` for other values. Source: MISSION H5, H6.

    >>> from tithe.hashtron import Layer, Topology
    >>> from tithe.hashtron.combiners import MajorityPool
    >>> topology = Topology((Layer(9, combiner=MajorityPool(3, 1, 3, capwidth=3)), Layer(1)))
    >>> start = Network.random(topology, np.random.default_rng(0))
    >>> run = Pipeline(policy="none", final="majority").fit(start, np.arange(50), np.arange(50) % 2, seed=0)
    >>> [step.layer for step in run.steps[:3]], run.network.predict(np.arange(4)).tolist()
    ([1, 0, 0], [0, 1, 0, 1])
    """

    direction: Literal["backward", "forward"] = "backward"
    policy: Policy | str | Mapping[str, Any] | None = None
    final: Literal["votes", "majority"] = "votes"
    sweeps: int = 1
    balanced: bool = True
    tries: int = 3
    tau: float = TAU
    neuron_timeout: float | None = None
    timeout: float | None = None
    accept: Literal["always", "not worse"] = "always"
    probe: int = 256
    pairs: bool = False
    rollback: Literal["soft", "medium", "hard"] | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InvalidValueError(f"{name} is {getattr(self, name)!r}; use one of {allowed}")
        for name in ("sweeps", "tries", "probe"):
            object.__setattr__(self, name, integer(name, getattr(self, name), 1))
        for name in ("neuron_timeout", "timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise InvalidValueError(f"{name} is {seconds!r}; use seconds above 0, or None")
        gold_zone(1, self.tau)  # refuses a tau that cannot be
        if self.rollback == "soft":
            object.__setattr__(self, "direction", "forward")
        object.__setattr__(self, "policy", Constant() if self.rollback == "medium" else self._policy())

    def _policy(self) -> Policy:
        if self.policy is None:
            return policy("law" if self.direction == "backward" else "none")
        if isinstance(self.policy, str):
            return policy(self.policy)
        if isinstance(self.policy, Mapping):
            return policy(**self.policy)
        return self.policy

    def fit(
        self,
        network: Network,
        X: ArrayLike,
        y: ArrayLike,
        *,
        seed: int,
        held_out: tuple[ArrayLike, ArrayLike] | None = None,
        cache: SumCache | None = None,
        folder: str | os.PathLike[str] | None = None,
        loss: Loss | None = None,
        progress: Callable[[Step], None] | None = None,
    ) -> Run:
        """Train a network.

        Args:
            network: where to start; ``Network.random`` makes one.
            X: samples, as for ``Network.predict``.
            y: what the network should answer, non-negative integers (N,) that it can answer.
            seed: of everything that is random, not negative.
            held_out: other samples and targets, by which it is measured after every neuron.
            cache: gets a record of every neuron that is trained, under a run number of its own, and tells what is known
                from earlier runs on the same data.
            folder: where every neuron is noted once it is trained. The same call goes on there after an interruption,
                ``kill -9`` included, and ends with the network that it would have ended with; where the run had ended,
                it gives the same run again.
            loss: see ``tally``.
            progress: called with every new step.

        Returns:
            The run; the same for the same arguments, unless there are timeouts. Raises ``InvalidDTypeError`` or
            ``InvalidValueError`` for arguments that cannot be, ``InvalidStateError`` where the folder holds a run with
            others, or is in use, ``CorruptFileError`` where it is damaged. O(sweeps · neurons · N · what lies behind
            one).
        """
        if self.accept == "not worse" and held_out is None:
            raise InvalidValueError(
                "accept is 'not worse', but there are no held-out samples to tell by: give held_out"
            )
        if self.rollback == "hard":
            return self._reference(network, X, y, seed, loss)
        seed = integer("seed", seed, 0)
        trainee = Trainee(network, X, y, loss=loss, held_out=held_out)
        assert not (self.policy is None or isinstance(self.policy, str | Mapping)), "it became one"
        rules = Rules(self.policy, self.balanced, self.tries, self.neuron_timeout, self.accept, seed)
        data = fingerprint(np.asarray(X), np.asarray(y))
        histories = {} if self.rollback == "medium" else known_histories(cache, data, max(1, self.policy.reads))
        begun = {"run": next_run(cache), "histories": histories_to_plain(histories)}
        with Journal(
            None if folder is None else Path(folder), self._start(network, data, held_out, loss, seed), begun
        ) as journal:
            recorder = Recorder(cache, int(journal.begun["run"]), data)
            known = histories_from_plain(journal.begun["histories"])
            turns = Turns(rules, trainee, journal, known, recorder, progress)
            course, stopped = Course(self, turns, journal, seed), ""
            try:
                course.run()
            except TimeUpError:
                stopped = "timeout"
            finally:
                recorder.flush()
        for told in course.warnings:
            warnings.warn(told, RuntimeWarning, stacklevel=2)
        return Run(trainee.network, tuple(turns.steps), stopped, tuple(course.warnings))

    def _start(
        self,
        network: Network,
        data: int,
        held_out: tuple[ArrayLike, ArrayLike] | None,
        loss: Loss | None,
        seed: int,
    ) -> dict[str, Any]:
        """What a run depends on, for its journal."""
        neurons = "\n".join([network.topology.to_json(), *(neuron.to_json() for neuron in network.neurons)])
        return {
            "version": _VERSION,
            **{each.name: repr(getattr(self, each.name)) for each in fields(self)},
            "seed": seed,
            "network": hashlib.sha256(neurons.encode()).hexdigest(),
            "data": data,
            "held out": None if held_out is None else fingerprint(*map(np.asarray, held_out)),
            "loss": None if loss is None else getattr(loss, "__qualname__", type(loss).__name__),
        }

    def _reference(self, network: Network, X: ArrayLike, y: ArrayLike, seed: int, loss: Loss | None) -> Run:
        found = fit_network(
            network, X, y, seed=seed, rounds=self.sweeps, balanced=self.balanced, final=self.final, loss=loss
        )
        return Run(found.network, (), warnings=("rolled back hard: trained by fit_network, without cache and folder",))


_CHOICES = {
    "direction": ("backward", "forward"),
    "final": ("votes", "majority"),
    "accept": ("always", "not worse"),
    "rollback": (None, "soft", "medium", "hard"),
}
