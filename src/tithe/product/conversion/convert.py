"""``convert`` and ``restore``: a model whose layers compute for less, each in the cheapest certified way, and back."""

from __future__ import annotations

import fnmatch
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from tithe.calibration import Inputs, call, checked_inputs, evaluating, first_calls, halves, outputs, shift
from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.meter import Comparison
from tithe.product.conversion.choosing import candidates
from tithe.product.conversion.judging import error_bound, fewest_rows, plain_seconds, race
from tithe.product.conversion.layers import attach, converted_layers, detach, place_of
from tithe.product.conversion.report import ConversionReport, LayerReport
from tithe.product.conversion.rows import Layer, as_rows, matrix, why_not
from tithe.product.conversion.ways import Way
from tithe.receipt import Attempt, Bound

__all__ = ["convert", "restore"]

_LEARN, _CHECK = 8192, 2048  # rows of a layer's inputs that ways are made from, and that they are judged on


def convert(
    model: nn.Module, inputs: Inputs, tol: float, *, layers: str | Iterable[str] | None = None
) -> ConversionReport:
    """Let the layers of a model compute for less: each in the cheapest way that keeps ``tol`` for *its* weight.

    Every ``nn.Linear`` and every ``nn.Conv2d`` that the model calls is looked at: as it is a product of activations
    and a weight that stays, the weight is rounded, factorised or cast once. What is cheapest for these activations is
    tried first; the first way whose error on held-out activations is certified to be at most ``tol`` and that is
    faster beyond doubt stays. Where there is none the layer stays as it was, and the report says why. Half of the
    samples make the ways, the other half judge them.

    The layers change in place and compute so in evaluation mode, without gradients (``torch.inference_mode()``), for
    float32; else they are plain, bit by bit. Parameters and ``state_dict`` stay what they are. Copies stay converted,
    ``torch.compile`` runs converted layers between two graphs, tied weights stay tied.

    Args:
        model: any module, on one device or several.
        inputs: what the model is called with, 2 or more samples along the first axis, better some dozens: a tensor, a
            tuple of arguments or a mapping of keywords. They should look like what the model will see.
        tol: relative Frobenius error that each layer's product, its bias left out, has to keep, > 0. Errors of layers
            add up: the report gives that of the model's output.
        layers: names as in ``model.named_modules()``, or patterns; all by default.

    Returns:
        A ``ConversionReport``, a line for each layer. Raises ``InvalidValueError`` for ``tol``, ``layers`` or
        ``inputs`` that cannot be used, ``InvalidDTypeError`` for other types, ``InvalidStateError`` for a model that
        is converted already. O(2) runs of the model, O(rows·k² + k³ + n·k²) and some calls for each layer and way.
        Source: MISSION M1, M9.

    >>> model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))
    >>> report = convert(model, torch.rand(256, 64), tol=0.05)
    >>> [layer.name for layer in report.layers]
    ['0', '2']
    """
    tol = _checked_tol(tol)
    if converted_layers(model):
        raise InvalidStateError("the model has converted layers already; call tithe.restore(model) first")
    learning, checking = halves(checked_inputs(inputs))
    with evaluating(model), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        chosen = _chosen(model, learning, layers)
        plain = outputs(model, checking)
        given, learned = _given(model, checking, chosen), _learned(model, learning, chosen)
        reports = []
        shown = track(chosen.items(), "converting", console=Console(stderr=True), disable=not sys.stderr.isatty())
        try:
            for name, layer in shown:
                reports.append(_convert(name, layer, learned.pop(name), given.pop(name), tol))
            bound = shift(plain, outputs(model, checking))
        except BaseException:
            restore(model)
            raise
    return ConversionReport(tol, place_of(next(iter(chosen.values())).weight), tuple(reports), bound)


def restore(model: nn.Module) -> nn.Module:
    """Turn converted layers back into plain ones, with the very parameters that they have; returns the model.

    A model without converted layers stays as it is. O(modules).

    >>> restore(nn.Sequential(nn.Linear(1, 1)))
    Sequential(
      (0): Linear(in_features=1, out_features=1, bias=True)
    )
    """
    for layer in converted_layers(model).values():
        detach(layer)
    return model


