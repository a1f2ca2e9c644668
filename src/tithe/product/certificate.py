"""How wrong is a product? Random probes of C − Ĉ bound its Frobenius norm, whatever the error looks like.

For a Gaussian vector ω, E‖Eω‖² = ‖E‖²_F, so ``s`` probes of an error matrix E cost O(n²·s) and estimate its norm
without bias. How far the estimate can fall short depends only on the spectrum of E:

* rank one is the worst case: s·T/‖E‖² is then chi-square with s degrees of freedom (Roosta-Khorasani, Székely and
  Ascher 2015, arXiv 1404.0122), whose low quantile gives a bound that holds for every matrix;
* an error that is spread over many directions averages itself out. Its largest singular value is bounded by the
  largest singular value of the sketch: ‖EΩ‖²₂ ≥ σ₁²·χ²ₛ. Given σ₁² ≤ L, the moment generating function of the
  estimate is at most that of a chi-square with s·‖E‖²/L degrees of freedom (log(1+x) is concave), so Chernoff's
  inequality with that many degrees of freedom holds, for every matrix again.

The two share the failure probability, so their minimum is a valid bound: about 2.0 times the truth for a rank-one
error and 16 probes, about 1.2 times for rounding noise and 32.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product.operands import check_operands
from tithe.receipt import Bound

__all__ = ["certify", "norm_bounds", "relative_bound", "safety_factor"]

_SHARE_OF_SPREAD = 0.2  # of the failure probability: what the bound on the largest singular value may use


def certify(
    C: Tensor,
    A: Tensor,
    B: Tensor,
    *,
    confidence: float = 0.999,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Bound:
    """Bound the relative Frobenius error of ``C`` as a product of ``A`` and ``B``, whoever computed it.

    Args:
        C: the product to check, shape (..., m, n), any floating or integer dtype; complex where the operands are.
        A: left operand, shape (..., m, k).
        B: right operand, shape (..., k, n); batch dimensions broadcast.
        confidence: probability in (0, 1) with which the bound holds, for all items of a batch together.
        probes: random vectors; 32 by default. More of them tighten the bound towards the true error.
        generator: source of the probes; pass one that nothing which made ``C`` has seen. Fresh entropy by default.

    Returns:
        A ``Bound`` with scope ``checked``: the largest over the items of a batch. ``upper`` is infinite where the
        error cannot be told from the product itself (or where anything is not finite).

    Raises:
        InvalidValueError: shapes that do not fit, a confidence outside (0, 1), fewer than one probe.
        InvalidDTypeError: operands that are not floating-point tensors, or a complex product of real ones.

    Costs 2·probes·(mk + kn + mn) operations in float64, an item; four times that for complex ones.
    Source: MISSION M1, arXiv 1404.0122.

    >>> A, B = torch.rand(256, 256), torch.rand(256, 256)
    >>> bound = certify(A @ B * 1.01, A, B, generator=torch.Generator().manual_seed(0))
    >>> 0.01 <= bound.upper < 0.04
    True
    """
    shape = check_operands(A, B)
    if not isinstance(C, Tensor) or C.is_complex() > A.is_complex():
        kind = C.dtype if isinstance(C, Tensor) else type(C).__name__
        raise InvalidDTypeError(f"C is {kind}; a torch.Tensor that is complex only where A and B are is expected")
    if C.shape != shape.output:
        raise InvalidValueError(f"C has shape {tuple(C.shape)}, but A @ B has shape {tuple(shape.output)}")
    if C.device != A.device:
        raise InvalidValueError(f"C is on {C.device} and the operands on {A.device}; move one of them")
    check_confidence(confidence)
    s = 32 if probes is None else probes
    if not isinstance(s, int) or s < 1:
        raise InvalidValueError(f"probes={probes}: a whole number of random vectors is needed, at least one")
    left, right = shape.items(A, B)
    worst = Bound.exact()
    wide = torch.complex128 if A.is_complex() else torch.float64
    with torch.no_grad(), torch.autocast(A.device.type, enabled=False):
        for i in range(shape.batch):
            omega = gaussian(shape.n, s, torch.float64, C.device, generator).to(wide)
            item = C.reshape(shape.batch, shape.m, shape.n)[i].to(wide)
            residual = left(i).to(wide) @ (right(i).to(wide) @ omega) - item @ omega
            bound = relative_bound(residual, item.norm(), failure=(1 - confidence) / shape.batch)
            worst = max(worst, bound, key=lambda b: b.upper)
    return Bound(worst.upper, worst.estimate, confidence, s, "checked")


def relative_bound(residual: Tensor, norm: Tensor | float, *, failure: float, slack: float = 0.0) -> Bound:
    """The bound that a sketch of the error gives.

    Args:
        residual: (C − Ĉ)Ω for real Gaussian Ω, shape (rows, s), at least float32. Real and imaginary rows of a
            complex one count as rows of a real one, which has the same norm.
        norm: ‖Ĉ‖_F.
        failure: probability that the bound may fail with, in (0, 1).
        slack: absolute rounding error of the sketch itself, added to the bound.

    ‖C‖ is bounded from below by ‖Ĉ‖ − u, never by a probed norm: that would be wrong for mean-dominated products.
    O(rows·s²).
    """
    s = residual.shape[-1]
    estimate, upper = norm_bounds(
        torch.cat((residual.real, residual.imag)) if residual.is_complex() else residual, failure
    )
    size = float(norm)
    if upper == 0 and size == 0:  # nothing was expected and nothing came
        return Bound(0.0, 0.0, 1 - failure, s, "checked")
    upper += slack
    at_least = size - upper
    relative = upper / at_least if at_least > 0 and math.isfinite(upper) else math.inf
    return Bound(relative, estimate / size if size > 0 else math.inf, 1 - failure, s, "checked")


def norm_bounds(sketch: Tensor, failure: float) -> tuple[float, float]:
    """Estimate of ‖E‖_F from ``sketch`` = EΩ (rows × s), and an upper bound that fails with at most ``failure``.

    >>> estimate, upper = norm_bounds(torch.ones(4, 16), 0.001)
    >>> estimate, round(upper / estimate, 2)
    (2.0, 2.05)
    """
    s = sketch.shape[-1]
    scale = float(sketch.abs().max()) if sketch.numel() else 0.0
    if not math.isfinite(scale):
        return math.inf, math.inf
    if scale == 0:
        return 0.0, 0.0
    scaled = sketch.to(torch.float64, copy=True).div_(scale)  # so that squares neither vanish nor overflow
    # NumPy knows a symmetric product when it sees one: a third of torch's time
    gram = scaled.numpy().T @ scaled.numpy() if scaled.is_cpu else (scaled.mT @ scaled).cpu().numpy()
    mean = float(gram.trace()) / s
    largest = float(np.linalg.eigvalsh(gram)[-1])
    return scale * math.sqrt(mean), scale * math.sqrt(mean * _inflation(largest / mean, s, failure))


@functools.lru_cache(maxsize=4096)
def safety_factor(probes: int, failure: float, *, directions: float) -> float:
    """Upper bound over estimate to be expected for an error spread evenly over that many directions.

    >>> round(safety_factor(16, 0.001, directions=1), 2), round(safety_factor(32, 0.001, directions=1000), 1)
    (2.05, 1.2)
    """
    largest = min(float(probes), (1 + math.sqrt(probes / directions)) ** 2)
    return math.sqrt(_inflation(largest, probes, failure))


def gaussian(
    rows: int, columns: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Standard normal probes, drawn on the generator's device; from the operating system's entropy without one."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    return torch.randn(rows, columns, dtype=dtype, device=generator.device, generator=generator).to(device)


def check_confidence(confidence: float) -> None:
    """Raise ``InvalidValueError`` unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise InvalidValueError(f"confidence={confidence}: a probability between 0 and 1 is expected, such as 0.999")


