"""Pictures show what the ledger holds: curves, marks and labels are looked for among the artists."""

import math
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tithe.errors import InvalidValueError, MissingExtraError
from tithe.ledger import Ledger
from tithe.tether import pictures

NAMES = ["ada", "ben", "cy"]
PICTURES = {"descent": "loss", "scatter": "point", "layer_statistics": "layers",
            "compatibility_over_time": "compatibility", "family_tree": "groups"}  # fmt: skip


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "runs.db") as opened:
        yield opened


def record(ledger, kind, run="r", **payload):
    ledger.append(run, "tether", kind, payload)


def losses(ledger, steps=range(0, 50, 10), scale=1.0):
    for step in steps:
        record(ledger, "loss", step=step, losses=[scale * (m + 1 + step) for m in range(3)], members=NAMES)


def happened(ledger, kind, step, members):
    record(ledger, kind, step=step, members=members, before=[1.0], after=[1.0], generation=None)


def points(collection):
    return sorted(map(tuple, np.asarray(collection.get_offsets()).tolist()))


def marks(axes):
    return {collection.get_label(): collection for collection in axes.collections}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def drawn(figure):
    """Rendering must work too; its bytes."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


def test_descent_has_a_curve_a_member_and_its_marks(ledger):
    losses(ledger)
    happened(ledger, "merge", 10, [0, 2])
    happened(ledger, "merge", 25, [1])
    happened(ledger, "drift", 20, [1])
    happened(ledger, "renormalise", 40, [0])
    figure = pictures.descent(ledger, "r")
    (axes,) = figure.axes
    curves = {line.get_label(): line for line in axes.lines if line.get_label() in NAMES}
    assert list(curves) == NAMES and len({line.get_color() for line in curves.values()}) == 3
    for m, name in enumerate(NAMES):
        assert curves[name].get_xydata().tolist() == [[s, m + 1 + s] for s in range(0, 50, 10)]
    found = marks(axes)
    assert points(found["merge"]) == [(10, 11), (10, 13), (25, 27)]  # 25 lies between two steps
    assert points(found["drift"]) == [(20, 22)] and points(found["renormalise"]) == [(40, 41)]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label() not in NAMES] == [40]
    assert legend(figure) == [*NAMES, "merge", "drift", "renormalise"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("step", "loss", "Descent of r")
    assert len(drawn(figure)) > 1000


def test_descent_shows_homogeneity_on_a_second_axis(ledger):
    losses(ledger)
    assert len(pictures.descent(ledger, "r").axes) == 1
    for step in (0, 10):
        layers = {"a": {"rank": 3.0, "cosine": 0.2 + step}, "b": {"rank": 3.0, "cosine": 0.4 + step},
                  "c": {"rank": 1.0, "cosine": None}}  # fmt: skip
        record(ledger, "homogeneity", step=step, member="ben", loss=1.0, layers=layers)
    figure = pictures.descent(ledger, "r")
    first, second = figure.axes
    (line,) = second.lines
    assert line.get_xdata().tolist() == [0, 10] and line.get_ydata() == pytest.approx([0.3, 10.3])
    assert line.get_linestyle() == "--" and line.get_color() == first.lines[1].get_color()
    assert "homogeneity" in second.get_ylabel() and len(drawn(figure)) > 1000


def test_losses_that_were_not_measured_are_gaps(ledger):
    for step, loss in enumerate([1.0, None, math.nan, math.inf, 5.0]):
        record(ledger, "loss", step=step, losses=[loss, None], members=["a", "b"])
    happened(ledger, "merge", 2, [0, 1])
    figure = pictures.descent(ledger, "r")
    ys = figure.axes[0].lines[0].get_ydata()
    assert [math.isnan(y) for y in ys] == [False, True, True, True, False]
    found = np.asarray(marks(figure.axes[0])["merge"].get_offsets())
    assert found[0].tolist() == [2, 3] and len(drawn(figure)) > 1000  # on the line from 1 to 5; b has no curve
    assert np.ma.is_masked(found[1]) or math.isnan(found[1][1])


@pytest.mark.parametrize(("values", "scale"), [([1.0, 100.0], "log"), ([1.0, 5.0], "linear"), ([-1.0, 99.0], "linear")])
def test_losses_of_a_wide_range_are_on_a_logarithmic_axis(ledger, values, scale):
    for step, value in enumerate(values):
        record(ledger, "loss", step=step, losses=[value], members=["a"])
    assert pictures.descent(ledger, "r").axes[0].get_yscale() == scale


def test_members_that_come_later_and_events_in_disorder(ledger):
    record(ledger, "loss", step=10, losses=[1.0, 2.0], members=["a", "b"])
    record(ledger, "loss", step=0, losses=[3.0], members=["a"])
    found = {line.get_label(): line.get_xydata().tolist() for line in pictures.descent(ledger, "r").axes[0].lines}
    assert found == {"a": [[0, 3], [10, 1]], "b": [[10, 2]]}


def record_points(ledger):
    for step in range(6):
        for m, name in enumerate(NAMES):
            record(ledger, "point", step=step, epoch=step // 2, loss=float(10 * m + step), a=step + 0.5, b=-float(step),
                   member=name, names=["w[0]", "w[1]"])  # fmt: skip
    record(ledger, "point", step=9, epoch=9, loss=9.0, a=9.0, b=9.0, member="ada", names=["other", "pair"])


def positions(collection):
    return sorted(zip(*(np.asarray(axis).tolist() for axis in collection._offsets3d), strict=True))


def test_scatter_has_three_axes_colours_and_merge_points(ledger):
    losses(ledger)
    record_points(ledger)
    happened(ledger, "merge", 3, [0, 2])
    happened(ledger, "merge", 4.4, ["ben"])
    figure = pictures.scatter(ledger, "r")
    axes, bar = figure.axes
    found = marks(axes)
    assert positions(found["steps"]) == sorted((s + 0.5, -s, 10 * m + s) for s in range(6) for m in range(3))
    figure.draw_without_rendering()  # colours follow then
    assert sorted(found["steps"].get_array().tolist()) == sorted(s // 2 for s in range(6) for m in range(3))
    assert positions(found["merge"]) == [(3.5, -3, 3), (3.5, -3, 23), (4.5, -4, 14)]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()) == ("w[0]", "w[1]", "loss")
    assert bar.get_ylabel() == "epoch" and legend(figure) == ["steps", "merge"] and len(drawn(figure)) > 1000


def test_scatter_without_merges_or_losses(ledger):
    record_points(ledger)
    record(ledger, "point", step=10, epoch=5, loss=None, a=0.0, b=0.0, member="ada", names=["w[0]", "w[1]"])
    figure = pictures.scatter(ledger, "r")
    assert list(marks(figure.axes[0])) == ["steps"] and len(drawn(figure)) > 1000


def test_layer_statistics_has_a_curve_a_layer_and_member(ledger):
    for step in (0, 5):
        for m, name in enumerate(NAMES[:2]):
            layers = {"fc1": {"mean": step + m, "std": 1.0 + m}, "fc2": {"mean": -step, "std": 2.0}}
            record(ledger, "layers", step=step, member=name, layers=layers)
    figure = pictures.layer_statistics(ledger, "r")
    means, deviations = figure.axes
    assert (means.get_title(), deviations.get_title()) == ("mean", "standard deviation")
    assert [line.get_ydata().tolist() for line in means.lines] == [[0, 5], [1, 6], [0, -5], [0, -5]]
    assert [line.get_ydata().tolist() for line in deviations.lines] == [[1, 1], [2, 2], [2, 2], [2, 2]]
    colours = [line.get_color() for line in means.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert legend(figure) == ["fc1", "fc2"] and len(drawn(figure)) > 1000


def record_compatibility(ledger, steps=20):
    for step in range(steps):
        table = [[1.0, step / 20], [step / 20, None if step == 0 else 1.0]]
        record(ledger, "compatibility", step=step, measure="update", values=table, members=["ada", "ben"])
        record(ledger, "compatibility", step=step, measure="dot", values=[[4, -7], [-7, 4]], members=["ada", "ben"])


def test_compatibility_is_shown_at_even_steps_on_one_scale(ledger):
    record_compatibility(ledger)
    figure = pictures.compatibility_over_time(ledger, "r")
    maps, bar = figure.axes[:-1], figure.axes[-1]
    assert [axes.get_title() for axes in maps] == [f"step {s}" for s in (0, 4, 8, 11, 15, 19)]
    for axes in maps:
        (image,) = axes.images
        step = int(axes.get_title().split()[1])
        assert image.get_clim() == (-1, 1) and image.get_array()[0, 1] == step / 20
        assert [label.get_text() for label in axes.get_yticklabels()] == ["ada", "ben"]
    assert np.ma.is_masked(maps[0].images[0].get_array()[1, 1]) and bar.get_ylabel() == "update"
    assert len(drawn(figure)) > 1000


def test_compatibility_of_another_measure_and_fewer_panels(ledger):
    record_compatibility(ledger, 3)
    figure = pictures.compatibility_over_time(ledger, "r", measure="dot", panels=1)
    (axes, bar) = figure.axes
    assert axes.get_title() == "step 2" and axes.images[0].get_clim() == (-7, 7) and bar.get_ylabel() == "dot"
    assert len(pictures.compatibility_over_time(ledger, "r").axes) == 4
    assert len(pictures.compatibility_over_time(ledger, "r", panels=2).axes) == 3
    with pytest.raises(InvalidValueError, match="'cka'; the run 'r' has 'update', 'dot'"):
        pictures.compatibility_over_time(ledger, "r", measure="cka")
    with pytest.raises(InvalidValueError, match="panels is 0"):
        pictures.compatibility_over_time(ledger, "r", panels=0)


def height(line, step):
    return float(np.interp(step, line.get_xdata(), line.get_ydata()))


def test_lines_of_a_family_tree_join_and_part(ledger):
    names = ["ada", "ben", "cy", "dot"]
    told = {0: [[0], [1], [2], [3]], 10: [[0, 3], [1, 2]], 20: [[0, 1, 2, 3]], 30: [[1, 2]]}
    for step, groups in told.items():
        record(ledger, "groups", step=step, groups=groups, members=names)
    figure = pictures.family_tree(ledger, "r")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == names and len({line.get_color() for line in axes.lines}) == 4
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    for step, groups in told.items():
        for inside in (step, step + 4):  # until shortly before the next
            ys = [height(line, inside) for line in axes.lines]
            assert ys == [height(line, step) for line in axes.lines] and len({round(y, 6) for y in ys}) == 4
            for i in range(4):
                for j in range(i):
                    together = any(i in group and j in group for group in groups)
                    size = next((len(group) for group in groups if i in group), 1)
                    assert (abs(ys[i] - ys[j]) < 0.31 * size) == together
    assert max(axes.lines[0].get_xdata()) > 30 and len(drawn(figure)) > 1000


def test_a_family_tree_of_one_event(ledger):
    record(ledger, "groups", step=5, groups=[[0, 1]], members=["a", "b"])
    figure = pictures.family_tree(ledger, "r")
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [5, 5] and len(drawn(figure)) > 1000


@pytest.mark.parametrize("picture", PICTURES)
def test_runs_without_such_events_are_told_which_have(ledger, picture):
    kind = PICTURES[picture]
    with pytest.raises(InvalidValueError, match=f"run 'r' has no '{kind}' events of tether; no run of this ledger has"):
        getattr(pictures, picture)(ledger, "r")
    ledger.append("q", "tether", kind, {"step": 0})
    ledger.append("p", "tether", kind, {"step": 0})
    ledger.append("q", "tether", kind, {"step": 0})
    ledger.append("s", "resolvent", kind, {"step": 0})
    with pytest.raises(InvalidValueError, match=r"those of 'q', 'p' have"):
        getattr(pictures, picture)(ledger, "r")


@pytest.mark.parametrize("picture", PICTURES)
def test_without_matplotlib_the_extra_is_named(ledger, picture, monkeypatch):
    losses(ledger)
    record_points(ledger)
    record_compatibility(ledger, 1)
    record(ledger, "layers", step=0, member="ada", layers={"fc": {"mean": 0.0, "std": 1.0}})
    record(ledger, "groups", step=0, groups=[[0, 1, 2]], members=NAMES)
    assert getattr(pictures, picture)(ledger, "r").axes
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"tithe\[plots\]"):
        getattr(pictures, picture)(ledger, "r")


def test_matplotlib_is_imported_late_and_pyplot_never():
    code = (
        "import sys, tempfile, tithe.tether.pictures as p; from tithe.ledger import Ledger\n"
        "assert 'matplotlib' not in sys.modules\n"
        "ledger = Ledger(tempfile.mkdtemp() + '/r.db')\n"
        "ledger.append('r', 'tether', 'loss', {'step': 0, 'losses': [1.0], 'members': ['a']})\n"
        "p.descent(ledger, 'r')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
