"""The measurement of M7: states after products of unitaries, by method and depth; what an error does to a state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from tithe.audit.claim import Run
from tithe.audit.claims._m7_circuits import apply_gate, cross_entropy, embedded, fidelities, gate_share, haar
from tithe.audit.claims.m7_quantum import DEPTH_ERRORS
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Row, Series, Table
from tithe.audit.statistics import interval
from tithe.meter import paired
from tithe.product.complex_products import karatsuba, real_pairs, real_parts
from tithe.product.estimators import Approximation, Estimator, Reduced, Sampled, Truncated, flops
from tithe.product.pair import Pair, RankOne

__all__ = ["measure"]

_DEPTHS = tuple(DEPTH_ERRORS)
_RATIOS = (0.5, 0.3, 0.2)
_HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_KINDS = (*_HALVES, "int8")
_ERRORS = (0.1, 0.3, 0.5, 0.8, 1.1, 1.2, 2.0)  # relative, isotropic
_GATE, _STATE = "two-qubit gates by reshaping", "matrices applied to the state"
_QUBITS_OF_A_GATE = 2
_GROWTH, _RESERVE = 2, 1.0  # of the time with each qubit; seconds kept for the timing


def measure(run: Run) -> Evidence:
    """Every number of qubits in turn; in quick mode with fewer unitaries and a block of the matrix."""
    sizes = run.pick(quick=(8, 9, 10), full=(10, 11, 12))
    pool, columns = run.pick(quick=(3, 64), full=(6, 1024))
    states: list[Row] = []
    notes = [
        f"{pool} Haar-random unitaries are drawn for each number of qubits; the gates of a circuit are these in turn, "
        "each with fresh random phases on its rows, which leaves them Haar-random.",
        f"{columns:,} columns stand for a larger matrix: errors, fidelities and XEB are over the states that they "
        "are. All methods treat columns alike.",
    ]
    if run.device == "cpu":
        notes.append("Half precision: float32 products of rounded operands, rounded again, as units for it multiply.")
    isotropy: list[Row] = []
    before, cost = run.left(), 0.0
    for index, qubits in enumerate(sizes):
        if run.left() < _GROWTH * cost + _RESERVE:
            notes.append(f"Left out for want of time: {', '.join(map(str, sizes[index:]))} qubits.")
            break
        run.progress(index / (len(sizes) + 1), f"{qubits} qubits")
        drawn = [haar(2**qubits, run.generator("haar", qubits, i)) for i in range(pool)]
        states.extend(_dense(run, qubits, drawn, columns))
        states.extend(_gates(run, qubits, columns))
        isotropy = list(_isotropy(run, drawn[0][:, :columns]))
        before, cost = run.left(), before - run.left()
    run.progress(0.9, "times")
    times = _times(run, run.pick(quick=9, full=10))
    tables = {
        "states": _states_table(states),
        "isotropy": _isotropy_table(isotropy),
        "times": _times_table(times),
    }
    return Evidence(tables, (_plot(states, isotropy),), {}, notes)


class _Rounded(Reduced):
    """Half precision as units for it multiply, by float32 products: CPUs without them take ten times as long."""

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        kind = _HALVES[self.kind]
        return Approximation((pair.left.to(kind).float() @ pair.right.to(kind).float()).to(kind))


def _methods(device: str) -> Iterator[tuple[str, str, Estimator]]:
    """What the receipt calls it, its role, and how each of three real products is made within that share of four."""
    for kind in _KINDS:
        emulated = kind in _HALVES and device == "cpu"
        yield kind, "reduced", _Rounded(kind) if emulated else Reduced(kind)
    for ratio in _RATIOS:
        share = 4 / 3 * ratio
        yield f"truncated at {ratio:g}", "product", Truncated(share)
        yield f"sampled at {ratio:g}", "product", Sampled(share)


def _dense(run: Run, qubits: int, drawn: list[Tensor], columns: int) -> Iterator[Row]:
    """Depths in turn, each method going on from its own product of the depth before."""
    n = 2**qubits
    columns = min(columns, n)
    draw = run.generator("phases", qubits)
    truth = drawn[-1][:, :columns].to(torch.complex128)
    plain = truth.to(torch.complex64)
    methods = [(label, role, estimator, _share(estimator, n)) for label, role, estimator in _methods(run.device)]
    found = {label: plain for label, *_ in methods}
    source = {label: run.generator(label, qubits) for label in found}
    for depth in range(1, max(_DEPTHS) + 1):
        phases = torch.rand(n, 1, generator=draw, device=draw.device) * (2 * math.pi)
        U = drawn[depth % len(drawn)] * torch.polar(torch.ones_like(phases), phases)
        plain = U @ plain
        truth = _in_double(U, truth)
        parts = real_parts(U)
        for label, _, estimator, _ in methods:
            P, Q, S = map(Pair, parts, real_parts(found[label]))
            found[label] = karatsuba((P, Q, S), (estimator,) * 3, source[label])
        if depth in _DEPTHS:
            yield _row(qubits, depth, "complex64", "exact", 1.0, plain, truth)
            yield _row(qubits, depth, _STATE, "structured", 1 / n, plain[:, :1], truth[:, :1])
            for label, role, _, share in methods:
                yield _row(qubits, depth, label, role, share, found[label], truth)


def _in_double(U: Tensor, states: Tensor) -> Tensor:
    """A product in complex128, row by row of blocks: U is not kept in it."""
    return torch.cat([part.to(torch.complex128) @ states for part in torch.split(U, 512)])


def _share(estimator: Estimator, n: int) -> float:
    return 3 * flops(estimator.work(n, n, n, torch.float32)) / (8.0 * n**3)


def _row(qubits: int, depth: int, method: str, role: str, share: float, states: Tensor, truth: Tensor) -> Row:
    kept = interval(fidelities(states, truth).tolist())
    xeb = cross_entropy(states, truth)
    error = float(torch.linalg.vector_norm(states - truth) / torch.linalg.vector_norm(truth))
    return {
        "qubits": qubits, "depth": depth, "method": method, "role": role, "share": share, "error": error,
        "fidelity": kept.mean, "low": kept.low, "high": kept.high, "isotropic": 1 / (1 + error**2),
        "xeb": float(xeb.mean()), "xeb_one": float(xeb[0]), "states": len(xeb),
    }  # fmt: skip


def _gates(run: Run, qubits: int, columns: int) -> Iterator[Row]:
    """Two-qubit gates by reshaping, beside the products of the matrices that they are."""
    generator = run.generator("gates", qubits)
    truth = torch.eye(2**qubits, dtype=torch.complex128, device=run.device)[:, : min(columns, 2**qubits) // 8]
    states = truth.to(torch.complex64)
    for _ in range(max(_DEPTHS)):
        first = int(torch.randint(qubits - 1, (), generator=generator, device=generator.device))
        gate = haar(2**_QUBITS_OF_A_GATE, generator)
        states = apply_gate(states, gate, first)
        truth = _in_double(embedded(gate, first, qubits), truth)
    share = gate_share(_QUBITS_OF_A_GATE, qubits)
    yield {**_row(qubits, max(_DEPTHS), _GATE, "structured", share, states, truth), "xeb": None}  # no random states yet


def _isotropy(run: Run, truth: Tensor) -> Iterator[Row]:
    """What errors of a given size do to a state: spread over all entries, and along the unitary itself."""
    noise = torch.randn(truth.shape, dtype=truth.dtype, generator=run.generator("noise"), device=run.device)
    noise *= torch.linalg.vector_norm(truth) / torch.linalg.vector_norm(noise)
    for error in _ERRORS:
        kept = interval(fidelities(truth + error * noise, truth).tolist())
        yield {"kind": "isotropic", "error": error, "fidelity": kept.mean, "low": kept.low, "high": kept.high,
               "theory": 1 / (1 + error**2)}  # fmt: skip
    for error, factor in ((1.2, 1 + 1.2j), (1.2, 2.2), (2.0, -1.0)):
        kept = interval(fidelities(factor * truth, truth).tolist())
        yield {"kind": "proportional", "error": error, "fidelity": kept.mean, "low": kept.low, "high": kept.high,
               "theory": 1.0}  # fmt: skip


def _times(run: Run, qubits: int) -> list[Row]:
    """Seconds of each way beside one complex64 product of two matrices."""
    n = 2**qubits
    U, V = (
        torch.randn(n, n, dtype=torch.complex64, generator=run.generator("times", i), device=run.device) for i in (0, 1)
    )
    gate = haar(2**_QUBITS_OF_A_GATE, run.generator("times", 2))
    draw = run.generator("times", 3)
    ways: dict[str, Callable[[], Tensor]] = {
        _STATE: lambda: U @ V[:, :1],
        _GATE: lambda: apply_gate(V, gate, qubits // 2),
    }
    for label, _, estimator in _methods(run.device):
        if label in ("int8", f"truncated at {_RATIOS[0]:g}", f"sampled at {_RATIOS[0]:g}"):
            ways[label] = partial(_by_three, U, V, estimator, draw)
    rows: list[Row] = []
    for label, way in ways.items():
        timing = paired(way, lambda: U @ V, repeats=run.pick(quick=7, full=21), warmup=1, device=run.device)
        rows.append({"qubits": qubits, "method": label, "time": timing.ratio, "time_low": timing.low,
                     "time_high": timing.high})  # fmt: skip
    return rows


def _by_three(U: Tensor, V: Tensor, by: Estimator, draw: torch.Generator) -> Tensor:
    return karatsuba(real_pairs(U, V), (by, by, by), draw)


def _states_table(rows: list[Row]) -> Table:
    columns = [
        Column("qubits", "qubits"), Column("depth", "products"), Column("method", "by"), Column("role", ""),
        Column("share", "multiply–adds", ".2g%"), Column("error", "matrix error", ".3g%"),
        Column("fidelity", "fidelity", ".6f", "low", "high"), Column("isotropic", "1/(1 + ε²)", ".6f"),
        Column("xeb", "XEB", ".3f"), Column("states", "states", ","),
    ]  # fmt: skip
    ordered = sorted(rows, key=lambda row: (row["qubits"], row["role"], row["method"], row["depth"]))
    caption = (
        "States after that many products, beside complex128: mean and 95% interval over basis states. Truncated "
        "products shrink: their error is not isotropic, and the fidelity is less than 1/(1 + ε²)."
    )
    return Table(caption, ordered, columns)


def _isotropy_table(rows: list[Row]) -> Table:
    columns = [
        Column("kind", "error"), Column("error", "its size", ".3g%"),
        Column("fidelity", "fidelity", ".6f", "low", "high"), Column("theory", "in theory", ".6f"),
    ]  # fmt: skip
    return Table("What an error of the matrix does to a state.", rows, columns)


def _times_table(rows: list[Row]) -> Table:
    columns = [
        Column("qubits", "qubits"), Column("method", "by"),
        Column("time", "time", ".2g%", "time_low", "time_high"),
    ]  # fmt: skip
    return Table("Seconds beside one complex64 product of two matrices, in the same run.", rows, columns)


def _plot(states: list[Row], isotropy: list[Row]) -> Plot:
    products = [row for row in states if row["role"] in ("product", "reduced")]
    alike = [row for row in isotropy if row["kind"] == "isotropic"]
    along = [row for row in isotropy if row["kind"] == "proportional"]
    curve = [10 ** (step / 10 - 4) for step in range(46)]
    series = [
        Series("products", [r["error"] for r in products], [r["fidelity"] for r in products]),
        Series("isotropic errors", [r["error"] for r in alike], [r["fidelity"] for r in alike], role="baseline"),
        Series("errors along U", [r["error"] for r in along], [r["fidelity"] for r in along], role="baseline"),
        Series("1/(1 + ε²)", curve, [1 / (1 + error**2) for error in curve], role="theory"),
        Series("the source", list(DEPTH_ERRORS.values()), [1.0] * len(DEPTH_ERRORS), role="claimed"),
    ]
    x = Axis("matrix error", log=True, spec="g%")
    caption = "All methods, depths and numbers of qubits; crosses are the source's table by depth."
    return Plot("Fidelity against matrix error", x, Axis("fidelity of the state"), series, caption)
