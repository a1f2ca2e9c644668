"""Draw docs/architecture.svg: the house, floor by floor, as the contract of import-linter in pyproject.toml has it.

Floors and rooms come from the contract, so the picture cannot show a house that the linter does not keep; the line on
each room is written here. Run it after a room was added: ``python scripts/draw_architecture.py``.
"""

from __future__ import annotations

import tomllib
from html import escape
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

# What each room is for: up to four short lines.
ROOMS = {
    "cli": ("the command line: tithe audit, tithe tether, tithe lattice",),
    "audit": ("measures every claim of the sources", "against a strong baseline, and reports"),
    "integrations": ("callbacks for Lightning and", "Hugging Face trainers"),
    "dashboard": ("the live page over the ledger",),
    "product": ("approximate products", "with a checked bound:", "estimators, planner,", "certificate, kernels"),
    "resolvent": ("1/(1 + φ·|k|²) along", "images, kernels, time:", "front ends, filters,", "samplers, sparsity"),
    "hashtron": ("one-bit neurons that", "hash: votes, networks,", "estimators; a backward", "pipeline, languages"),
    "tether": ("populations that", "merge where they", "agree, and regroup", "where they change"),
    "lattice": ("runs tasks that are alike together,", "on threads, processes and Ray"),
    "data": ("real data sets by name,", "with checksums"),
    "ledger": ("append-only store of runs", "that many processes write"),
    "meter": ("seconds, joules, switches;", "honest side-by-side timing"),
    "calibration": ("models on sample inputs,", "and how far outputs move"),
    "receipt": ("cost, bound,", "receipt"),
    "golden": ("φ: sequence,", "hash"),
    "machine": ("what this", "machine is"),
    "files": ("whole files", "or none"),
    "locks": ("one at a", "time"),
    "parallel": ("kernels on", "many threads"),
    "simd": ("vectors for", "numba"),
    "errors": ("all exceptions, each says what to do",),
}  # fmt: skip

WIDTH, MARGIN, GAP = 960, 28, 14
LABEL, PADDING, LINE, TITLE = 34, 16, 19, 22
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
HUES = ("plum", "indigo", "teal", "green", "amber", "orange", "grey")  # from the roof to the ground
# Background, lines, text, quiet text; then fill and edge of each floor.
LIGHT = {
    "page": "#ffffff", "rule": "#d5d9e0", "text": "#1b2330", "quiet": "#566072",
    "plum": "#f7ecf8 #a2559f", "indigo": "#ecedfb #5a61c4", "teal": "#e4f4f5 #1f7f8c", "green": "#e8f5ea #33804a",
    "amber": "#fbf3dd #97701a", "orange": "#fceee4 #b25a24", "grey": "#eff1f4 #6b7484",
}  # fmt: skip
DARK = {
    "page": "#12161d", "rule": "#333c4a", "text": "#e9edf4", "quiet": "#a6b0c0",
    "plum": "#2e1f31 #cf8ccc", "indigo": "#212445 #959bf0", "teal": "#12303a #58bccb", "green": "#16301f #6cc186",
    "amber": "#33290f #d9ae54", "orange": "#38220f #e8935b", "grey": "#222833 #96a1b3",
}  # fmt: skip


def floors(pyproject: str) -> list[list[str]]:
    """The rooms of each floor, from the roof down.

    >>> contract = 'type = "layers", layers = ["tithe.cli", "tithe.a | tithe.b"]'
    >>> floors(f"tool.importlinter.contracts = [{{{contract}}}]")
    [['cli'], ['a', 'b']]
    """
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip().removeprefix("tithe.") for room in layer.split("|")] for layer in layers]


def draw(house: list[list[str]]) -> str:
    """The picture as SVG. ``KeyError`` names a room that has no line in ``ROOMS``."""
    heights = [PADDING * 2 + TITLE + LINE * max(len(ROOMS[room]) for room in rooms) for rooms in house]
    tops = list(accumulate((height + GAP for height in heights), initial=MARGIN + 74))
    bottom = tops[-1] + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" role="img" '
        f'aria-labelledby="title about" font-family="{FONT}">',
        '<title id="title">Tithe\'s architecture</title>',
        '<desc id="about">Floors from the command line at the top to errors at the bottom. A room imports only from '
        "floors below its own.</desc>",
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{bottom + 40}" rx="14"/>',
        f'<text class="text" x="{MARGIN}" y="{MARGIN + 24}" font-size="26" font-weight="700">Tithe<tspan class="quiet" '
        'dx="12" font-size="15" font-weight="400">pay a tenth of the compute, and get a receipt</tspan></text>',
        f'<text class="quiet" x="{MARGIN}" y="{MARGIN + 52}" font-size="13.5">A room imports from the floors below and '
        "from itself: never from above, never from beside it.</text>",
    ]
    for hue, rooms, top, height in zip(_hues(len(house)), house, tops, heights, strict=False):
        parts += _floor(hue, rooms, top, height)
    ends = tops[0], bottom - GAP - 6
    parts += [
        f'<path class="rule" d="M{MARGIN + 8} {ends[0] + 4}V{ends[1] - 8}"/>',
        f'<path class="tip" d="M{MARGIN + 8} {ends[1]}l-5 -10h10z"/>',
        f'<text class="quiet" font-size="12.5" text-anchor="middle" transform="translate({MARGIN - 2} '
        f'{sum(ends) / 2:g}) rotate(-90)">imports</text>',
        f'<text class="quiet" x="{MARGIN}" y="{bottom + 18}" font-size="12.5">Beneath: PyTorch, NumPy, numba, Triton, '
        "scikit-learn, safetensors, SQLite.</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _floor(hue: str, rooms: list[str], top: int, height: int) -> list[str]:
    left = MARGIN + LABEL
    width = (WIDTH - MARGIN - left - GAP * (len(rooms) - 1)) / len(rooms)
    parts = []
    for place, room in enumerate(rooms):
        x = left + place * (width + GAP)
        parts += [
            f'<g class="{hue}"><rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="9"/>',
            f'<text class="name" x="{x + PADDING:.1f}" y="{top + PADDING + 14}" font-size="16" font-weight="650">'
            f"{escape(room)}</text></g>",
        ]
        for number, line in enumerate(ROOMS[room], 1):
            y = top + PADDING + 16 + number * LINE
            parts.append(f'<text class="text" x="{x + PADDING:.1f}" y="{y}" font-size="13.5">{escape(line)}</text>')
    return parts


def _hues(count: int) -> list[str]:
    """A hue for each floor; where there are more floors than hues, the last ones are alike."""
    return [HUES[min(place, len(HUES) - 1)] for place in range(count)]


def _style() -> str:
    """The colours by day, and by night where the reader's system has it so."""
    return f"{_colours(LIGHT)}@media (prefers-color-scheme:dark){{{_colours(DARK)}}}"


def _colours(palette: dict[str, str]) -> str:
    rules = [
        f".page{{fill:{palette['page']}}}",
        f".rule{{stroke:{palette['rule']};stroke-width:2;fill:none}}",
        f".tip{{fill:{palette['rule']}}}",
        f".text{{fill:{palette['text']}}}",
        f".quiet{{fill:{palette['quiet']}}}",
    ]
    for hue in HUES:
        fill, edge = palette[hue].split()
        rules += [f".{hue} rect{{fill:{fill};stroke:{edge};stroke-width:1.4}}", f".{hue} .name{{fill:{edge}}}"]
    return "".join(rules)


if __name__ == "__main__":
    PICTURE.write_text(draw(floors((ROOT / "pyproject.toml").read_text())))
