"""The verdicts on T7 and T11 follow from the figures, and both are measured on real descents."""

import math

import pytest
import torch
from torch import nn

from tithe.audit import renewal
from tithe.audit.claim import Run
from tithe.audit.claims import _t11_measure, t7_renewal, t11_homogeneity
from tithe.audit.claims._t11_measure import Course, course
from tithe.audit.evidence import Evidence, Table

DORMANT, PERTURBED = t7_renewal.RIVALS


def races(**scenes):
    """Rows of plain training, ours and both rivals; a scene gives what ours has over plain and over both rivals."""
    rows = []
    for data, (over, *less) in scenes.items():
        points = {t7_renewal.PLAIN: (None, over), t7_renewal.OURS: (over, None)}
        points |= {arm: ((over[0] - by[0],) * 3, by) for arm, by in zip(t7_renewal.RIVALS, less, strict=True)}
        for arm, columns in points.items():
            row = {"data": data, "arm": arm, "accuracy": 50.0 + (columns[0] or [0])[0]}
            for column, ends in zip(("over", "less"), columns, strict=True):
                row |= dict(zip((column, f"{column}_low", f"{column}_high"), ends or (None,) * 3, strict=True))
            rows.append(row)
    return Evidence({"arms": Table("", rows)})


CLEAR, LEVEL, BEHIND = (9.0, 5.0, 13.0), (1.0, -1.0, 3.0), (-7.0, -13.0, -1.0)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (races(labels=(CLEAR, CLEAR, CLEAR)), "holds"),
        (races(labels=(CLEAR, LEVEL, CLEAR)), "holds if"),
        (races(labels=(CLEAR, BEHIND, CLEAR)), "holds if"),
        (races(labels=(CLEAR, CLEAR, CLEAR), permuted=(CLEAR, CLEAR, LEVEL)), "holds if"),
        (races(labels=(LEVEL, CLEAR, CLEAR)), "unmeasured"),
        (races(labels=(CLEAR, CLEAR, CLEAR), permuted=(LEVEL, CLEAR, CLEAR)), "unmeasured"),
        (races(labels=(LEVEL, CLEAR, CLEAR), permuted=(BEHIND, CLEAR, CLEAR)), "fails"),
        (Evidence({"arms": Table("", [])}), "unmeasured"),
    ],
)
def test_t7(found, verdict):
    assert t7_renewal.judge(found).verdict == verdict


@pytest.mark.parametrize(("dormant", "word"), [(LEVEL, "not told apart"), (BEHIND, "better")])
def test_t7_names_the_best_rival_and_how_it_fares(dormant, word):
    finding = t7_renewal.judge(races(labels=(CLEAR, dormant, CLEAR)))
    assert f"{DORMANT}: {word}" in finding.condition and PERTURBED not in finding.condition
    assert ("a tuned rival is better on labels" in finding.summary) == (word == "better")


def answers(*data, **said):
    """Rows of all measures for each data; a measure's questions are answered with yes but for those said."""
    rows = []
    for where in data or ("labels",):
        for measure in t11_homogeneity.MEASURES:
            row = {"data": where, "measure": measure}
            for question, (_, sign) in t11_homogeneity.QUESTIONS.items():
                answer = said.get(f"{measure.replace(' ', '_')}_{question}", said.get(question, "yes"))
                middle = {"yes": 2.0, "no": -2.0, "open": 0.5}[answer] * sign
                row |= {question: middle, f"{question}_low": middle - 1, f"{question}_high": middle + 1}
            rows.append(row)
    return Evidence({"answers": Table("", rows)})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (answers(), "holds"),
        (answers(descent="no"), "holds if"),
        (answers(remains="open"), "holds if"),
        (answers(descent="no", remains="no"), "fails"),
        (answers(grown="no"), "fails"),
        (answers(renewal="no"), "fails"),
        (answers(apart="no"), "fails"),
        (answers(grown="open"), "unmeasured"),
        (answers(grown="open", apart="no"), "fails"),
        (answers(grown="no", rank_of_samples_grown="open"), "unmeasured"),
        (answers(grown="no", rank_of_samples_grown="yes"), "holds if"),
        (answers(apart="no", rank_of_rows_apart="yes", rank_of_samples_grown="open"), "holds if"),
        (Evidence({"answers": Table("", [])}), "unmeasured"),
    ],
)
def test_t11(found, verdict):
    assert t11_homogeneity.judge(found).verdict == verdict


