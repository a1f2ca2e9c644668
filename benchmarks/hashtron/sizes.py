"""What a model has to keep to predict, in bytes: one compact count for each kind, none of them favours the hashtron.

- Linear: 4 for each coefficient and intercept, 8 for mean and deviation of each scaled number.
- Trees: an inner node takes 2 for the column, 4 for the threshold and 4 for a child (the other one follows it); where
  it parts categories, a bit for each of them instead of the threshold. A leaf takes 4, in a forest 4 for each class.
- Tsetlin machines: a clause takes the smaller of a bit for each literal and 2 for each literal that it includes, and
  2 for each weight. Clauses without a literal or a weight are left out.
- WiSARD: a bit for each cell and class, 2 for each place of a tuple.
- Numbers that become bits: 4 for each level, 1 for each grey level of images. The hashtron counts 8 and 2 itself.
- Names of categories: their UTF-8 and one byte, as the hashtron counts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _COLUMN, _CHILD, _PLACE, _WEIGHT = 4, 2, 4, 2, 2


def of_names(names: Iterable[str]) -> int:
    """Names of categories.

    >>> of_names(["red", "blue"])
    9
    """
    return sum(len(str(name).encode()) + 1 for name in names)


def of_linear(coefficients: NDArray[Any], intercepts: NDArray[Any], scaled: int) -> int:
    """A linear model of which ``scaled`` columns were standardised."""
    return _FLOAT * (np.size(coefficients) + np.size(intercepts) + 2 * scaled)


def of_forest(trees: Iterable[Any], outputs: int) -> int:
    """scikit-learn's trees with ``outputs`` numbers in a leaf."""
    inner, leaves = 0, 0
    for tree in trees:
        inner += int((tree.children_left >= 0).sum())
        leaves += int((tree.children_left < 0).sum())
    return inner * (_COLUMN + _FLOAT + _CHILD) + leaves * _FLOAT * outputs


def of_boosting(trees: Iterable[NDArray[Any]], categories: list[int]) -> int:
    """The nodes of scikit-learn's histogram boosting; ``categories`` in each column, 0 for numbers."""
    total = 0
    bits = np.array([-(-count // 8) for count in categories])
    for nodes in trees:
        inner = nodes[nodes["is_leaf"] == 0]
        thresholds = np.where(inner["is_categorical"] == 1, bits[inner["feature_idx"]], _FLOAT)
        total += len(inner) * (_COLUMN + _CHILD) + int(thresholds.sum()) + _FLOAT * int(nodes["is_leaf"].sum())
    return total


def of_clauses(included: NDArray[np.bool_], weights: NDArray[Any] | None) -> int:
    """Clauses (n, literals) with weights (n, classes), or with none but a sign.

    >>> of_clauses(np.array([[True] + [False] * 31, [True] * 32, [False] * 32]), np.ones((3, 2)))
    14
    """
    kept = included.any(1) if weights is None else included.any(1) & (weights != 0).any(1)
    literals = included[kept].sum(1)
    each = np.minimum(2 * literals, -(-included.shape[1] // 8))
    return int(each.sum()) + (0 if weights is None else _WEIGHT * weights.shape[1] * int(kept.sum()))


def of_wisard(tuples: int, width: int, cells: int, classes: int) -> int:
    """Tables with cells for each class, and the places of the tuples.

    >>> of_wisard(10, 3, 8, 4)
    100
    """
    return tuples * (-(-(classes * cells) // 8) + _PLACE * width)
