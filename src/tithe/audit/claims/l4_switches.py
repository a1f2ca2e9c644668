"""L4: ordering tasks by coherence takes 20 to 40 % fewer context switches, cache misses and wasted cycles."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show
from tithe.audit.lattice_arms import FIFO, WAITED
from tithe.audit.lattice_work import SHARED

__all__ = ["CLAIM", "LEAST", "judge"]

LEAST = 0.2  # the lower end of the claimed 20 to 40 %
_UNITS = {"switches": "context switches", "cache_misses": "cache misses", "cpu_seconds": "CPU time"}


def judge(found: Evidence) -> Finding:
    """Whether ``Lattice`` with coherence as its score saves a fifth of switches, cache misses and CPU time.

    The rule was fixed before anything was measured on a quiet machine. A unit is saved on some work where the mean
    saving over as many threads, first come, first served, is 20 % or more with a 95 % interval above 0. The pool's
    results can be fetched one after the other or waited for all at once; the claim is held against the better way.
    It holds where all units that were counted are saved on all three kinds of work, and coherence saves of one of them
    more than ``Lattice`` does without scores. It holds under a condition where one unit is saved on the work that
    shares data, be it only against results fetched one by one, which the condition then says; else it fails. It reads
    the tables ``against`` (work, against, and each unit's saving with its interval), ``ingredients`` and ``arms``.
    """
    works = list(dict.fromkeys(row["work"] for row in found.rows("against")))
    if SHARED not in works:
        return Finding("unmeasured", "Nothing was measured.")
    units = _counted(found.rows("against")[0])
    strict = {work: [unit for unit in units if _saves(found, work, unit, (FIFO, WAITED))] for work in works}
    loose = [unit for unit in units if _saves(found, SHARED, unit, (FIFO,))]
    adds = any(_low(row, unit) > 0 for row in found.rows("ingredients", ingredient="coherence") for unit in units)
    measured = "; ".join(
        f"{row['work']}{'' if row['against'] == FIFO else ', waited for at once'}: {_savings(row)}"
        for row in found.rows("against")
        if row["against"] == FIFO or row["work"] == SHARED
    )
    reason = "\n".join([*map(_sentence, found.rows("ingredients")), *(_others(found, work) for work in works)])
    if adds and len(works) == 3 and all(each == units for each in strict.values()):
        return Finding("holds", "Coherence saves a fifth and more on all work.", measured, reason)
    if strict[SHARED] or loose:
        return Finding(
            "holds if", "Running together what shares data saves a fifth; coherence is one way to find it.",
            measured, reason, condition=_condition(strict, loose, adds),
        )  # fmt: skip
    return Finding("fails", "Not even tasks that share data save a fifth.", measured, reason)


def _condition(strict: dict[str, list[str]], loose: list[str], adds: bool) -> str:
    parts = []
    for unit, name in _UNITS.items():
        if unit in strict[SHARED]:
            where = [work for work, units in strict.items() if unit in units]
            parts.append(f"{name}: the work is {' or '.join(where)}")
        elif unit in loose:
            parts.append(f"{name}: the work is {SHARED}, and the pool's results are fetched one by one")
    alike = "" if adds else "; what counts as like is the same data, to which coherence adds nothing"
    return f"what is counted is {'; or '.join(parts)}{alike}."


def _counted(row: Row) -> list[str]:
    return [unit for unit in _UNITS if row[f"{unit}_saved"] is not None]


def _saves(found: Evidence, work: str, unit: str, baselines: tuple[str, ...]) -> bool:
    rows = [row for name in baselines for row in found.rows("against", work=work, against=name)]
    return bool(rows) and all(row[f"{unit}_saved"] >= LEAST and _low(row, unit) > 0 for row in rows)


def _low(row: Row, unit: str) -> float:
    low = row[f"{unit}_saved_low"]
    return float(row[f"{unit}_saved"] if low is None else low)


def _savings(row: Row) -> str:
    return ", ".join(f"{show(-row[f'{unit}_saved'], '+.0%')} {_UNITS[unit]}" for unit in _counted(row))


def _sentence(row: Row) -> str:
    parts = []
    for unit in _counted(row):
        low, high = (None if end is None else -end for end in (row[f"{unit}_saved_high"], row[f"{unit}_saved_low"]))
        saving = show(-row[f"{unit}_saved"], "+.0%")
        parts.append(f"{_UNITS[unit]} {saving} [{show(low, '+.0%')}, {show(high, '+.0%')}]")
    return f"What {row['ingredient']} does ({row['arm']}, against {row['against']}): {', '.join(parts)}."


def _others(found: Evidence, work: str) -> str:
    parts = [f"{row['arm']}: {_savings(row)}" for row in found.rows("arms", work=work) if row["arm"] != FIFO]
    return f"{work.capitalize()}, against {FIFO}: {'; '.join(parts)}."


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._l4_measure import measure

    return measure(run)


CLAIM = Claim(
    id="L4",
    title="Fewer context switches, cache misses and wasted cycles",
    says=(
        "A scheduler that runs tasks with coherent data first needs 20 to 40% fewer context switches, cache misses and "
        "wasted cycles, and so saves energy at the level of the operating system."
    ),
    claimed="20–40% fewer context switches, cache misses and cycles",
    baseline=(
        "a pool of as many threads, first come, first served; the same in chunks, sorted by coherence, grouped by "
        "hand; one thread per task; joblib; Lattice without scores"
    ),
    budget=10.0,
    measure=_measure,
    judge=judge,
)
