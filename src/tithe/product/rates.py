"""How fast this machine does each elementary step: measured once, kept in a file, used to predict costs.

A rate is seconds per unit of work, at a few sizes. The file is named after the machine, the number of threads and the
device, carries a version, and is replaced as a whole; one that cannot be read, or that was measured while the machine
was busy with something else, is measured again.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from tithe import machine
from tithe.files import write_atomically
from tithe.product.estimators import KINDS, Work
from tithe.product.kernels import floats, integers, passes, signs
from tithe.product.pair import Pair

__all__ = ["Rates", "rates"]

_VERSION = 9
_SMALL = 128
_SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (512, 1024, 2048, 4096, 8192)}
# From the most accurate kind to the least, on data that fit all of them.
_ACCURACY = ("float32", "tf32", "float16", "bfloat16", "int8", "int7", "float8", "int6", "sign")
_BUSY = 0.6  # processes waiting for each core
_TOO_LONG = 0.5  # s
_MOMENT = 0.05  # s
_measuring = threading.Lock()
_log = logging.getLogger("tithe")


@dataclass(frozen=True, eq=False)
class Rates:
    """Seconds per unit of work, by step and size (edge of a cube); see ``seconds``."""

    table: dict[str, dict[int, float]]
    launch: float = 30e-6  # s, fixed cost of a step: a few Python calls and kernel launches

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of reduced products worth having here: clearly faster than every more accurate one when large."""
        found: list[str] = []
        for kind in sorted(KINDS, key=_ACCURACY.index):
            if points := self.table.get(f"gemm.{kind}"):
                n = max(points)
                rivals = (self.table[f"gemm.{other}"].get(n, math.inf) for other in found)
                if points[n] < 0.9 * min(rivals, default=math.inf):
                    found.append(kind)
        return tuple(found)

    @cached_property
    def fastest_kind(self) -> str:
        """The kind of reduced product that is the fastest at the largest size it was timed at; float32 at worst."""
        return min(self.kinds, key=lambda kind: list(self.table[f"gemm.{kind}"].values())[-1], default="float32")

    @property
    def planning(self) -> float:
        """Seconds that a plan takes beside the work that grows with the operands."""
        return self.table.get("plan", {}).get(_SMALL, 0.0)

    def seconds(self, work: Work, cube: float) -> float:
        """Predicted seconds for ``work`` on operands with ``cube`` = mkn; infinite if a step cannot be done here."""
        size = cube ** (1 / 3)
        return sum(self.launch + amount * self._rate(step, size) for step, amount in work.items())

    def _rate(self, step: str, size: float) -> float:
        known = self._interpolated.get((step, size))
        if known is None:
            known = self._interpolated[step, size] = self._interpolate(step.removesuffix(" result"), size)
        return known

    def plain_seconds(self, dtype: torch.dtype, cube: float) -> float:
        """Predicted seconds of the plain product of operands of ``dtype`` with ``cube`` = mkn."""
        known = self._plain.get((dtype, cube))
        if known is None:
            known = self._plain[dtype, cube] = self.seconds({f"gemm.{str(dtype).removeprefix('torch.')}": cube}, cube)
        return known

    @cached_property
    def _plain(self) -> dict[tuple[torch.dtype, float], float]:
        return {}

    @cached_property
    def _interpolated(self) -> dict[tuple[str, float], float]:
        return {}

    def _interpolate(self, step: str, size: float) -> float:
        points = self.table.get(step)
        if not points:
            return math.inf
        sizes = sorted(points)
        i = bisect.bisect(sizes, size)
        if i == 0 or i == len(sizes):
            return points[sizes[max(i - 1, 0)]]
        low, high = sizes[i - 1], sizes[i]
        t = math.log(size / low) / math.log(high / low)
        return math.exp((1 - t) * math.log(points[low]) + t * math.log(points[high]))


def rates(device: torch.device) -> Rates:
    """The rates of this machine for ``device``: from memory, from the file, or measured now (1–3 s, once).

    Devices other than CPU and CUDA have none, so the planner takes the plain product there.
    """
    if device.type not in _SIZES:
        return Rates({})
    return _rates(device.type, device.index or 0, torch.get_num_threads())


@functools.lru_cache(maxsize=16)
def _rates(kind: str, index: int, threads: int) -> Rates:
    device = torch.device(kind, index) if kind == "cuda" else torch.device(kind)
    path = _path(device)
    with _measuring:  # of two threads that ask at once, one waits for the other's file
        load = _load()
        stored = _read(path)
        if stored is not None and (stored[1] <= _BUSY or load > _BUSY):
            return Rates(stored[0])
        _log.info("measuring what products cost on this machine, once; kept in %s", path)
        table = measure(device)
        try:
            write_atomically(path, json.dumps({"version": _VERSION, "load": load, "rates": table}))
        except OSError as error:
            _log.warning("the measured rates could not be kept (%s); the next process measures them again", error)
        return Rates(table)


