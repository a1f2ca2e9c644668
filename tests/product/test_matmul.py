import math

import pytest
import torch
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

import tithe
from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product import METHODS, Centred, MeanField, Reduced


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relative_error(C: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> float:
    truth = A.double() @ B.double()
    return float((C.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("tol", [0.5, 5e-2, 5e-3, 1e-4])
@pytest.mark.parametrize("family", FAMILIES)
def test_never_above_tol(family: str, tol: float) -> None:
    g = generator(sum(map(ord, family)))
    A, B = FAMILIES[family](384, g)
    plain = relative_error(A @ B, A, B)
    for method in ("auto", "mean_field", "truncated(0.5)", "centred(truncated(0.25))", "centred(bfloat16)"):
        C, receipt = tithe.matmul(A, B, tol=tol, method=method, generator=g)
        assert receipt.bound is not None
        assert receipt.bound.upper <= tol
        assert relative_error(C, A, B) <= receipt.bound.upper + 2 * plain


def test_the_receipt_tells_what_happened() -> None:
    A, B = FAMILIES["uniform"](512, generator())
    C, receipt = tithe.matmul(A, B, tol=0.05, method="mean_field", generator=generator(1))
    assert receipt.method == "mean_field"
    assert receipt.bound is not None and receipt.bound.scope == "checked" and receipt.bound.confidence == 0.999
    assert receipt.plain.flops == 2 * 512**3
    ratio = receipt.ratio("flops")
    assert ratio is not None and ratio < 0.3
    assert receipt.spent.seconds is not None and receipt.plain.estimated == ("seconds",)
    values = torch.linalg.svdvals(C)
    assert values[1] < 1e-5 * values[0]


def test_a_method_that_misses_is_replaced_and_named() -> None:
    A, B = FAMILIES["normal"](128, generator())
    C, receipt = tithe.matmul(A, B, tol=0.01, method="mean_field")
    assert torch.equal(C, A @ B)
    assert receipt.method == "exact"
    assert [attempt.method for attempt in receipt.tried] == ["mean_field"]
    assert receipt.tried[0].upper is None or receipt.tried[0].upper > 0.01
    assert "above tol" in receipt.tried[0].reason
    assert receipt.ratio("flops") > 1  # type: ignore[operator]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_by_name(method: str) -> None:
    A, B = FAMILIES["uniform"](96, generator())
    C, receipt = tithe.matmul(A, B, method=method, ratio=0.5, generator=generator())
    assert C.shape == (96, 96)
    assert receipt.bound is not None
    assert relative_error(C, A, B) <= receipt.bound.upper + 1e-6


def test_a_receipts_method_can_be_asked_for_again() -> None:
    A, B = FAMILIES["uniform"](64, generator())
    first, receipt = tithe.matmul(A, B, method=Centred(Reduced("int8")), generator=generator())
    again, _ = tithe.matmul(A, B, method=receipt.method, generator=generator())
    assert torch.equal(first, again)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("family", ["uniform", "normal", "huge column", "blocks"])
def test_a_ratio_is_kept_certificate_included(family: str, ratio: float) -> None:
    A, B = FAMILIES[family](512, generator())
    C, receipt = tithe.matmul(A, B, ratio=ratio, generator=generator())
    spent = receipt.ratio("flops")
    assert spent is not None and spent <= ratio + 1e-9
    assert receipt.bound is not None and relative_error(C, A, B) <= receipt.bound.upper


def test_a_ratio_buys_accuracy() -> None:
    A, B = FAMILIES["uniform"](512, generator())
    errors = [relative_error(tithe.matmul(A, B, ratio=r, generator=generator())[0], A, B) for r in (0.1, 0.5, 0.9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.02


def test_ratio_and_tol_together() -> None:
    A, B = FAMILIES["normal"](384, generator())
    C, receipt = tithe.matmul(A, B, ratio=0.3, tol=0.01)
    assert receipt.method == "exact" and torch.equal(C, A @ B) and receipt.tried
    A, B = FAMILIES["shifted"](384, generator())
    assert tithe.matmul(A, B, ratio=0.3, tol=0.01)[1].method != "exact"


def test_asking_for_nothing_gives_the_plain_product() -> None:
    A, B = FAMILIES["normal"](300, generator())
    C, receipt = tithe.matmul(A, B)
    assert torch.equal(C, A @ B)
    assert receipt.method == "exact" and receipt.bound == tithe.Bound.exact()


@given(
    lead=st.sampled_from([((), ()), ((3,), ()), ((), (3,)), ((2, 1), (3,)), ((1,), (1,)), ((2, 3), (2, 3))]),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 20)),
    method=st.sampled_from(["auto", "centred(float32)", "mean_field"]),
)
@settings(max_examples=40, deadline=None)
def test_batches_broadcast_and_every_item_is_certified(
    lead: tuple[tuple[int, ...], tuple[int, ...]], sizes: tuple[int, int, int], method: str
) -> None:
    m, k, n = sizes
    A, B = torch.rand(*lead[0], m, k, generator=generator()), torch.rand(*lead[1], k, n, generator=generator(1))
    C, receipt = tithe.matmul(A, B, tol=0.3, method=method, generator=generator(2))
    truth = A.double() @ B.double()
    assert C.shape == truth.shape
    assert receipt.bound is not None
    errors = (C - truth).flatten(0, -3) if truth.dim() > 2 else (C - truth)[None]
    norms = truth.reshape(-1, m, n).norm(dim=(1, 2))
    assert (errors.norm(dim=(1, 2)) / norms <= receipt.bound.upper + 1e-5).all()


def test_one_bad_item_of_a_batch_is_not_hidden_by_the_others() -> None:
    g = generator()
    A = torch.stack([100 * torch.rand(64, 200, generator=g), torch.randn(64, 200, generator=g)])
    shared, own = torch.rand(200, 64, generator=g), torch.rand(2, 200, 64, generator=g)
    for B in (shared, own):
        C, receipt = tithe.matmul(A, B, tol=0.05, method="mean_field", generator=g)
        assert all(relative_error(C[i], A[i], B if B.dim() == 2 else B[i]) <= 0.05 for i in range(2))
        assert "mean_field" in [attempt.method for attempt in receipt.tried]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    A, B = (X.to(dtype) for X in FAMILIES["uniform"](320, generator()))
    C, receipt = tithe.matmul(A, B, tol=0.05, generator=generator())
    assert C.dtype == dtype
    assert receipt.bound is not None and relative_error(C, A, B) <= max(receipt.bound.upper, 0.01)


def test_half_precision_products_are_certified_as_returned() -> None:
    """Rounding the result to bfloat16 alone costs about 0.16 %, so the bound must show it."""
    A, B = (X.bfloat16() for X in FAMILIES["uniform"](256, generator()))
    _, receipt = tithe.matmul(A, B, method="centred(float32)")
    assert receipt.bound is not None and receipt.bound.upper > 1e-3


def test_float64_operands_may_be_multiplied_in_float32() -> None:
    A, B = (X.double() for X in FAMILIES["normal"](256, generator()))
    C, receipt = tithe.matmul(A, B, tol=1e-5, method="float32")
    assert receipt.method == "float32"
    assert 1e-8 < relative_error(C, A, B) <= receipt.bound.upper <= 1e-5  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_operands_that_are_not_finite_get_the_plain_product(value: float) -> None:
    A, B = FAMILIES["uniform"](400, generator())
    A[3, 5] = value
    for method in ("auto", "mean_field", "int8"):
        C, receipt = tithe.matmul(A, B, tol=0.1, method=method)
        torch.testing.assert_close(C, A @ B, equal_nan=True)
        assert receipt.method == "exact"
        reason = receipt.tried[0].reason  # a slow or fast machine may not look at operands this small at all
        assert "finite" in reason or (method == "auto" and ("small" in reason or "of this size" in reason))


@pytest.mark.parametrize("sizes", [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
def test_empty_operands(sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    for method in ("auto", "mean_field"):
        C, _ = tithe.matmul(torch.ones(m, k), torch.ones(k, n), tol=0.1, method=method)
        assert C.shape == (m, n) and not C.any()


def test_small_products_are_plain() -> None:
    A, B = FAMILIES["uniform"](64, generator())
    C, receipt = tithe.matmul(A, B, tol=0.5)
    assert torch.equal(C, A @ B)
    assert "small" in receipt.tried[0].reason


def test_gradients_are_those_of_the_plain_product() -> None:
    A = torch.rand(2, 30, 40, generator=generator(), requires_grad=True)
    B = torch.rand(40, 20, generator=generator(1), requires_grad=True)
    weights = torch.rand(2, 30, 20)
    C, _ = tithe.matmul(A, B, method="mean_field")
    found = torch.autograd.grad((C * weights).sum(), (A, B))
    expected = torch.autograd.grad(((A @ B) * weights).sum(), (A, B))
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain)


def test_same_generator_same_receipt_but_for_the_clock() -> None:
    A, B = FAMILIES["uniform"](256, generator())
    runs = [tithe.matmul(A, B, method="sampled", ratio=0.4, generator=generator(9)) for _ in range(2)]
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][1].bound == runs[1][1].bound


def test_the_global_generator_is_left_alone() -> None:
    A, B = FAMILIES["uniform"](64, generator())
    state = torch.get_rng_state()
    tithe.matmul(A, B, method="sampled", ratio=0.5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"A": torch.ones(2, 3), "B": torch.ones(4, 5)}, InvalidValueError, r"\(2, 3\).*\(4, 5\).*\.mT"),
        ({"A": torch.ones(3)}, InvalidValueError, "two dimensions"),
        ({"A": torch.ones(2, 4, 4), "B": torch.ones(3, 4, 4)}, InvalidValueError, "broadcast"),
        ({"A": torch.ones(4, 4).double()}, InvalidDTypeError, "float64.*float32"),
        ({"A": torch.ones(4, 4, dtype=torch.int32)}, InvalidDTypeError, "int32.*float"),
        ({"A": torch.ones(4, 4, dtype=torch.complex64)}, InvalidDTypeError, "complex64"),
        ({"A": [[1.0]]}, InvalidDTypeError, "as_tensor"),
        ({"A": torch.eye(4).to_sparse()}, InvalidDTypeError, "to_dense"),
        ({"A": torch.ones(4, 4, device="meta")}, InvalidValueError, "meta"),
        ({"tol": 0.0}, InvalidValueError, "tol"),
        ({"tol": -1}, InvalidValueError, "tol"),
        ({"tol": math.nan}, InvalidValueError, "tol"),
        ({"ratio": 0}, InvalidValueError, "ratio"),
        ({"ratio": 1.5}, InvalidValueError, "ratio"),
        ({"method": "int4"}, InvalidValueError, "int8"),
        ({"method": "sampled"}, InvalidValueError, "ratio="),
        ({"method": 3}, InvalidDTypeError, "name"),
        ({"confidence": 1.0}, InvalidValueError, "confidence"),
        ({"tol": "x"}, InvalidDTypeError, "tol is a str"),
        ({"method": MeanField}, InvalidDTypeError, "MeanField class"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    call: dict[str, object] = {"A": torch.ones(4, 4), "B": torch.ones(4, 4)} | arguments
    with pytest.raises(error, match="(?s)" + words):
        tithe.matmul(call.pop("A"), call.pop("B"), **call)  # type: ignore[arg-type]


def test_an_estimator_of_ones_own() -> None:
    class Doubled(MeanField):
        def expected_error(self, pair: object, look: object) -> float:
            return math.inf

    C, receipt = tithe.matmul(torch.ones(4, 6), torch.ones(6, 4), method=Doubled(), tol=0.1)
    torch.testing.assert_close(C, torch.full((4, 4), 6.0))
    assert receipt.method == "mean_field"


def test_a_row_that_cancels_and_that_no_sample_sees_is_not_certified() -> None:
    """float32 probes lose the same terms as the product itself; the slack for their rounding has to show it."""
    g = generator()
    B = torch.rand(1024, 1024, generator=g)
    B[-1] = B[0]
    A = 1e-4 + 1e-6 * torch.randn(1024, 1024, generator=g)
    A[7] = 0.05 * torch.randn(1024, generator=g)
    A[7, 0], A[7, -1] = 1e9, -1e9
    for method in ("auto", "mean_field", "int8"):
        C, receipt = tithe.matmul(A, B, tol=0.03, method=method, generator=g)
        assert receipt.method == "exact" or relative_error(C, A, B) <= 0.03


def test_autocast_changes_neither_the_operands_nor_the_certificate() -> None:
    A = 1.0038 + 1e-6 * torch.randn(256, 256, generator=generator())
    for method in ("exact", "float32", "bfloat16", "truncated(1)"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            C, receipt = tithe.matmul(A, A.T, method=method)
            bound = tithe.product.certify(C, A, A.T)
        assert C.dtype == torch.float32
        assert receipt.bound is not None
        error = relative_error(C, A, A.T)
        assert error <= min(receipt.bound.upper + 1e-6, bound.upper)


def test_products_in_fewer_bits_by_torchs_own_setting_are_probed_in_float64() -> None:
    from tithe.product.pair import Pair
    from tithe.product.probing import Probing

    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert Probing(Pair(torch.ones(4, 4), torch.ones(4, 4)), 1, generator()).dtype == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("method", ["centred(centred(int8))", "centred(truncated(0.9, centred(int8)))"])
def test_centring_twice_changes_nothing(method: str) -> None:
    A, B = FAMILIES["uniform"](256, generator())
    C, _ = tithe.matmul(A, B, method=method)
    assert relative_error(C, A, B) < 0.01


def test_contraction_axes_longer_than_int32_sums_allow() -> None:
    A, B = torch.rand(6, 200_000, generator=generator()), torch.rand(200_000, 5, generator=generator(1))
    C, receipt = tithe.matmul(A, B, method="int8")
    assert receipt.method == "int8"
    assert relative_error(C, A, B) < 1e-3


def test_default_dtypes_do_not_matter() -> None:
    A, B = FAMILIES["uniform"](64, generator())
    try:
        torch.set_default_dtype(torch.bfloat16)
        C, _ = tithe.matmul(A, B, method="centred(int8)")
    finally:
        torch.set_default_dtype(torch.float32)
    assert relative_error(C, A, B) < 1e-3


def test_a_ratio_that_a_certificate_alone_exceeds_is_refused_openly() -> None:
    C, receipt = tithe.matmul(torch.ones(8, 8), torch.ones(8, 8), ratio=0.1)
    assert receipt.method == "exact"
    assert "certificate" in receipt.tried[0].reason
    torch.testing.assert_close(C, torch.full((8, 8), 8.0))


def test_items_that_share_the_right_operand_are_one_product() -> None:
    A, B = torch.rand(128, 16, 1024, generator=generator()), torch.rand(1024, 1024, generator=generator(1))
    _, receipt = tithe.matmul(A, B, tol=0.03)
    assert "small" not in "".join(attempt.reason for attempt in receipt.tried)


def test_an_item_of_zeros_does_not_spoil_the_batch() -> None:
    A, B = torch.rand(4, 128, 256, generator=generator()), torch.rand(256, 128, generator=generator(1))
    A[1] = 0
    C, receipt = tithe.matmul(A, B, tol=0.1, method="mean_field")
    assert receipt.method == "mean_field"
    assert not C[1].any()


def test_a_receipt_with_an_infinite_bound_is_json() -> None:
    import json

    A, B = FAMILIES["normal"](64, generator())
    _, receipt = tithe.matmul(A, B, method="mean_field")
    assert receipt.bound is not None and receipt.bound.upper == math.inf
    again = json.loads(json.dumps(receipt.to_dict(), allow_nan=False))
    assert tithe.Receipt.from_dict(again) == receipt
