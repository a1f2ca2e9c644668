import json
import re
import sys
from html.parser import HTMLParser

import pytest

from tithe.audit import Axis, Evidence, Finding, Plot, Series, Table, audit, render

NASTY = "<script>alert('&amp;')</script> \"x\" $y_1$ {z}"
VOID = {"meta", "br", "use", "path", "link", "img"}


class Checked(HTMLParser):
    """Fails on tags that do not match, ids used twice, links that lead nowhere, and anything that would be loaded."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets, self.tags, self.text = [], set(), set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                assert value not in self.ids, f"id {value} twice"
                self.ids.add(value)
            if key in ("href", "src", "xlink:href"):
                assert value.startswith("#"), f"{tag} would load {value}"
                self.targets.add(value[1:])
            assert not key.startswith("on")
            assert "//" not in (value or ""), f"{tag} refers to {value}"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(page: str) -> Checked:
    parser = Checked()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert parser.targets <= parser.ids
    assert "@import" not in page
    assert re.search(r"url\((?!#)", page) is None
    assert "script" not in parser.tags
    return parser


def test_the_page_is_well_formed_and_loads_nothing(fake, tmp_path):
    claims = [fake("X1"), fake("X2", "holds if"), fake("X3", "fails"), fake("X4", "unmeasured")]
    audit(claims, tmp_path)
    parser = checked((tmp_path / "report.html").read_text())
    assert {"X1", "X2", "X3", "X4"} <= parser.ids
    text = " ".join(parser.text)
    for words in ("it is Monday", "The source says", "the plain way", "4.00%", "3.00% … 5.00%", "A note."):
        assert words in text


def test_every_text_is_escaped(fake, tmp_path):
    plot = Plot(NASTY, Axis(NASTY), Axis(NASTY), [Series(NASTY, [1, 2], [3, 4]), Series("b", [1], [2])], NASTY)
    claim = fake(
        title=NASTY, says=NASTY, claimed=NASTY, baseline=NASTY,
        measure=lambda run: Evidence({NASTY: Table(NASTY, [{NASTY: NASTY}])}, [plot], {}, [NASTY]),
        judge=lambda found: Finding("holds if", NASTY, NASTY, NASTY, NASTY),
    )  # fmt: skip
    broken = fake("X2", measure=lambda run: 1 / 0, title=NASTY)
    report = audit([claim, broken], tmp_path)
    page = render({**report.to_dict(), "machine": {"processor": NASTY, "torch": NASTY}})
    assert NASTY in "".join(checked(page).text)


def test_the_page_follows_from_the_json_alone(fake, tmp_path):
    audit([fake()], tmp_path)
    assert render(json.loads((tmp_path / "report.json").read_text())) == (tmp_path / "report.html").read_text()


def test_without_matplotlib_the_page_says_how_to_get_pictures(fake, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    audit([fake()], tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "pip install &quot;tithe[plots]&quot;" in page or 'pip install "tithe[plots]"' in page
    assert "<svg" not in page
    checked(page)


def test_pictures_follow_the_colours_of_the_page(fake, tmp_path):
    pytest.importorskip("matplotlib")
    audit([fake()], tmp_path)
    page = (tmp_path / "report.html").read_text()
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert "var(--hue-1)" in svg
    assert "var(--ink)" in svg
    assert re.search(r"#0[0-9a-f]{5}", svg) is None
    assert ">the source<" in svg


def test_points_that_are_no_numbers_are_left_out(fake, tmp_path):
    pytest.importorskip("matplotlib")
    plot = Plot(
        "p", Axis("x", log=True), Axis("y", log=True), [Series("a", [1, 2, 3], [1.0, float("nan"), float("inf")])]
    )
    audit([fake(measure=lambda run: Evidence(plots=[plot]))], tmp_path)
    checked((tmp_path / "report.html").read_text())


def test_long_tables_are_folded(fake, tmp_path):
    tables = {str(n): Table(f"{n} rows", [{"n": i} for i in range(n)]) for n in (3, 40)}
    audit([fake(measure=lambda run: Evidence(tables))], tmp_path)
    assert checked((tmp_path / "report.html").read_text()).tags.count("details") == 1
