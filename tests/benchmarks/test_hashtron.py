"""The parts of ``benchmarks.hashtron`` that a wrong figure could come from."""

import numpy as np
import pytest
from benchmarks.hashtron.booleans import Booleans
from benchmarks.hashtron.cells import cells
from benchmarks.hashtron.copies import enlarged
from benchmarks.hashtron.measure import chosen, described, runs
from benchmarks.hashtron.report import candidate_points, frontier
from benchmarks.hashtron.rivals import RIVALS
from benchmarks.hashtron.sizes import of_boosting, of_clauses, of_forest, of_linear, of_wisard
from benchmarks.hashtron.tasks import TASKS, Samples
from benchmarks.hashtron.wisard import fit_wisard

PAIRS = cells(list(TASKS), list(RIVALS))


@pytest.mark.parametrize(("task", "rival"), PAIRS, ids=lambda part: part.name)
def test_equal_effort(task, rival):
    candidates = rival.candidates(task)
    assert len({described(settings) for settings in candidates}) == (1 if rival.name == "hashtron-defaults" else 5)
    if task.images and not rival.name.startswith("hashtron"):
        assert sum("copies" in settings for settings in candidates) == 1


def test_words_stay_together_and_no_row_is_lost():
    groups = np.repeat(np.arange(50), 4)
    samples = Samples(np.arange(200)[:, None], np.zeros(200), groups)
    kept, out = TASKS["phonemes"].split(samples, 0)
    assert not set(kept.groups) & set(out.groups)
    assert sorted(np.concatenate((kept.X, out.X))[:, 0]) == list(range(200))


def test_official_test_part_is_the_last():
    task = TASKS["mnist"]
    samples = Samples(np.arange(10_003), np.arange(10_003))
    train, test = task.split(samples, 1)
    assert (len(train), test.X[0]) == (3, 3)


def test_the_first_of_the_best_is_chosen():
    found = [{"run": 0, "settings": {"C": C}, "score": score} for C, score in ((1.0, 0.5), (2.0, 0.7), (3.0, 0.7))]
    assert chosen({"choices": found}, 0, [{"C": 1.0}, {"C": 2.0}, {"C": 3.0}]) == {"C": 2.0}


def test_runs():
    assert runs(TASKS["mnist"], RIVALS["boosting"], seeds=None, quick=False) == 1
    assert runs(TASKS["wine"], RIVALS["boosting"], seeds=None, quick=False) == 10
    assert runs(TASKS["wine"], RIVALS["boosting"], seeds=3, quick=False) == 3


def test_sizes_of_trees_and_lines():
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    X = np.array([[0.0], [1.0]] * 50)
    y = X[:, 0].astype(int)
    stump = RandomForestClassifier(1, bootstrap=False, random_state=0).fit(X, y).estimators_[0].tree_
    assert of_forest([stump], 2) == 10 + 2 * 8
    for categorical, size in (([False], 10), ([True], 6 + 1)):
        model = HistGradientBoostingClassifier(max_iter=1, categorical_features=categorical).fit(X, y)
        assert of_boosting([model._predictors[0][0].nodes], [2 if categorical[0] else 0]) == size + 2 * 4
    assert of_linear(np.zeros((3, 5)), np.zeros(3), 4) == 4 * (18 + 8)
    assert of_clauses(np.ones((1, 16), bool), None) == 2


def test_booleans():
    table = np.array([[1, "a"], [2, "b"], [3, "c"]], object)
    assert Booleans.fit(table, 4).bits(table).tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [1, 1, 0, 0, 1]]
    coded = Booleans.fit(table, 4, coded=True)
    assert coded.bits(np.array([[2, "b"], [9, "unseen"]], object)).tolist() == [[1, 0, 0, 1], [1, 1, 0, 0]]
    assert coded.bytes == 2 * 4 + 3 * 2
    images = np.array([[[0, 75, 76, 255]]], np.uint8)
    assert Booleans.fit(images, 1).bits(images).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(("width", "log_cells"), [(4, 4), (8, 5)])
def test_wisard_learns_within_its_budget(width, log_cells):
    random = np.random.default_rng(0)
    X = random.normal(size=(600, 6))
    y = np.where(X[:, 0] + X[:, 1] > 0.5, 7, 3)
    model = fit_wisard(X[:400], y[:400], width=width, log_cells=log_cells, levels=8, budget=4096, seed=0)
    assert 2048 < model.bytes <= 4096
    assert model.bytes == of_wisard(len(model.places), width, 1 << log_cells, 2) + model.booleans.bytes
    assert np.mean(model.predict(X[400:]) == y[400:]) > 0.8


def test_copies_keep_the_originals_and_change_the_rest():
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    more = enlarged(Samples(images, np.arange(20)), 2, "shift", 0)
    assert (more.X[:20] == images).all()
    assert (more.y == np.tile(np.arange(20), 3)).all()
    assert (more.X[20:40] != more.X[40:]).any()


def test_curve():
    choices = [{"settings": {"n": n}, "bytes": size, "score": score} for n, size, score in
               ((1, 10, 0.5), (1, 20, 0.7), (2, 100, 0.55))]  # fmt: skip
    points = candidate_points({"choices": choices})
    assert points == [(15, pytest.approx(0.6)), (100, 0.55)]
    assert frontier(points) == points[:1]
