"""Ways to make a network's linear layers cheaper: ours, torch's dynamic int8, and torchao's, compiled."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import io
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from tithe.calibration import Inputs
from tithe.meter import Comparison, paired
from tithe.product.conversion import convert

__all__ = ["CHANNEL", "CONVERTED", "TENSOR", "TORCHAO", "Way", "compare", "ways"]

CONVERTED, TENSOR, CHANNEL, TORCHAO = "converted", "per tensor", "per channel", "torchao"  # kinds of ways
Call = Callable[[nn.Module], object]


class Way(NamedTuple):
    """What it is called, which kind it is, and how it makes a copy of a model that is cheaper."""

    name: str
    kind: str
    make: Callable[[nn.Module], nn.Module]


def ways(model: nn.Module, inputs: Inputs, tol: float, call: Call) -> list[Way]:
    """Ours by ``tol`` on ``inputs``; dynamic int8 by the engine whose ``call`` is the quickest; torchao if it is here.

    O(engines) copies of the model and calls.
    """
    found = [Way(f"convert, tol {tol:g}", CONVERTED, partial(_converted, inputs=inputs, tol=tol))]
    for granularity in (TENSOR, CHANNEL):
        seconds: dict[str, float] = {}
        for engine in _engines():
            try:
                seconds[engine] = _least_seconds(partial(call, _dynamic(model, granularity, engine)))
            except RuntimeError:  # an engine that is listed need not know every granularity
                continue
        if seconds:
            engine = min(seconds, key=lambda name: seconds[name])
            make = partial(_dynamic, granularity=granularity, engine=engine)
            found.append(Way(f"quantize_dynamic {granularity}, {engine}", granularity, make))
    if importlib.util.find_spec("torchao") is not None:
        found.append(Way("torchao int8, compiled", TORCHAO, _torchao))
    return found


def compare(way: Way, made: nn.Module, model: nn.Module, call: Call, pairs: int) -> Comparison:
    """The time of ``call`` on what a way has made over that on the model, the two in turn.

    torchao's is compiled here, which changes results in the last bits only, and gets three pairs with an interval of
    75 %: without int8 units it takes more than ten times as long as the model.
    """
    if way.kind == TORCHAO:
        compiled: Any = torch.compile(made)
        return paired(partial(call, compiled), partial(call, model), 3, warmup=1, confidence=0.75)
    return paired(partial(call, made), partial(call, model), pairs)


def _converted(model: nn.Module, inputs: Inputs, tol: float) -> nn.Module:
    made = copy.deepcopy(model)
    with contextlib.redirect_stderr(io.StringIO()):  # its bar has no place within that of an audit
        convert(made, inputs, tol)
    return made


def _engines() -> list[str]:
    engines: list[str] = torch.backends.quantized.supported_engines
    return [name for name in engines if name not in ("none", "qnnpack" if "fbgemm" in engines else "")]  # for phones


def _dynamic(model: nn.Module, granularity: str, engine: str) -> nn.Module:
    """By ``quantize_dynamic`` with one scale for each weight, or one for each of its rows."""
    from torch.ao import quantization

    scheme: Any = quantization.default_dynamic_qconfig
    if granularity == CHANNEL:
        scheme = quantization.per_channel_dynamic_qconfig
    quantise: Any = quantization.quantize_dynamic
    backend: Any = torch.backends.quantized
    before = backend.engine
    try:
        backend.engine = engine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it will move to torchao
            made: nn.Module = quantise(copy.deepcopy(model), {nn.Linear: scheme})
    finally:
        backend.engine = before
    return made


def _torchao(model: nn.Module) -> nn.Module:
    """Weights in int8 with a scale a row, activations in int8 with a scale a row, found as they come."""
    quantization: Any = importlib.import_module("torchao.quantization")
    made = copy.deepcopy(model)
    quantization.quantize_(made, quantization.Int8DynamicActivationInt8WeightConfig())
    return made


def _least_seconds(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
