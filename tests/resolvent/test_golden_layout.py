import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.golden import golden_indices
from tithe.resolvent.golden_columns import collect, expand, golden_columns, never_collide, row_products
from tithe.resolvent.golden_layout import GoldenLinear, csr_bytes

FEW = settings(max_examples=60, deadline=None, derandomize=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@FEW
@given(st.integers(1, 300), st.data())
def test_columns_are_those_of_golden_indices(n, data):
    k = data.draw(st.integers(0, n))
    starts = torch.tensor(data.draw(st.lists(st.integers(0, 2**31 - 2 * n - 9), min_size=1, max_size=6)))
    columns = golden_columns(n, k, starts)
    assert columns.shape == (len(starts), k) and columns.dtype == torch.int64
    for row, start in zip(columns, starts.tolist(), strict=True):
        assert np.array_equal(row.numpy(), golden_indices(n, k, start=start))


def test_columns_do_not_change():
    assert golden_columns(784, 6, torch.tensor([0, 157, 31400])).tolist() == [
        [0, 484, 185, 669, 370, 70], [24, 509, 209, 694, 394, 95], [209, 694, 394, 95, 579, 280],
    ]  # fmt: skip


@FEW
@given(st.integers(1, 2000), st.data())
def test_few_points_never_collide(n, data):
    k = data.draw(st.integers(1, max(1, 2 * n // 5)))
    assert never_collide(n, k)


@settings(FEW, max_examples=25)
@given(st.integers(1, 80), st.data())
def test_kernels_do_as_torch(n, data):
    k, rows = data.draw(st.integers(1, n)), data.draw(st.integers(1, 140))
    values = torch.randn(rows, k, generator=seeded(), dtype=torch.float64)
    starts = torch.arange(rows) * k + data.draw(st.integers(0, 1000))
    columns = golden_columns(n, k, starts)
    dense = torch.zeros(rows, n, dtype=torch.float64).scatter(1, columns, values)
    assert torch.equal(expand(values, n, starts), dense)
    assert torch.equal(expand(values.bfloat16(), n, starts), dense.bfloat16())
    assert torch.equal(collect(dense, k, starts), values)
    for batch in (1, 3):
        x = torch.randn(batch, n, generator=seeded(1), dtype=torch.float64)
        found = row_products(values, x, starts)
        assert (found is None) == (not never_collide(n, k))
        if found is not None:
            torch.testing.assert_close(found, x @ dense.t())


def test_more_threads_do_the_same():
    values, starts, x = torch.randn(200, 10), torch.arange(200), torch.randn(4, 60)
    found = row_products(values, x, starts)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(row_products(values, x, starts), found)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("density", [0.2, 0.38, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (200,), (0,)])
def test_forward_is_that_of_the_dense_matrix(density, shape):
    layer = GoldenLinear(50, 30, density, generator=seeded())
    x = torch.randn(*shape, 50, generator=seeded(1))
    expected = torch.nn.functional.linear(x, layer.to_dense(), layer.bias)
    assert torch.equal(layer(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("density", [0.25, 0.9])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_exact(density, bias):
    layer = GoldenLinear(12, 7, density, bias, generator=seeded(), dtype=torch.float64)
    x = torch.randn(3, 12, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    names = list(dict(layer.named_parameters()))

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_columns_are_used_equally_often():
    layer = GoldenLinear(784, 256, 0.2)
    counts = layer.columns().flatten().bincount(minlength=784)
    random = torch.rand(256, 784, generator=seeded()).argsort(1)[:, :157].flatten().bincount(minlength=784)
    assert counts.max() - counts.min() <= 6 < random.max() - random.min()


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("starts", ["sequence", "energy", torch.tensor([3, 100, 7, 0, 2**30])])
@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_there_and_back(starts, index_dtype):
    weight = torch.randn(5, 40, generator=seeded())
    layer = GoldenLinear.from_dense(weight, 0.2, torch.arange(5.0), starts=starts)
    dense = layer.to_dense().detach()
    assert torch.equal(dense, torch.where(dense != 0, weight, 0)) and (dense != 0).sum() == 5 * 8
    csr = layer.to_csr(index_dtype)
    assert torch.equal(csr.to_dense(), dense) and csr.col_indices().dtype == index_dtype
    back = GoldenLinear.from_csr(csr, layer.bias, starts=layer.starts)
    assert torch.equal(back.values, layer.values) and torch.equal(back.bias, layer.bias)
    again = GoldenLinear.from_dense(dense, 0.2, starts="sequence" if layer.starts is None else layer.starts)
    assert torch.equal(again.values, layer.values) and again.bias is None


def test_energy_is_the_most_that_can_be_had():
    weight = torch.randn(6, 30, generator=seeded())
    layer = GoldenLinear.from_dense(weight, 0.2, starts="energy")
    every = [[float(weight[i, golden_indices(30, 6, start=s)].square().sum()) for s in range(30)] for i in range(6)]
    assert layer.starts.tolist() == np.argmax(every, 1).tolist()


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("shape", [(256, 784), (1024, 1024), (10, 256)])
def test_memory_against_csr_as_torch_stores_it(shape):
    layer = GoldenLinear.from_dense(torch.randn(*shape), 0.2, starts="energy")
    for index_dtype in (torch.int32, torch.int64):
        csr = layer.to_csr(index_dtype)
        stored = sum(t.untyped_storage().nbytes() for t in (csr.values(), csr.col_indices(), csr.crow_indices()))
        assert stored == csr_bytes(shape[0], layer.k, torch.float32, index_dtype)
        assert layer.nbytes <= 0.6 * stored
    assert GoldenLinear(shape[1], shape[0], 0.2).nbytes <= 0.5 * csr_bytes(
        shape[0], layer.k, torch.float32, torch.int32
    )


def test_state_dict_and_half_precision():
    layer = GoldenLinear.from_dense(torch.randn(5, 20), 0.3, torch.zeros(5), starts="energy")
    assert set(layer.state_dict()) == {"values", "bias", "starts"}
    other = copy.deepcopy(layer)
    torch.nn.init.zeros_(other.values)
    other.starts.zero_()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.to_dense(), layer.to_dense())
    half = layer.bfloat16()
    assert half(torch.ones(2, 20, dtype=torch.bfloat16)).dtype == torch.bfloat16 and half.starts.dtype == torch.int32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert other(torch.ones(2, 20)).dtype == torch.bfloat16
    assert set(GoldenLinear(20, 5, 0.3).state_dict()) == {"values", "bias"}


def test_learns():
    layer = GoldenLinear(40, 3, 0.25, generator=seeded())
    target = GoldenLinear(40, 3, 0.25, generator=seeded(1))
    x = torch.randn(256, 40, generator=seeded(2))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(x) - target(x).detach()).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(layer.values, target.values, atol=1e-2, rtol=0)


def test_same_generator_same_values_and_repr():
    first, second = (GoldenLinear(20, 4, 0.5, generator=seeded()) for _ in range(2))
    assert torch.equal(first.values, second.values)
    assert repr(first) == "GoldenLinear(20, 4, k=10, bias=True)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GoldenLinear(4, 4, 0.0), "density is 0.0"),
        (lambda: GoldenLinear(4, 0, 0.5), "at least 1"),
        (lambda: GoldenLinear(4, 2, 0.5, starts=torch.zeros(3, dtype=torch.int64)), r"give \(2,\) integers"),
        (lambda: GoldenLinear(4, 2, 0.5, starts=torch.tensor([-1, 0])), "integers from 0"),
        (lambda: GoldenLinear(4, 2, 0.5)(torch.ones(3)), "must be 4 long"),
        (lambda: GoldenLinear.from_dense(torch.ones(3), 0.5), "outputs, inputs"),
        (lambda: GoldenLinear.from_dense(torch.ones(3, 3), 0.5, starts="best"), "use 'sequence'"),
        (lambda: GoldenLinear.from_csr(torch.eye(3)), "torch.sparse_csr"),
        (lambda: GoldenLinear.from_csr(torch.tensor([[1.0, 1], [0, 1]]).to_sparse_csr()), "1 to 2 entries"),
        (lambda: GoldenLinear.from_csr(torch.tensor([[0.0, 1], [0, 1]]).to_sparse_csr()), "not those of the golden"),
        (lambda: golden_columns(3, 4, torch.tensor([0])), "k is 4 of n = 3"),
    ],
)
def test_what_cannot_be_used_is_named(call, message):
    with pytest.raises(InvalidValueError, match=message):
        call()


def test_integers_are_refused():
    with pytest.raises(InvalidDTypeError, match="int64"):
        GoldenLinear.from_dense(torch.ones(3, 3, dtype=torch.int64), 0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("density", [0.2, 0.8])
def test_on_cuda(density):
    layer = GoldenLinear(300, 200, density, generator=seeded())
    there = copy.deepcopy(layer).cuda()
    assert torch.equal(there.columns().cpu(), layer.columns())
    x = torch.randn(7, 300, generator=seeded(1))
    layer(x).square().sum().backward()
    there(x.cuda()).square().sum().backward()
    torch.testing.assert_close(there.values.grad.cpu(), layer.values.grad, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(there(x.cuda()).cpu(), layer(x), rtol=1e-4, atol=1e-4)
    own = GoldenLinear.from_dense(layer.to_dense().detach().cuda(), density, starts="energy")
    assert own.starts.is_cuda and torch.equal(own.to_csr(torch.int32).to_dense(), own.to_dense())
