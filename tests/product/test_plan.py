"""Plans: their schedule, what they answer when a stream drifts, and what their receipts say."""

import importlib
import itertools
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

import tithe
from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product.guard import Guard
from tithe.product.plan import Plan, is_due
from tithe.product.rates import Rates

N = 128
_PASSES = ("mean", "reach", "round", "rescale", "outer", "rank one", "weights", "gather", "cast", "norm", "pack")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def quick_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose int8 products are four times as fast as others, and on which all else costs next to nothing."""
    table = {step: {1024: 1e-13} for step in _PASSES}
    table |= {"gemm.probe": {1024: 1e-13}, "gemm.int8": {1024: 2.5e-12}}
    table |= {f"gemm.{dtype}": {1024: 1e-11} for dtype in ("float32", "float64", "bfloat16")}
    known = Rates(table, launch=0.0)
    module = importlib.import_module("tithe.product.plan")  # the package has a function of that name
    monkeypatch.setattr(module, "rates", lambda device: known)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards that see nothing."""
    monkeypatch.setattr(Guard, "look", lambda *_: 0.0)


def stream(family: str, n: int = N, seed: int = 0) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    g = generator(seed)
    return lambda: FAMILIES[family](n, g)


def planned(family: str = "uniform", tol: float = 0.05, **given: int) -> Plan:
    return tithe.plan(*stream(family)(), tol=tol, generator=generator(1), **given)


