"""The product as a process along its contraction axis: a part of it is summed, the end is forecast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tithe.product.estimators.budget import affordable, thin, wide
from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.estimators.sampled import check_share
from tithe.product.pair import Pair, RankOne

__all__ = ["Trajectory", "forecast"]

_STATES = 8  # partial sums that are observed, if the slices are enough
_DELAYS = 4
_CHANNELS = 1 << 14  # that the forecast is fitted to
_STANDS_OUT = 1.5  # times what is taken for noise


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Partial sums over the first blocks of slices as a signal with mn channels, and a linear forecast of its end.

    The increments of the signal are embedded with four delays: each is taken to be one and the same linear
    combination of the four before it, in all channels; the weights are fitted to what stands out from noise in the
    increments, kept from blowing up, and iterated over all blocks that were not summed. Those are never read.

    It finds what the increments have in common, their mean, and nothing else: on data with a mean it errs like the
    mean part with the noise of the blocks that it saw (``centred`` sees them all for O(n²)); on zero-mean slices
    without order each increment is news, the best forecast is none at all, and the error is √(1 − ratio), like
    ``truncated``. It pays where slices have an order and change slowly. Source: MISSION M, delay embedding after
    Takens 1981; of its own method the source says no more.

    >>> pair = Pair(torch.ones(8, 80), torch.ones(80, 8))
    >>> Trajectory(0.5).multiply(pair).tensor(torch.float32)[0, 0].round()
    tensor(80.)
    """

    ratio: float

    def __post_init__(self) -> None:
        check_share(self.ratio)

    @property
    def name(self) -> str:
        """``trajectory(ratio)``."""
        return f"trajectory({self.ratio:g})"

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The forecast of the last partial sum; nothing in it is random."""
        states, length = _blocks(self._slices(*pair.whole, pair.A.dtype))
        seen = states * length
        first = Pair(pair.A[:, :seen], pair.B[:seen], pair.a, pair.b)
        left, right = first.left.to(pair.wide), first.right.to(pair.wide)
        increments = torch.stack([left[:, i : i + length] @ right[i : i + length] for i in range(0, seen, length)])
        channels = increments[:, :: _apart(pair.m, pair.n)].reshape(states, -1)
        weights = forecast((channels @ channels.mT).cpu().double().numpy(), (pair.k - seen) / length)
        dense = (torch.from_numpy(weights).to(increments) @ increments.view(states, -1)).view(pair.m, pair.n)
        return Approximation(dense if plus is None else dense.addr_(plus.u.to(dense), plus.v.to(dense)))

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """The products of the blocks that are summed, the fit and the forecast: ``ratio`` of the multiply–adds."""
        return _work(self._slices(m, k, n, dtype), m, k, n, dtype)

    def expected_error(self, pair: Pair, look: Look) -> float:
        """That of the same forecast of the pair's product, measured: O(mkn), for pairs that are samples."""
        return float((self.multiply(pair).tensor(pair.wide) - pair.product).norm())

    def _slices(self, m: int, k: int, n: int, dtype: torch.dtype) -> int:
        return affordable(self.ratio, float(m) * k * n, k, lambda count: _work(count, m, k, n, dtype))


def forecast(gram: NDArray[np.float64], ahead: float) -> NDArray[np.float64]:
    """Weights of the observed increments in the end state.

    Args:
        gram: scalar products of the increments, over all channels, (states, states).
        ahead: how many more increments the process takes; a fraction counts as that share of one.

    Returns:
        float64 (states,): one for each increment that was seen, and its part in those that were not.
        O(ahead·states).

    >>> forecast(np.ones((4, 4)), 4.0).sum().round(6)
    np.float64(8.0)
    """
    states = len(gram)
    delays, weights = min(_DELAYS, states // 2), np.ones(states)
    gram = _shared(gram) if np.isfinite(gram).all() else np.zeros_like(gram)
    if delays == 0 or not gram.any():
        return weights
    before = [np.arange(t - 1, t - delays - 1, -1) for t in range(delays, states)]  # of increment t, latest first
    normal = np.sum([gram[np.ix_(back, back)] for back in before], axis=0)
    target = np.sum([gram[back[0] + 1, back] for back in before], axis=0)
    model = _tamed(np.linalg.lstsq(normal, target, rcond=1e-3)[0])
    recent = list(np.eye(states)[::-1][:delays])
    for step in range(math.ceil(ahead - 1e-9)):
        coming = sum(weight * state for weight, state in zip(model, recent, strict=True))
        weights += coming * min(1.0, ahead - step)
        recent = [coming, *recent[:-1]]
    return weights


def _shared(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of ``gram`` that stands out from noise, which is as strong in all directions; zero if none does.

    A fit to noisy increments would shrink its weights at every step, and lose what it iterates.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = values > max(_STANDS_OUT * np.quantile(values, 0.25), 1e-9 * values[-1])
    return np.asarray((vectors[:, kept] * values[kept]) @ vectors[:, kept].T)


def _tamed(model: NDArray[np.float64]) -> NDArray[np.float64]:
    """A recursion that does not grow: its poles drawn into the unit circle."""
    largest = float(np.abs(np.roots(np.concatenate(([1.0], -model)))).max(initial=0.0))
    return np.asarray(model / max(largest, 1.0) ** np.arange(1, len(model) + 1))


def _blocks(slices: int) -> tuple[int, int]:
    """How many blocks to sum, and of how many slices each."""
    states = min(_STATES, slices)
    return states, slices // states


def _apart(m: int, n: int) -> int:
    """Every how many rows the fit looks at one."""
    return max(1, m * n // _CHANNELS)


def _work(slices: int, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
    states, length = _blocks(slices)
    gemm = f"gemm.{str(wide(dtype)).removeprefix('torch.')}"
    work = {gemm: float(m) * states * length * n, thin(dtype): float(states * (m + states * -(-m // _apart(m, n))) * n)}
    return work if dtype == wide(dtype) else work | {"cast": float(states * length * (m + n))}
