"""The measurement of M6: chains, what products make of their configurations' energies, and what each way takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from tithe.audit.claim import Run
from tithe.audit.claims._m6_liquid import (
    CUT,
    DENSITY,
    TEMPERATURE,
    Chain,
    Positions,
    pair_sum,
    run_chain,
    side_of,
    standard_error,
    try_moves,
)
from tithe.audit.claims._m6_products import along_curve, energy_of_square, energy_of_waves, sixth_powers, waves
from tithe.audit.claims._m6_tables import PAIR_WORK, errors_table, liquid_table, ratio_plot, times_table
from tithe.audit.claims.m6_monte_carlo import CLAIMED
from tithe.audit.evidence import Evidence, Row
from tithe.audit.statistics import interval
from tithe.meter import paired
from tithe.parallel import threads
from tithe.product.estimators import Estimator, flops, from_name
from tithe.product.pair import Pair

__all__ = ["measure"]

# Half of the multiply–adds and a fifth; a few less where a pass over the operands comes on top.
_METHODS = {
    "fourier(0.5)": "fourier", "fourier(0.2)": "fourier", "centred(fourier(0.48))": "fourier",
    "truncated(0.48)": "product", "centred(truncated(0.48))": "product", "low_rank(0.5)": "product",
    "anchored(0.5)": "product", "trajectory(0.48)": "product", "sketched(0.48)": "product",
    "sampled(0.48)": "weights", "sampled(0.18)": "weights", "int8": "reduced", "exact": "exact",
}  # fmt: skip
_TIMED = ("fourier(0.5)", "sampled(0.18)", "int8")
_LEAST = 1e-12  # stands for less, so that ratios have a logarithm


class _Method(NamedTuple):
    over: str  # particles or waves
    name: str
    role: str
    share: float


class _Errors(NamedTuple):
    """What a method makes of the energies per particle of one chain's configurations, less what they are."""

    errors: NDArray[np.float64]
    matrix: float | None  # relative Frobenius error of the last product


def measure(run: Run) -> Evidence:
    """On the CPU and by one thread: matrices this small keep no more of them busy."""
    with threads(1), threadpool_limits(1, user_api="blas"):
        return _measure(replace(run, device="cpu"))


