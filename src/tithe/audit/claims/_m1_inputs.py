"""The operands of M1: each kind with a structure of its own, or with none, and photographs of clothes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from tithe import data
from tithe.audit.claim import Run
from tithe.errors import DataUnavailableError

__all__ = ["Maker", "inputs"]

Maker = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # size and draw to operands (n, k) and (k, n), float32
_HUGE, _RANK, _NOISE, _BANDWIDTH = 1e4, 40, 1e-3, 0.1
_WAVES, _BESIDE = 3, 0.01  # slow frequencies, and noise beside them


def inputs(run: Run) -> tuple[dict[str, Maker], list[str]]:
    """All kinds by name, and notes on those that could not be had."""
    makers: dict[str, Maker] = {
        "uniform on [0, 1]": lambda n, g: (_rand(n, g), _rand(n, g)),
        "normal": lambda n, g: (_randn(n, g), _randn(n, g)),
        "ReLU of normal × normal": lambda n, g: (_randn(n, g).relu_(), _randn(n, g)),
        "one huge column × normal": _huge_column,
        f"rank {_RANK} + {_NOISE:.1%} × normal": _noisy_rank,
        f"kernel of bandwidth {_BANDWIDTH:g} × normal": _kernel,
        "slow signals": _signals,
    }
    try:
        images = torch.from_numpy(data.load("fashion-mnist").train_x).flatten(1).to(run.device, torch.float32) / 255
    except DataUnavailableError as error:
        return makers, [f"Without photographs: {str(error).partition('. ')[0]}."]
    return makers | dict(_of_images(images)), []


def _of_images(images: Tensor) -> Iterator[tuple[str, Maker]]:
    """Pixels of Fashion-MNIST between 0 and 1, one image a row: compared with each other, and fed to a fresh layer."""

    def compared(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        return images[:n], images[-n:].T.contiguous()

    def layer(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        return images[:n], torch.randn(images.shape[1], n, generator=g, device=g.device)

    yield "Fashion-MNIST × Fashion-MNIST", compared
    yield "Fashion-MNIST × normal", layer


def _rand(n: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, n, generator=g, device=g.device)


def _randn(n: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, n, generator=g, device=g.device)


def _huge_column(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    A = _randn(n, g)
    A[:, n // 3] *= _HUGE
    return A, _randn(n, g)


def _noisy_rank(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    draw = partial(torch.randn, generator=g, device=g.device)
    A = draw(n, _RANK) @ draw(_RANK, n)
    return A + _NOISE * A.norm() / n * _randn(n, g), _randn(n, g)


def _kernel(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A Gaussian kernel of evenly spaced points on a line, the bandwidth a share of their range."""
    x = torch.linspace(0, 1, n, device=g.device)
    return torch.exp(-((x[:, None] - x) ** 2) / (2 * _BANDWIDTH**2)), _randn(n, g)


def _signals(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sums of a few slow waves along the contraction axis, of every phase."""
    t = torch.linspace(0, 2 * torch.pi, n, device=g.device)
    waves = torch.stack([wave(j * t) for j in range(1, _WAVES + 1) for wave in (torch.sin, torch.cos)])
    weights = torch.randn(2, n, len(waves), generator=g, device=g.device)
    left, right = (part @ waves + _BESIDE * _randn(n, g) for part in weights)
    return left, right.T.contiguous()