def test_t11_names_the_measures_that_bear_it_out_and_the_loss_they_go_with():
    finding = t11_homogeneity.judge(answers(descent="no", rank_of_rows_apart="no", cosine_of_samples_grown="open"))
    assert finding.condition.startswith(
        "homogeneity is the cosine of rows or the rank of samples, and the loss is what"
    )
    assert "of 4 measures 3 grow, 0 with the falling loss of a task, 4 with" in finding.measured
    assert "and the loss" not in t11_homogeneity.judge(answers(rank_of_rows_apart="no")).condition


def test_t11_takes_a_measure_only_where_all_data_agree():
    both, other = answers("labels"), answers("permuted", grown="no", rank_of_samples_grown="yes")
    rows = [*both.rows("answers"), *other.rows("answers")]
    finding = t11_homogeneity.judge(Evidence({"answers": Table("", rows)}))
    assert finding.condition == "homogeneity is the rank of samples."


@pytest.fixture
def short(monkeypatch):
    """Both kinds of task with few steps, on a part of the images."""
    for name, plan in renewal.PROTOCOLS.items():
        monkeypatch.setitem(renewal.PROTOCOLS, name, plan._replace(steps=60, batch=16))
    parts = {standardised: renewal.images(standardised) for standardised in (False, True)}
    parts = {key: renewal.Images(p[0][:9000], p[1][:9000], p[2][:500], p[3][:500]) for key, p in parts.items()}
    monkeypatch.setattr(renewal, "images", parts.__getitem__)


@pytest.mark.parametrize("protocol", ["permuted", "labels"])
def test_a_run_is_repeated_exactly_watched_or_not_and_a_fresh_start_differs_from_the_second_task_on(short, protocol):
    seen = []
    plain = renewal.run(protocol, "plain", 5, {}, 2)
    assert renewal.run(protocol, "plain", 5, {}, 2, lambda task, done, *_: seen.append((task, done))) == plain
    assert seen == [(task, done) for task in range(2) for done in range(61)]
    fresh = renewal.run(protocol, "fresh", 5, {}, 2)
    assert fresh[0] == plain[0] and fresh[1] != plain[1]
    assert renewal.run(protocol, "plain", 6, {}, 2) != plain


def test_renewals_come_as_they_are_set_and_at_stalls_where_the_loss_says_so(short):
    made = []
    settings = {"every": 10, "after": lambda renewed: made.append(renewed.reason)}
    renewal.run("labels", "renormalise", 1, settings, 2)
    assert made == ["schedule"] * 12
    made.clear()
    renewal.run("labels", "renormalise", 1, {**settings, "when": "stall"}, 2)
    assert 0 < len(made) < 12 and "slope" in made


def test_tasks_of_permuted_inputs_hold_the_same_images_and_random_labels_new_ones(short):
    (xs, ys, test_x, test_y), (other, *_) = renewal.tasks("permuted", 3, 2)
    assert xs.shape == (60, 16, 196) and ys.shape == (60, 16) and not torch.equal(xs, other)
    given = renewal.images(False)
    torch.testing.assert_close(test_x.sort(1).values, given.test_x.sort(1).values)
    assert not torch.equal(test_x, given.test_x) and torch.equal(test_y, given.test_y)
    xs, _, x, y = next(renewal.tasks("labels", 3, 1))
    assert x.shape == (800, 196) and set(y.tolist()) == set(range(10))
    assert {tuple(row.tolist()) for row in xs.flatten(0, 1)} <= {tuple(row.tolist()) for row in x}


