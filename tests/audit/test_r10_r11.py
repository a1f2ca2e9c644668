"""The judges of R10 and R11 on figures that are made up."""

import pytest

from tithe.audit import Evidence, Table
from tithe.audit.claims import r10_training, r11_full_stack


def row(name: str, constant: float, cosine: float, work: float = 0.0, lost: float = 0.0, arrived: int = 5) -> dict:
    out = {"recipe": name, "steps": 100.0, "arrived": arrived, "of": 5, "accuracy": 0.87, "accuracy_lost": lost,
           "inference_saved": 0.5}  # fmt: skip
    for column, value in (("saved_constant", constant), ("saved_cosine", cosine), ("work_saved", work)):
        out |= {column: value, f"{column}_low": value - 0.05, f"{column}_high": value + 0.05}
    return out


def evidence(*rows: dict) -> Evidence:
    return Evidence({"races": Table("", list(rows))}, facts={"race": "to 85%, 5 seeds"})


def test_the_penalty_holds_where_it_beats_both_baselines() -> None:
    found = r10_training.judge(evidence(row("penalty (R1)", 0.4, 0.25), row("damped gradients (R2)", -0.4, -0.5)))
    assert found.verdict == "holds"
    assert "penalty" in found.summary


def test_against_a_constant_rate_alone_it_holds_under_that_condition() -> None:
    found = r10_training.judge(evidence(row("penalty (R1)", 0.4, 0.05)))
    assert found.verdict == "holds if"
    assert "cosine" in found.condition


def test_it_fails_where_others_save_and_names_one() -> None:
    rows = [row("penalty (R1)", 0.19, -0.2), row("damped gradients (R2)", 0.9, 0.9, arrived=4), row("averaged", 0.4, 0)]
    found = r10_training.judge(evidence(*rows))
    assert found.verdict == "fails"
    assert "averaged does" in found.summary
    assert "4 of 5 networks arrive" in found.reason


@pytest.mark.parametrize(
    ("work", "lost", "verdict"),
    [(0.46, 0.001, "holds"), (0.44, 0.001, "fails"), (0.6, 0.004, "holds if"), (0.6, -0.01, "holds")],
)
def test_the_full_stack_is_judged_by_its_lower_end_and_its_accuracy(work: float, lost: float, verdict: str) -> None:
    assert r11_full_stack.judge(evidence(row("full stack", 0.5, 0.2, work, lost))).verdict == verdict


def test_the_full_stack_fails_where_a_network_never_arrives() -> None:
    assert r11_full_stack.judge(evidence(row("full stack", 0.5, 0.2, 0.6, arrived=4))).verdict == "fails"


@pytest.mark.parametrize("claim", [r10_training, r11_full_stack])
def test_without_figures_nothing_is_said(claim) -> None:
    assert claim.judge(Evidence()).verdict == "unmeasured"
