"""M5's judge on figures that are made up, its maps of the sky, and its horizon."""

import math

import pytest
import torch

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m5_measure
from tithe.audit.claims._m5_sky import blocks, horizon, kept, maps, neighbours, stars
from tithe.audit.claims.m5_stars import CERTIFIED, CLAIM, CLAIMED, DARK_ALONE, MEANS, STARS_ALONE, judge


def row(name="cosines", ratio=0.05, error=1e-7, keeps=1.0, share=None, among=1e-6, role="estimator"):
    return {"map": name, "ratio": ratio, "method": f"anchored({ratio})", "role": role, "share": share or ratio,
            "error": error, "among": among, "kept": keeps, "upper": None}  # fmt: skip


def both(name="cosines", **given):
    return [row(name, ratio, **given) for ratio in CLAIMED]


def behind(dark="by places", known=STARS_ALONE, dark_dark=0.003, star_dark=0.0, star_star=0.0, no_sun=0.0):
    return {"dark": dark, "known": known, "method": "anchored(0.1)", "share": 0.1, "dark_dark": dark_dark,
            "star_dark": star_dark, "star_star": star_star, "no_sun": no_sun}  # fmt: skip


def evidence(*rows, beyond=()):
    times = [{"method": "anchored(0.05)", "n": 512, "time": 0.4}]
    return Evidence({"maps": Table("", rows), "horizon": Table("", list(beyond)), "times": Table("", times)})


def test_holds_where_all_maps_and_all_dark_objects_are_told():
    assert judge(evidence(*both(), *both("kernel"), beyond=[behind()])).verdict == "holds"


@pytest.mark.parametrize("given", [{"error": 3e-5}, {"keeps": 0.99}, {"share": 0.6}])
def test_an_error_lost_neighbours_or_too_much_work_makes_it_conditional(given):
    others = [row("kernel", ratio, **given) for ratio in CLAIMED]
    spare = [row("kernel", ratio, error=0.5, keeps=0.1) for ratio in CLAIMED]  # there is always something within
    finding = judge(evidence(*both(), *others, *spare, beyond=[behind()]))
    assert finding.verdict == "holds if"
    assert "as cosines have" in finding.condition and "interact by places" in finding.condition
    assert "on 1 of 2 maps" in finding.summary


def test_ratios_have_errors_of_their_own():
    assert judge(evidence(row(ratio=0.05, error=1e-5), row(ratio=0.5, error=1e-6))).verdict == "holds"
    assert judge(evidence(row(ratio=0.05, error=1e-5), row(ratio=0.5, error=1e-5))).verdict == "fails"


@pytest.mark.parametrize("given", [{"dark_dark": 0.02}, {"star_dark": 0.05}, {"star_star": 0.9}, {"known": DARK_ALONE}])
def test_dark_objects_count_as_told_by_stars_within_all_three_figures(given):
    finding = judge(evidence(*both(), beyond=[behind(**given)]))
    assert finding.verdict == "holds if"
    assert "in 0 of 1 kinds" in finding.summary and "horizon" not in finding.condition


def test_the_reason_tells_means_from_stars_and_the_sun_from_the_rest():
    bright = both("cosines by brightness", error=1e-7, keeps=0.02, among=0.9)
    beyond = [
        behind("at random", MEANS, 0.0093, 0.023, 0.834, 0.012), behind("at random", STARS_ALONE, 0.0186, 0.0, 0.0),
    ]  # fmt: skip
    reason = judge(evidence(*both(), *bright, row(role=CERTIFIED, error=0.2), beyond=beyond)).reason
    assert "without the Sun's row and column by 90%, and keeps 2.0% of the neighbours" in reason
    assert "1/(3√n) = 0.93% on dark–dark" in reason and "0.42 of that" in reason and "0.41 of theirs" in reason
    assert "2.0 times as much is lost as there is" in reason
    assert "star–star under 0.0001%" in reason
    assert "0 at 5%" in reason and "anchored(0.05) 0.4." in reason


def test_unmeasured_without_maps_and_always_the_same():
    assert judge(Evidence()).verdict == "unmeasured"
    found = evidence(*both(), beyond=[behind()])
    assert judge(found) == judge(found)