def _convert(name: str, layer: Layer, learned: Tensor, given: Tensor, tol: float) -> LayerReport:
    """Try ways for one layer, cheapest first."""
    x = _some(as_rows(layer, given), _CHECK)
    tried: list[Attempt] = []
    used: Way | None = None
    bound, seconds, least, share = Bound.exact(), (plain_seconds(layer, given),) * 2, 0, 1.0
    for rivals in _ways(layer, learned, tol, tried):
        raced = _raced(rivals, layer, x, given, tol, tried)
        if raced and raced[0][1].high < 1:
            used, found, bound = raced.pop(0)
            seconds, share, least = found.seconds[::-1], used.share(), fewest_rows(used, layer, x)
            attach(layer, used, least)
        tried += [Attempt(way.name, f"takes {lost.ratio:.0%} of the plain time", e.upper) for way, lost, e in raced]
        if used is not None or any(way.share() == 1.0 for way, _, _ in raced):
            break  # those that follow are slower still
    kind = "Conv2d" if isinstance(layer, nn.Conv2d) else "Linear"
    rows, (n, k) = as_rows(layer, given).shape[0], matrix(layer).shape
    return LayerReport(
        name, kind, k, n, rows, "plain" if used is None else used.name, bound, seconds, share, least, tuple(tried)
    )


def _raced(
    rivals: Iterable[Way], layer: Layer, x: Tensor, given: Tensor, tol: float, tried: list[Attempt]
) -> list[tuple[Way, Comparison, Bound]]:
    """Those of the rivals that keep ``tol`` on the rows ``x``, the quickest first; ``tried`` is told of the others."""
    raced = []
    for way in rivals:
        error = error_bound(way, layer, x)
        if error.upper <= tol:
            raced.append((way, race(way, layer, given), error))
        else:
            tried.append(Attempt(way.name, f"error {error.upper:.2%} is above tol", _finite(error.upper)))
    return sorted(raced, key=lambda entry: entry[1].ratio)


def _ways(layer: Layer, learned: Tensor, tol: float, tried: list[Attempt]) -> Iterator[tuple[Way, ...]]:
    """The ways worth a try, cheapest first; ``tried`` is told why there are none."""
    weight = matrix(layer)
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().clone()
    if weight.dtype != torch.float32:
        tried.append(Attempt("all", f"the layer is {weight.dtype}; float32 is expected"))
    elif not len(learned):
        tried.append(Attempt("all", "it is given no rows"))
    elif not all(bool(numbers.isfinite().all()) for numbers in (learned, weight, bias)):
        tried.append(Attempt("all", "its numbers are not all finite"))
    else:
        try:
            yield from candidates(weight, bias, learned, tol)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            tried.append(Attempt("others", "the covariance of its inputs is not positive as it was rounded"))


def _learned(model: nn.Module, inputs: Inputs, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Rows that each layer is given, at most ``_LEARN``, evenly chosen."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    _watch(model, inputs, layers, lambda name, x: seen[name].append(_some(as_rows(layers[name], x), _LEARN)))
    return {name: _some(torch.cat(parts), _LEARN) for name, parts in seen.items()}


def _given(model: nn.Module, inputs: Inputs, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """What each layer is given at its first call."""
    seen: dict[str, Tensor] = {}

    def note(name: str, x: Tensor) -> None:
        if name not in seen:
            seen[name] = x.clone()

    _watch(model, inputs, layers, note)
    return seen


def _watch(model: nn.Module, inputs: Inputs, layers: Mapping[str, Layer], note: Callable[[str, Tensor], None]) -> None:
    def hook(name: str) -> Any:
        return lambda _layer, arguments, named: note(name, (*arguments, *named.values())[0].detach())

    hooks = [layer.register_forward_pre_hook(hook(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        call(model, inputs)
    finally:
        for handle in hooks:
            handle.remove()


def _some(x: Tensor, most: int) -> Tensor:
    """At most that many rows, evenly chosen."""
    return x[:: -(-len(x) // most)].contiguous() if len(x) > most else x


def _chosen(model: nn.Module, inputs: Inputs, layers: str | Iterable[str] | None) -> dict[str, Layer]:
    """The layers to look at, in the order in which the model calls them."""
    plain = {name: m for name, m in model.named_modules() if type(m) in (nn.Linear, nn.Conv2d) and not why_not(m)}
    wanted = _named(plain, layers)
    called = first_calls(model, inputs, {name: plain[name] for name in wanted})
    if not called:
        raise InvalidValueError("the model calls no nn.Linear and no nn.Conv2d of these on these inputs")
    return {name: plain[name] for name in called}


def _named(plain: Mapping[str, nn.Module], layers: str | Iterable[str] | None) -> list[str]:
    patterns = ["*"] if layers is None else [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if layers is not None and not fnmatch.filter(plain, pattern):
            there = ", ".join(plain) or "none"
            raise InvalidValueError(
                f"layers has {pattern!r}, which fits no layer that can be converted; there are {there}"
            )
    return [name for name in plain if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _checked_tol(tol: Any) -> float:
    if isinstance(tol, bool) or not isinstance(tol, int | float):
        raise InvalidDTypeError(f"tol is a {type(tol).__name__}; pass a number")
    if not (math.isfinite(tol) and tol > 0):
        raise InvalidValueError(f"tol is {tol}; use a finite number above 0, for instance 0.02")
    return float(tol)


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
