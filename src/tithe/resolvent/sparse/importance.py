"""What an input of a layer counts for: its magnitude, times what its outgoing weights make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.resolvent.measures import coherence
from tithe.resolvent.operator import in_full_precision

__all__ = ["FACTORS", "Factor", "checked_factors", "column_weights", "floors", "scores", "threshold"]

Factor = Literal["magnitude", "norm", "coherence"]
FACTORS: tuple[Factor, ...] = get_args(Factor)

_LEAST = torch.finfo(torch.float32).tiny
_SLACK = 1 - 2.0**-20  # so that rounding of a quotient never drops the very input that set the threshold


def checked_factors(by: Sequence[Factor]) -> tuple[Factor, ...]:
    """``by`` as a tuple in the order of ``FACTORS``; ``InvalidValueError`` where it names none, or something else.

    >>> checked_factors(["norm", "magnitude"])
    ('magnitude', 'norm')
    """
    given = (by,) if isinstance(by, str) else tuple(by)
    if not given or set(given) - set(FACTORS):
        raise InvalidValueError(f"by is {by!r}; name one or more of {', '.join(map(repr, FACTORS))}")
    return tuple(factor for factor in FACTORS if factor in given)


def column_weights(weight: Tensor, by: Sequence[Factor]) -> Tensor:
    """What a unit of each input counts for, by the static factors: norm of its weight column, times its coherence.

    The norm is how far a unit of the input moves the outputs. The coherence is that of the column along the outputs,
    not centred. Where outputs have an order (samples of a signal, frequencies) it tells columns of long waves from
    columns of short ones. Where they have none, as hidden units, the expectation over all orders is an affine function
    of (mean of the column)² / (mean of its squares): how far the column pushes all outputs the same way. What many
    dropped inputs have in common adds up, what they have not averages out, so such inputs are dropped last.
    Activations along a calibration batch are no choice: shuffled samples have no order.

    Args:
        weight: (outputs, inputs), floating point.
        by: of ``FACTORS``; ``"magnitude"`` is of no matter here.

    Returns:
        (inputs,) ≥ 0, float32 or float64. O(inputs · outputs · log outputs). Source: MISSION R5; Liu et al. 2024,
        arXiv:2408.14690 (magnitude), Lee et al. 2024, arXiv:2404.08763 and Sun et al. 2023, arXiv:2306.11695 (norms).

    >>> column_weights(torch.tensor([[3.0, 0.0], [4.0, 1.0]]), ["norm"])
    tensor([5., 1.])
    """
    wide = in_full_precision(weight.detach())
    weights = wide.new_ones(wide.shape[1])
    if "norm" in by:
        weights = weights * torch.linalg.vector_norm(wide, dim=0)
    if "coherence" in by:
        weights = weights * coherence(wide, 0)
    return weights


def scores(x: Tensor, weights: Tensor, by: Sequence[Factor]) -> Tensor:
    """The importance of every input in every sample, (rows, inputs); without magnitude the same in all. O(elements).

    >>> scores(torch.tensor([[-2.0, 1.0]]), torch.tensor([5.0, 1.0]), ["magnitude", "norm"])
    tensor([[10.,  1.]])
    """
    return in_full_precision(x).abs() * weights if "magnitude" in by else weights.expand(x.shape)


def threshold(ordered: Tensor, keep: float) -> float:
    """The score that a share of all scores reaches; ties are kept.

    Args:
        ordered: all scores, ascending, one axis.
        keep: the share, in (0, 1].

    Returns:
        0 for ``keep`` = 1, and where the rest is 0: then only zeros are dropped, which changes nothing. O(1).

    >>> threshold(torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.5), threshold(torch.tensor([0.0, 0.0, 0.0, 4.0]), 0.5)
    (3.0, 0.0)
    """
    kept = max(1, math.ceil(keep * len(ordered)))
    return 0.0 if kept == len(ordered) else float(ordered[len(ordered) - kept])


def floors(weights: Tensor, least: float, by: Sequence[Factor]) -> Tensor:
    """The magnitude from which on each input is read: ``|x| · weights ≥ least`` solved for |x|.

    Zeros are never read (floors are positive), unless the weights of the input are not finite: the product is NaN then
    and stays so. An input is dropped where ``|x| < floor``; NaN is not, and so is passed on.

    Args:
        weights: (inputs,), from ``column_weights``.
        least: the threshold of the scores; 0 drops zeros only.
        by: of ``FACTORS``; without ``"magnitude"`` the floor is infinite for inputs below the threshold.

    Returns:
        (inputs,) of the dtype of ``weights``. O(inputs).

    >>> floors(torch.tensor([2.0, 0.5]), 1.0, ["magnitude", "norm"])
    tensor([0.5000, 2.0000])
    """
    if "magnitude" in by:
        bounds = (least * _SLACK / weights).nan_to_num(nan=0.0, posinf=math.inf).clamp(min=_LEAST)
    else:
        bounds = torch.where(weights < least * _SLACK, math.inf, _LEAST)
    return torch.where(weights.isfinite(), bounds, 0).to(weights.dtype)
