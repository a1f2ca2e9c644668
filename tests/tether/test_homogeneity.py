"""Homogeneity against matrices whose rank and angles are known, and that a look at a model leaves nothing behind."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.tether.homogeneity import homogeneity, model_homogeneity


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_orthogonal_rows_have_full_rank(size):
    q = torch.linalg.qr(noise(size, size)).Q
    found = homogeneity(q)
    assert found.rank == pytest.approx(size)
    assert found.cosine == pytest.approx(0, abs=1e-6)


def test_parallel_rows_have_rank_one_whatever_their_sign():
    found = homogeneity(torch.outer(torch.tensor([1.0, -2.0, 3.0]), noise(5)))
    assert found.rank == pytest.approx(1, abs=1e-4)
    assert found.cosine == pytest.approx(1, abs=1e-6)


def test_rank_is_the_exponential_of_the_entropy_of_singular_values():
    shares = torch.tensor([0.5, 0.3, 0.2])
    expected = math.exp(-sum(p * math.log(p) for p in shares.tolist()))
    wide = torch.diag(shares) @ torch.linalg.qr(noise(6, 3)).Q.T
    assert homogeneity(wide).rank == pytest.approx(expected)
    assert homogeneity(wide.T).rank == pytest.approx(expected)


def test_cosine_is_the_mean_over_all_pairs_also_across_blocks():
    rows = noise(1500, 4)
    cosines = nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2).abs()
    expected = (cosines.sum() - 1500) / (1500 * 1499)
    assert homogeneity(rows).cosine == pytest.approx(float(expected), rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(1e-150, 1e150), st.integers(0, 99))
def test_bounds_and_indifference_to_scale(rows, columns, scale, seed):
    x = noise(rows, columns, seed=seed).double()
    found, scaled = homogeneity(x), homogeneity(x * scale)
    assert 1 - 1e-9 <= found.rank <= min(rows, columns) + 1e-9
    assert 0 <= found.cosine <= 1
    assert scaled == pytest.approx(found, rel=1e-6)


def test_edges():
    assert homogeneity(torch.zeros(3, 4)) == (0.0, 0.0)
    assert homogeneity(torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])).cosine == pytest.approx(1)
    assert all(map(math.isnan, homogeneity(torch.tensor([[1.0, math.nan]]))))
    assert homogeneity(noise(4, 2, 3, 3)).rank <= 4
    with pytest.raises(InvalidValueError, match="rows, columns"):
        homogeneity(torch.ones(3))
    with pytest.raises(InvalidDTypeError, match="complex"):
        homogeneity(torch.ones(2, 2, dtype=torch.complex64))


def test_a_model_is_left_as_it_was():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.Linear(64, 3)
    )
    model[1].eval()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with torch.random.fork_rng():
        drawn = torch.random.get_rng_state()
        found = model_homogeneity(model, noise(5, 1, 6, 6))
        assert torch.equal(drawn, torch.random.get_rng_state())
    assert list(found.weights) == ["0.weight", "5.weight"]
    assert list(found.representations) == ["5"]
    assert modes == [module.training for module in model.modules()]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_representations_are_those_behind_the_activation():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = noise(7, 2, 2)
    found = model_homogeneity(model, x).representations
    assert found == {"3": pytest.approx(homogeneity(model[:3](x).detach()))}


def test_hooks_go_when_the_model_fails():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(5, 2))
    with pytest.raises(RuntimeError):
        model_homogeneity(model, noise(3, 4))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model.training
    with pytest.raises(InvalidValueError, match="two samples"):
        model_homogeneity(model, noise(1, 4))
