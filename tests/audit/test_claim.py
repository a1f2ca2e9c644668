import math

import pytest
import torch

from tithe.audit import VERDICTS, Claim, Finding, Run
from tithe.errors import InvalidValueError, UnmeasurableError


@pytest.mark.parametrize("verdict", VERDICTS)
def test_only_holds_if_takes_a_condition(verdict):
    condition = "n is large" if verdict == "holds if" else ""
    assert Finding(verdict, "So.", condition=condition).verdict == verdict
    with pytest.raises(InvalidValueError, match="condition"):
        Finding(verdict, "So.", condition="" if condition else "n is large")


def test_unknown_verdict_is_refused():
    with pytest.raises(InvalidValueError, match="holds if"):
        Finding("perhaps", "So.")


@pytest.mark.parametrize("id", ["m2", "M", "M02", "MM2", "M2 "])
def test_ids_are_a_capital_and_a_number(fake, id):
    with pytest.raises(InvalidValueError, match="such as M2"):
        fake(id)


@pytest.mark.parametrize("budget", [0, -1.0, math.inf, math.nan])
def test_budget_is_positive_and_finite(fake, budget):
    with pytest.raises(InvalidValueError, match="budget"):
        fake(budget=budget)


def test_claims_sort_by_letter_then_number(fake):
    claims = sorted((fake(id) for id in ("R1", "M10", "M2")), key=lambda claim: claim.order)
    assert [claim.id for claim in claims] == ["M2", "M10", "R1"]


def test_claim_is_frozen(fake):
    claim: Claim = fake()
    with pytest.raises(AttributeError):
        claim.id = "X2"


def test_generators_depend_on_seed_and_key_alone():
    def draw(seed: int, *key: object) -> float:
        return float(torch.rand(1, generator=Run(seed=seed).generator(*key)))

    assert draw(1, "a", 2) == draw(1, "a", 2)
    assert len({draw(1, "a", 2), draw(1, "a", 3), draw(2, "a", 2), draw(1, "b", 2)}) == 4


def test_seeds_of_two_runs_do_not_meet():
    assert set(Run(seed=1).seeds(100)).isdisjoint(Run(seed=2).seeds(100))


def test_progress_is_clamped_and_optional():
    seen = []
    run = Run(watch=lambda done, what: seen.append((done, what)))
    run.progress(1.5, "a")
    run.progress(-0.5, "b")
    Run().progress(0.5, "nobody listens")
    assert seen == [(1.0, "a"), (0.0, "b")]


def test_time_left_is_infinite_without_a_deadline():
    assert Run(mode="full").left() == math.inf


def test_need_names_what_is_missing():
    Run().need(True, "anything")
    with pytest.raises(UnmeasurableError, match="needs a CUDA device"):
        Run().need(False, "a CUDA device")
