"""H2: a cache in memory of every neuron's sums, quick to ask, small, and there again after a restart."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence
from tithe.audit.formatting import show

__all__ = ["CLAIM", "DAMAGED", "KILLED", "TORN", "judge"]

KILLED, TORN, DAMAGED = "the writer killed with -9", "the journal cut off anywhere", "one byte of a file changed"
_MOST_BYTES, _MOST_SHARE = 100.0, 1e-3  # 100 MB for a million records; of the time of a full scan


def judge(found: Evidence) -> Finding:
    """Whether a million records take 100 MB at most, queries a thousandth of a scan, and no safe record is lost.

    It fails where memory is over, an answer is wrong, or something that was safe is lost or changed; it holds under a
    condition where only queries are slower than asked. It reads the tables ``costs`` (query, ratio, same) and
    ``survival`` (what, tries, right), and the facts of the real history.
    """
    costs, survival, facts = found.rows("costs"), found.rows("survival"), found.facts
    if not costs or not survival:
        return Finding("unmeasured", "Nothing was measured.")
    slow = [row for row in costs if row["low"] > _MOST_SHARE]
    measured = f"{facts['bytes']:.0f} bytes a record; " + ", ".join(
        f"{row['query']} {row['ratio']:.1e} of a scan by {row['scan']}" for row in costs
    )
    reason = "\n".join([
        *(f"{row['what'].capitalize()}: {row['right']} of {row['tries']} times as promised." for row in survival),
        f"{facts['averages']} of {facts['neurons']} averages of the last three sums are right after a restart; stale "
        f"marks {'stay' if facts['stale'] else 'are lost'}.",
        "A cache that is in memory alone, as the source has it, would not survive a restart: here a journal of batches "
        "and a snapshot do that, and questions are answered from memory.",
    ])  # fmt: skip
    broken = [row["what"] for row in survival if row["right"] < row["tries"]]
    wrong = not all(row["same"] for row in costs) or facts["averages"] < facts["neurons"]
    if broken or not facts["reopened"] or not facts["stale"]:
        return Finding(
            "fails", f"Records are lost: {', '.join(broken) or 'closed and opened again'}.", measured, reason
        )
    if wrong or facts["bytes"] > _MOST_BYTES:
        return Finding("fails", "An answer is wrong." if wrong else "It takes too much memory.", measured, reason)
    if slow:
        return Finding("holds if", "Small and safe, but not as quick as asked.", measured, reason,
                       condition=f"{' and '.join(row['query'] for row in slow)} may take over 1/1000 of a scan by "
                       f"{slow[0]['scan']}.")  # fmt: skip
    return Finding("holds", "Small, quick, and nothing that was safe is lost.", measured, reason)


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._h2_measure import measure  # imports numba: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="H2",
    title="The sum cache",
    says=(
        "Every neuron's sums, margins and premodulos are kept in memory, with the latest sum, trends and the gold zone "
        "at hand; they persist across restarts, corrupt data are recognised, old ones marked as stale and averaged."
    ),
    claimed=f"under {show(_MOST_BYTES, '.0f')} MB at scale; survives restarts and corruption",
    baseline="a full scan of the same records, by NumPy or pandas",
    budget=5.0,
    measure=_measure,
    judge=judge,
)
