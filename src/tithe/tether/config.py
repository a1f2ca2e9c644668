"""What ``tithe tether train`` reads: a TOML file that names the members' data, the model, the training, the policy."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tithe.errors import CorruptFileError, InvalidValueError
from tithe.tether.policy import MergePolicy

__all__ = ["Member", "Model", "RunConfig", "Training", "read_config"]


@dataclass(frozen=True)
class Member:
    """One member's data.

    Attributes:
        name: of the member.
        inputs: path of a file of whitespace-separated numbers, or ``.npy``; (samples, …).
        labels: likewise, (samples,), integers.
    """

    name: str
    inputs: str
    labels: str


@dataclass(frozen=True)
class Model:
    """An MLP on flattened inputs: ``hidden`` widths between inputs and ``classes`` (0: as many as there are labels)."""

    hidden: tuple[int, ...] = (64,)
    classes: int = 0


@dataclass(frozen=True)
class Training:
    """How members train.

    Attributes:
        steps: of training.
        batch: samples of a step.
        rate: of the optimiser.
        optimizer: ``"adam"`` or ``"sgd"`` (with momentum).
        held_out: share of the samples that are only asked.
        seed: of weights and batches.
        checkpoint: steps after which the run could go on if it was interrupted.
    """

    steps: int = 400
    batch: int = 32
    rate: float = 0.003
    optimizer: Literal["adam", "sgd"] = "adam"
    held_out: float = 0.2
    seed: int = 0
    checkpoint: int = 100


@dataclass(frozen=True)
class RunConfig:
    """All of it.

    Attributes:
        members: two or more.
        features: numbers of one sample, where the inputs are text; 0 if it can be told from the labels.
        model: the network.
        training: how it trains.
        policy: when members merge.
    """

    members: tuple[Member, ...]
    features: int = 0
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    policy: MergePolicy = field(default_factory=MergePolicy)


def read_config(path: Path) -> RunConfig:
    """Read a configuration.

    Args:
        path: a TOML file with a table ``[[member]]`` (name, inputs, labels) for each member, and optionally
            ``features``, ``[model]``, ``[training]`` and ``[policy]`` with the fields of ``MergePolicy``. Paths are
            relative to the file.

    Returns:
        The configuration. Raises ``CorruptFileError`` for a file that is no TOML and ``InvalidValueError`` for a table
        or key that there is not, a value of another type, or fewer than two members.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is no TOML file: {error}") from error
    _known(content, {"member", "features", "model", "training", "policy"}, f"{path}")
    listed = content.get("member", [])
    if not isinstance(listed, list) or len(listed) < 2:
        raise InvalidValueError(f"{path} names {len(listed)} members; give two or more tables [[member]]")
    members = []
    for number, table in enumerate(listed, start=1):
        found = _filled(Member, table, f"{path}, member {number}")
        paths = (str(path.parent / name) for name in (found.inputs, found.labels))
        members.append(Member(found.name, *paths))
    if len({member.name for member in members}) < len(members):
        raise InvalidValueError(f"{path}: two members have one name; give each its own")
    tables = {"model": Model, "training": Training, "policy": MergePolicy}
    filled = {name: _filled(kind, content.get(name, {}), f"{path}, [{name}]") for name, kind in tables.items()}
    training: Training = filled["training"]
    for name, right, wanted in (
        ("steps", training.steps >= 1, "at least 1"), ("batch", training.batch >= 1, "at least 1"),
        ("rate", training.rate > 0, "above 0"), ("optimizer", training.optimizer in ("adam", "sgd"), "'adam' or 'sgd'"),
        ("held_out", 0 <= training.held_out < 1, "a share in [0, 1)"),
        ("checkpoint", training.checkpoint >= 1, "at least 1"),
    ):  # fmt: skip
        if not right:
            raise InvalidValueError(f"{path}, [training]: {name} is {getattr(training, name)}; use {wanted}")
    return RunConfig(tuple(members), int(content.get("features", 0)), **filled)


def _known(table: Mapping[str, Any], names: set[str], where: str) -> None:
    if unknown := sorted(set(table) - names):
        raise InvalidValueError(f"{where} has {', '.join(unknown)}; it may have {', '.join(sorted(names))}")


def _filled(kind: type[Any], table: Mapping[str, Any], where: str) -> Any:
    """A dataclass out of a table, whose values must be of the types of the fields' defaults; without one, a string."""
    fields = {f.name: f.default for f in dataclasses.fields(kind) if f.name != "plateau"}
    _known(table, set(fields), where)
    if missing := [name for name, default in fields.items() if default is dataclasses.MISSING and name not in table]:
        raise InvalidValueError(f"{where} lacks {', '.join(missing)}")
    for name, value in table.items():
        default = fields[name]
        if isinstance(default, tuple):
            fits = isinstance(value, list) and all(type(x) is int for x in value)
        elif isinstance(default, float):
            fits = type(value) in (int, float)
        else:
            fits = type(value) is {dataclasses.MISSING: str, None: int}.get(default, type(default))
        if not fits:
            wanted = "a string" if default is dataclasses.MISSING else f"such a value as {default!r}"
            raise InvalidValueError(f"{where}: {name} is {value!r}; use {wanted}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})
