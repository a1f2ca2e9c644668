"""When members merge, with whom, and when they drift apart: decisions out of losses, nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.tether.averaging import Average

__all__ = ["MergePolicy", "Plateau", "clusters", "transfer"]

_MOST = sys.float_info.max

Compared = Literal["transfer", "update", "cosine", "centred", "dot"]
When = Literal["interval", "plateau"]
Drift = Literal["leave", "repel"]


@dataclass(frozen=True)
class MergePolicy:
    """How a ``Population`` decides, every ``interval`` steps.

    A member first *probes*: it trains alone for ``probe`` intervals, so that it shows what it learns. Then those that
    go together by ``measure`` form groups, and each group merges at every interval. A member whose loss rises again by
    ``alarm`` of what it had gained leaves its group and probes anew; it then joins the group that serves it, with that
    group's weights.

    ``"transfer"`` compares what members have just learned by trying it on: how much of its own gain a member would
    have with the weights of another (see ``transfer``). Its threshold means the same for every network and task: 0 is
    no use. Cosines of updates are above chance under conflicting labels, too, and where to cut them depends on both.

    Attributes:
        interval: steps between decisions.
        probe: intervals that a member trains alone before it may merge.
        measure: ``"transfer"``, or one of ``compatibility``: ``"update"`` of the probe's changes, the others of weights
            (of tethers, where a model has any).
        threshold: from which on two members go together.
        features: agreement of learned features (see ``agreement_of_features``) from which on groups that do not go
            together merge all but their output layers; ``None`` for never.
        merge: ``"average"`` or ``"spherical"``.
        weighted: whether members count by the inverse of their loss.
        optimizer_state: whether momentum and the like are averaged, too.
        alarm: share of its gain that a member must lose again before it probes anew, in (0, 1].
        recheck: intervals after which groups are compared again, to unite those that go together by now; ``None`` for
            never.
        drift: what those do that do not go together at the end of a probe: ``"leave"`` each other alone, or
            ``"repel"``.
        repulsion: how far members are pushed away from the others' mean, as a share of their distance to it.
        most_distance: to which distance from that mean, as a share of the weights' norm, they are pushed at most.
        when: merge at every ``"interval"``, or only at those where a member is on a ``"plateau"``, as in the source.
        plateau: what a plateau is.
        most_merges: merges of a group per epoch at most; ``None`` for no limit.

    Raises ``InvalidValueError`` for what is out of range. Source: MISSION T2, T4.

    >>> MergePolicy().interval, MergePolicy().measure
    (25, 'transfer')
    """

    interval: int = 25
    probe: int = 3
    measure: Compared = "transfer"
    threshold: float = 0.1
    features: float | None = 0.8
    merge: Average = "average"
    weighted: bool = False
    optimizer_state: bool = True
    alarm: float = 0.5
    recheck: int | None = 8
    drift: Drift = "leave"
    repulsion: float = 0.1
    most_distance: float = 0.5
    when: When = "interval"
    plateau: Plateau | None = None
    most_merges: int | None = None

    def __post_init__(self) -> None:
        for name, right, wanted in (
            ("interval", _whole(self.interval, 1), "a whole number of at least 1 step"),
            ("probe", _whole(self.probe, 1), "a whole number of at least 1 interval"),
            ("measure", self.measure in get_args(Compared), f"one of {get_args(Compared)}"),
            ("threshold", _within(self.threshold, -math.inf, math.inf), "a number"),
            ("features", self.features is None or _within(self.features, -math.inf, math.inf), "a number, or None"),
            ("merge", self.merge in get_args(Average), f"one of {get_args(Average)}"),
            ("weighted", isinstance(self.weighted, bool), "True or False"),
            ("optimizer_state", isinstance(self.optimizer_state, bool), "True or False"),
            ("alarm", _within(self.alarm, 0, 1) and self.alarm > 0, "a share in (0, 1]"),
            ("recheck", self.recheck is None or _whole(self.recheck, 1), "at least 1 interval, or None"),
            ("drift", self.drift in get_args(Drift), f"one of {get_args(Drift)}"),
            ("repulsion", _within(self.repulsion, 0, _MOST), "a finite share of at least 0"),
            (
                "most_distance",
                _within(self.most_distance, 0, _MOST) and self.most_distance > 0,
                "a finite share above 0",
            ),
            ("when", self.when in get_args(When), f"one of {get_args(When)}"),
            ("plateau", self.plateau is None or isinstance(self.plateau, Plateau), "a Plateau, or None"),
            ("most_merges", self.most_merges is None or _whole(self.most_merges, 0), "at least 0, or None"),
        ):
            if not right:
                raise InvalidValueError(f"{name} is {getattr(self, name)!r}; use {wanted}")


@dataclass(frozen=True)
class Plateau:
    """The source's plateau, smoothed: the loss hardly changes from interval to interval, or gradients are small.

    Attributes:
        loss: |difference| of mean losses of two intervals below which it is one.
        gradient: norm of the change of weights per step below which it is one, too; 0 leaves that out.

    Raises ``InvalidValueError`` for numbers below 0.

    >>> Plateau().reached([1.0, 0.99], change=1.0), Plateau().reached([1.0, 0.5], change=1.0)
    (True, False)
    """

    loss: float = 0.02
    gradient: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "gradient"):
            if not _within(getattr(self, name), 0, math.inf):
                raise InvalidValueError(f"{name} is {getattr(self, name)!r}; use a number of at least 0")

    def reached(self, losses: Sequence[float], change: float) -> bool:
        """Whether a member is on one, by its mean losses of each interval, and by its change per step."""
        still = len(losses) > 1 and abs(losses[-1] - losses[-2]) < self.loss
        return still or change < self.gradient


def transfer(losses: Tensor, first: Tensor) -> Tensor:
    """How much of its own gain each member would have with the weights of each other.

    Args:
        losses: (M, M), entry i, j: the loss of weights i on the data of member j.
        first: (M,), the loss of each member on its data when it began to probe.

    Returns:
        (M, M), symmetric: for each pair the lesser of (first_j − loss_ij) / (first_j − loss_jj) and the same with i and
        j exchanged, 1 on the diagonal. In (−∞, 1] but for noise: 1 where the other's weights serve as well, 0 where
        they are as good as none, negative where they do harm. A member that has gained nothing goes with none, nor does
        one whose loss is NaN. Raises ``InvalidValueError`` for other shapes. O(M²).

    >>> transfer(torch.tensor([[0.5, 3.0], [4.0, 0.5]]), torch.tensor([2.3, 2.3])).round(decimals=2)
    tensor([[ 1.0000, -0.9400],
            [-0.9400,  1.0000]])
    """
    if losses.ndim != 2 or losses.shape != (len(first), len(first)) or first.ndim != 1:
        raise InvalidValueError(f"losses are {tuple(losses.shape)}, first {tuple(first.shape)}; use (M, M) and (M,)")
    gain = first - losses
    own = gain.diagonal()
    share = torch.where(own > 0, gain / own.clamp(min=1e-12), float("-inf"))
    both = torch.minimum(share, share.T)
    both = torch.where(both.isnan(), float("-inf"), both)
    return both.fill_diagonal_(1.0)


def clusters(compatibility: Tensor, threshold: float) -> list[list[int]]:
    """Members that go together on average: average linkage, cut where the mean compatibility of two groups is below.

    Args:
        compatibility: (M, M), symmetric, else the mean of both ways counts. −∞ and NaN keep two members in different
            groups, whatever the others say.
        threshold: from which on they do.

    Returns:
        Groups of indices, ascending, by their first member. Of equal compatibilities the first members' count first.
        Raises ``InvalidValueError`` where it is not square, or the threshold NaN. O(M² log M).

    >>> clusters(torch.tensor([[1.0, 0.1, 0.9], [0.1, 1.0, 0.2], [0.9, 0.2, 1.0]]), 0.5)
    [[0, 2], [1]]
    """
    if compatibility.ndim != 2 or len(set(compatibility.shape)) != 1:
        raise InvalidValueError(f"compatibility has shape {tuple(compatibility.shape)}; use a square matrix")
    if not _within(threshold, -math.inf, math.inf):
        raise InvalidValueError(f"threshold is {threshold!r}; use a number")
    count = len(compatibility)
    if count < 2:
        return [[i] for i in range(count)]
    given = compatibility.detach().double().cpu()
    mean = (given / 2 + given.T / 2).nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf).numpy()
    top = np.abs(mean[np.isfinite(mean)]).max(initial=0.0) + 1.0
    far = -4.0 * count**2 * top  # so far below that a mean with one such pair stays below any other
    likeness = np.where(mean == -math.inf, far, np.minimum(mean, top))
    distance = top - likeness  # linkage wants none below 0
    np.fill_diagonal(distance, 0)
    cut = top - min(max(float(threshold), -top), top)
    labels = fcluster(linkage(squareform(distance, checks=False), "average"), cut, "distance")
    groups: dict[int, list[int]] = {}
    for member, label in enumerate(labels):
        groups.setdefault(int(label), []).append(member)
    return sorted(groups.values())


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _within(value: object, low: float, high: float) -> bool:
    """Whether it is a number in [low, high], so not NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) <= high
