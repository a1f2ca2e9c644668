"""A population trained on files: what ``tithe tether train`` does, and what it leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import write_atomically
from tithe.ledger import Ledger
from tithe.locks import locked
from tithe.tether import pictures
from tithe.tether.config import RunConfig
from tithe.tether.generations import Generations
from tithe.tether.population import Population
from tithe.tether.progress import Identity, Progress, begun, differences, resumed
from tithe.tether.samples import Samples, checksum, split

__all__ = ["Outcome", "train_run"]

CHECKPOINT, OUTCOME = "run.checkpoint", "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one member.

    Attributes:
        name: of the member.
        group: the names of those that it merges with at the end, its own included.
        accuracy: on its held-out samples; NaN without any.
        alone: that of a member trained alone on the same samples, for comparison.
    """

    name: str
    group: tuple[str, ...]
    accuracy: float
    alone: float


def train_run(
    config: RunConfig,
    data: Sequence[tuple[Tensor, Tensor]],
    folder: Path,
    tell: Callable[[int], None] = lambda step: None,
    *,
    fresh: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> list[Outcome]:
    """Train a population and leave everything in a folder.

    A run that was interrupted goes on from its last checkpoint, to the same weights, bit for bit, and the same events;
    one that is finished, of the same configuration and samples, is not trained again.

    Args:
        config: of the run.
        data: inputs and labels of each member.
        folder: gets ``runs.db`` (the ledger), ``generations/``, ``<member>.safetensors`` (plain state dicts),
            ``outcome.json`` and, with matplotlib, pictures; until the end also ``run.checkpoint``.
        tell: is given the number of steps that were taken.
        fresh: begin anew, whatever the folder holds.
        note: is given what a user should know of earlier runs in the folder.

    Returns:
        What became of each member. Raises ``InvalidValueError`` for samples that do not go together, and where the
        folder holds an interrupted run of another configuration, ``CorruptFileError`` where its checkpoint is damaged,
        ``InvalidStateError`` where another process trains there. O(steps of training, twice: once alone for the
        comparison).
    """
    widths = {x.shape[1] for x, _ in data}
    if len(widths) > 1:
        raise InvalidValueError(f"the members' samples have {sorted(widths)} numbers; give all as many")
    with locked(folder), Ledger(folder / "runs.db") as ledger:
        identity, checkpoint = _identity(config, data), folder / CHECKPOINT
        generations = Generations(folder / "generations")
        if checkpoint.exists() and not fresh:
            progress, notes = resumed(checkpoint, identity, ledger, generations)
            for text in notes:
                note(text)
        else:
            if not fresh and (outcomes := _finished(config, folder, ledger, identity, note)):
                return outcomes
            progress = begun(checkpoint, identity, ledger, generations, asdict(config))
        parts = [split(x, y, config.training.held_out, i) for i, (x, y) in enumerate(data)]
        classes = config.model.classes or 1 + max(int(y.max()) for _, y in data)
        if progress.alone is None:
            models = _trained(config, parts, classes, progress, False, tell).models
            progress.alone = [_accuracy(model, part) for model, part in zip(models, parts, strict=True)]
        population = _trained(config, parts, classes, progress, True, tell)
        outcomes = _left_in(folder, population, parts, progress.alone)
        draw(ledger, progress.run, folder)
        progress.finish()
    return outcomes


def _trained(
    config: RunConfig, parts: Sequence[Samples], classes: int, progress: Progress, together: bool,
    tell: Callable[[int], None],
) -> Population:  # fmt: skip
    """A population, or members that stay alone, after all steps; from where they were if they were interrupted."""
    training, names = config.training, [member.name for member in config.members]
    inputs = parts[0].x.shape[1]
    population = Population(
        [_network(inputs, config.model.hidden, classes, training.seed) for _ in names],
        nn.functional.cross_entropy, lambda p: _optimizer(training.optimizer, p, training.rate), config.policy,
        fixed=None if together else [[i] for i in range(len(names))],
        generations=progress.generations if together else None, ledger=progress if together else None,
        run=progress.run, names=names,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(training.seed)
    progress.put_back(population, generator)
    for step in range(population.steps, training.steps):
        if step % training.checkpoint == 0:
            progress.save(population, generator)
        rows = [torch.randint(len(part.x), (training.batch,), generator=generator) for part in parts]
        population.step([(part.x[r], part.y[r]) for part, r in zip(parts, rows, strict=True)])
        tell(step + 1 + together * training.steps)
    progress.save(population, generator)
    return population


def _left_in(folder: Path, population: Population, parts: Sequence[Samples], alone: Sequence[float]) -> list[Outcome]:
    """What became of each member, once its model and this lie in the folder."""
    names = population.names
    for member, name in enumerate(names):
        state = {key: t.contiguous() for key, t in population.export(member).state_dict().items()}
        write_atomically(folder / f"{name}.safetensors", save(state))
    group_of = {i: tuple(names[j] for j in group) for group in population.groups for i in group}
    found = [_accuracy(model, part) for model, part in zip(population.models, parts, strict=True)]
    outcomes = [Outcome(n, group_of[i], found[i], alone[i]) for i, n in enumerate(names)]
    write_atomically(folder / OUTCOME, json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return outcomes


def _finished(
    config: RunConfig, folder: Path, ledger: Ledger, identity: Identity, note: Callable[[str], None]
) -> list[Outcome]:
    """What came out of the last run in a folder if it was the same one, none otherwise."""
    files = [folder / OUTCOME, *(folder / f"{member.name}.safetensors" for member in config.members)]
    begun_runs = ledger.read(system="tether", kind="start")
    if not begun_runs or not all(path.exists() for path in files):
        return []
    if other := differences(begun_runs[-1].payload.get("identity", {}), identity):
        note(f"what the last run left in {folder} is replaced; it had another configuration: {'; '.join(other)}")
        return []
    try:
        kept = json.loads(files[0].read_text(encoding="utf-8"))
        outcomes = [Outcome(one["name"], tuple(one["group"]), one["accuracy"], one["alone"]) for one in kept]
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptFileError(f"{files[0]} is damaged ({error}); train anew with --fresh") from error
    note("this run was finished before; --fresh trains anew")
    return outcomes


def _identity(config: RunConfig, data: Sequence[tuple[Tensor, Tensor]]) -> Identity:
    """What decides how a run goes, of JSON values: not where its files lie, and how often it is kept."""
    known = asdict(config)
    del known["features"], known["training"]["checkpoint"]
    names = [member.name for member in config.members]
    known |= {"members": names, "samples": {n: checksum(x, y) for n, (x, y) in zip(names, data, strict=True)}}
    found: Identity = json.loads(json.dumps(known))
    return found


def draw(ledger: Ledger, run: str, folder: Path) -> list[Path]:
    """The pictures that a run has events for, as PNG files; none without matplotlib."""
    drawn = []
    for picture in (pictures.descent, pictures.compatibility_over_time, pictures.family_tree):
        try:
            figure = picture(ledger, run)
        except (ImportError, InvalidValueError):  # no matplotlib, or nothing to show
            continue
        path = folder / f"{picture.__name__.replace('_', '-')}.png"
        figure.savefig(path, dpi=120)
        drawn.append(path)
    return drawn


def _network(inputs: int, hidden: Sequence[int], classes: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, classes))


def _optimizer(name: str, parameters: Any, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=rate) if name == "adam" else torch.optim.SGD(parameters, rate, momentum=0.9)


@torch.no_grad()
def _accuracy(model: nn.Module, part: Samples) -> float:
    return float((model(part.test_x).argmax(1) == part.test_y).double().mean()) if len(part.test_y) else float("nan")