def _inflation(largest: float, s: int, failure: float) -> float:
    """Largest t/T that is compatible with the sketch: T = estimate of ‖E‖², largest = ‖EΩ‖²₂/T."""
    spread, rest = _SHARE_OF_SPREAD * failure, (1 - _SHARE_OF_SPREAD) * failure
    worst = _chi2_low(s, rest) / s  # rank one
    top = largest / _chi2_low(s, spread)  # σ₁² ≤ top·T
    low, high = 1.0, 1 / worst
    for _ in range(18):  # f(t) = t·quantile(s·t/top) grows with t: bisection
        t = (low + high) / 2
        reached = t * max(worst, _chernoff_low(s * max(1.0, t / top), rest))
        low, high = (low, t) if reached >= 1 else (t, high)
    return high


@functools.lru_cache(maxsize=4096)
def _chi2_low(s: int, probability: float) -> float:
    return 2 * float(special.gammaincinv(s / 2, probability))


def _chernoff_low(dof: float, probability: float) -> float:
    """Largest q < 1 known to have P(χ²_ν ≤ q·ν) ≤ probability by Chernoff: (ν/2)(q − 1 − ln q) = ln(1/probability)."""
    target = 1 + 2 * math.log(1 / probability) / dof
    if target > 700:
        return 0.0
    q = math.exp(-target)  # left of the root of a convex function: Newton's steps never pass it
    for _ in range(50):
        step = (q - math.log(q) - target) / (1 / q - 1)
        q += step
        if step <= 1e-12 * q:
            break
    return q
