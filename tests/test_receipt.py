import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError, TitheError
from tithe.receipt import UNITS, Attempt, Bound, Cost, Receipt

FEW = settings(max_examples=60, deadline=None, derandomize=True)

figures = st.none() | st.integers(0, 2**40).map(float)  # whole numbers: their sums are exact
costs = st.builds(
    Cost,
    **dict.fromkeys(UNITS, figures),
    estimated=st.sets(st.sampled_from(UNITS)).map(lambda flagged: tuple(u for u in UNITS if u in flagged)),
)
bounds = st.builds(
    Bound,
    upper=st.floats(0, 1),
    estimate=st.floats(0, 1),
    confidence=st.floats(0, 1),
    probes=st.integers(0, 64),
    scope=st.sampled_from(["checked", "plan", "calibration"]),
)
text = st.text(max_size=80)
attempts = st.builds(Attempt, method=text, reason=text, upper=st.none() | st.floats(0, 1))
receipts = st.builds(
    Receipt,
    method=text,
    spent=costs,
    plain=costs,
    bound=st.none() | bounds,
    tried=st.lists(attempts, max_size=40).map(tuple),
)


@FEW
@given(costs, costs, costs)
def test_costs_add_in_any_grouping(a, b, c):
    assert (a + b) + c == a + (b + c)


@FEW
@given(costs, costs)
def test_costs_add_in_any_order(a, b):
    assert a + b == b + a


@FEW
@given(costs, costs)
def test_a_sum_knows_only_what_both_sides_know(a, b):
    total = a + b
    for unit in UNITS:
        x, y, z = (getattr(cost, unit) for cost in (a, b, total))
        assert (z is None) == (x is None or y is None)
        if z is not None:
            assert z == (max(x, y) if unit == "bytes" else x + y)
            assert (unit in total.estimated) == (unit in a.estimated or unit in b.estimated)
        else:
            assert unit not in total.estimated


def test_sum_of_costs_and_of_receipts():
    costs = [Cost(flops=1.0), Cost(flops=2.0), Cost(flops=3.0)]
    assert sum(costs) == Cost(flops=6.0)
    total = sum(Receipt("exact", spent=cost, plain=Cost(flops=10.0)) for cost in costs)
    assert total.ratio("flops") == pytest.approx(0.2)
    assert total.method == "exact ×3"


@pytest.mark.parametrize("other", [1, 1.5, "cost", None])
def test_adding_anything_else_is_refused(other):
    for value in (Cost(), Bound.exact(), Receipt("exact", Cost(), Cost())):
        with pytest.raises(TypeError):
            value + other


@FEW
@given(receipts)
def test_a_receipt_survives_json(receipt):
    assert Receipt.from_dict(json.loads(json.dumps(receipt.to_dict()))) == receipt


@FEW
@given(costs, bounds)
def test_costs_and_bounds_survive_json(cost, bound):
    assert Cost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost
    assert Bound.from_dict(json.loads(json.dumps(bound.to_dict()))) == bound


def test_the_keys_of_to_dict_are_stable():
    receipt = Receipt("exact", Cost(), Cost(), Bound.exact(), (Attempt("sketch", "too wide"),))
    data = receipt.to_dict()
    assert list(data) == ["method", "spent", "plain", "bound", "tried"]
    assert list(data["spent"]) == [*UNITS, "estimated"]
    assert list(data["bound"]) == ["upper", "estimate", "confidence", "probes", "scope"]
    assert list(data["tried"][0]) == ["method", "reason", "upper"]


@FEW
@given(receipts)
def test_any_receipt_prints_on_at_most_ten_lines(receipt):
    lines = str(receipt).splitlines()
    assert len(lines) <= 10
    assert {len(line) for line in lines[1:]} == {len(lines[0])}


def test_the_longest_receipt_prints_on_ten_lines_however_much_was_tried():
    full = Cost(**dict.fromkeys(UNITS, 2.0))
    for tried in (1, 10, 1000):
        receipt = Receipt("m\nn", full, full, Bound(0.1, 0.1, 0.9, 8), (Attempt("sketch", "wide"),) * tried)
        assert len(str(receipt).splitlines()) == 10


