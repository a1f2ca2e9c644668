"""Which neuron of a layer to train next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tithe.errors import InvalidValueError
from tithe.hashtron.backward.checks import integer
from tithe.hashtron.backward.margin import TAU, gold_zone, in_gold_zone, margin

__all__ = ["Choice", "rank", "select"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What :func:`select` says.

    Attributes:
        neurons: positions in the layer: the one to train, or those to probe.
        why: ``"probe"``: nothing is known of these; tally them, note their sums, and select again. Otherwise train the
            neuron, which was the ``"gold"`` or ``"moderate"`` one nearest to the middle, or ``"random"``.
    """

    neurons: tuple[int, ...]
    why: Literal["probe", "gold", "moderate", "random"]


def select(
    totals: ArrayLike,
    most: ArrayLike,
    *,
    known: ArrayLike | None = None,
    done: ArrayLike | None = None,
    seed: int | list[int] | np.random.Generator,
    tau: float = TAU,
    most_probes: int | None = None,
) -> Choice | None:
    """The neuron of a layer that is to be trained next, by the latest sums of its votes; :func:`rank` has them all.

    First those are probed of which nothing is known. Then comes the neuron in the gold zone, √M < |S| < τ·M, whose
    margin |S|/M is nearest to the zone's middle, (1/√M + τ)/2; without one, the *moderate* neuron, √M/2 < |S| <
    (1 + τ)/2·M, nearest to that middle; without one, a random neuron that has votes or of which nothing is known; then
    any. Of several at the same distance the first is taken.

    Args:
        totals: S of each neuron, (H,), which may be an average of some; of no matter where it is not known.
        most: M of each, (H,) or a number: V, how many votes there were; N for final neurons.
        known: whether there are sums of a neuron, bool (H,); all by default.
        done: whether it was trained or skipped in this sweep, bool (H,); none by default.
        seed: of random choices. Give a number for each place in the run, say ``[seed, sweep, trained]``, so that a run
            that is taken up again makes the same choices; or a generator, which changes only where one is random.
        tau: τ, above 0 and at most 1.
        most_probes: how many neurons may be probed; a random part where more are unknown. With 0 unknown neurons are
            left to the random choices. No limit by default.

    Returns:
        What to do, ``None`` where all are done. Raises ``InvalidValueError`` for other shapes, and where |S| > M.
        O(H).

    Source: MISSION H4.

    >>> select([0, 40, 90, 30], 100, seed=0)
    Choice(neurons=(1,), why='gold')
    >>> select([0, 40, 90, 30], 100, known=[True, True, False, False], seed=0)
    Choice(neurons=(2, 3), why='probe')
    """
    seen, left = _mask("known", known, totals, True), ~_mask("done", done, totals, False)
    unknown = np.flatnonzero(left & ~seen)
    room = len(unknown) if most_probes is None else integer("most_probes", most_probes, 0)
    if len(unknown) and room:
        if room < len(unknown):
            unknown = np.sort(np.random.default_rng(seed).choice(unknown, room, replace=False))
        return Choice(tuple(unknown.tolist()), "probe")
    ranked = rank(totals, most, known=known, done=done, seed=seed, tau=tau)
    return Choice((ranked[0][0],), ranked[0][1]) if ranked else None


def rank(
    totals: ArrayLike,
    most: ArrayLike,
    *,
    known: ArrayLike | None = None,
    done: ArrayLike | None = None,
    seed: int | list[int] | np.random.Generator,
    tau: float = TAU,
) -> list[tuple[int, Literal["gold", "moderate", "random"]]]:
    """All neurons that are not done, and why, in the order of :func:`select` as long as the sums stay as they are.

    Arguments and errors are those of ``select``, but that nothing is probed: neurons of which nothing is known are left
    to the random choices. O(H log H).

    >>> rank([0, 40, 85, 30], 100, seed=0)
    [(1, 'gold'), (3, 'gold'), (2, 'moderate'), (0, 'random')]
    """
    sums, seen, left = np.asarray(totals), _mask("known", known, totals, True), ~_mask("done", done, totals, False)
    if np.shape(most) not in ((), sums.shape):
        raise InvalidValueError(f"most has shape {np.shape(most)}; a number, or {sums.shape} as totals, is expected")
    votes = np.where(seen, np.broadcast_to(np.asarray(most), sums.shape), 0)
    sums = np.where(seen, sums, 0)
    low, high = gold_zone(votes, tau)
    far = np.abs(margin(sums, votes) - (low + high) / 2).round(12)  # so that what is as far in truth is as far here
    found: list[tuple[int, Literal["gold", "moderate", "random"]]] = []
    zones: dict[Literal["gold", "moderate"], Any] = {
        "gold": in_gold_zone(sums, votes, tau),
        "moderate": _moderate(sums, votes, tau),
    }
    for why, fits in zones.items():
        rows = np.flatnonzero(fits & left)
        left[rows] = False
        found += [(row, why) for row in rows[np.argsort(far[rows], kind="stable")].tolist()]
    heard = (votes > 0) | ~seen
    random = np.random.default_rng(seed) if left.any() else None
    for rows in (np.flatnonzero(left & heard), np.flatnonzero(left & ~heard)):
        if random is not None and len(rows):
            found += [(row, "random") for row in random.permutation(rows).tolist()]
    return found


def _mask(name: str, given: ArrayLike | None, totals: ArrayLike, default: bool) -> NDArray[np.bool_]:
    shape = np.shape(totals)
    mask = np.full(shape, default) if given is None else np.asarray(given)
    if len(shape) != 1 or mask.shape != shape or mask.dtype != np.bool_:
        raise InvalidValueError(
            f"totals have shape {shape}, {name} is {mask.dtype} {mask.shape}; (H,) for both, and bool, is expected"
        )
    return mask


def _moderate(sums: NDArray[Any], votes: NDArray[Any], tau: float) -> NDArray[np.bool_]:
    sizes = np.abs(sums.astype(np.float64))
    return np.asarray((4 * sizes * sizes > votes) & (sizes < (1 + tau) / 2 * votes))
