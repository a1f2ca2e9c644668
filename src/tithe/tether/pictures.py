"""Pictures of a population's training, drawn from the events that a ledger holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tithe.errors import InvalidValueError, MissingExtraError
from tithe.ledger import Ledger
from tithe.tether.picture_events import Curves, add, at, named, needed, payloads
from tithe.tether.picture_events import names as names_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compatibility_over_time", "descent", "family_tree", "layer_statistics", "scatter"]

_MARKS = {"merge": ("o", "black"), "drift": ("X", "tab:red"), "renormalise": ("v", "tab:purple")}
_MOST_NAMES = 12  # members that are named at the axes of a heat map
_MOST_ENTRIES = 20  # of a legend
_WIDE_RANGE = 50  # from here losses are drawn on a logarithmic axis


def descent(ledger: Ledger, run: str) -> Figure:
    """The loss of each member by step, with marks where members merged, drifted apart or were re-normalised.

    Where homogeneity was recorded, its mean cosine over the layers is drawn dashed on a second axis.

    Args:
        ledger: with events ``loss`` of the system ``tether``.
        run: which run.

    Returns:
        A figure; ``figure.savefig(path)`` writes it. Raises ``InvalidValueError`` where the run has no such events, and
        ``MissingExtraError`` without matplotlib (``pip install tithe[plots]``). O(events). Source: MISSION T9, T11.

    >>> import tempfile
    >>> with Ledger(f"{tempfile.mkdtemp()}/runs.db") as ledger:
    ...     for step in (1, 2):
    ...         _ = ledger.append("r", "tether", "loss", {"step": step, "losses": [1 / step], "members": ["a"]})
    ...     [line.get_label() for line in descent(ledger, "r").axes[0].lines]
    ['a']
    """
    figure = _figure(9, 4.5)
    curves: Curves = {}
    for event in needed(ledger, run, "loss"):
        for name, loss in zip(event["members"], event["losses"], strict=True):
            add(curves, name, event["step"], loss)
    axes = figure.subplots()
    colours = {name: f"C{index}" for index, name in enumerate(curves)}
    for name, (steps, losses) in curves.items():
        axes.plot(steps, losses, color=colours[name], lw=1.3, label=name)
    names = list(curves)
    for kind, (marker, colour) in _MARKS.items():
        events = payloads(ledger, run, kind)
        points = [(e["step"], at(curves, named(m, names), e["step"])) for e in events for m in e["members"]]
        if kind == "renormalise":
            for event in events:
                axes.axvline(event["step"], color=colour, ls=":", lw=1)
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(xs, ys, marker=marker, color=colour, s=26, zorder=3, label=kind)
    finite = [loss for _, losses in curves.values() for loss in losses if math.isfinite(loss)]
    if finite and min(finite) > 0 and max(finite) > _WIDE_RANGE * min(finite):
        axes.set_yscale("log")
    axes.set(title=f"Descent of {run}", xlabel="step", ylabel="loss")
    cosines: Curves = {}
    for event in payloads(ledger, run, "homogeneity"):
        found = [layer["cosine"] for layer in event["layers"].values() if layer.get("cosine") is not None]
        add(cosines, named(event["member"], names), event["step"], sum(found) / len(found) if found else None)
    if cosines:
        second = axes.twinx()
        for name, (steps, values) in cosines.items():
            second.plot(steps, values, color=colours.get(name, "grey"), ls="--", lw=1, label=f"{name}: homogeneity")
        second.set(ylabel="homogeneity (mean cosine of rows, dashed)")
    _legend(axes)
    return figure


def scatter(ledger: Ledger, run: str) -> Figure:
    """Two parameters against the loss in three dimensions, coloured by epoch, with merge points marked.

    A merge is marked at the nearest point that was recorded of each member that merged.

    Args:
        ledger: with events ``point`` of the system ``tether``.
        run: which run.

    Returns:
        A figure. Raises as ``descent`` does. O(events · merges). Source: MISSION T9.
    """
    figure = _figure(7.5, 6)
    points = needed(ledger, run, "point")
    points = [point for point in points if point["names"] == points[0]["names"]]  # other pairs have other axes
    names = names_of(ledger, run, (named(point["member"], ()) for point in points))
    axes = figure.add_subplot(projection="3d")
    drawn = axes.scatter(
        *_columns(points), c=[point["epoch"] for point in points], cmap="viridis", s=12, alpha=0.7, label="steps"
    )
    merged = []
    for event in payloads(ledger, run, "merge"):
        for member in {named(member, names) for member in event["members"]}:
            own = [point for point in points if named(point["member"], names) == member]
            if own:
                merged.append(min(own, key=lambda point: abs(point["step"] - event["step"])))
    if merged:
        axes.scatter(
            *_columns(merged),
            marker="*",
            depthshade=False,
            s=90,
            color="tab:red",
            edgecolor="black",
            lw=0.5,
            label="merge",
        )
    axes.set(title=f"Path of {run}", xlabel=points[0]["names"][0], ylabel=points[0]["names"][1], zlabel="loss")
    figure.colorbar(drawn, ax=axes, label="epoch", shrink=0.7, pad=0.12)
    _legend(axes)
    return figure


def layer_statistics(ledger: Ledger, run: str) -> Figure:
    """Mean and standard deviation of each layer's weights by step: a colour a layer, a line a member.

    Args:
        ledger: with events ``layers`` of the system ``tether``.
        run: which run.

    Returns:
        A figure of two panels. Raises as ``descent`` does. O(events · layers). Source: MISSION T9.
    """
    figure = _figure(10, 4)
    panels = figure.subplots(1, 2)
    events = needed(ledger, run, "layers")
    layers = list(dict.fromkeys(layer for event in events for layer in event["layers"]))
    for panel, what, title in zip(panels, ("mean", "std"), ("mean", "standard deviation"), strict=True):
        for index, layer in enumerate(layers):
            curves: Curves = {}
            for event in events:
                if layer in event["layers"]:
                    add(curves, str(event["member"]), event["step"], event["layers"][layer][what])
            for number, (steps, values) in enumerate(curves.values()):
                panel.plot(steps, values, color=f"C{index}", lw=1.2, alpha=0.8, label="_" * (number > 0) + layer)
        panel.set(title=title, xlabel="step")
    _legend(panels[0])
    figure.suptitle(f"Weights of each layer of {run}")
    return figure


def compatibility_over_time(ledger: Ledger, run: str, *, measure: str | None = None, panels: int = 6) -> Figure:
    """Heat maps of the compatibility of each member with each, at evenly chosen steps, on one scale.

    Args:
        ledger: with events ``compatibility`` of the system ``tether``.
        run: which run.
        measure: which, of several; by default that of the first event.
        panels: at most so many, the first and the last among them.

    Returns:
        A figure. Raises as ``descent`` does, and ``InvalidValueError`` for a measure that was not recorded. O(events).
        Source: MISSION T3, T9.
    """
    if panels < 1:
        raise InvalidValueError(f"panels is {panels}; use an integer of at least 1")
    events = needed(ledger, run, "compatibility")
    measures = list(dict.fromkeys(event["measure"] for event in events))
    if measure is not None and measure not in measures:
        raise InvalidValueError(f"measure is {measure!r}; the run {run!r} has {', '.join(map(repr, measures))}")
    events = [event for event in events if event["measure"] == (measure or measures[0])]
    evenly = np.linspace(len(events) - 1 if panels == 1 else 0, len(events) - 1, min(panels, len(events)))
    chosen = [events[round(index)] for index in evenly]
    tables = [np.array(event["values"], dtype=np.float64) for event in chosen]
    entries = np.abs(np.concatenate([table.ravel() for table in tables]))
    most = max(1.0, float(entries[np.isfinite(entries)].max(initial=0)))
    rows, columns = math.ceil(len(chosen) / 3), min(3, len(chosen))
    figure = _figure(3 * columns + 1.2, 2.9 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, event, table in zip(grid, chosen, tables, strict=False):
        drawn = axes.imshow(table, vmin=-most, vmax=most, cmap="RdBu")
        axes.set_title(f"step {event['step']}", fontsize="medium")
        axes.set_facecolor("lightgrey")  # what was not measured
        if len(table) <= _MOST_NAMES:
            axes.set_xticks(range(len(table)), event["members"], rotation=45, ha="right", fontsize="small")
            axes.set_yticks(range(len(table)), event["members"], fontsize="small")
    for axes in grid[len(chosen) :]:
        axes.remove()
    figure.colorbar(drawn, ax=list(grid[: len(chosen)]), label=str(measure or measures[0]))
    figure.suptitle(f"Compatibility of the members of {run}")
    return figure


def family_tree(ledger: Ledger, run: str) -> Figure:
    """Which members shared a group when: a line a member, lines of one group side by side.

    Args:
        ledger: with events ``groups`` of the system ``tether``; a member in no group is one by itself.
        run: which run.

    Returns:
        A figure. Raises as ``descent`` does. O(events · members). Source: MISSION T4, T9.
    """
    events = needed(ledger, run, "groups")
    members = events[-1]["members"]
    figure = _figure(9, 1.2 + 0.6 * len(members))
    axes = figure.subplots()
    steps = [event["step"] for event in events]
    span = (steps[-1] - steps[0]) or 1
    heights = [_heights(event["groups"], len(members)) for event in events]
    ends = [min(0.06 * span, 0.5 * (later - step)) for step, later in itertools.pairwise(steps)]
    for index, name in enumerate(members):
        xs, ys = [], []
        for turn, (step, height) in enumerate(zip(steps, heights, strict=True)):
            leaves = steps[turn + 1] - ends[turn] if turn < len(ends) else step + 0.1 * span
            xs += [step, leaves]
            ys += [height[index]] * 2
        axes.plot(xs, ys, color=f"C{index}", lw=2, label=name, solid_joinstyle="round")
    axes.set_yticks(heights[0], members)
    for label, index in zip(axes.get_yticklabels(), range(len(members)), strict=True):
        label.set_color(f"C{index}")
    axes.invert_yaxis()
    axes.set(title=f"Groups of {run}", xlabel="step")
    return figure


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a picture needs matplotlib: pip install 'tithe[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _columns(points: Iterable[Mapping[str, Any]]) -> list[list[float]]:
    rows = [[math.nan if point[key] is None else point[key] for key in ("a", "b", "loss")] for point in points]
    return [list(column) for column in zip(*rows, strict=True)]


def _heights(groups: Sequence[Sequence[int]], members: int) -> list[float]:
    """Where each member's line runs: groups one below another, each as high as it has members, close together."""
    single = set(range(members)) - {member for group in groups for member in group}
    ordered = sorted([*map(sorted, groups), *([member] for member in single)], key=lambda g: (sum(g) / len(g), g))
    heights, first = [0.0] * members, 0
    for group in ordered:
        centre = first + (len(group) - 1) / 2
        for place, member in enumerate(group):
            heights[member] = centre + 0.3 * (place - (len(group) - 1) / 2)
        first += len(group)
    return heights


def _legend(axes: Any) -> None:
    """Beside the axes, where it hides no line."""
    handles, labels = axes.get_legend_handles_labels()
    if 0 < len(handles) <= _MOST_ENTRIES:
        axes.figure.legend(handles, labels, fontsize="small", loc="outside right upper")
