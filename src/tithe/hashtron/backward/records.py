"""What is noted of each training of a neuron: one record, of 64 bytes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import InvalidDTypeError, InvalidValueError

__all__ = ["MOST_POSITIONS", "ROW", "Record", "Rows", "as_records", "as_rows"]

MOST_POSITIONS = 1 << 22  # neurons of a layer: the index keeps five bytes for each position up to the largest

ROW = np.dtype(
    [
        ("layer", "<u2"), ("position", "<u4"), ("run", "<u4"), ("time", "<f8"),
        ("votes", "<i4"), ("outputs", "<i4"), ("samples", "<i4"), ("pivotal", "<i4"),
        ("premodulo", "<u4"), ("seconds", "<f4"),
        ("train", "<f4"), ("eval", "<f4"), ("prior", "<f4"),
        ("data", "<u8"), ("final", "?"), ("stale", "?"),
    ]
)  # fmt: skip
Rows = NDArray[np.void]  # structured, of dtype ROW


@dataclass(frozen=True, slots=True)
class Record:
    """One training of one neuron.

    Attributes:
        layer: number of its layer, from 0 for the one that reads the input, below 2^16.
        position: its number in the layer, below 2^22.
        run: number of the training run, below 2^32; later runs have larger ones.
        time: when, in seconds since 1970 (UTC).
        votes: S, the sum of the ±1 votes, from −V to V.
        outputs: sum of its ±1 outputs over the data set after the training, from −N to N.
        samples: N, the size of the data set, below 2^31.
        pivotal: V, how many samples voted, at most N.
        premodulo: with which it was trained; 0 for none.
        seconds: how long that took.
        train: accuracy of the network on training data after it; NaN where it was not measured.
        eval: the same on held-out data.
        prior: accuracy of always giving the most frequent answer, on held-out data.
        data: fingerprint of the data set, see ``fingerprint``; 0 where it is unknown.
        final: whether the neuron gives the answer itself, so that M is N and not V.
        stale: whether later events have made it doubtful.

    Seconds and accuracies are kept with seven digits.

    >>> Record(2, 0, 1, 0.0, votes=30, outputs=10, samples=100, pivotal=40).premodulo
    0
    """

    layer: int
    position: int
    run: int
    time: float
    votes: int
    outputs: int
    samples: int
    pivotal: int
    premodulo: int = 0
    seconds: float = 0.0
    train: float = nan
    eval: float = nan
    prior: float = nan
    data: int = 0
    final: bool = False
    stale: bool = False


_FIELDS = operator.attrgetter(*(ROW.names or ()))
_LIMITS = [
    (name, int(np.iinfo(ROW[name]).min), int(np.iinfo(ROW[name]).max))
    for name in ROW.names or ()
    if ROW[name].kind in "iu"
]


def as_rows(records: Rows | Sequence[Record]) -> Rows:
    """Records as an array, after a check that each can be.

    Args:
        records: some records, or an array of dtype ``ROW``.

    Returns:
        (n,) of dtype ``ROW``. Raises ``InvalidDTypeError`` or ``InvalidValueError`` for what cannot be. O(n).

    >>> as_rows([Record(2, 0, 1, 0.0, votes=30, outputs=10, samples=100, pivotal=40)])["votes"].tolist()
    [30]
    """
    if isinstance(records, np.ndarray):
        if records.dtype != ROW or records.ndim != 1:
            raise InvalidDTypeError(f"an array of dtype {records.dtype}, shape {records.shape}; ROW and (n,) are due")
        rows: Rows = records
    else:
        rows = np.empty(len(records), ROW)
        for number, record in enumerate(records):
            rows[number] = _values(record)
    for name, wrong in _faults(rows).items():
        if wrong.any():
            raise InvalidValueError(f"{as_records(rows[wrong][:1])[0]} cannot be: {name}")
    return rows


def as_records(rows: Rows) -> list[Record]:
    """An array of dtype ``ROW`` as records. O(n).

    >>> record = Record(2, 0, 1, 0.0, votes=30, outputs=10, samples=100, pivotal=40, train=0.5, eval=0.5, prior=0.5)
    >>> as_records(as_rows([record])) == [record]
    True
    """
    return [Record(*row) for row in rows.tolist()]


def _values(record: Record) -> tuple[Any, ...]:
    """A record as a tuple that NumPy neither rounds nor wraps around."""
    if not isinstance(record, Record):
        raise InvalidDTypeError(f"a {type(record).__name__} is no Record")
    for name, least, most in _LIMITS:
        try:
            whole = operator.index(getattr(record, name))
        except TypeError:
            raise InvalidDTypeError(f"{name} of {record} is no integer") from None
        if not least <= whole <= most:
            raise InvalidValueError(f"{name} of {record} must be from {least} to {most}")
    values: tuple[Any, ...] = _FIELDS(record)
    return values


def _faults(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    votes, outputs = (np.abs(rows[name].astype(np.int64)) for name in ("votes", "outputs"))
    shares = {f"{name} must be from 0 to 1": _outside(rows[name]) for name in ("train", "eval", "prior")}
    return {
        f"positions are below {MOST_POSITIONS}": rows["position"] >= MOST_POSITIONS,
        "time must be finite": ~np.isfinite(rows["time"]),
        "pivotal must be from 0 to samples": (rows["pivotal"] < 0) | (rows["pivotal"] > rows["samples"]),
        "votes must be from -pivotal to pivotal": votes > rows["pivotal"],
        "outputs must be from -samples to samples": outputs > rows["samples"],
        "seconds must be finite and not negative": ~(rows["seconds"] >= 0) | np.isinf(rows["seconds"]),
        **shares,
    }


def _outside(share: NDArray[Any]) -> NDArray[np.bool_]:
    return (share < 0) | (share > 1)
