"""H1's judge on figures that are made up."""

from tithe.audit import Evidence, Table
from tithe.audit.claims._h1_measure import _agreement
from tithe.audit.claims.h1_hashtron import CLAIM, FORWARD, OURS, judge


def evidence(equal=40, test=0.9, low=0.88, prior=0.5):
    learning = {"method": FORWARD, "train": 0.95, "test": test, "test_low": low, "test_high": 0.92, "prior": prior}
    model = {"method": OURS, "data": "MNIST", "train": 0.99, "test": 0.98, "prior": 0.1, "bytes": 65536, "seconds": 1.0}
    tables = {
        "agreement": Table("", [{"what": "filter", "equal": equal, "of": 40}]),
        "learning": Table("", [learning]),
        "models": Table("", [model, model | {"method": "random forest", "test": 0.96}]),
    }
    return Evidence(tables, facts={"epochs": 3})


def test_holds_where_it_learns_and_agrees():
    finding = judge(evidence())
    assert finding.verdict == "holds"
    assert "40 values" in finding.summary
    assert "98.00% on MNIST in 64 KiB" in finding.reason


def test_fails_where_one_value_differs():
    finding = judge(evidence(equal=39))
    assert finding.verdict == "fails"
    assert "39 of 40" in finding.summary


def test_fails_where_the_interval_reaches_the_prior():
    assert judge(evidence(low=0.49)).verdict == "fails"


def test_without_baselines_no_sentence_is_left_hanging():
    found = evidence()
    alone = Evidence(found.tables | {"models": Table("", found.rows("models")[:1])}, facts=found.facts)
    assert "beside it" not in judge(alone).reason


def test_without_figures_nothing_is_said():
    assert judge(Evidence()).verdict == "unmeasured"


def test_agreement_with_the_reference():
    rows = _agreement()
    assert all(row["equal"] == row["of"] for row in rows)
    assert CLAIM.id == "H1"
