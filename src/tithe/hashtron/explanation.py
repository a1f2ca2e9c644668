"""Why a model answers as it does: which tuples of inputs voted for and against, and where in an image they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tithe.errors import MissingExtraError
from tithe.hashtron.tuples.tables import Tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Explanation", "Reason", "folded", "reasons"]


@dataclass(frozen=True)
class Reason:
    """One tuple of inputs, and what its neurons said.

    Attributes:
        inputs: names of the bits that it reads, in the order of its address.
        bits: what they were, as many characters 0 and 1.
        support: votes for the explained class above the mean of the others, over all windows that share its table.
        votes: for each class.
    """

    inputs: tuple[str, ...]
    bits: str
    support: float
    votes: tuple[int, ...]

    def __str__(self) -> str:
        said = ", ".join(f"{name}={bit}" for name, bit in zip(self.inputs, self.bits, strict=True))
        return f"{self.support:+.1f}  {said}"


@dataclass(frozen=True)
class Explanation:
    """How the votes for one class came about.

    Attributes:
        answer: the class that is explained.
        votes: of each class, by its label.
        reasons: tuples, from the strongest support to the strongest opposition.
        heat: support by place in the image, (H, W), where the input is one; its sum is that of all supports. What
            comes from the frame of dark pixels around the image is that of the nearest pixel.
        image: the image, (H, W).
    """

    answer: Any
    votes: dict[Any, int]
    reasons: tuple[Reason, ...]
    heat: NDArray[np.float64] | None = None
    image: NDArray[Any] | None = None

    def __str__(self) -> str:
        total = ", ".join(f"{label}: {count}" for label, count in self.votes.items())
        shown = self.reasons if len(self.reasons) <= 10 else (*self.reasons[:5], *self.reasons[-5:])
        return "\n".join((f"{self.answer!r} with the votes {total}", *map(str, shown)))

    def plot(self) -> Figure:
        """The strongest reasons as bars; for an image also where the support comes from, red for and blue against.

        Raises ``MissingExtraError`` without matplotlib (``pip install tithe[plots]``).
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("a picture needs matplotlib: pip install 'tithe[plots]'") from error
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2)
        if self.heat is not None and self.image is not None:
            reach = float(np.abs(self.heat).max()) or 1.0
            axes[0].imshow(self.image, cmap="gray_r", alpha=0.5)
            axes[0].imshow(self.heat, cmap="RdBu_r", vmin=-reach, vmax=reach, alpha=0.65)
            axes[0].set_title(f"for (red) and against (blue) {self.answer!r}")
            axes[0].set_axis_off()
        else:
            shown = [*self.reasons[:6], *self.reasons[-6:]] if len(self.reasons) > 12 else list(self.reasons)
            axes[0].barh([", ".join(r.inputs[:2]) + " …" for r in shown][::-1], [r.support for r in shown][::-1])
            axes[0].set_title(f"support for {self.answer!r}")
        axes[1].bar([str(label) for label in self.votes], list(self.votes.values()))
        axes[1].set_title("votes")
        return figure


def folded(grid: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
    """Values by place, (H + 2·frame, W + 2·frame), as (H, W): those of the frame are added to the nearest pixel's.

    >>> folded(np.ones((3, 4)), 1).tolist()
    [[6.0, 6.0]]
    """
    down, across = (np.clip(np.arange(size) - frame, 0, size - 2 * frame - 1) for size in grid.shape)
    out = np.zeros((int(down[-1]) + 1, int(across[-1]) + 1))
    np.add.at(out, (down[:, None], across), grid)
    return out


def reasons(
    tables: Tables, block: NDArray[np.uint8], target: int, names: Sequence[str]
) -> tuple[tuple[Reason, ...], NDArray[np.float64]]:
    """All tuples by their support for class ``target``, and the support by place, (D,).

    Args:
        tables: what votes.
        block: one block (D, 16); its first sample is explained.
        target: class.
        names: of the bits, (D,).

    O(T · windows · bits).
    """
    cells = tables.cells(block)[:, :, 0]
    votes = tables.signs[np.arange(len(cells))[:, None], cells][:, :, : tables.classes].astype(np.int64)
    others = votes.sum(2, keepdims=True) - votes[:, :, target : target + 1]
    support = votes[:, :, target] - others[:, :, 0] / max(tables.classes - 1, 1)
    bits = block[:, 0]
    places = np.zeros(len(bits))
    down, across, stride = tables.sharing
    for y in range(down):
        for x in range(across):
            share = np.repeat(support[:, y * across + x] / tables.tuples.shape[1], tables.tuples.shape[1])
            np.add.at(places, (tables.tuples + y * stride + x).ravel(), share)
    found = [
        Reason(
            tuple(names[i] for i in row), "".join(map(str, bits[row])), float(support[t].sum()),
            tuple(votes[t].sum(0).tolist()),
        )
        for t, row in enumerate(tables.tuples)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda reason: -reason.support)), places
