"""What ``sparsify`` did to each layer, and what it costs and gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tithe.receipt import Attempt, Bound, Cost, Receipt
from tithe.resolvent.sparse.importance import Factor
from tithe.resolvent.sparse.layers import Place
from tithe.resolvent.sparse.timing import Race

__all__ = ["LayerReport", "SparsityReport"]

_HEAD = ("layer", "in → out", "zeros", "kept", "threshold", "error", "plain", "sparse", "path")


@dataclass(frozen=True)
class LayerReport:
    """One linear layer; shares and errors are on the calibration samples that the threshold was not chosen by.

    Attributes:
        name: in the model.
        inputs: in_features.
        outputs: out_features.
        zeros: share of its inputs that are exactly 0.
        kept: share of its inputs that are read (where it skips at all).
        threshold: of the importance; 0 drops zeros only, and is exact.
        error: relative Frobenius error of the layer's own output; 0 where it stays plain.
        races: the comparisons with the plain layer, from one row on, until one was lost.
        rows: the most rows for which it skips; 0 where the layer stays plain.
    """

    name: str
    inputs: int
    outputs: int
    zeros: float
    kept: float
    threshold: float
    error: float
    races: tuple[Race, ...]
    rows: int

    @property
    def path(self) -> str:
        """In words, what the layer does from now on."""
        return f"sparse up to {self.rows} row{'s' * (self.rows > 1)}" if self.rows else "plain: skipping is no faster"

    @property
    def seconds(self) -> tuple[float, float]:
        """Of one row: by the plain layer, and by what was chosen."""
        first = self.races[0]
        return first.dense, first.sparse if self.rows else first.dense

    @property
    def flops(self) -> tuple[float, float]:
        """Of one row: of the plain layer, and of what was chosen."""
        plain = 2.0 * self.inputs * self.outputs
        return plain, plain * self.kept if self.rows else plain


@dataclass(frozen=True)
class SparsityReport:
    """All layers that were looked at, in the order in which the model calls them.

    Attributes:
        asked: what was asked for, ``"keep=0.2"`` or ``"tol=0.005"``.
        by: the factors of importance.
        place: device type, dtype and threads of the times; elsewhere the layers stay plain.
        layers: one entry each.
        bound: the relative error of the model's output for one further sample like those of calibration.
        loss: by how much the metric fell on the pruned model; ``None`` without one.
    """

    asked: str
    by: tuple[Factor, ...]
    place: Place
    layers: tuple[LayerReport, ...]
    bound: Bound
    loss: float | None

    @property
    def receipt(self) -> Receipt:
        """Of one sample, linear layers alone: their multiply–adds and the sum of their times."""
        plain, spent = (
            Cost(flops=sum(x.flops[i] for x in self.layers), seconds=sum(x.seconds[i] for x in self.layers))
            for i in (0, 1)
        )
        dropped = tuple(Attempt(f"{x.name} sparse", "no faster than plain") for x in self.layers if not x.rows)
        return Receipt(f"sparse({self.asked})", spent, plain, self.bound, dropped)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types, with stable keys."""
        return {
            "asked": self.asked,
            "by": list(self.by),
            "place": {"device": self.place.device, "dtype": str(self.place.dtype), "threads": self.place.threads},
            "layers": [asdict(layer) | {"races": [asdict(race) for race in layer.races]} for layer in self.layers],
            "loss": self.loss,
            "receipt": self.receipt.to_dict(),
        }

    def __str__(self) -> str:
        rows = [_HEAD, *map(_cells, self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) if i in (0, len(_HEAD) - 1) else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
            for row in rows
        ]  # fmt: skip
        plain, spent = self.receipt.plain, self.receipt.spent
        threads = f", {self.place.threads} thread{'s' * (self.place.threads > 1)}" if self.place.threads else ""
        lines.append(
            f"all, one row: {_time(spent.seconds or 0)} of {_time(plain.seconds or 0)}, "
            f"{self.receipt.ratio('flops') or 0:.1%} of the multiply–adds, on {self.place.device}{threads}"
        )
        lines.append(
            f"output error {self.bound.estimate:.2%}, of one sample ≤ {self.bound.upper:.2%} "
            f"at {self.bound.confidence:.3g} (calibration)"
            + ("" if self.loss is None else f"; metric lost {self.loss:.4g}")
        )
        return "\n".join(lines)


def _cells(layer: LayerReport) -> tuple[str, ...]:
    first = layer.races[0]
    return (
        layer.name, f"{layer.inputs} → {layer.outputs}", f"{layer.zeros:.1%}", f"{layer.kept:.1%}",
        f"{layer.threshold:.3g}", f"{layer.error:.2%}", _time(first.dense), _time(first.sparse), layer.path,
    )  # fmt: skip


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
