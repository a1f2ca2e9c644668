"""The picture of the house shows every room there is, and is the one that the script draws now."""

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "scripts" / "draw_architecture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture() -> ET.Element:
    return ET.parse(ROOT / "docs" / "architecture.svg").getroot()


def test_every_package_is_in_the_picture() -> None:
    package = ROOT / "src" / "tithe"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} | {
        path.stem for path in package.glob("[!_]*.py")
    }
    shown = [name.text for name in picture().iter(f"{SVG}text") if name.get("class") == "name"]
    assert len(rooms) > 12 and sorted(shown) == sorted(rooms), "run python scripts/draw_architecture.py"


def test_it_is_what_the_script_draws(script: ModuleType) -> None:
    house = script.floors((ROOT / "pyproject.toml").read_text())
    assert (ROOT / "docs" / "architecture.svg").read_text() == script.draw(house), "python scripts/draw_architecture.py"
    assert house[0] == ["cli"] and house[-1] == ["errors"]


def test_rooms_lie_side_by_side_and_hold_their_text(script: ModuleType) -> None:
    places = []
    for room in picture().iter(f"{SVG}g"):
        (box,) = room.iter(f"{SVG}rect")
        (name,) = room.iter(f"{SVG}text")
        x, y, width, height = (float(box.get(key, "")) for key in ("x", "y", "width", "height"))
        lines = script.ROOMS[name.text]
        assert 1 <= len(lines) <= 4 and max(map(len, lines)) * 6.9 <= width - 2 * script.PADDING + 8, name.text
        assert height >= script.PADDING + 16 + len(lines) * script.LINE + 6, name.text
        places.append((x, y, x + width, y + height))
    for i, (left, top, right, bottom) in enumerate(places):
        assert 0 <= left < right <= script.WIDTH
        for other in places[:i]:
            assert right <= other[0] + 0.1 or other[2] <= left + 0.1 or bottom <= other[1] or other[3] <= top


def test_text_can_be_read_by_day_and_by_night(script: ModuleType) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    for palette in (script.LIGHT, script.DARK):
        assert contrast(palette["text"], palette["page"]) >= 7 and contrast(palette["quiet"], palette["page"]) >= 4.5
        for hue in script.HUES:
            fill, edge = palette[hue].split()
            assert contrast(palette["text"], fill) >= 7 and contrast(edge, fill) >= 4, hue


def test_a_new_room_asks_for_its_line(script: ModuleType) -> None:
    with pytest.raises(KeyError, match="attic"):
        script.draw([["attic"], ["cli"]])
