"""Settings of a pipeline by name, and as a TOML or JSON file; nothing but plain data, so that runs can be compared."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tithe.errors import CorruptFileError, InvalidValueError, TitheError
from tithe.files import write_atomically
from tithe.hashtron.backward.retention import Retention
from tithe.hashtron.pipeline.pipeline import Pipeline

__all__ = ["TEMPLATES", "Template", "load_template", "save_template", "template"]

_SETTINGS = tuple(setting.name for setting in fields(Pipeline))
_KEPT = tuple(part.name for part in fields(Retention))
_EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Template:
    """Settings of a pipeline and what its cache keeps.

    Attributes:
        settings: keyword arguments of ``Pipeline`` as plain data, so that ``Pipeline(**template.settings)`` works.
            ``direction`` is the feature flag; a ``policy`` with ``damper`` and ``most_change`` says how eagerly
            premodulos follow the sums, ``tau`` where the gold zone ends; ``rollback`` is ``"soft"``, forward order,
            ``"medium"``, backward but without reading any sums, or ``"hard"``, ``fit_network``.
        retention: for ``SumCache.prune``; by default everything is kept.

    Raises ``InvalidValueError`` for other names, which says those that there are, and for values that ``Pipeline``
    refuses. Source: MISSION H6, H10.

    >>> Template({"direction": "forward"}).settings
    {'direction': 'forward'}
    >>> Template({"directoin": "forward"})
    Traceback (most recent call last):
    tithe.errors.InvalidValueError: a pipeline has no setting 'directoin'; it has direction, policy, ...
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    retention: Retention = field(default_factory=Retention)

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            raise InvalidValueError(f"settings are {self.settings!r}; a mapping of names and values is expected")
        for name in self.settings:
            if name not in _SETTINGS:
                raise InvalidValueError(f"a pipeline has no setting {name!r}; it has {', '.join(_SETTINGS)}")
        try:
            Pipeline(**self.settings)
        except TypeError as error:  # a text where a number should be, say
            if isinstance(error, TitheError):
                raise
            raise InvalidValueError(f"settings {dict(self.settings)} cannot be: {error}") from error


TEMPLATES: dict[str, Template] = {
    "backward": Template({"direction": "backward"}),
    "forward": Template({"direction": "forward", "policy": "none"}),
    "careful": Template(
        {
            "direction": "backward",
            "policy": {"name": "law", "damper": {"name": "exponential", "weight": 0.5}, "most_change": 2},
            "sweeps": 2,
            "tau": 0.7,
        },
        Retention(last=20),
    ),
    "fast": Template(
        {
            "direction": "backward",
            "policy": {"name": "law", "most_change": 100},
            "tries": 1,
        },
        Retention(last=3),
    ),
    "constant": Template({"direction": "backward", "policy": {"name": "constant", "premodulo": 256}}),
    "reference": Template({"rollback": "hard"}),
}


def template(name: str, **changes: Any) -> dict[str, Any]:
    """The settings of a name, or of a file, with some changed.

    Args:
        name: one of ``TEMPLATES``, or the path of a ``.toml`` or ``.json`` file.
        changes: settings that take the place of the template's.

    Returns:
        Keyword arguments of ``Pipeline``. Raises as :class:`Template` and :func:`load_template` do. O(settings).

    >>> template("careful", sweeps=1)["policy"]["most_change"]
    2
    >>> Pipeline(**template("backward", rollback="soft")).direction
    'forward'
    """
    return dict(Template({**load_template(name).settings, **changes}).settings)


def load_template(name: str | os.PathLike[str]) -> Template:
    """The template of a name, or of a file.

    Args:
        name: one of ``TEMPLATES``, or the path of a ``.toml`` or ``.json`` file with settings and, optionally, a table
            ``retention`` of ``last``, ``seconds`` and ``bytes``.

    Raises ``InvalidValueError`` for what cannot be, ``CorruptFileError`` for a file that is neither, ``OSError``.
    O(size).

    >>> load_template("fast").retention.last
    3
    >>> load_template("slow")
    Traceback (most recent call last):
    tithe.errors.InvalidValueError: there is no template 'slow'; use one of backward, forward, ..., or a file ...
    """
    if str(name) in TEMPLATES:
        return TEMPLATES[str(name)]
    path = Path(name)
    readers = {".toml": tomllib.loads, ".json": json.loads}
    if path.suffix not in readers:
        raise InvalidValueError(
            f"there is no template {str(name)!r}; use one of {', '.join(TEMPLATES)}, or a file that ends in .toml or "
            ".json"
        )
    try:
        found = readers[path.suffix](path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is no {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(found, Mapping):
        raise CorruptFileError(f"{path} holds a {type(found).__name__}; settings by name are expected")
    kept = found.get("retention", _EMPTY)
    if not isinstance(kept, Mapping) or kept.keys() - {*_KEPT}:
        raise InvalidValueError(f"{path}: retention is {kept!r}; a table with some of {', '.join(_KEPT)} is expected")
    try:
        return Template({name: value for name, value in found.items() if name != "retention"}, Retention(**kept))
    except TitheError as error:
        raise InvalidValueError(f"{path}: {error}") from error


def save_template(given: Template, path: str | os.PathLike[str]) -> Path:
    """Write a template for :func:`load_template`, whole or not at all.

    Args:
        given: its settings must be plain: a policy by its name or as a mapping.
        path: ends in ``.toml`` or ``.json``.

    Returns:
        The path. Raises ``InvalidValueError`` for another ending, and for settings that are not plain; ``OSError``.
        O(size).

    >>> import tempfile
    >>> path = save_template(TEMPLATES["careful"], tempfile.mkdtemp() + "/mine.toml")
    >>> load_template(path) == TEMPLATES["careful"]
    True
    """
    path = Path(path)
    kept = {name: value for name, value in asdict(given.retention).items() if value is not None}
    content = {**given.settings, **({"retention": kept} if kept else {})}
    try:
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"settings are not plain ({error}); give the policy by its name, or a mapping"
        ) from error
    if path.suffix == ".toml":
        text = "\n".join(_lines(json.loads(text))) + "\n"
    elif path.suffix != ".json":
        raise InvalidValueError(f"{path} ends in {path.suffix!r}; use .toml or .json")
    return write_atomically(path, text)


def _lines(content: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """TOML, which has no null: what is ``None`` is the default and left out."""
    for key, value in content.items():
        if value is not None and not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield f"\n[{name}{key}]"
            yield from _lines(value, f"{name}{key}.")
