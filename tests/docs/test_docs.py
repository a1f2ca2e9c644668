"""The code in the documents runs, and the links between them lead somewhere."""

import itertools
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@names
def test_code_runs(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import tithe

    monkeypatch.chdir(tmp_path)
    setting: dict[str, object] = {"torch": torch, "tithe": tithe, "A": torch.rand(512, 512), "B": torch.rand(512, 512)}
    if page.name == "hashtron.md":
        digits = tithe.data.load("digits")
        setting |= {"images": digits.train_x[:300], "labels": digits.train_y[:300], "more": digits.test_x}
        shutil.copy(ROOT / "tests" / "hashtron" / "vectors" / "squareroot_medium.json.t.zlib", tmp_path)
    if page.name == "languages.md":
        words = ["".join(letters) for letters in itertools.product("abc", repeat=4)]
        (tmp_path / "lexica").mkdir()
        sounds = (" ".join(word).replace("c a", "k a").replace("c", "s") for word in words)
        lexicon = (f"{word}\t{said}\n" for word, said in zip(words, sounds, strict=True))
        (tmp_path / "lexica" / "xyz.tsv").write_text("".join(lexicon))
    if page.name == "resolvent.md":
        digits = tithe.data.load("digits")
        images = torch.tensor(digits.train_x[:512], dtype=torch.float32) / 16
        setting |= {"images": images, "labels": torch.tensor(digits.train_y[:512])}
    if page.name == "tether.md":
        digits = tithe.data.load("digits")
        x, y = torch.tensor(digits.train_x, dtype=torch.float32).flatten(1) / 16, torch.tensor(digits.train_y)
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:800].reshape(4, 200)
        setting["shards"] = [(x[r], (y[r] + 3 * (i > 1)) % 10) for i, r in enumerate(rows)]
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, page.name, "exec"), setting)


@names
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@names
def test_lines_are_short(page: Path) -> None:
    text = [line for line in page.read_text().splitlines() if not line.startswith("|")]  # tables cannot be folded
    assert max(map(len, text)) <= 120


def test_stable_names_exist() -> None:
    import importlib

    text = (ROOT / "CONTRIBUTING.md").read_text().split("## Stable names")[1].split("##")[0]
    for dotted in re.findall(r"`(tithe\.[\w.]+)`", text):
        module, _, name = dotted.rpartition(".")
        assert hasattr(importlib.import_module(module), name), dotted


def test_make_targets_that_others_rely_on_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("setup", "run", "test", "test-slow", "bench", "bars"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