def _load() -> float:
    """Processes that wait for each core; 0 where the system does not say."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def _read(path: Path) -> tuple[dict[str, dict[int, float]], float] | None:
    """Rates and the load they were measured under; nothing where the file is absent, broken or of another version."""
    try:
        stored = json.loads(path.read_text())
        table = {step: {int(n): float(s) for n, s in points.items()} for step, points in stored["rates"].items()}
        return (table, float(stored["load"])) if stored["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _path(device: torch.device) -> Path:
    key = json.dumps([_VERSION, machine.describe(gpu=device.type == "cuda"), str(device)], sort_keys=True)
    name = f"rates-{device.type}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    return Path(platformdirs.user_cache_dir("tithe")) / name


def measure(device: torch.device) -> dict[str, dict[int, float]]:
    """Time every elementary step on random operands, in seconds per unit of work, by step and size.

    Products of a kind without units here take minutes: a size at which one would exceed half a second is left out.
    """
    table: dict[str, dict[int, float]] = {}
    generator = torch.Generator(device).manual_seed(0)
    for n in _SIZES[device.type]:
        A, B = (torch.rand(n, n, dtype=torch.float32, device=device, generator=generator) for _ in range(2))
        for step, (run, amount) in _steps(A, B).items():
            known = table.setdefault(step, {})
            slow = bool(known) and list(known.values())[-1] * amount > _TOO_LONG
            if not slow or step == "gemm.float32":
                known[n] = _time(run, device) / amount
    return table | {"plan": {_SMALL: _plan(device, Rates(table))}}


def _plan(device: torch.device, known: Rates) -> float:
    """Seconds that choosing, probing and certifying take on operands too small for their size to matter."""
    from tithe.product.planner import rehearse  # the planner knows rates, and rates time the planner

    generator = torch.Generator(device).manual_seed(0)
    A, B = (torch.rand(_SMALL, _SMALL, dtype=torch.float32, device=device, generator=generator) for _ in range(2))
    return _time(lambda: rehearse(Pair(A, B), known), device)


def _time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few calls, as many as fit into a moment: what the machine can do when left alone.

    On one thread of a CPU the time that other processes have taken is left out.
    """
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    run()
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < _MOMENT and len(taken) < 15):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(clock() - start)
    return min(taken)


def _steps(A: Tensor, B: Tensor) -> dict[str, tuple[Callable[[], object], float]]:
    """Each elementary step on square operands of one size, and how much of it one call does."""
    n, generator = A.shape[0], torch.Generator(A.device).manual_seed(0)
    area, cube = float(n * n), float(n) ** 3
    u, ones = A[0].clone(), torch.ones(n, dtype=torch.float32, device=A.device)
    probes, index = A[:, :16].contiguous(), torch.arange(0, n, 2, device=A.device)
    few = min(n, 64)
    total = torch.zeros(n, n, dtype=torch.int32, device=A.device)
    double, half, brain = ((A.to(d), B.to(d)) for d in (torch.float64, torch.float16, torch.bfloat16))
    steps: dict[str, tuple[Callable[[], object], float]] = {
        "gemm.float32": (lambda: A @ B, cube),
        "gemm.float64": (lambda: double[0] @ double[1], cube),
        "gemm.float16": (lambda: half[0] @ half[1], cube),
        "gemm.bfloat16": (lambda: brain[0] @ brain[1], cube),
        **{f"gemm.{kind}": (_integer_product(A, integers.LEVELS[kind]), cube) for kind in integers.worth_having()},
        **{
            f"gemm.thin.{str(X.dtype).removeprefix('torch.')}": (_thin_products(X, Y, few), 3 * area * few)
            for X, Y in ((A, B), double)
        },
        "gemm.factor": (lambda: torch.linalg.qr(A[:, :few]), 2.0 * n * few**2),
        "random": (lambda: torch.randn(n, few, generator=generator, device=A.device), float(n * few)),
        "mean": (lambda: A.mean(0), area),
        "reach": (lambda: (A.amin(1), A.amax(1)), area),
        "round": (lambda: (passes.round_lines(A, u, 31), passes.round_lines(A.T, u, 31)), 2 * area),
        "rescale": (lambda: passes.rescale(total, u, u, (u, u)), area),
        "outer": (lambda: torch.outer(u, u), area),
        "rank one": (lambda: A.addr_(u, u, alpha=1e-9), area),
        "weights": (lambda: (A * A).sum(0), area),
        "gather": (lambda: A.index_select(1, index), area / 2),
        "cast": (lambda: A.bfloat16(), area),
        "gemm.probe": (lambda: A @ probes, area * 16),
        "norm": (lambda: torch.linalg.vector_norm(A, dim=1), area),
    }
    if A.is_cpu and signs.available():
        left, right = (signs.pack(X, u) for X in (A, A.T))
        steps["gemm.sign"] = (lambda: signs.product(*left, *right, n), cube)
        steps["pack"] = (lambda: (signs.pack(A, u), signs.pack(A.T, u)), 2 * area)
    if A.is_cuda:
        steps["gemm.tf32"] = (lambda: floats.tf32(Pair(A, B)), cube)
        if torch.cuda.get_device_capability(A.device) >= (8, 9):
            tiny = (A.to(torch.float8_e4m3fn), B.to(torch.float8_e4m3fn))
            steps["gemm.float8"] = (lambda: floats.float8_sums(*tiny, ones, ones), cube)
    return steps


def _thin_products(A: Tensor, B: Tensor, few: int) -> Callable[[], object]:
    """A few rows by all columns, all rows by a few columns, and a product of those: memory, too, has its share."""
    tall, flat = A[:, :few].contiguous(), B[:few].contiguous()
    return lambda: (flat @ A, B @ tall, tall @ flat)


def _integer_product(A: Tensor, level: int) -> Callable[[], object]:
    """A product of int8 operands with entries up to ``level``: kernels may use how small they are."""
    left = (A * (2 * level + 1)).floor_().sub_(level).clamp_(-level, level).to(torch.int8)
    ones = torch.ones(A.shape[0], dtype=torch.float32, device=A.device)
    return lambda: integers.scaled_sums(left, left, ones, ones)
