"""M3's judge on figures that are made up, its ways to fit against each other, and what it does without the data."""

import math

import pytest
import torch

from tithe import data
from tithe.audit import Evidence, Run, Table, audit
from tithe.audit.claims._m3_als import Rated, conjugate, corrected, exact, fit, partial, predict, prepare
from tithe.audit.claims.m3_recommender import CLAIM, CLAIMED, judge
from tithe.errors import DataUnavailableError
from tithe.product import Truncated
from tithe.product.pair import Pair


def row(method="a", role="product", share=0.2, worse=0.0, high=None, time=0.8):
    return {"method": method, "role": role, "share": share, "rmse": 0.92 * (1 + worse), "worse": worse, "low": None,
            "high": high, "time": time, "time_low": None, "time_high": None, "splits": 3}  # fmt: skip


def evidence(*rows):
    return Evidence({"methods": Table("", [row("exact", "exact", 1.0), *rows])})


def test_holds_where_products_reach_every_figure():
    assert judge(evidence(row(worse=0.0005))).verdict == "holds"
    assert judge(evidence(*(row(share=r, worse=w) for r, w in CLAIMED.items()))).verdict == "holds"


@pytest.mark.parametrize(
    "given", [{"worse": 0.0007}, {"worse": 0.0, "high": 0.0007}, {"share": 0.21}, {"role": "baseline"}]
)
def test_fails_where_a_figure_is_missed(given):
    assert judge(evidence(row(**given))).verdict == "fails"


def test_holds_if_only_what_forms_no_matrices_reaches_them():
    finding = judge(evidence(row(worse=0.02), row("cg", "structured", 0.16, 0.0004)))
    assert finding.verdict == "holds if"
    assert "residual of the normal equations is exact" in finding.condition and "the time here" not in finding.condition
    assert "worse by 2.00 / 2.00 / 2.00% at ratio 0.5 / 0.3 / 0.2" in finding.summary


def test_corrections_count_as_a_way_around():
    assert judge(evidence(row(worse=0.02), row("c", "corrected", 0.2, 0.0005))).verdict == "holds if"


def test_seconds_are_a_condition_of_their_own():
    finding = judge(evidence(row(worse=0.02), row("cg", "structured", 0.16, 0.0004, time=1.75)))
    assert "counted in multiply–adds (up to 1.8 times the time here)" in finding.condition


def test_a_ratio_without_any_method_is_missed():
    finding = judge(evidence(row(share=0.4)))
    assert finding.verdict == "fails"
    assert "0.00 / – / –%" in finding.summary


def test_unmeasured_without_the_exact_fit_and_always_the_same():
    assert judge(Evidence()).verdict == "unmeasured"
    found = evidence(row(worse=0.02))
    assert judge(found) == judge(found)


USERS, ITEMS, K, PENALTY = 60, 40, 6, 0.1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def rated():
    """A third of the ratings that two tastes make, with noise; the last user rated nothing."""
    g = generator()
    taste = torch.randn(USERS, 2, generator=g) @ torch.randn(2, ITEMS, generator=g)
    seen = torch.rand(USERS, ITEMS, generator=g) < torch.rand(ITEMS, generator=g) * 0.6
    seen[-1] = False
    user, item = seen.nonzero().T
    rating = (3 + taste + 0.2 * torch.randn(USERS, ITEMS, generator=g)).clamp(1, 5)[user, item]
    return Rated(user, item, rating)


@pytest.fixture(scope="module")
def prepared(rated):
    return prepare(rated, (USERS, ITEMS))


def fitted(prepared, solver, sweeps=4):
    return fit(prepared, K, sweeps, solver, generator(1))


