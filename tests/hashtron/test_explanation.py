"""Explanations of mixed rows and of what lies at the edge of an image."""

import numpy as np

from tithe.hashtron.classifier import HashtronClassifier


def quick(**options):
    return HashtronClassifier("tiny", **{"epochs": 2, "temperature": 6.0, "random_state": 0} | options)


def test_a_row_that_mixes_strings_and_numbers():
    kinds = np.random.default_rng(0).choice(["oak", "elm"], 200)
    X = [[kind, float(i)] for i, kind in enumerate(kinds)]
    model = quick().fit(X, kinds == "oak")
    found = model.explain(["oak", 0.5])
    assert found.answer is True
    assert str(found).startswith("True with the votes {False: ") or str(found).startswith("True with the votes False: ")


def test_answers_are_plain():
    X = np.random.default_rng(0).normal(size=(100, 2))
    assert str(quick().fit(X, (X[:, 0] > 0) * 7).explain([1.0, 0.0])).startswith("7 with the votes 0: ")


def test_the_heat_adds_up_to_all_supports():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    found = quick().fit(images, np.arange(60) % 2).explain(images[0])
    assert found.heat.shape == (8, 8)
    np.testing.assert_allclose(found.heat.sum(), sum(reason.support for reason in found.reasons))
