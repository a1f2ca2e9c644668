"""M1: approximate products that are 99 % accurate for 10 to 20 % of the cost."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["ACCURATE", "CLAIM", "SHARE", "judge", "within"]

ACCURATE = 0.01  # relative error of what is 99 % accurate
SHARE = 0.2  # the upper end of the claimed 10–20 % of the cost


def within(row: Row, cost: str) -> bool:
    """Whether a product is as accurate as claimed at the claimed share: of the multiply–adds or of the ``time``."""
    spent = row["time_high"] if cost == "time" else row["share"]
    return row["role"] == "tithe" and row["error"] <= ACCURATE and spent is not None and spent <= SHARE


def judge(found: Evidence) -> Finding:
    """Whether products of every input are accurate enough within a fifth of the multiply–adds and of the seconds.

    It reads the table ``products`` (input, n, asked, method, role, error, bound, share of the multiply–adds, time with
    its ends) and the table ``limits`` (input, n, error of the best matrix of the rank that a fifth pays for).
    """
    rows = found.rows("products")
    if not rows:
        return Finding("unmeasured", "Nothing was measured.")
    names = list(dict.fromkeys(row["input"] for row in rows))
    cells = {(row["input"], row["n"]) for row in rows}
    hits = {cost: {(r["input"], r["n"]) for r in rows if within(r, cost)} for cost in ("share", "time")}
    counts = {cost: len({name for name, _ in hits[cost]}) for cost in hits}
    timed = any(row["time"] is not None for row in rows)
    seconds = f"for a fifth of the seconds on {counts['time'] or 'none'}" if timed else "seconds left out"
    measured = f"within 1% on {counts['share']} of {len(names)} inputs for a fifth of the multiply–adds, {seconds}"
    reason = _reason(found, names)
    if hits["share"] == hits["time"] == cells:
        return Finding("holds", "Every input is within 1% at a fifth of the cost.", measured, reason)
    summary = (
        f"Within 1% for a fifth of the multiply–adds or less on {counts['share']} of {len(names)} kinds of input, "
        f"{seconds}."
    )
    if not hits["share"] and not hits["time"]:
        return Finding("fails", summary, measured, reason)
    sizes = sorted({n for _, n in cells})
    parts = [
        f"the cost is counted in {words} and the operands are {_listed(names, sizes, hits[cost])}"
        for cost, words in (("share", "multiply–adds"), ("time", "seconds on this machine"))
        if hits[cost]
    ]
    return Finding("holds if", summary, measured, reason, condition="; or ".join(parts) + ".")


def _listed(names: list[str], sizes: list[int], hits: set[tuple[str, int]]) -> str:
    words = []
    for name in names:
        reached = [n for n in sizes if (name, n) in hits]
        if reached:
            only = "" if reached == sizes else f" (n = {', '.join(f'{n:,}' for n in reached)})"
            words.append(name + only)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _reason(found: Evidence, names: list[str]) -> str:
    paragraphs = [_carried(found, names), _missed(found, names), _bounds(found), _seconds(found), _peers(found)]
    return "\n".join(filter(None, paragraphs))


def _best(found: Evidence, name: str) -> Row | None:
    """At the largest size: the product within the claim that takes the least, else the one within the share."""
    rows = found.rows("products", input=name, role="tithe")
    last = [row for row in rows if row["n"] == max(r["n"] for r in rows) and row["share"] <= SHARE]
    accurate = [row for row in last if row["error"] <= ACCURATE]
    if accurate:
        return min(accurate, key=lambda row: float(row["share"]))
    return min(last, key=lambda row: float(row["error"]), default=None)


def _carried(found: Evidence, names: list[str]) -> str:
    best = [row for name in names if (row := _best(found, name)) is not None and row["error"] <= ACCURATE]
    words = "; ".join(
        f"{row['input']} errs by {show(row['error'], '.2g%')} for {show(row['share'], '.2g%')}, by {row['method']}"
        for row in best
    )
    return f"It takes means, slices, frequencies or directions that carry the product: {words}." if best else ""


def _missed(found: Evidence, names: list[str]) -> str:
    rows = [row for name in names if (row := _best(found, name)) is not None and row["error"] > ACCURATE]
    if not rows:
        return ""
    words = []
    for row in rows:
        limits = found.rows("limits", input=row["input"])
        rank = f", and even the best matrix of rank 0.2n by {show(limits[0]['error'], '.2g%')}" if limits else ""
        words.append(f"{row['input']} errs by {show(row['error'], '.2g%')}{rank}")
    told = f"Where nothing carries it, a fifth of the multiply–adds is not enough: {'; '.join(words)}."
    return told + _asked(found, rows)


def _asked(found: Evidence, missed: list[Row]) -> str:
    """What is taken for the same inputs where a tolerance is asked for."""
    taken = [
        "the plain product" if row["method"] == "exact" else str(row["method"])
        for one in missed
        for row in found.rows("products", input=one["input"], n=one["n"], role="tithe")
        if row["asked"].startswith("tol")
    ]
    words = " or ".join(dict.fromkeys(taken))
    return f" Asked for 1% instead of a share, tithe.matmul takes {words} there." if words else ""


def _bounds(found: Evidence) -> str:
    accurate = [row for row in found.rows("products", role="tithe") if within(row, "share")]
    if not accurate:
        return ""
    known = [row for row in accurate if row["upper"] is not None and row["upper"] <= ACCURATE]
    return (
        f"Of the {len(accurate)} products within the claim, {len(known)} say so themselves: their bound, which the "
        "share includes, is within 1% too."
    )


def _seconds(found: Evidence) -> str:
    timed = [row for row in found.rows("products", role="tithe") if within(row, "share") and row["time"] is not None]
    sentences = []
    for n in sorted({row["n"] for row in timed}):
        part = sorted((row for row in timed if row["n"] == n), key=lambda row: float(row["time"]))
        least, most = (show(row["time"], ".2f") for row in (part[0], part[-1]))
        sentences.append(f"{least} ({part[0]['input']}, {part[0]['asked']}) to {most} times as long at n = {n:,}")
    if not sentences:
        return ""
    return (
        f"In seconds the same products take {', '.join(sentences)} as the plain one: looking at the operands, "
        "gathering and probing cost O(n²), which weighs less the larger n is."
    )


def _peers(found: Evidence) -> str:
    peers = [row for row in found.rows("products", role="peer") if row["time"] is not None]
    if not peers:
        return ""
    words = []
    for kind in dict.fromkeys(row["method"] for row in peers):
        rows = [row for row in peers if row["method"] == kind]
        last = [row for row in rows if row["n"] == max(r["n"] for r in rows)]
        count = sum(row["error"] <= ACCURATE and row["time_high"] <= SHARE for row in last)
        error, time = (show(max(row[key] for row in last), ".2g%") for key in ("error", "time"))
        words.append(f"{kind} errs by {error} in {time} of the time at most, as claimed on {count} of {len(last)}")
    return f"What one would take here for seconds is all multiply–adds in fewer bits: {'; '.join(words)}."


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m1_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M1",
    title="Approximate products at a ratio",
    says=(
        "Matrix products, whatever their operands, are approximated on CPUs and GPUs to an accuracy of more than 99% "
        "for 10 to 20% of the cost."
    ),
    claimed="error ≤ 1% at 10–20% of the cost",
    baseline="A @ B in float32, for multiply–adds and seconds; on CUDA also in TF32 and bfloat16",
    budget=8.0,
    measure=_measure,
    judge=judge,
)
