"""M4's judge on figures that are made up, and its network on digits."""

import pytest
import torch

from tithe import data
from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _m4_measure, _m4_network
from tithe.audit.claims.m4_mnist_mlp import CLAIM, LOW_RANK, judge
from tithe.errors import DataUnavailableError

EXACT = {"method": "exact", "role": "exact", "share": 1.0, "accuracy": 0.97, "lost": 0.0}


def row(method="a", role="tithe", share=0.3, lost=0.02, high=0.04, time=0.5, spread=0.1):
    return {
        "method": method, "role": role, "share": share, "accuracy": 0.97 - lost / 100, "lost": lost, "lost_low": 0.0,
        "lost_high": high, "seeds": 5, "time": time, "time_low": time and time - spread,
        "time_high": time and time + spread,
    }  # fmt: skip


def evidence(*rows, data="MNIST"):
    return Evidence({"methods": Table("", [EXACT, *rows])}, facts={"data": data})


def test_holds_within_the_ratio_with_the_interval():
    finding = judge(evidence(row(), row("b", lost=5.0, high=6.0)))
    assert finding.verdict == "holds"
    assert finding.summary == "0.02 points lost at 30% of the multiply–adds, by a."


def test_fails_where_everything_within_the_ratio_loses_more():
    finding = judge(evidence(row(lost=0.06, high=0.07), row("exactish", share=1.0, lost=0.0)))
    assert finding.verdict == "fails"
    assert "0.06 points lost at 30% of the multiply–adds, by a;" in finding.summary


def test_failing_on_other_data_does_not_refute():
    finding = judge(evidence(row(lost=0.06, high=0.07), data="digits"))
    assert finding.verdict == "unmeasured"
    assert "Measured on digits only" in finding.summary


def test_fails_where_nothing_is_within_the_ratio():
    finding = judge(evidence(row(share=0.31, time=0.9), row(share=None, time=None)))
    assert finding.verdict == "fails"
    assert "No method stays within 0.3" in finding.summary


@pytest.mark.parametrize(
    ("given", "data", "words"),
    [
        ({"high": 0.3}, "MNIST", "mean over seeds"),
        ({"time": 2.0}, "MNIST", "counted in multiply–adds"),
        ({"share": 1.0, "time": 0.15}, "MNIST", "counted in seconds"),
        ({"method": LOW_RANK}, "MNIST", "factored to a low rank"),
        ({}, "digits", "MNIST, which could not be had"),
    ],
)
def test_conditions(given, data, words):
    finding = judge(evidence(row(**given), data=data))
    assert finding.verdict == "holds if"
    assert words in finding.condition


def test_conditions_add_up_and_fewer_are_preferred():
    one, two = row("one", high=0.3), row("two", high=0.2, time=2.0)
    assert judge(evidence(two, one)).summary.endswith("by one.")
    assert " and one goes by the mean" in judge(evidence(two)).condition


def test_a_time_that_was_not_measured_is_no_obstacle():
    assert judge(evidence(row(time=None))).verdict == "holds"


def test_unmeasured_without_the_exact_product():
    assert judge(Evidence()).verdict == "unmeasured"


@pytest.fixture(scope="module")
def digits():
    raw = data.load("digits")
    x, y = (
        (torch.from_numpy(part).flatten(1).float() / 16 for part in (raw.train_x, raw.test_x)),
        (raw.train_y, raw.test_y),
    )
    (train_x, test_x), (train_y, test_y) = x, map(torch.from_numpy, y)
    split = _m4_network.Split("digits", train_x, train_y, test_x, test_y)
    return split, _m4_network.train(split, 0, epochs=5)


def test_training_is_repeatable_and_learns(digits):
    split, network = digits
    again = _m4_network.train(split, 0, epochs=5)
    assert all(
        torch.equal(a, b) for one, two in zip(network, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    logits = _m4_network.plain(network, split.test_x)
    assert float((logits.argmax(1) == split.test_y).double().mean()) > 0.9


def test_forward_with_exact_products_is_the_plain_network(digits):
    split, network = digits
    generator = torch.Generator().manual_seed(0)
    logits, receipt = _m4_network.forward(
        network, split.test_x, lambda x, w: _m4_network.by_estimator("exact", x, w, generator)
    )
    torch.testing.assert_close(logits, _m4_network.plain(network, split.test_x), rtol=1e-4, atol=1e-4)
    assert receipt.method == "exact ×3"
    assert receipt.ratio("flops") == 1.0


def test_truncation_costs_its_share(digits):
    split, network = digits
    generator = torch.Generator().manual_seed(0)
    _, receipt = _m4_network.forward(
        network, split.test_x, lambda x, w: _m4_network.by_estimator("truncated(0.3)", x, w, generator)
    )
    assert receipt.ratio("flops") == pytest.approx(0.3, abs=0.02)


def test_low_rank_weights_of_full_rank_are_the_plain_network(digits):
    split, network = digits
    classify, share = _m4_network.low_rank(network, split, 10.0)
    assert share > 1
    torch.testing.assert_close(classify(split.test_x), _m4_network.plain(network, split.test_x), rtol=1e-3, atol=1e-2)
    assert _m4_network.low_rank(network, split, 0.3)[1] == pytest.approx(0.3, abs=0.03)


def test_digits_stand_in_where_mnist_cannot_be_had(monkeypatch):
    load = data.load

    def without_mnist(name):
        if name == "mnist":
            raise DataUnavailableError("mnist is nowhere")
        return load(name)

    monkeypatch.setattr(data, "load", without_mnist)
    split, notes = _m4_measure.load(Run())
    assert split.name == "digits"
    assert "mnist is nowhere" in notes[0]


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    assert CLAIM.judge(CLAIM.measure(Run(seed=2))).verdict in ("holds", "holds if", "fails")
