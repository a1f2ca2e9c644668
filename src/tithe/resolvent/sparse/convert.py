"""``sparsify`` and ``restore``: a model whose linear layers leave out what does not matter, and back."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tithe.calibration import Inputs, checked_inputs, evaluating, first_calls, halves, outputs, shift
from tithe.errors import InvalidDTypeError, InvalidStateError, InvalidValueError
from tithe.resolvent.sparse.calibration import given_to
from tithe.resolvent.sparse.importance import (
    FACTORS,
    Factor,
    checked_factors,
    column_weights,
    floors,
    scores,
    threshold,
)
from tithe.resolvent.sparse.layers import attach, detach, place_of, pruned, sparse_layers
from tithe.resolvent.sparse.report import LayerReport, SparsityReport
from tithe.resolvent.sparse.timing import race

__all__ = ["restore", "sparsify"]

_LEVELS = 64  # with tol, the share is one of 2^(−level/8): 1, 92 %, 84 % down to 0.4 %


def sparsify(
    model: nn.Module,
    inputs: Inputs,
    keep: float | None = None,
    tol: float | None = None,
    *,
    by: Sequence[Factor] = FACTORS,
    layers: str | Iterable[str] | None = None,
    metric: Callable[[nn.Module], float] | None = None,
) -> SparsityReport:
    """Let the linear layers of a model leave out the inputs that matter least, sample by sample, where that is faster.

    An input matters by its magnitude, times norm and coherence of its outgoing weights. The threshold is fixed here,
    so each sample may keep more or fewer inputs. Weights of what is left out are not read: that pays where reading
    weights is what takes the time, for one to some samples at once. Each layer is timed with and without, and stays
    plain where skipping is not faster. Layers are treated in the order of their calls, each on what the pruned ones
    before it give. Half of the samples choose the thresholds, the other half check them. Run the model in evaluation
    mode under ``torch.inference_mode()``: where a gradient is asked for, all is plain.

    The layers change in place; parameters and ``state_dict`` stay what they are. Each sparse layer holds its weights
    twice. Nothing is pruned in larger batches: measure accuracy under ``pruned(model)``, or give a ``metric``.

    Args:
        model: any module; its layers of exact type ``nn.Linear`` are considered.
        inputs: what the model is called with, 2 or more samples along the first axis, better hundreds: a tensor, a
            tuple of arguments or a mapping of keywords. They should look like what the model will see.
        keep: share in (0, 1] of its inputs that each layer keeps on the calibration samples, zeros counted; 1 leaves
            out zeros only, which is exact.
        tol: instead of ``keep``: how much pruning may cost, ≥ 0, over all layers. Without ``metric`` the relative
            error of the model's output, with one its fall. A layer gets of it the share that it has of the work,
            and what those before it left.
        by: factors of the importance; see ``column_weights``.
        layers: names as in ``model.named_modules()``, or patterns. ``None`` takes all, but of those that are given
            the model's own inputs only zeros are left out.
        metric: of the whole model, more is better, for instance accuracy on validation samples.

    Returns:
        A ``SparsityReport``. Raises ``InvalidValueError`` for ``keep``, ``tol``, ``by``, ``layers`` or ``inputs`` that
        cannot be used, ``InvalidDTypeError`` for other types, ``InvalidStateError`` for a model that is sparse already.
        O(layers) runs of the model, O(6 · layers) with ``tol``, and a second or so of timing for each large layer.
        Source: MISSION R5; Liu et al. 2024, arXiv:2408.14690 (thresholds of magnitudes).

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> report = sparsify(model, torch.rand(64, 8), keep=0.25)
    >>> report.layers[1].kept < 0.4, report.layers[0].error
    (True, 0.0)
    """
    asked = _asked(keep, tol)
    by = checked_factors(by)
    if sparse_layers(model):
        raise InvalidStateError("the model has sparse layers already; call restore(model) first")
    choosing, checking = halves(checked_inputs(inputs))
    with evaluating(model):
        chosen = _chosen(model, choosing, layers)
        plain, plain_check = outputs(model, choosing), outputs(model, checking)
        best = metric(model) if metric is not None else 0.0

        def loss() -> float:
            with pruned(model):
                if metric is not None:
                    return best - metric(model)
                return float((outputs(model, choosing) - plain).norm() / plain.norm())

        work, total = 0, sum(layer.weight.numel() for layer, exact in chosen.values() if not exact)
        reports = []
        try:
            for name, (layer, exact) in chosen.items():
                work += 0 if exact else layer.weight.numel()
                allowed = 0.0 if tol is None else tol * work / max(total, 1)
                reports.append(
                    _convert(
                        name, layer, model, (choosing, checking), by, 1.0 if exact else keep,
                        loss, allowed,
                    )
                )  # fmt: skip
            with pruned(model):
                bound = shift(plain_check, outputs(model, checking))
            lost = None if metric is None else loss()
        except BaseException:
            restore(model)
            raise
    return SparsityReport(asked, by, place_of(next(iter(chosen.values()))[0].weight), tuple(reports), bound, lost)


def restore(model: nn.Module) -> nn.Module:
    """Turn the sparse layers of a model back into plain ones, with the very parameters that they have; returns it.

    A model without sparse layers stays as it is. O(modules).

    >>> restore(nn.Sequential(nn.Linear(1, 1)))
    Sequential(
      (0): Linear(in_features=1, out_features=1, bias=True)
    )
    """
    for layer in sparse_layers(model).values():
        detach(layer)
    return model


def _convert(
    name: str, layer: nn.Linear, model: nn.Module, samples: tuple[Inputs, Inputs],
    by: Sequence[Factor], keep: float | None, loss: Callable[[], float], allowed: float,
) -> LayerReport:  # fmt: skip
    """Choose the threshold of one layer on the first half of the samples; on the other, time it and look at it."""
    weights = column_weights(layer.weight, by)
    ordered = scores(given_to(layer, model, samples[0]), weights, by).flatten().sort().values
    sparse = attach(layer, floors(weights, 0.0, by))

    def use(share: float) -> float:
        least = threshold(ordered, share)
        sparse.floors.copy_(floors(weights, least, by))
        return least

    def good(share: float) -> bool:
        use(share)
        return loss() <= allowed

    least = use(_smallest(good) if keep is None else keep)
    x = given_to(layer, model, samples[1])
    races = race(sparse, x)
    rows, masked = sparse.pruning.rows, sparse.masked(x)
    if not rows:
        detach(sparse)
    return LayerReport(
        name, layer.in_features, layer.out_features, zeros=_share(x == 0), kept=_share(masked != 0),
        threshold=least, error=_error(layer, x, masked) if rows else 0.0, races=races, rows=rows,
    )  # fmt: skip


def _smallest(good: Callable[[float], bool]) -> float:
    """The smallest share that is found good, by bisection; 1 is good (it leaves out zeros only)."""
    known, bad = 0, _LEVELS + 1
    while bad - known > 1:
        level = (known + bad) // 2
        if good(2 ** (-level / 8)):
            known = level
        else:
            bad = level
    return float(2 ** (-known / 8))


def _error(layer: nn.Linear, x: Tensor, masked: Tensor) -> float:
    """Relative Frobenius error of what the layer puts out."""
    plain = nn.Linear.forward(layer, x)
    size = float(plain.norm())
    return float((nn.Linear.forward(layer, masked) - plain).norm()) / size if size > 0 else 0.0


def _share(which: Tensor) -> float:
    return float(which.float().mean())


def _chosen(model: nn.Module, inputs: Inputs, layers: str | Iterable[str] | None) -> dict[str, tuple[nn.Linear, bool]]:
    """The layers to convert in the order of their calls, and whether only zeros may be left out."""
    plain = {name: m for name, m in model.named_modules() if type(m) is nn.Linear and m.weight.numel()}
    wanted = _named(plain, layers)
    calls = first_calls(model, inputs, {name: plain[name] for name in wanted})
    if layers is not None and (unused := [name for name in wanted if name not in calls]):
        raise InvalidValueError(
            f"the model does not call {', '.join(unused)} on these inputs; leave them out of layers"
        )
    if not calls:
        raise InvalidValueError("the model calls no nn.Linear on these inputs; there is nothing to make sparse")
    return {name: (plain[name], layers is None and from_outside) for name, from_outside in calls.items()}


def _named(plain: Mapping[str, nn.Linear], layers: str | Iterable[str] | None) -> list[str]:
    if layers is None:
        return list(plain)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in plain):
            raise InvalidValueError(
                f"layers has {pattern!r}, which fits no nn.Linear; there are {', '.join(plain) or 'none'}"
            )
    return [name for name in plain if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _asked(keep: Any, tol: Any) -> str:
    """What was asked for, in words, if it is one thing and can be done."""
    if (keep is None) == (tol is None):
        raise InvalidValueError("give one of keep, the share of inputs to keep, and tol, what pruning may cost")
    name, value = ("keep", keep) if tol is None else ("tol", tol)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidDTypeError(f"{name} is a {type(value).__name__}; pass a number")
    if tol is None and not 0 < keep <= 1:
        raise InvalidValueError(f"keep is {keep}; use a share above 0, at most 1, for instance 0.2")
    if keep is None and not (math.isfinite(tol) and tol >= 0):
        raise InvalidValueError(f"tol is {tol}; use a finite number of at least 0, for instance 0.005")
    return f"{name}={value}"