@pytest.fixture(scope="module")
def sky():
    return stars(96)


def test_stars_are_the_sun_and_what_is_brightest_beside_it(sky):
    torch.testing.assert_close(sky.directions.norm(dim=1), torch.ones(96, dtype=torch.float64))
    assert float(sky.distances[0]) < 1e-5
    assert float(sky.amplitudes[0]) == pytest.approx(10 ** (0.2 * 26.74))
    assert bool((sky.amplitudes.diff() <= 0).all())


def test_maps_have_the_rank_and_the_sun_that_they_are_named_after(sky):
    drawn = dict(maps(sky))
    values = {name: torch.linalg.svdvals(matrix) for name, matrix in drawn.items()}
    for name in ("cosines", "cosines by brightness"):
        assert float(values[name][3] / values[name][0]) < 1e-10 < float(values[name][2] / values[name][0])
    assert float(values["kernel of 6°"][40] / values["kernel of 6°"][0]) > 0.05
    product = drawn["cosines by brightness"] @ drawn["cosines by brightness"].T
    assert float(product[0, 0] / product.norm()) > 0.999999


def test_neighbours_are_those_on_the_sky_and_lose_nothing_by_brightness(sky):
    chosen = dict(maps(sky))
    plain, bright = (
        neighbours(chosen[name] @ chosen[name].T) for name in ("kernel of 6°", "kernel of 60° by brightness")
    )
    alike = neighbours(chosen["kernel of 60°"] @ chosen["kernel of 60°"].T)
    assert kept(bright, alike) == 1.0
    near = neighbours(chosen["cosines"])
    assert kept(near, plain[:, :1]) > 0.9  # who is nearest in the narrow kernel's product is near on the sky


def test_blocks_are_relative_errors_of_their_own_parts():
    truth = torch.ones(6, 6, dtype=torch.float64)
    found = truth.clone()
    found[0, 0] = 0.0
    found[:2, 2:] = 1.5
    errors = blocks(found, truth, 2)
    assert errors == {"dark_dark": 0.0, "star_dark": 0.5, "star_star": 0.5, "no_sun": 0.0}


def test_random_dark_objects_have_a_mean_and_the_sun_is_the_stars_error():
    draw = torch.Generator().manual_seed(0)
    kinds = {name: (left, right) for name, left, right in horizon(stars(32), 480, draw)}
    assert list(kinds) == ["at random", "by places on the sky", "by places and brightness"]
    left, right = kinds["at random"]
    mean = len(left) * left.mean(1)[:, None] * right.mean(0)
    errors = blocks(mean, left @ right, 32)
    assert errors["dark_dark"] == pytest.approx(1 / (3 * math.sqrt(512)), rel=0.05)
    assert errors["dark_dark"] < errors["star_dark"] < errors["star_star"]
    assert errors["no_sun"] < 0.1 * errors["star_star"]


def test_anchors_reach_all_directions_of_cosines_and_few_of_a_narrow_kernel(sky):
    drawn = dict(maps(stars(256)))
    rows = {name: list(_m5_measure._products(Run(), name, drawn[name].float())) for name in ("cosines", "kernel of 6°")}
    golden = {name: next(r for r in part if r["method"] == "anchored(0.5)") for name, part in rows.items()}
    assert golden["cosines"]["error"] < 1e-6 and golden["cosines"]["kept"] == 1.0
    assert golden["kernel of 6°"]["error"] > 0.01
    assert all(r["share"] <= 0.5 for r in rows["cosines"] if r["ratio"] == 0.5 and r["method"].startswith("anchored"))


def test_stars_alone_are_the_exact_lines_of_the_stars(monkeypatch):
    monkeypatch.setattr(_m5_measure, "DARK", 192)
    rows = {(r["dark"], r["known"]): r for r in _m5_measure._horizon(Run())}
    for dark in ("at random", "by places on the sky"):
        assert rows[dark, STARS_ALONE]["star_star"] < 1e-10
        assert rows[dark, STARS_ALONE]["star_dark"] < 1e-10
    assert rows["by places on the sky", STARS_ALONE]["dark_dark"] < 1e-3 < rows["at random", STARS_ALONE]["dark_dark"]


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "holds if"
    assert "cosines and cosines by brightness" in finding.condition