def test_what_was_estimated_and_what_is_unknown_can_be_seen_in_print():
    receipt = Receipt("int8", Cost(flops=2e6, joules=3.0, estimated=("joules",)), Cost(flops=8e6))
    printed = str(receipt)
    assert "2 Mflop of 8 Mflop" in printed
    assert "~3 J" in printed
    assert "paid" in printed and "25.0% of the plain operations" in printed
    assert "time" not in printed


def test_figures_never_round_to_a_thousand_of_a_prefix():
    assert "1 Gflop" in str(Receipt("a", Cost(flops=999.9e6), Cost()))


def test_ratio_and_saved():
    receipt = Receipt("a", spent=Cost(flops=30.0, seconds=4.0, joules=1.0), plain=Cost(flops=40.0, seconds=2.0))
    assert (receipt.ratio("flops"), receipt.saved("flops")) == (0.75, 10.0)
    assert (receipt.ratio("seconds"), receipt.saved("seconds")) == (2.0, -2.0)
    assert (receipt.ratio("joules"), receipt.saved("joules")) == (None, None)
    assert Receipt("a", Cost(flops=1.0), Cost(flops=0.0)).ratio("flops") is None
    for question in (receipt.ratio, receipt.saved):
        with pytest.raises(InvalidValueError, match=r"'hours'.*flops"):
            question("hours")


@FEW
@given(bounds, bounds)
def test_a_bound_of_two_is_no_stronger_than_either(a, b):
    both = a + b
    assert both.upper == max(a.upper, b.upper)
    assert both.confidence <= min(a.confidence, b.confidence) + 1e-12
    assert both.confidence >= 0
    order = ["checked", "plan", "calibration"]
    assert order.index(both.scope) == max(order.index(a.scope), order.index(b.scope))


def test_a_sum_has_a_bound_only_if_both_have():
    bound = Bound(upper=0.1, estimate=0.05, confidence=0.99, probes=8)
    with_bound, without = Receipt("a", Cost(), Cost(), bound), Receipt("b", Cost(), Cost())
    assert (with_bound + without).bound is None
    assert (with_bound + with_bound).bound.confidence == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("a", "b", "joined"),
    [
        ("x", "x", "x ×2"),
        ("x ×2", "x", "x ×3"),
        ("x", "y", "x + y"),
        ("x + y ×2", "y", "x + y ×3"),
        ("8 ×k", "x", "8 ×k + x"),
    ],
)
def test_methods_of_a_sum(a, b, joined):
    assert (Receipt(a, Cost(), Cost()) + Receipt(b, Cost(), Cost())).method == joined


@pytest.mark.parametrize("value", [Cost(), Bound.exact(), Attempt("a", "b"), Receipt("a", Cost(), Cost())])
def test_nothing_can_be_changed(value):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        value.another = 1


def test_with_costs_leaves_the_original():
    receipt = Receipt("a", Cost(flops=1.0), Cost(flops=2.0))
    other = receipt.with_costs(Cost(flops=3.0), Cost(flops=4.0))
    assert (receipt.ratio("flops"), other.ratio("flops")) == (0.5, 0.75)


def test_unknown_keys_are_refused_by_name():
    receipt = Receipt("a", Cost(), Cost(), Bound.exact(), (Attempt("b", "c"),)).to_dict()
    for data, kind in (
        ({**receipt, "price": 1}, "Receipt"),
        ({**receipt, "spent": {**receipt["spent"], "price": 1}}, "Cost"),
        ({**receipt, "bound": {**receipt["bound"], "price": 1}}, "Bound"),
        ({**receipt, "tried": [{**receipt["tried"][0], "price": 1}]}, "Attempt"),
    ):
        with pytest.raises(InvalidValueError, match=f"{kind} has no field price"):
            Receipt.from_dict(data)
    assert issubclass(InvalidValueError, TitheError)
