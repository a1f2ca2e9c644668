"""M7: products of random unitaries that keep a quantum state although the matrix is wrong by more than itself."""

from __future__ import annotations

import math

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "DEPTH_ERRORS", "ONE", "OPERATION", "RATIO", "XEB", "judge"]

ONE = 0.9999995  # what rounds to the claimed 1.000000
RATIO = 0.5  # the largest of the claimed shares
DEPTH_ERRORS = {1: 0.139, 4: 0.815, 8: 1.110, 16: 1.102}
OPERATION = 0.0039  # error of one at ratio 0.5
XEB = {10: 1.043, 11: 0.938, 12: 0.995}  # at ratio 0.2


def judge(found: Evidence) -> Finding:
    """Whether some product within half of the multiply–adds keeps the state, or a way around the product does.

    It reads the table ``states`` (qubits, depth, method, role, share of the multiply–adds, matrix error, fidelity and
    XEB), the table ``isotropy`` (kind, error, fidelity, what theory says) and the table ``times``.
    """
    rows = found.rows("states")
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    last = [row for row in rows if row["depth"] == max(r["depth"] for r in rows if r["qubits"] == row["qubits"])]
    within = [row for row in last if row["role"] == "product" and row["share"] <= RATIO]
    around = [row for row in last if row["role"] == "structured"]
    best = _best(within)
    measured = f"F {_digits(best)} within half of the work after {max(row['depth'] for row in last)} products"
    if bits := _best([row for row in last if row["role"] == "reduced"]):
        measured += f", {_digits(bits)} by {bits['method']}"
    reason = _reason(found, last)
    if within and all(_kept([row for row in within if row["qubits"] == qubits]) for qubits in _sizes(last)):
        return Finding("holds", "A product within half of the multiply–adds keeps the state.", measured, reason)
    lost = f"No product of dense unitaries within half of the work keeps the state (F at most {_digits(best)})"
    if around and all(row["fidelity"] >= ONE for row in around):
        most = max(row["share"] for row in around)
        return Finding(
            "holds if",
            f"{lost}; without such products it is exact for {show(most, '.2g%')} of the work or less.",
            measured,
            reason,
            condition=(
                "only a state is asked for and the unitaries are applied to it one after the other, or they are gates "
                "on few qubits, applied by reshaping."
            ),
        )
    return Finding("fails", f"{lost}.", measured, reason)


def _kept(rows: list[Row]) -> bool:
    return any(row["fidelity"] >= ONE for row in rows)


def _sizes(rows: list[Row]) -> list[int]:
    return sorted({row["qubits"] for row in rows})


def _best(rows: list[Row]) -> Row | None:
    return max(rows, key=lambda row: float(row["fidelity"]), default=None)


def _digits(row: Row | None) -> str:
    return "–" if row is None else show(row["fidelity"], ".6f" if row["fidelity"] > 0.99 else ".3f")


def _reason(found: Evidence, last: list[Row]) -> str:
    paragraphs = [_isotropy(found), _depth(found), _bits(found, last), _around(found, last), _xeb(found, last)]
    return "\n".join(filter(None, paragraphs))


def _isotropy(found: Evidence) -> str:
    alike, along = found.rows("isotropy", kind="isotropic"), found.rows("isotropy", kind="proportional")
    if not alike or not along:
        return ""
    apart = max(abs(row["fidelity"] - row["theory"]) for row in alike)
    near = min(alike, key=lambda row: abs(row["error"] - 1.1))
    most, left = math.sqrt(1 / ONE - 1), show(min(row["fidelity"] for row in along), ".6f")
    largest = max(along, key=lambda row: float(row["error"]))
    return (
        f"An isotropic error ε leaves F = 1/(1 + ε²), here to within {show(apart, '.1g')}: at {_percent(near)} that is "
        f"{show(near['fidelity'], '.2f')}. An error proportional to the unitary itself, up to "
        f"{_percent(largest)} (Ĉ = −C), leaves F = {left}. So 1.000000 beside 110 to 123% cannot come of an isotropic "
        f"error, as the source explains it: no more than {show(most, '.1g%')} of the state may lie across the true one."
    )


