"""A population trained on files: what ``tithe tether train`` does, and what it leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.files import write_atomically
from tithe.ledger import Ledger
from tithe.tether import pictures
from tithe.tether.config import Member, RunConfig
from tithe.tether.generations import Generations
from tithe.tether.population import Population
from tithe.tether.text_files import read_numbers

__all__ = ["Outcome", "Samples", "read_member", "train_run"]

RUN = "population"


@dataclass(frozen=True)
class Samples:
    """One member's samples: inputs (n, features) float32 and labels (n,) int64, those that it trains on and others."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


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


def read_member(member: Member, features: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (n, features) and labels (n,) of a member.

    Raises ``CorruptFileError`` for a malformed file and ``InvalidValueError`` where the two do not go together.
    """
    y = _numbers(Path(member.labels), (-1,), torch.int64)
    x = _numbers(Path(member.inputs), (len(y), features or -1), torch.float32).flatten(1)
    if len(x) != len(y) or len(y) < 2:
        raise InvalidValueError(
            f"member {member.name!r} has {len(x)} inputs and {len(y)} labels; give two or more of both"
        )
    if int(y.min()) < 0:
        raise InvalidValueError(f"member {member.name!r} has the label {int(y.min())}; use 0 to classes − 1")
    return x, y


def train_run(
    config: RunConfig,
    data: Sequence[tuple[Tensor, Tensor]],
    folder: Path,
    tell: Callable[[int], None] = lambda step: None,
) -> list[Outcome]:
    """Train a population and leave everything in a folder.

    Args:
        config: of the run.
        data: inputs and labels of each member.
        folder: gets ``runs.db`` (the ledger), ``generations/``, ``<member>.safetensors`` (plain state dicts),
            ``outcome.json`` and, with matplotlib, pictures.
        tell: is given the number of steps that were taken.

    Returns:
        What became of each member. O(steps of training, twice: once alone for the comparison).
    """
    widths = {x.shape[1] for x, _ in data}
    if len(widths) > 1:
        raise InvalidValueError(f"the members' samples have {sorted(widths)} numbers; give all as many")
    training, parts = config.training, [_split(x, y, config.training.held_out, i) for i, (x, y) in enumerate(data)]
    classes = config.model.classes or 1 + max(int(y.max()) for _, y in data)
    folder.mkdir(parents=True, exist_ok=True)
    names = [member.name for member in config.members]
    with Ledger(folder / "runs.db") as ledger:
        run = f"{RUN} {len(ledger.read(kind='start')) + 1}"
        ledger.append(run, "tether", "start", {"config": asdict(config)})
        found = {}
        for together in (False, True):
            population = Population(
                [_network(max(widths), config.model.hidden, classes, training.seed) for _ in names],
                nn.functional.cross_entropy, lambda p: _optimizer(training.optimizer, p, training.rate),
                config.policy, fixed=None if together else [[i] for i in range(len(names))],
                generations=Generations(folder / "generations") if together else None,
                ledger=ledger if together else None, run=run, names=names,
            )  # fmt: skip
            generator = torch.Generator().manual_seed(training.seed)
            for step in range(training.steps):
                rows = [torch.randint(len(part.x), (training.batch,), generator=generator) for part in parts]
                population.step([(part.x[r], part.y[r]) for part, r in zip(parts, rows, strict=True)])
                tell(step + 1 + together * training.steps)
            found[together] = [_accuracy(m, part) for m, part in zip(population.models, parts, strict=True)]
        for member, name in enumerate(names):
            state = {key: t.contiguous() for key, t in population.export(member).state_dict().items()}
            write_atomically(folder / f"{name}.safetensors", save(state))
        draw(ledger, run, folder)
    group_of = {i: tuple(names[j] for j in group) for group in population.groups for i in group}
    outcomes = [Outcome(n, group_of[i], found[True][i], found[False][i]) for i, n in enumerate(names)]
    write_atomically(folder / "outcome.json", json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return outcomes


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


def _numbers(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if path.suffix != ".npy":
        return read_numbers(path, shape, dtype=dtype)
    try:
        found = np.load(path, allow_pickle=False)
        return torch.from_numpy(found).to(dtype).reshape(shape)
    except (ValueError, TypeError, EOFError, RuntimeError) as error:
        raise CorruptFileError(f"{path} holds no numbers of shape {shape}: {error}") from error


def _split(x: Tensor, y: Tensor, held_out: float, seed: int) -> Samples:
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    count = min(round(held_out * len(y)), len(y) - 1)
    asked, kept = order[:count], order[count:]
    mean, spread = x[kept].mean(0), x[kept].std(0)
    x = (x - mean) / torch.where(spread > 0, spread, 1.0)
    return Samples(x[kept], y[kept], x[asked], y[asked])


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
