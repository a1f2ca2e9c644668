"""Families of operands that are hard for approximate products in different ways, and errors of every shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Maker = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


def _normal(n: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, n, generator=g)


def _uniform(n: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, n, generator=g)


def _heavy(n: int, g: torch.Generator) -> Tensor:
    return torch.tan(3.1 * (torch.rand(n, n, generator=g) - 0.5))  # tails like a Cauchy distribution, cut off


def _huge_column(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    A = _normal(n, g)
    A[:, n // 3] *= 1e4
    return A, _normal(n, g)


def _cancelling(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    X, Y = torch.randn(n, n // 2, generator=g), torch.randn(n // 2, n, generator=g)
    return torch.cat((X, -X + 1e-3 * torch.randn(n, n // 2, generator=g)), 1), torch.cat((Y, Y))


def _blocks(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    A = torch.zeros(n, n)
    A[: n // 4, : n // 4] = torch.rand(n // 4, n // 4, generator=g)
    return A, _uniform(n, g)


def _one_row(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    A = 1e-6 * _normal(n, g)
    A[n // 2] = torch.randn(n, generator=g)
    return A, _normal(n, g)


def _wave(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.linspace(0, 1, n)
    return torch.exp(-((x[:, None] - x) ** 2) / 0.02), torch.sin(40 * x[:, None] * x) + 0.1 * _normal(n, g)


def noisy_rank(rank: int, n: int, noise: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A matrix of low rank with noise of that share of its norm, times a Gaussian one."""
    A = torch.randn(n, rank, generator=g) @ torch.randn(rank, n, generator=g)
    return A + noise * A.norm() / n * _normal(n, g), _normal(n, g)


def kernel(n: int, bandwidth: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A Gaussian kernel of evenly spaced points, the bandwidth a share of their range, times a Gaussian matrix."""
    x = torch.linspace(0, 1, n)
    return torch.exp(-((x[:, None] - x) ** 2) / (2 * bandwidth**2)), _normal(n, g)


FAMILIES: dict[str, Maker] = {
    "uniform": lambda n, g: (_uniform(n, g), _uniform(n, g)),
    "normal": lambda n, g: (_normal(n, g), _normal(n, g)),
    "relu": lambda n, g: (_normal(n, g).relu(), _normal(n, g)),
    "huge column": _huge_column,
    "heavy tails": lambda n, g: (_heavy(n, g), _heavy(n, g)),
    "shifted": lambda n, g: (_normal(n, g) + 100, _normal(n, g) - 50),
    "shifted one side": lambda n, g: (_normal(n, g) + 10, _normal(n, g)),
    "low rank": lambda n, g: (torch.randn(n, 5, generator=g) @ torch.randn(5, n, generator=g), _normal(n, g)),
    "cancelling": _cancelling,
    "blocks": _blocks,
    "one row": _one_row,
    "smooth": _wave,
    "constant": lambda n, g: (torch.full((n, n), 3.0), torch.full((n, n), -0.5)),
    "scales": lambda n, g: (_normal(n, g) * torch.logspace(-6, 6, n), _normal(n, g)),
}

ERRORS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "rank one": lambda n, g: torch.outer(torch.randn(n, generator=g), torch.randn(n, generator=g)),
    "rank two": lambda n, g: torch.randn(n, 2, generator=g) @ torch.randn(2, n, generator=g),
    "dense": _normal,
    "one entry": lambda n, g: torch.nn.functional.one_hot(torch.arange(n), n).float() * (torch.arange(n) == 3),
    "one column": lambda n, g: torch.randn(n, 1, generator=g) * (torch.arange(n) == 5),
    "heavy tails": _heavy,
    "geometric spectrum": lambda n, g: (
        torch.linalg.qr(_normal(n, g)).Q * 0.7 ** torch.arange(n) @ torch.linalg.qr(_normal(n, g)).Q
    ),
}
