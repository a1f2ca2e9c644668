"""How far a run has come: a checkpoint from which it goes on after an interruption as if there had been none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import discard
from tithe.ledger import Ledger
from tithe.tether.checkpoints import read_checkpoint, write_checkpoint
from tithe.tether.generations import Generations
from tithe.tether.population import Population

__all__ = ["Identity", "Progress", "begun", "differences", "resumed"]

Identity = dict[str, Any]
_SYSTEM = "tether"
_PARTS = {"identity", "run", "alone", "surroundings", "events", "told", "bookmark", "population", "generator"}


@dataclass
class Progress:
    """One run of training on its way; its events wait for the next checkpoint, so that none is told twice.

    Attributes:
        run: its name in the ledger.
        identity: what makes it this run and no other, of JSON values.
        path: of the checkpoint.
        ledger: where events go.
        generations: where bookmarks go.
        alone: what came out for each member alone, once that is known.
    """

    run: str
    identity: Identity
    path: Path
    ledger: Ledger
    generations: Generations
    alone: list[float] | None = None
    _waiting: list[tuple[str, str, str, Mapping[str, Any]]] = field(default_factory=list)
    _told: int = 0  # events that are in the ledger
    _kept: dict[str, Any] = field(default_factory=dict)  # from the checkpoint, to be put back

    def append(self, run: str, system: str, kind: str, payload: Mapping[str, Any]) -> None:
        """Take an event, for the ledger."""
        self._waiting.append((run, system, kind, payload))

    def put_back(self, population: Population, generator: torch.Generator) -> None:
        """Put a population and the generator of its batches where they were; to be called once they are made."""
        if self._kept:
            population.load_state_dict(self._kept["population"])
            generator.set_state(self._kept["generator"])
            self._kept = {}

    def save(self, population: Population, generator: torch.Generator) -> None:
        """Write the checkpoint, then the events that were waiting: whoever is killed in between still has them."""
        state = {
            "identity": self.identity, "run": self.run, "alone": self.alone, "surroundings": _surroundings(),
            "events": self._waiting, "told": self._told, "bookmark": self.generations.newest,
            "population": population.state_dict(), "generator": generator.get_state(),
        }  # fmt: skip
        write_checkpoint(self.path, state)
        self._tell()

    def finish(self) -> None:
        """Take the checkpoint away."""
        discard(self.path)

    def _tell(self) -> None:
        self.ledger.extend(self._waiting)
        self._told, self._waiting = self._told + len(self._waiting), []


def begun(path: Path, identity: Identity, ledger: Ledger, generations: Generations, config: dict[str, Any]) -> Progress:
    """A new run, whose first event has its identity and its configuration."""
    run = f"population {len(ledger.read(kind='start')) + 1}"
    progress = Progress(run, identity, path, ledger, generations)
    progress.append(run, _SYSTEM, "start", {"config": config, "identity": identity})
    return progress


def resumed(path: Path, identity: Identity, ledger: Ledger, generations: Generations) -> tuple[Progress, list[str]]:
    """The run of a checkpoint, its ledger and its bookmarks set back to it.

    Returns:
        The run, and what a user should know. Raises ``CorruptFileError`` where the checkpoint is damaged or older than
        the ledger, ``InvalidValueError`` where it is of another run; nothing is changed then. O(bytes).
    """
    try:
        kept = read_checkpoint(path)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}, or begin anew with --fresh") from error
    if not kept.keys() >= _PARTS:
        raise CorruptFileError(f"{path} is the checkpoint of something else; move it away, or begin anew with --fresh")
    if other := differences(kept["identity"], identity):
        raise InvalidValueError(
            f"{path.parent} holds an interrupted run of another configuration: {'; '.join(other)}. Put it back, give "
            "another --out, or begin anew with --fresh"
        )
    progress = Progress(kept["run"], identity, path, ledger, generations, kept["alone"], kept["events"], _kept=kept)
    there, before = len(ledger.read(run=progress.run)), kept["told"]
    if there > before + len(progress._waiting):
        raise CorruptFileError(
            f"{ledger.path} has {there} events of {progress.run!r}, and {path} was made after {before}: it is an older "
            "one; put the right one there, or begin anew with --fresh"
        )
    where = "each alone" if progress.alone is None else "together"
    notes = [f"the interrupted run goes on: members {where}, after step {kept['population']['steps']}"]
    if there < before:  # as may be where the machine lost power
        notes.append(f"{before - there} events of {progress.run!r} are lost from {ledger.path}")
    if changed := differences(kept["surroundings"], _surroundings()):
        notes.append(f"it may not go on bit by bit as it would have: {'; '.join(changed)}")
    progress._told = there
    if there > before:
        progress._waiting = []
    progress._tell()
    generations.forget_after(kept["bookmark"])
    return progress, notes


def differences(kept: Mapping[str, Any], given: Mapping[str, Any], place: str = "") -> list[str]:
    """What is not the same in two nested mappings, in words.

    >>> differences({"training": {"steps": 3, "seed": 0}}, {"training": {"steps": 4, "seed": 0}})
    ['training.steps was 3 and is 4']
    """
    found = []
    for key in dict.fromkeys([*kept, *given]):
        one, other = kept.get(key), given.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, f"{place}{key}.")
        elif one != other:
            found.append(f"{place}{key} was {one} and is {other}")
    return found


def _surroundings() -> dict[str, Any]:
    """What the last bits of sums depend on."""
    return {
        "torch": str(torch.__version__), "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