def _measure(run: Run) -> Evidence:
    """Every number of particles in turn, the same chains for every product."""
    sizes = run.pick(quick=(128, 256), full=tuple(CLAIMED))
    sweeps, kept, looked_at = run.pick(quick=(500, 80, 8), full=(1000, 400, 20))
    notes = [
        "The source does not say what is multiplied. Measured are W·W with W the matrix of r⁻⁶, whose trace is the "
        "repulsive half of the energy, particles along a space-filling curve; and the matrix of pair energies from "
        "the waves that fit into the box.",
        f"Metropolis moves of single particles at T = {TEMPERATURE:g} and density {DENSITY:g} in reduced units, cut "
        f"off at {CUT:g} with tail correction; {sweeps:,} sweeps to equilibrate, then {kept} configurations 10 sweeps "
        f"apart, of which {looked_at} are multiplied.",
    ]
    liquid: list[Row] = []
    errors: list[Row] = []
    slowest = 0.0
    wanted = run.seeds(run.pick(quick=5, full=10))
    for index, n in enumerate(sizes):
        chains: list[Chain] = []
        found: dict[_Method, list[_Errors]] = {}
        for turn, seed in enumerate(wanted):
            if turn >= 3 and run.left() < 1.5 * slowest + 1:
                notes.append(f"{turn} of {len(wanted)} chains at N = {n}, for want of time.")
                break
            before = run.left()
            run.progress((index + turn / len(wanted)) / (len(sizes) + 0.5), f"N = {n}, chain {turn + 1}")
            chains.append(run_chain(n, sweeps, kept, 10, run.generator("chain", n, seed)))
            for method, one in _looks(run, chains[-1], kept // looked_at, seed):
                found.setdefault(method, []).append(one)
            slowest = max(slowest, before - run.left()) if math.isfinite(before) else 0.0
        liquid.append(_liquid_row(n, chains))
        errors.extend(_error_row(n, method, some, chains) for method, some in found.items())
    run.progress(0.9, "times")
    tables = {
        "liquid": liquid_table(liquid),
        "errors": errors_table(errors),
        "times": times_table(_times(run, sizes[-1])),
    }
    return Evidence(tables, (ratio_plot(errors),), {"drift": _drift(chains[-1])}, notes)


def _looks(run: Run, chain: Chain, step: int, seed: int) -> Iterator[tuple[_Method, _Errors]]:
    """Every method on some of a chain's configurations."""
    n = chain.configurations[0].shape[1]
    chosen = range(step - 1, len(chain.configurations), step)
    truth = chain.energies[list(chosen)]
    ordered = [along_curve(chain.configurations[i]) for i in chosen]
    operands = [sixth_powers(positions) for positions in ordered]
    exact = operands[-1] @ operands[-1]
    for name, role in _METHODS.items():
        estimator, draw = from_name(name), run.generator(name, n, seed)
        products = [_multiplied(estimator, W, draw) for W in operands]
        energies = [energy_of_square(C, W) for C, W in zip(products, operands, strict=True)]
        matrix = float(torch.linalg.vector_norm(products[-1] - exact) / torch.linalg.vector_norm(exact))
        yield _Method("particles", name, role, _share(estimator, n)), _Errors(np.array(energies) - truth, matrix)
    for share in run.pick(quick=(0.2, 0.5, 1.0, 10.0), full=(0.2, 0.5, 1.0, 10.0, 100.0)):
        energies = [_by_waves(positions, int(share * n)) for positions in (ordered if share <= 1 else ordered[::4])]
        some = truth if share <= 1 else truth[::4]
        yield _Method("waves", f"{share:g}·N slices", "fourier", share), _Errors(np.array(energies) - some, None)


def _multiplied(estimator: Estimator, W: Tensor, draw: torch.Generator) -> Tensor:
    return estimator.multiply(Pair(W, W), generator=draw).tensor(W.dtype)


def _share(estimator: Estimator, n: int) -> float:
    return flops(estimator.work(n, n, n, torch.float32)) / (2.0 * n**3)


def _by_waves(positions: Positions, count: int) -> float:
    A, B = waves(positions, count)
    return energy_of_waves(A @ B)


def _liquid_row(n: int, chains: list[Chain]) -> Row:
    energy = interval([float(chain.energies.mean()) for chain in chains])
    return {
        "n": n, "energy": energy.mean, "low": energy.low, "high": energy.high,
        "one": float(np.mean([chain.energies.std(ddof=1) for chain in chains])),
        "run": float(np.mean([standard_error(chain.energies) for chain in chains])),
        "kept": len(chains[0].energies), "accepted": float(np.mean([chain.accepted for chain in chains])),
        "chains": len(chains),
    }  # fmt: skip


def _error_row(n: int, method: _Method, found: list[_Errors], chains: list[Chain]) -> Row:
    """Errors of the energy per particle over chains, and how often the noise is as large: geometric means."""
    pairs = [(some.errors, chain.energies) for some, chain in zip(found, chains, strict=True)]
    bias = interval([float(errors.mean()) for errors, _ in pairs])
    squares = [float(np.square(errors).mean()) for errors, _ in pairs]
    one = _ratio([e.std(ddof=1) / max(math.sqrt(s), _LEAST) for (_, e), s in zip(pairs, squares, strict=True)])
    whole = _ratio([standard_error(e) / max(abs(float(errors.mean())), _LEAST) for errors, e in pairs])
    corrected = _ratio([e.std(ddof=1) / max(float(errors.std(ddof=1)), _LEAST) for errors, e in pairs])
    spread = float(np.mean([errors.std(ddof=1) for errors, _ in pairs])) * n / TEMPERATURE
    return {
        "n": n, "over": method.over, "method": method.name, "role": method.role, "share": method.share,
        "matrix": found[-1].matrix, "bias": bias.mean, "bias_low": bias.low, "bias_high": bias.high,
        "rms": math.sqrt(sum(squares) / len(squares)), "one": one[0], "one_low": one[1], "one_high": one[2],
        "run": whole[0], "run_low": whole[1], "run_high": whole[2], "corrected": corrected[0], "spread": spread,
    }  # fmt: skip


def _ratio(values: list[float]) -> tuple[float, float | None, float | None]:
    mean, low, high = interval([math.log(value) for value in values])
    return math.exp(mean), None if low is None else math.exp(low), None if high is None else math.exp(high)


def _drift(chain: Chain) -> float:
    """How far the energy kept up by the differences of all moves strays from the sum over pairs, per particle."""
    positions = chain.configurations
    n = positions[0].shape[1]
    summed = [pair_sum(positions[i], side_of(n)) / n for i in (0, -1)]
    return float(abs(chain.energies[-1] - chain.energies[0] - summed[1] + summed[0]))


def _times(run: Run, n: int) -> list[Row]:
    """Seconds of each way beside the plain product of two N × N matrices, and its multiply–adds."""
    chain = run_chain(n, 20, 1, 1, run.generator("times", n))
    positions, side = chain.configurations[0], side_of(n)
    W, moved = sixth_powers(positions), positions.copy()
    draw, rng = run.generator("draw", n), np.random.default_rng(run.generator("moves", n).initial_seed())
    ways: dict[str, tuple[Callable[[], object], float]] = {}
    for name in _TIMED:
        estimator = from_name(name)
        ways[name] = partial(_multiplied, estimator, W, draw), _share(estimator, n)
    ways["making W"] = lambda: sixth_powers(positions), PAIR_WORK / n
    ways["sum over pairs"] = lambda: pair_sum(positions, side), PAIR_WORK / (2 * n)
    ways["one move's difference"] = lambda: try_moves(moved, side, 1, rng), 2 * PAIR_WORK / n**2
    ways[f"a sweep of {n} moves"] = lambda: try_moves(moved, side, n, rng), 2 * PAIR_WORK / n
    rows: list[Row] = []
    for name, (way, share) in ways.items():
        timing = paired(way, lambda: W @ W, repeats=run.pick(quick=9, full=41), warmup=2)
        rows.append({"n": n, "way": name, "share": share, "time": timing.ratio, "time_low": timing.low,
                     "time_high": timing.high})  # fmt: skip
    return rows
