"""Draws a plot as inline SVG whose colours follow the page: light, dark or printed."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from tithe.audit.formatting import show

__all__ = ["draw"]

# Matplotlib wants real colours; each of these stands for one of the page's CSS variables and is replaced by it.
_INK, _SOFT, _GRID = "#010101", "#020202", "#030303"
_HUES = tuple(f"#0a0a{i:02x}" for i in range(1, 8))
_VARIABLES = {_INK: "--ink", _SOFT: "--soft", _GRID: "--rule"} | {h: f"--hue-{i}" for i, h in enumerate(_HUES, 1)}
_MARKERS = ("o", "s", "^", "D", "v", "P", "h", "<", ">")  # more than hues, so that no pair comes twice
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": True, "font.size": 10,
    "axes.edgecolor": _SOFT, "axes.labelcolor": _INK, "xtick.color": _SOFT, "ytick.color": _SOFT,
    "xtick.labelcolor": _INK, "ytick.labelcolor": _INK, "text.color": _INK,
}  # fmt: skip


def draw(plot: Mapping[str, Any], name: str) -> str | None:
    """A plot, as ``Plot.to_dict`` gives it, as one ``<svg>`` element.

    Args:
        plot: the plot.
        name: unique on the page; every id inside the picture begins with it.

    Returns:
        The element, or ``None`` where matplotlib is not installed. O(points).

    >>> from tithe.audit import Axis, Plot, Series
    >>> svg = draw(Plot("t", Axis("n"), Axis("e"), [Series("a", [1, 2], [3, 4])]).to_dict(), "t")
    >>> svg is None or svg.startswith("<svg")
    True
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    settings: Any = {**_SETTINGS, "svg.hashsalt": name}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.0, 3.3), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        hue = iter(range(10_000))
        for series in plot["series"]:
            _add(axes, series, hue)
        _scale(axes, "x", plot)
        _scale(axes, "y", plot)
        if len(plot["series"]) > 1:
            columns = 2 if max(len(s["name"]) for s in plot["series"]) < 30 else 1
            figure.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=9, columnspacing=1.2)
            figure.set_figheight(3.3 + 0.2 * math.ceil(len(plot["series"]) / columns))
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _embed(target.getvalue(), name, plot["title"])


def _add(axes: Any, series: Mapping[str, Any], hue: Any) -> None:
    points = [
        (float(x), float(y), low, high)
        for x, y, low, high in zip(series["x"], series["y"], _ends(series, "low"), _ends(series, "high"), strict=True)
        if math.isfinite(float(x)) and math.isfinite(float(y))
    ]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    role, label = series["role"], series["name"]
    if role == "claimed":
        axes.plot(xs, ys, ls="", marker="x", ms=8, mew=2.2, color=_INK, label=label, zorder=5)
        return
    if role == "theory":
        axes.plot(xs, ys, ls=(0, (2, 2)), lw=1.3, color=_SOFT, label=label, zorder=2)
        return
    index = next(hue)
    color, marker = _HUES[index % len(_HUES)], _MARKERS[index % len(_MARKERS)]
    dash = "-" if role == "measured" else (0, (6, 2, 1, 2))
    axes.plot(xs, ys, ls=dash, lw=1.6, marker=marker, ms=5, color=color, label=label, zorder=3)
    for x, y, low, high in points:
        if isinstance(low, int | float) and isinstance(high, int | float):
            axes.plot([x, x], [min(low, y), max(high, y)], color=color, lw=1.2, zorder=3)


def _ends(series: Mapping[str, Any], key: str) -> Sequence[Any]:
    return series[key] if series[key] is not None else [None] * len(series["x"])


def _scale(axes: Any, name: str, plot: Mapping[str, Any]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axis, description = getattr(axes, f"{name}axis"), plot[name]
    axis.set_label_text(description["label"])
    if description["log"]:
        axes.set(**{f"{name}scale": "log"})
        axis.set_minor_formatter(NullFormatter())
        values = {float(v) for series in plot["series"] for v in series[name]}
        ticks = sorted(v for v in values if math.isfinite(v) and v > 0)
        if 2 <= len(ticks) <= 9 and all(b / a >= 1.6 for a, b in pairwise(ticks)):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_minor_locator(FixedLocator([]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(float(value), description["spec"])))


def _tick(value: float, spec: str) -> str:
    return show(int(value) if value.is_integer() and "%" not in spec else value, spec)


def _embed(svg: str, name: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\sxmlns(:\w+)?=\"[^\"]*\"", "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"\bid=\"([^\"]+)\"", rf'id="{name}-\1"', svg)
    svg = re.sub(r"href=\"#([^\"]+)\"", rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", svg)
    svg = re.sub(r"\s*font-family: [^;\"]+;?", "", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title, quote=True)}" ', 1).strip()
