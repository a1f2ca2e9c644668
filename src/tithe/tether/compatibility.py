"""How well two tensors, models or updates go together: measures with a range, and what chance alone would give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["MEASURES", "Matched", "Measure", "Null", "compatibility", "matched", "null_distribution"]

Measure = Literal["dot", "cosine", "centred", "cka", "update"]
Part = Literal["whole", "output", "layers"]
Tensors = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Matched:
    """What two sets of named tensors have in common.

    Attributes:
        names: in both, with the same shape, in the order of the first.
        left_out: what is in one only, or has another shape, each with the reason.
    """

    names: tuple[str, ...]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Null:
    """What a measure gives for tensors that have nothing to do with each other.

    Attributes:
        mean: of the measure.
        std: its standard deviation.
        threshold: the value that at least such a share of them stays below as was asked for.
    """

    mean: float
    std: float
    threshold: float


def compatibility(a: Tensors, b: Tensors, measure: Measure = "cosine", *, part: Part = "whole") -> float:
    """How well two tensors, or two sets of named ones, go together.

    ======== ======================================== ========= ============================ =================
    measure  what it is                               range     independent entries give     threshold
    ======== ======================================== ========= ============================ =================
    dot      Σ a∘b, the source's                      unbounded n·mean(a)·mean(b)            none: any positive
                                                                                             entries pass one
    cosine   Σ a∘b / (‖a‖·‖b‖)                        [−1, 1]   0 ± 1/√n; 0.75 if uniform    0.1
    centred  cosine after the means are taken off     [−1, 1]   0 ± 1/√n                     0.1
    cka      linear CKA of (samples, features),       [−1, 1]   0 (unbiased estimate)        0.3
             with the unbiased estimate of HSIC
    update   cosine of changes of parameters          [−1, 1]   0 ± 1/√n                     0.1
    ======== ======================================== ========= ============================ =================

    The thresholds are for 1000 entries and more (cka: 50 samples); for fewer ask ``null_distribution``.

    Args:
        a: a tensor, or tensors by name, such as a state dict; for ``update`` the changes in some interval.
        b: likewise; of named ones those floating-point ones are compared that both have in the same shape (see
            ``matched``).
        measure: one of those above.
        part: of named tensors: ``"whole"`` compares all entries at once, ``"output"`` only the last matrix,
            ``"layers"`` takes the mean over the tensors.

    Returns:
        A number; 0 where a norm is 0. NaN and infinite entries give NaN. Raises ``InvalidValueError`` where shapes
        differ or nothing matches, ``InvalidDTypeError`` for complex tensors. All is computed in float64.
        O(entries); cka O(samples² · features). Source: MISSION T3; Kornblith et al. 2019 (CKA), Song et al.
        2012 (unbiased HSIC).

    >>> a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 7.0])
    >>> round(compatibility(a, b), 3), compatibility(a, b, "dot")
    (0.997, 31.0)
    >>> compatibility({"w": a}, {"w": -a, "other": b}, "update")
    -1.0
    """
    if measure not in MEASURES:
        raise InvalidValueError(f"measure is {measure!r}; use one of {', '.join(map(repr, MEASURES))}")
    if part not in get_args(Part):
        raise InvalidValueError(f"part is {part!r}; use one of {', '.join(map(repr, get_args(Part)))}")
    pairs = _pairs(a, b)
    if part == "output":
        pairs = [(x, y) for x, y in pairs if x.ndim > 1][-1:] or pairs[-1:]
    function = MEASURES[measure]
    if measure != "cka":
        _check(pairs)
    if part == "layers" or measure == "cka":
        return float(torch.stack([function(x, y) for x, y in pairs]).mean())
    return float(function(*(torch.cat([pair[i].flatten() for pair in pairs]) for i in (0, 1))))


def matched(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Matched:
    """Which tensors two models have in common, by name and shape. O(tensors).

    >>> found = matched({"w": torch.ones(2), "v": torch.ones(3)}, {"w": torch.ones(2), "v": torch.ones(4)})
    >>> found.names, found.left_out
    (('w',), {'v': 'shapes (3,) and (4,)'})
    """
    names, left_out = [], {}
    for name, tensor in a.items():
        if name not in b:
            left_out[name] = "only in the first"
        elif tensor.shape != b[name].shape:
            left_out[name] = f"shapes {tuple(tensor.shape)} and {tuple(b[name].shape)}"
        else:
            names.append(name)
    left_out |= {name: "only in the second" for name in b if name not in a}
    return Matched(tuple(names), left_out)


def null_distribution(
    a: Tensor,
    b: Tensor,
    measure: Measure = "cosine",
    *,
    confidence: float = 0.99,
    draws: int = 200,
    generator: torch.Generator | None = None,
) -> Null:
    """What a measure gives if the entries of two tensors (for cka, their samples) meet at random.

    Args:
        a: a tensor.
        b: one of the same shape; for cka of as many samples.
        measure: as for ``compatibility``.
        confidence: share of random pairs that stay below the threshold.
        draws: random orders of ``b``; 1 / (1 − confidence) of them at least.
        generator: draws them; ``None`` takes torch's own.

    Returns:
        Mean, standard deviation and threshold: of another such pair the chance to lie below it is at least
        ``confidence``. Raises ``InvalidValueError`` for too few draws. O(draws · entries).

    >>> g = torch.Generator().manual_seed(0)
    >>> a, b = torch.rand(64, 64, generator=g), torch.rand(64, 64, generator=g)
    >>> null_distribution(a, b, "cosine", generator=g).mean > 0.7  # uniform entries are alike by their mean alone
    True
    """
    if not 0 < confidence < 1:
        raise InvalidValueError(f"confidence is {confidence!r}; use a share in (0, 1)")
    rank = math.ceil(confidence * (draws + 1) - 1e-9)  # of n + 1 equally likely places, so many lie below
    if draws < 2 or rank > draws:
        raise InvalidValueError(f"{draws} draws are too few for a confidence of {confidence}; use more")
    entries = b if measure == "cka" and b.ndim else b.flatten()
    found = []
    for _ in range(draws):
        order = torch.randperm(len(entries), generator=generator, device=generator.device if generator else None)
        found.append(compatibility(a, entries[order.to(b.device)].view_as(b), measure))
    values = torch.tensor(found, dtype=torch.float64)
    return Null(float(values.mean()), float(values.std()), float(values.sort().values[rank - 1]))


def _pairs(a: Tensors, b: Tensors) -> list[tuple[Tensor, Tensor]]:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [(_real(a), _real(b))]
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        raise InvalidDTypeError("one of the two is a tensor, the other is not; pass two tensors or two mappings")
    found = matched(a, b)
    names = [n for n in found.names if not all(_counts(x[n]) for x in (a, b))]
    if not names:
        left_out = found.left_out | {name: f"{a[name].dtype}" for name in found.names}
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "both are empty"
        raise InvalidValueError(f"the two have no tensor in common by name and shape ({why})")
    return [(_real(a[name]), _real(b[name])) for name in names]


def _counts(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex())


def _real(x: Tensor) -> Tensor:
    if x.is_complex():
        raise InvalidDTypeError(f"a tensor has dtype {x.dtype}; compare real ones, or view_as_real of these")
    return x.detach().double()


def _check(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for a, b in pairs:
        if a.shape != b.shape:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise InvalidValueError(f"the tensors have shapes {shapes}; use two of one shape")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def _unit(x: Tensor) -> Tensor:
    """The direction; first scaled by the largest entry, so that no square overflows or vanishes."""
    if not x.numel() or not x.any():
        return x
    scaled = x / x.abs().max()
    direction: Tensor = scaled / scaled.norm()
    return direction


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return _dot(_unit(a.flatten()), _unit(b.flatten())).clamp(-1, 1)


def _centred(a: Tensor, b: Tensor) -> Tensor:
    return _cosine(_without_mean(a.flatten()), _without_mean(b.flatten()))


def _without_mean(x: Tensor) -> Tensor:
    """Less the mean over the first axis; 0 where only rounding is left of a constant."""
    if not x.numel():
        return x
    left = x - x.mean(0)
    return torch.where(left.abs() <= 1e-14 * x.abs().amax(0), 0.0, left)


def _cka(a: Tensor, b: Tensor) -> Tensor:
    """Linear CKA of (samples, ...) with the unbiased estimate of HSIC, which is 0 on average by chance."""
    if not (a.ndim and b.ndim and len(a) == len(b) >= 4):
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise InvalidValueError(f"cka of shapes {shapes}; use two tensors of as many samples, at least 4")
    # The estimate does not depend on the mean; without it, less is lost to rounding.
    units = [_unit(_without_mean(x.reshape(len(x), -1))) for x in (a, b)]
    grams = [(x @ x.T).fill_diagonal_(0) for x in units]
    cross, one, other = (_hsic(x, y) for x, y in ((grams[0], grams[1]), (grams[0], grams[0]), (grams[1], grams[1])))
    size = (one.clamp(min=0) * other.clamp(min=0)).sqrt()
    return torch.where(size == 0, 0.0, (cross / size).clamp(-1, 1))


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    trace, sums = (k * m).sum(), k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (trace + sums - 2 / (n - 2) * (k.sum(0) @ m.sum(0))) / (n * (n - 3))


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dot": _dot, "cosine": _cosine, "centred": _centred, "cka": _cka, "update": _cosine,
}  # fmt: skip