def test_exact_is_ridge_regression_row_by_row(rated, prepared):
    """One more half sweep for the items, user's factors fixed, gives the same factors as least squares does."""
    model = fitted(prepared, exact(PENALTY))
    users, items = (factors.double() for factors in model.factors)
    mean, of_users, of_items = model.biases
    for item in range(0, ITEMS, 7):
        mine = rated.item == item
        near = users[rated.user[mine]]
        rest = (rated.rating[mine] - mean - of_users[rated.user[mine]] - of_items[item]).double()
        penalty = math.sqrt(PENALTY * int(mine.sum())) * torch.eye(K, dtype=torch.float64)
        both = torch.linalg.lstsq(torch.cat([near, penalty]), torch.cat([rest, torch.zeros(K).double()])[:, None])
        torch.testing.assert_close(items[item], both.solution[:, 0], rtol=1e-3, atol=1e-4)


def test_it_learns(rated, prepared):
    def error(model):
        return float((predict(model, rated) - rated.rating).square().mean().sqrt())

    assert error(fitted(prepared, exact(PENALTY))) < 0.6 * error(fitted(prepared, exact(1e9)))


@pytest.mark.parametrize("solver", [partial(PENALTY, 1.0), conjugate(PENALTY, 3 * K)], ids=["all of it", "to the end"])
def test_without_a_saving_nothing_changes(prepared, solver):
    plain, found = fitted(prepared, exact(PENALTY)), fitted(prepared, solver)
    for ours, theirs in zip(found.factors, plain.factors, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_correction_by_an_exact_residual_ends_where_exact_sweeps_do(rated, prepared):
    """Products of few of the ratings, which by themselves end elsewhere."""
    exactly = fitted(prepared, exact(PENALTY), sweeps=40)
    far, near = (
        float((predict(fitted(prepared, solver, sweeps=40), rated) - predict(exactly, rated)).norm())
        for solver in (partial(PENALTY, 0.8, generator(2)), corrected(PENALTY, 0.8, generator(2)))
    )
    assert near < 0.3 * far


def test_multiply_adds_are_counted(rated, prepared):
    count, sweeps = len(rated.rating), 4
    plain = 2.0 * sweeps * count * (K * K + K)
    assert fitted(prepared, exact(PENALTY)).spent == plain
    assert fitted(prepared, conjugate(PENALTY, 2)).spent == 2.0 * sweeps * count * 6 * K
    for ratio in (0.9, 0.75):
        assert 0.85 * ratio * plain < fitted(prepared, partial(PENALTY, ratio)).spent <= ratio * plain * 1.02
        found = fitted(prepared, corrected(PENALTY, ratio, generator(3))).spent
        assert 0.85 * ratio * plain < found <= ratio * plain * 1.05


def test_the_heaviest_ratings_are_those_of_the_estimator():
    near, values = torch.randn(3, 20, K, generator=generator(4)), torch.zeros(3, 20)
    counts, penalty = torch.tensor([20, 20, 20]), 1e-3
    values[:, :1] = 1.0
    found, _ = partial(penalty, 0.6)(near, torch.zeros(3, K), values, counts)
    for i in range(3):
        matrix = Truncated(0.6).multiply(Pair(near[i].T.contiguous(), near[i])).tensor(torch.float32)
        kept = torch.topk(near[i].square().sum(1), 12).indices
        right = near[i][kept].T @ values[i][kept]
        expected = torch.linalg.solve(matrix + penalty * 20 * torch.eye(K), right)
        torch.testing.assert_close(found[i], expected, rtol=1e-3, atol=1e-4)


def test_without_the_data_it_ends_as_unmeasured(monkeypatch, tmp_path):
    def nowhere(name):
        raise DataUnavailableError(f"data set {name!r} is nowhere")

    monkeypatch.setattr(data, "load", nowhere)
    (result,) = audit([CLAIM], tmp_path).results
    assert result.finding.verdict == "unmeasured"
    assert "movielens-100k" in result.finding.summary and result.error is None


@pytest.mark.slow
def test_a_quick_measurement_ends_in_a_finding():
    if not data.available("movielens-100k"):
        pytest.skip("MovieLens 100K is not on this machine")
    finding = CLAIM.judge(CLAIM.measure(Run(seed=2)))
    assert finding.verdict == "holds if"
    assert "conjugate gradients" in finding.reason