def _depth(found: Evidence) -> str:
    rows = [row for row in found.rows("states", role="product") if "sampled" not in row["method"]]
    if not rows:
        return ""
    qubits = max(row["qubits"] for row in rows)
    share = max(row["share"] for row in rows if row["qubits"] == qubits)
    chosen = [row for row in rows if row["qubits"] == qubits and row["share"] == share]
    steps = "; ".join(f"{row['depth']}: {_percent(row)}, F {show(row['fidelity'], '.4f')}" for row in chosen)
    source = " / ".join(show(error, ".3g%").removesuffix("%") for error in DEPTH_ERRORS.values())
    return (
        f"Errors saturate because nothing is left to lose. By depth, {chosen[0]['method']} on {qubits} qubits: "
        f"{steps}; the source has {source}% at {', '.join(map(str, DEPTH_ERRORS))}."
    )


def _bits(found: Evidence, last: list[Row]) -> str:
    rows = [row for row in last if row["role"] == "reduced" and row["qubits"] == max(_sizes(last))]
    if not rows:
        return ""
    words = [
        f"{row['method']} errs by {_percent(row)}{_after_one(found, row)} and keeps F = "
        f"{show(row['fidelity'], '.6f')}{_time(found, row['method'])}"
        for row in rows
    ]
    return (
        f"In fewer bits, by three real products of all the multiply–adds: {'; '.join(words)}. The source claims "
        f"{show(OPERATION, '.2g%')} for one operation."
    )


def _after_one(found: Evidence, row: Row) -> str:
    rows = found.rows("states", method=row["method"], qubits=row["qubits"], depth=1)
    return f" ({_percent(rows[0])} after one product)" if rows else ""


def _around(found: Evidence, last: list[Row]) -> str:
    rows = [row for row in last if row["role"] == "structured" and row["qubits"] == max(_sizes(last))]
    words = [f"{row['method']}, {show(row['share'], '.2g%')} of the work{_time(found, row['method'])}" for row in rows]
    return f"Exact without a product of large matrices: {'; '.join(words)}." if words else ""


def _xeb(found: Evidence, last: list[Row]) -> str:
    exact = [row for row in last if row["role"] == "exact"]
    if not exact:
        return ""
    figures = ", ".join(f"{show(row['xeb_one'], '.3f')} at {row['qubits']}" for row in exact)
    return (
        f"The exact state's own XEB is {figures} qubits for one state, 1 ± 2/√2ⁿ over states, so the source's "
        f"{' / '.join(f'{x:.3f}' for x in XEB.values())} are what exact states give; by products it falls as F does."
    )


def _time(found: Evidence, method: str) -> str:
    rows = found.rows("times", method=method)
    return f" ({show(rows[0]['time'], '.2g%')} of the time)" if rows else ""


def _percent(row: Row) -> str:
    return show(row["error"], ".3g%")


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m7_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M7",
    title="Quantum circuits by approximate products",
    says=(
        "Eight to sixteen Haar-random unitaries on 10, 11 and 12 qubits are multiplied at ratios of 0.5, 0.3 and 0.2. "
        "The matrix errs by 110 to 123% and by depth it saturates, but the state's fidelity stays 1.000000, because "
        "the error is isotropic and misses the state; cross-entropy benchmarks at 0.2 are 1.043, 0.938 and 0.995, and "
        "an operation errs by 0.39%, less than on real chips."
    ),
    claimed="F = 1.000000 at ratio 0.5 / 0.3 / 0.2 beside matrix errors of 110–123%",
    baseline="complex64 products of the matrices; complex128 for the states; sampling at the same share",
    budget=10.0,
    measure=_measure,
    judge=judge,
)
