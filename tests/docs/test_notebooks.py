"""The notebooks run from top to bottom, and lie in the repository without what they have put out."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def cells(path: Path, kind: str) -> list[dict[str, object]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_is_one() -> None:
    assert "resolvent.ipynb" in [path.name for path in NOTEBOOKS]


@each
def test_cells_run_in_order(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot
    from torch import random

    monkeypatch.chdir(tmp_path)
    setting: dict[str, object] = {"__name__": "__main__"}
    try:
        with random.fork_rng():
            for number, cell in enumerate(cells(path, "code"), 1):
                exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), setting)
        assert pyplot.get_fignums()
        for number in pyplot.get_fignums():
            pyplot.figure(number).canvas.draw()
    finally:
        pyplot.close("all")
    assert not list(tmp_path.iterdir())


@each
def test_outputs_are_stripped(path: Path) -> None:
    book = json.loads(path.read_text())
    assert book["nbformat"] == 4 and book["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@each
def test_links_lead_somewhere(path: Path) -> None:
    import re

    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)\)", "".join(cell["source"])):
            assert target.startswith("http") or (path.parent / target).exists(), target
