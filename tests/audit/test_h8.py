"""The judge of H8 on figures that are made up, and what it measures on a few real lexica."""

import pytest

from tithe.audit import Evidence, Run, Table
from tithe.audit.claims import _h8_measure
from tithe.audit.claims.h8_languages import CLAIM, judge
from tithe.data import available
from tithe.errors import UnmeasurableError


def trained(count=20, useless=0, broken=0, first=20):
    rows = [
        {"language": f"l{i:02}", "rows": 9, "eval": 0.9, "usual": 0.8, "tree": 0.85, "errors": 0.1,
         "usual_errors": 0.1 if i < useless else 0.2, "tree_errors": 0.15, "error": "is empty" if i < broken else ""}
        for i in range(count)
    ]  # fmt: skip
    facts = {"runs": 20, "first": first, "over_tree": 5.0, "over_tree_low": 4.0, "over_tree_high": 6.0}
    return Evidence({"languages": Table("", rows)}, facts=facts | {"fewer_than_tree": count})


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (trained(), "holds", "All 20"),
        (trained(useless=2), "holds if", "Nearly all"),
        (trained(useless=3), "fails", "3 of 20 models are of no use"),
        (trained(broken=1), "fails", "No model of l00."),
        (trained(first=19), "fails", "Not every run begins with the last layer"),
        (trained(count=0), "unmeasured", "Nothing"),
    ],
)
def test_verdicts(found, verdict, said):
    finding = judge(found)
    assert finding.verdict == verdict and said in finding.summary
    assert verdict != "holds if" or "l00, l01" in finding.condition
    assert CLAIM.judge is judge


def test_without_lexica_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(_h8_measure, "available", lambda name: False)
    with pytest.raises(UnmeasurableError, match="lexica"):
        CLAIM.measure(Run())


def test_lexica_are_trained_and_compared_with_trees(monkeypatch):
    few = ("lexicon:mqs", "lexicon:stq")
    if not all(map(available, few)):
        pytest.skip("the lexica are not on this machine")
    monkeypatch.setattr(_h8_measure, "available", lambda name: name in few)
    monkeypatch.setattr(_h8_measure, "_QUICK", 1)
    told = []
    found = CLAIM.measure(Run(watch=lambda done, what: told.append((done, what))))
    assert [row["language"] for row in found.rows("languages")] == ["mqs", "stq"]
    for row in found.rows("languages"):
        assert row["usual"] < row["tree"] < 1 and row["usual"] < row["eval"] < 1 and not row["error"]
        assert row["errors"] < row["usual_errors"] and row["tree_errors"] < row["usual_errors"]
    assert (found.facts["runs"], found.facts["first"]) == (2, 2)
    assert found.notes == ["Of 140 lexica 2 are here."]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert judge(found).verdict == "holds"