def test_a_quick_run_of_t7_compares_the_same_tasks(short):
    found = t7_renewal.CLAIM.measure(Run(seed=2))
    rows = {row["arm"]: row for row in found.rows("arms")}
    assert list(rows) == [t7_renewal.PLAIN, DORMANT, t7_renewal.OURS]
    ours, plain = rows[t7_renewal.OURS], rows[t7_renewal.PLAIN]
    assert ours["over"] == pytest.approx(ours["accuracy"] - plain["accuracy"]) == plain["less"]
    assert rows[DORMANT]["less"] == pytest.approx(ours["over"] - rows[DORMANT]["over"])
    series = {s.name: s.y for s in found.plots[0].series}
    assert all(len(y) == 10 for y in series.values())
    assert sum(series[t7_renewal.OURS][-2:]) / 2 == pytest.approx(ours["accuracy"])
    assert t7_renewal.judge(found).reason.count("\n") == 2


def test_a_course_is_looked_at_from_the_start_to_the_end_of_each_task_and_around_renewals(short):
    found = course("permuted", "renormalise", 4, 2)
    assert found.tasks == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1.2, 1.4, 1.6, 1.8, 2])
    assert found.losses[0] == pytest.approx(math.log(10), abs=0.1) and found.losses[5] < 1.5 < found.losses[6]
    assert found.measures[5]["rank of rows"] == found.measures[6]["rank of rows"]  # weights are those of before
    assert found.measures[5]["rank of samples"] != found.measures[6]["rank of samples"]
    assert len(found.changes) == 1  # of four renewals, every sixth
    assert 0 < abs(found.changes[0]["rank of rows"]) < 5


def test_measures_of_a_network_whose_rows_are_all_alike():
    model = renewal.network(0)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            nn.init.constant_(layer.weight, 0.1)
            layer.bias.zero_()
    found = _t11_measure._measures(model, torch.rand(50, 196, generator=torch.Generator().manual_seed(0)))
    assert list(found.values()) == pytest.approx([1.0] * 4, abs=1e-5)


def made(ranks, losses, changes=(0.5,)):
    """A course of as many tasks as there are ranks at their ends, which fall by 2 within each task, as losses do."""
    one = Course(10)
    for rank, loss in zip(ranks, losses, strict=True):
        for look in range(6):
            one.losses.append(loss + 5 - look)
            one.measures.append(dict.fromkeys(t11_homogeneity.MEASURES, rank + 0.4 * (5 - look)))
    one.changes = [dict.fromkeys(t11_homogeneity.MEASURES, change) for change in changes]
    return one


@pytest.mark.parametrize(("measure", "sign"), [("rank of samples", 1), ("cosine of rows", -1)])
def test_answers_are_larger_for_what_is_more_alike(measure, sign):
    plain = [made([30, 20, 10], [1.0, 1.5, 2.0]), made([31, 20, 10], [1.0, 1.5, 2.0])]
    renewed = [made([30, 29, 28], [1.0, 1.0, 1.0], [0.5, 1.5]), made([30, 29, 30], [1.0, 1.0, 1.0])]
    row = _t11_measure._answers("labels", measure, plain, renewed)
    assert (row["first"], row["last"], row["last_renewed"]) == (32.5, 10, 29)
    assert row["grown"] == pytest.approx(sign * 22.5) and row["apart"] == pytest.approx(sign * -19)
    assert row["renewal"] == pytest.approx(sign * -0.75)
    assert row["descent"] == pytest.approx(-sign) and row["remains"] == pytest.approx(sign)


def test_a_quick_run_of_t11_shows_the_curve(short):
    found = t11_homogeneity.CLAIM.measure(Run(seed=2))
    assert [row["measure"] for row in found.rows("answers")] == list(t11_homogeneity.MEASURES)
    loss, *curves, left = found.plots
    assert all(len(s.y) == 24 and s.x[-1] == 4 for plot in (loss, *curves) for s in plot.series)
    for row, curve in zip(found.rows("answers"), curves, strict=True):
        plain = next(s.y for s in curve.series if s.role == "baseline")
        assert (plain[0], plain[-1]) == pytest.approx((row["first"], row["last"]))
        assert abs(row["grown"]) == pytest.approx(abs(plain[-1] - plain[0]))
    assert [s.y for s in left.series] == [s.y[5::6] for s in loss.series]
    assert t11_homogeneity.judge(found).reason.count("permuted inputs") == 4