def relative_error(C: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> float:
    wide = torch.complex128 if A.is_complex() else torch.float64
    truth = A.to(wide) @ B.to(wide)
    return float((C - truth).norm() / truth.norm())


@given(every=st.integers(1, 100), calls=st.integers(1, 500))
def test_checks_double_their_distance_up_to_the_one_asked_for(every: int, calls: int) -> None:
    due = [call for call in range(1, calls + 1) if is_due(call, every)]
    assert due[0] == 1
    assert all(later - earlier <= min(earlier, every) for earlier, later in itertools.pairwise(due))
    assert len(due) <= math.log2(min(calls, every)) + 2 + calls / every


@given(every=st.integers(1, 12), calls=st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_calls_on_the_schedule_are_certified_and_others_say_that_they_are_not(every: int, calls: int) -> None:
    plan, draw = planned(check_every=every, tol=0.1), stream("uniform", seed=2)
    assert plan.method == "mean_field"
    for call in range(1, calls + 1):
        A, B = draw()
        C, receipt = plan(A, B)
        assert receipt.method == "mean_field" and receipt.bound is not None
        assert receipt.bound.scope == ("checked" if is_due(call, every) else "plan")
        assert relative_error(C, A, B) <= receipt.bound.upper <= 0.1
        assert receipt.bound.confidence == 0.999
    assert (plan.calls, plan.alarms, plan.replans) == (calls, 0, 0)
    assert plan.checks == sum(is_due(call, every) for call in range(1, calls + 1))


def test_in_between_the_bound_is_the_largest_certified_one() -> None:
    plan, draw, certified = planned(check_every=4), stream("uniform", seed=2), [0.0]
    for _ in range(12):
        bound = plan(*draw())[1].bound
        assert bound is not None
        if bound.scope == "checked":
            certified.append(bound.upper)
        elif len(certified) > 3:
            assert bound.upper >= max(certified)
    assert len(set(certified)) > 4


def test_a_call_in_between_costs_no_certificate() -> None:
    plan, draw = planned(), stream("uniform", seed=2)
    certified, _, between = (plan(*draw())[1] for _ in range(3))
    assert between.spent.flops < certified.spent.flops / 3  # type: ignore[operator]
    assert between.plain == certified.plain and between.plain.flops == 2 * N**3


@pytest.mark.parametrize("call", [1, 3, 7])
@pytest.mark.parametrize("drifted", ["normal", "cancelling", "one row"])
def test_a_drift_is_answered_at_once(drifted: str, call: int) -> None:
    plan, before, after = planned(), stream("uniform", seed=2), stream(drifted, seed=3)
    for _ in range(call - 1):
        plan(*before())
    A, B = after()
    C, receipt = plan(A, B)
    assert relative_error(C, A, B) <= 0.05
    assert receipt.tried[0].method == "mean_field" and "above tol" in receipt.tried[0].reason
    assert receipt.bound is not None and receipt.bound.scope == "checked"
    assert receipt.method == plan.method != "mean_field"
    assert (plan.replans, plan.alarms) == (1, 0 if is_due(call, 32) else 1)
    for _ in range(4):
        A, B = after()
        assert relative_error(plan(A, B)[0], A, B) <= 0.05
    assert plan.replans == 1


@pytest.mark.usefixtures("blind")
def test_what_the_guard_does_not_see_the_next_check_does() -> None:
    plan, before, after = planned(check_every=6), stream("uniform", seed=2), stream("normal", seed=3)
    for _ in range(2):
        plan(*before())
    scopes = []
    for _ in range(2):
        A, B = after()
        C, receipt = plan(A, B)
        scopes.append((receipt.method, receipt.bound.scope, relative_error(C, A, B) <= 0.05))  # type: ignore[union-attr]
    assert scopes == [("mean_field", "plan", False), ("int8", "checked", True)]
    assert plan(*after())[1].bound.scope == "checked"  # type: ignore[union-attr]  # the schedule begins again


def test_an_error_above_the_tolerance_alarms_and_one_below_does_not() -> None:
    """The spread of the entries grows, and with its square the error of the mean part, 3 % at first."""
    plan, g = tithe.plan(*stream("uniform")(), tol=0.06, generator=generator(1)), generator(2)
    for call, spread in enumerate((1.0, 1.0, 1.2, 1.0, 1.2, 1.6), 1):
        A, B = (0.5 + spread * (torch.rand(N, N, generator=g) - 0.5) for _ in range(2))
        C, receipt = plan(A, B)
        assert relative_error(C, A, B) <= 0.06
        assert (receipt.method == "mean_field") == (call < 6)
        assert plan.alarms == (call == 6)


def test_a_false_alarm_is_checked_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, draw = planned(), stream("uniform", seed=2)
    for _ in range(2):
        plan(*draw())
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "look", lambda *_: 0.3)
        scopes = [plan(*draw())[1].bound.scope for _ in range(3)]  # type: ignore[union-attr]
    assert scopes == ["checked", "checked", "plan"]  # by alarm, by schedule; and then 0.3 is nothing new
    assert (plan.alarms, plan.replans, plan.method) == (1, 0, "mean_field")


def test_a_plan_that_came_to_the_plain_product_looks_again() -> None:
    plan, hard, easy = planned("normal", tol=1e-4), stream("normal", seed=2), stream("constant")
    assert plan.method == "exact"
    for call in range(1, 7):
        A, B = hard()
        C, receipt = plan(A, B)
        assert torch.equal(C, A @ B) and receipt.bound == tithe.Bound.exact()
        assert bool(receipt.tried) == is_due(call, 32)  # it has looked
        assert receipt.spent.flops == 2 * N**3
    methods = [plan(*easy())[1].method for _ in range(3)]
    assert methods == ["exact", "mean_field", "mean_field"]
    assert (plan.replans, plan.checks) == (1, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_operands_that_are_not_finite_get_the_plain_product(value: float) -> None:
    for place in (1, 3):  # on the schedule and off it
        plan, draw = planned(), stream("uniform", seed=2)
        for _ in range(place - 1):
            plan(*draw())
        A, B = draw()
        A[3, 5] = value
        C, receipt = plan(A, B)
        torch.testing.assert_close(C, A @ B, equal_nan=True)
        assert receipt.method == "exact" and "finite" in receipt.tried[-1].reason
        assert plan(*draw())[1].method == "mean_field"


def test_rows_may_be_more_or_fewer() -> None:
    plan, draw = planned(), stream("uniform", seed=2)
    for lead in ((N,), (40,), (3, 50), (2, 2, 300), (1,), (0,), (N,)):
        A, B = torch.rand(*lead, N, generator=generator(4)), draw()[1]
        C, receipt = plan(A, B)
        truth = A.double() @ B.double()
        assert C.shape == truth.shape
        assert (C - truth).norm() <= 0.05 * truth.norm()
        assert receipt.plain.flops == 2.0 * A.numel() * N
    assert plan.calls == 6  # nothing to multiply, nothing to count


def test_a_last_batch_that_needs_another_way_changes_nothing_unless_more_follow() -> None:
    plan, uniform, normal = planned(), stream("uniform", seed=2), stream("normal", seed=3)
    for draw, rows, way, replans in [
        (uniform, N, "mean_field", 0), (uniform, 40, "mean_field", 0), (normal, 50, "other", 0),
        (uniform, N, "mean_field", 0), (normal, 50, "other", 0), (normal, 50, "other", 1), (normal, N, "other", 1),
    ]:  # fmt: skip
        A, B = draw()
        C, receipt = plan(A[:rows], B)
        assert relative_error(C, A[:rows], B) <= 0.05
        assert (receipt.method == "mean_field") == (way == "mean_field")
        assert plan.replans == replans and (plan.method == "mean_field") == (replans == 0)


@pytest.mark.parametrize(
    ("left", "right"), [((N, 64), (64, N)), ((N, N), (N, 64)), ((2, N, N), (2, N, N))], ids=["k", "n", "items"]
)
def test_other_shapes_are_refused(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    plan = planned()
    with pytest.raises(InvalidValueError, match=r"make another .* tithe\.plan\(A, B, tol=0\.05\)"):
        plan(torch.rand(left), torch.rand(right))
    with pytest.raises(InvalidValueError, match="float64"):
        plan(torch.rand(N, N).double(), torch.rand(N, N).double())
    with pytest.raises(InvalidValueError, match="must be equal"):
        plan(torch.rand(N, N), torch.rand(N + 1, N))
    assert plan.calls == 0


def test_arguments_that_cannot_be_used() -> None:
    A, B = stream("uniform")()
    with pytest.raises(InvalidValueError, match="tol=0"):
        tithe.plan(A, B, tol=0)
    with pytest.raises(InvalidDTypeError, match="tol is None"):
        tithe.plan(A, B, tol=None)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="confidence"):
        tithe.plan(A, B, tol=0.1, confidence=1)
    for every in (0, 1.5):
        with pytest.raises(InvalidValueError, match="check_every"):
            tithe.plan(A, B, tol=0.1, check_every=every)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="nothing to plan from"):
        tithe.plan(A[:0], B, tol=0.1)
    with pytest.raises(InvalidDTypeError, match="int64"):
        tithe.plan(A.long(), B.long(), tol=0.1)


def test_items_with_operands_of_their_own_have_ways_of_their_own() -> None:
    uniform, normal = stream("uniform", seed=2), stream("normal", seed=3)
    batch = lambda *draws: [torch.stack(X) for X in zip(*(draw() for draw in draws), strict=True)]  # noqa: E731
    plan = tithe.plan(*batch(uniform, normal, uniform), tol=0.05, generator=generator(1))
    assert plan.method == "mean_field ×2 + int8"
    for draws, method in (((uniform, normal, uniform), "mean_field ×2 + int8"),) * 3 + (
        ((uniform, normal, normal), "mean_field + int8 ×2"),
    ) * 3:
        A, B = batch(*draws)
        C, receipt = plan(A, B)
        assert all(relative_error(C[i], A[i], B[i]) <= 0.05 for i in range(3))
        assert receipt.method == plan.method == method
    assert (plan.replans, plan.alarms) == (1, 0)  # call 4 was on the schedule
    plan(*batch(normal, normal, normal))
    assert (plan.replans, plan.method) == (2, "int8 ×3")


def test_one_item_that_drifts_is_seen_off_the_schedule() -> None:
    uniform, normal = stream("uniform", seed=2), stream("normal", seed=3)
    stack = lambda *pairs: [torch.stack(X) for X in zip(*pairs, strict=True)]  # noqa: E731
    plan = tithe.plan(*stack(uniform(), uniform()), tol=0.05, generator=generator(1))
    for _ in range(2):
        plan(*stack(uniform(), uniform()))
    _, receipt = plan(*stack(uniform(), normal()))
    assert receipt.method == "mean_field + int8" and receipt.bound is not None
    assert receipt.bound.scope == "plan"  # the weaker of both: the first item was not certified
    assert [attempt.method for attempt in receipt.tried] == ["mean_field"]
    assert (plan.alarms, plan.replans) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_operands(dtype: torch.dtype) -> None:
    g = generator(5)

    def draw(easy: bool) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = (torch.randn(N, N, dtype=dtype, generator=g) for _ in range(2))
        return (left + 30, right + 30) if easy else (left, right)

    plan = tithe.plan(*draw(True), tol=0.02, generator=generator(1))
    first = plan.method
    assert first != "exact"
    for call in range(1, 6):
        A, B = draw(call != 5)
        C, receipt = plan(A, B)
        assert C.dtype == dtype and relative_error(C, A, B) <= 0.02
        assert receipt.bound is not None and receipt.bound.scope == ("plan" if call == 3 else "checked")
        assert receipt.plain.flops == 8 * N**3
    assert (plan.alarms, plan.replans) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    draw = stream("uniform", seed=2)
    plan = tithe.plan(*(X.to(dtype) for X in stream("uniform")()), tol=0.05, generator=generator(1))
    for _ in range(3):
        A, B = (X.to(dtype) for X in draw())
        C, receipt = plan(A, B)
        assert C.dtype == dtype and relative_error(C, A, B) <= 0.05
    assert plan.method == receipt.method == "mean_field"


def test_the_sum_receipt_tells_of_all_calls() -> None:
    plan, uniform, normal = planned(), stream("uniform", seed=2), stream("normal", seed=3)
    planning = plan.receipt
    assert planning.plain.flops == 0 and planning.spent.flops > 0 and planning.method == "none"  # type: ignore[operator]
    receipts = [plan(*draw())[1] for draw in (uniform,) * 3 + (normal,) * 2]
    total = plan.receipt
    assert total.method == "mean_field ×3 + int8 ×2"
    assert total.plain.flops == 5 * 2 * N**3
    assert total.spent.flops == pytest.approx(planning.spent.flops + sum(r.spent.flops for r in receipts))  # type: ignore[misc, operator]
    assert total.bound is not None and total.bound.scope == "plan"
    assert total.bound.upper == max(r.bound.upper for r in receipts)  # type: ignore[union-attr]
    assert total.bound.confidence == pytest.approx(1 - 5 * 0.001)  # planning and four certified calls
    assert [attempt.method for attempt in total.tried] == ["mean_field"]


def test_sums_keep_a_constant_size() -> None:
    plan, draw = planned("normal", tol=1e-4, check_every=1), stream("normal", seed=2)
    for _ in range(5):
        plan(*draw())
    assert plan.checks == 5 and len(plan.receipt.tried) == 1 and plan.receipt.bound == tithe.Bound.exact()


def test_its_life_in_a_few_lines() -> None:
    plan, draw = planned(), stream("uniform", seed=2)
    for _ in range(3):
        plan(*draw())
    text = str(plan)
    assert text == repr(plan)
    assert len(text.splitlines()) <= 5 and max(map(len, text.splitlines())) <= 100
    for part in ("mean_field", f"(…, {N}) · ({N}, {N})", "3 calls", "2 checks", "0 replans", "tol=0.05"):
        assert part in text


def test_the_same_generator_gives_the_same_life() -> None:
    lives = []
    for _ in range(2):
        plan, draws = planned(), (stream("uniform", seed=2), stream("normal", seed=3))
        lives.append([plan(*draw()) for draw in (draws[0],) * 3 + (draws[1],) * 3])
    for (C, receipt), (again, other) in zip(*lives, strict=True):
        assert torch.equal(C, again)
        assert receipt.bound == other.bound and receipt.tried == other.tried


def test_gradients_are_those_of_the_plain_product() -> None:
    plan, weights = planned(), torch.rand(N, N, generator=generator(7))
    for call in range(3):  # certified and not
        A, B = (X.requires_grad_() for X in stream("uniform", seed=call)())
        C, receipt = plan(A, B)
        assert receipt.method == "mean_field"
        found = torch.autograd.grad((C * weights).sum(), (A, B))
        plain = torch.autograd.grad(((A @ B) * weights).sum(), (A, B))
        for ours, theirs in zip(found, plain, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert plan.calls == 3


def test_autocast_changes_nothing() -> None:
    plan, (A, B) = planned(), stream("uniform", seed=2)()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(3):
            assert plan(A, B)[0].dtype == torch.float32
        assert tithe.plan(A, B, tol=0.05, generator=generator(1)).method == "mean_field"
    assert plan.calls == 3


def test_compiled_callers_call_it_as_it_is() -> None:
    plan, receipts = planned(), []

    def step(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        C, receipt = plan(x.relu(), w)
        receipts.append(receipt)
        return (C + 1).relu()

    A, B = (X.requires_grad_() for X in stream("uniform", seed=2)())
    plain = torch.autograd.grad(step(A, B).sum(), B)[0]
    torch._dynamo.reset()
    compiled = torch.compile(step, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Dynamo")
        for _ in range(2):
            found = compiled(A, B)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), B)[0], plain)
    assert plan.calls == len(receipts) == 3
    assert [receipt.bound.scope for receipt in receipts] == ["checked", "checked", "plan"]  # type: ignore[union-attr]


@pytest.mark.gpu
def test_on_a_cuda_device() -> None:
    plan = tithe.plan(*(X.cuda() for X in stream("uniform")()), tol=0.05, generator=generator(1))
    assert plan.method == "mean_field"
    for call, family in enumerate(("uniform",) * 4 + ("normal",) * 2, 1):
        A, B = (X.cuda() for X in stream(family, seed=call)())
        C, receipt = plan(A, B)
        assert C.is_cuda and relative_error(C, A, B) <= 0.05
        assert receipt.bound is not None and (receipt.bound.scope == "plan") == (call == 3)
    assert (plan.alarms, plan.replans) == (1, 1)
    with pytest.raises(InvalidValueError, match="on cpu"):
        plan(*stream("uniform")())
