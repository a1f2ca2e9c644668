"""What ``convert`` did to each layer, and what it costs and gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tithe.product.conversion.layers import Place
from tithe.receipt import Attempt, Bound, Cost, Receipt

__all__ = ["ConversionReport", "LayerReport"]

_HEAD = ("layer", "kind", "in → out", "rows", "way", "error", "plain", "time / plain", "why")


@dataclass(frozen=True)
class LayerReport:
    """One layer; errors and times are on the calibration samples that its way was not made from.

    Attributes:
        name: in the model.
        kind: ``Linear`` or ``Conv2d``.
        inputs: columns of its weight as a matrix.
        outputs: rows of it.
        rows: of the activations that it was timed on.
        way: what it computes by from now on, ``plain`` where nothing cheaper was found.
        bound: relative Frobenius error of its product, scope ``calibration``; exact where it stays plain.
        seconds: median of the plain layer, and of what was chosen.
        share: of the multiply–adds that it makes.
        least: the fewest rows for which the way was found faster.
        tried: ways that were dropped, and why.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    rows: int
    way: str
    bound: Bound
    seconds: tuple[float, float]
    share: float
    least: int
    tried: tuple[Attempt, ...]

    @property
    def flops(self) -> tuple[float, float]:
        """Of those rows: of the plain layer, and of what was chosen."""
        plain = 2.0 * self.rows * self.inputs * self.outputs
        return plain, plain * self.share


@dataclass(frozen=True)
class ConversionReport:
    """All layers that were looked at, in the order in which the model calls them.

    Attributes:
        tol: what each layer's product had to keep.
        place: device and threads of the times; elsewhere the layers stay plain.
        layers: one entry each.
        bound: the relative error of the model's output for one further sample like those of calibration.
    """

    tol: float
    place: Place
    layers: tuple[LayerReport, ...]
    bound: Bound

    @property
    def receipt(self) -> Receipt:
        """Of the calibration samples that ways were not made from, these layers alone; the bound is the output's."""
        plain, spent = (
            Cost(flops=sum(x.flops[i] for x in self.layers), seconds=sum(x.seconds[i] for x in self.layers))
            for i in (0, 1)
        )
        tried = tuple(
            Attempt(f"{x.name} {attempt.method}", attempt.reason, attempt.upper)
            for x in self.layers
            for attempt in x.tried
        )
        return Receipt(f"converted(tol={self.tol:g})", spent, plain, self.bound, tried)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types, with stable keys."""
        return {
            "tol": self.tol,
            "place": self.place._asdict(),
            "layers": [asdict(layer) | {"bound": layer.bound.to_dict()} for layer in self.layers],
            "receipt": self.receipt.to_dict(),
        }

    def __str__(self) -> str:
        rows = [_HEAD, *map(_cells, self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        plain, spent = self.receipt.plain.seconds or 0, self.receipt.spent.seconds or 0
        threads = f", {self.place.threads} thread{'s' * (self.place.threads > 1)}" if self.place.threads else ""
        lines.append(
            f"these layers together: {_time(spent)} of {_time(plain)}, {spent / plain:.0%}, on {self.place.device}"
            f"{threads}"
        )
        lines.append(
            f"output error {self.bound.estimate:.2%}, of one sample ≤ {self.bound.upper:.2%} "
            f"at {self.bound.confidence:.3g} (calibration)"
        )
        return "\n".join(lines)


def _cells(layer: LayerReport) -> tuple[str, ...]:
    plain, ours = layer.seconds
    kept = layer.way == "plain"
    why = "; ".join(f"{a.method}: {a.reason}" for a in layer.tried) if kept else ""
    return (
        layer.name, layer.kind, f"{layer.inputs} → {layer.outputs}", str(layer.rows), layer.way,
        "" if kept else f"{layer.bound.estimate:.2%} ≤ {layer.bound.upper:.2%}", _time(plain),
        "" if kept else f"{ours / plain:.0%}", why,
    )  # fmt: skip


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
