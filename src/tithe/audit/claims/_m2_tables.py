"""The tables and plots of M2, from the rows that were measured."""

from __future__ import annotations

import math

from tithe.audit.claims.m2_random_products import BEST_RANK, CLAIMED
from tithe.audit.evidence import Axis, Column, Plot, Role, Row, Series, Table

__all__ = [
    "FIXED",
    "INPUTS",
    "MIXED",
    "SAMPLED",
    "against_share",
    "against_size",
    "certified_table",
    "errors_table",
    "sampling_table",
    "sizes_table",
]

INPUTS = ("uniform[0,1]", "Gaussian")
SAMPLED = "sampled(0.2)"
MIXED = "centred(truncated(0.15))"
FIXED = 1024  # the size of the plot of error against cost
_SOURCE_OF_SAMPLING = {256: (0.5, 1.39), 512: (0.3, 1.80), 1024: (0.2, 2.24)}  # n: ratio and the source's figure


def sizes_table(errors: list[Row]) -> Table:
    """The claimed errors, each beside the best within a fifth of the multiply–adds."""
    rows = []
    for n, claimed in CLAIMED.items():
        for name in INPUTS:
            within = [r for r in errors if r["n"] == n and r["input"] == name and (r["share"] or 1.0) <= 0.2]
            if within:
                best = min(within, key=lambda row: float(row["error"]))
                verdict = "reached" if best["error"] <= claimed else "missed"
                rows.append({**best, "claimed": claimed, "verdict": verdict})
    columns = [
        Column("n", "n", ","), Column("input", "input"), Column("claimed", "claimed", ".3g%"),
        Column("error", "best at 20% or less", ".3g%", "low", "high"), Column("method", "by"),
        Column("share", "its multiply–adds", ".2g%"), Column("verdict", ""),
    ]  # fmt: skip
    caption = "Claimed errors against the best that was found at a fifth of the multiply–adds or less."
    return Table(caption, rows, columns)


def sampling_table(errors: list[Row]) -> Table:
    """The source's column for sampling, measured on both inputs."""
    rows = []
    for n, (kept, source) in _SOURCE_OF_SAMPLING.items():
        for row in errors:
            if row["n"] == n and row["method"] == f"sampled({kept:g})":
                rows.append({**row, "ratio": kept, "source": source})
    columns = [
        Column("n", "n", ","), Column("ratio", "ratio", "g"), Column("input", "input"),
        Column("source", "the source", ".3g%"), Column("error", "measured", ".3g%", "low", "high"),
        Column("closed form", "closed form", ".3g%"),
    ]  # fmt: skip
    return Table(
        "Sampling, beside its closed forms: √(1/ratio) on zero-mean entries, √(7/(9·ratio·n)) on uniform ones.",
        sorted(rows, key=lambda row: str(row["input"])),
        columns,
    )


def certified_table(rows: list[Row]) -> Table:
    """What ``tithe.matmul(tol=…)`` took."""
    columns = [
        Column("n", "n", ","), Column("input", "input"), Column("tol", "tol", "g%"), Column("method", "method taken"),
        Column("upper", "bound", ".2g%"), Column("error", "true error", ".2g%"),
        Column("share", "operations, with the bound", ".2g%"), Column("time", "time", ".0%", "time_low", "time_high"),
        Column("load", "load", ".1f"),
    ]  # fmt: skip
    return Table("tithe.matmul(A, B, tol=…): what it took, beside float32 A @ B timed in the same run.", rows, columns)


def errors_table(rows: list[Row]) -> Table:
    """Every error that was measured."""
    columns = [
        Column("input", "input"), Column("method", "method"), Column("n", "n", ","),
        Column("share", "multiply–adds", ".2g%"), Column("error", "relative error", ".3g%", "low", "high"),
        Column("closed form", "closed form", ".3g%"),
        Column("seeds", "seeds"),
    ]  # fmt: skip
    ordered = sorted(rows, key=lambda row: (row["input"] != INPUTS[0], row["method"], row["n"]))
    caption = "Every error: relative Frobenius norm against float64, mean and 95% interval over seeds."
    return Table(caption, ordered, columns)


def against_size(rows: list[Row]) -> Plot:
    """Error against n."""
    shown: list[tuple[str, str, str, Role]] = [
        ("mean part, uniform[0,1]", INPUTS[0], "mean_field", "measured"),
        ("mean part + 15%, uniform[0,1]", INPUTS[0], MIXED, "measured"),
        ("best rank 0.2n, uniform[0,1]", INPUTS[0], BEST_RANK, "measured"),
        ("best rank 0.2n, Gaussian", INPUTS[1], BEST_RANK, "measured"),
        ("sampling at 0.2, uniform[0,1]", INPUTS[0], SAMPLED, "baseline"),
        ("sampling at 0.2, Gaussian", INPUTS[1], SAMPLED, "baseline"),
    ]
    series = [_series(label, rows, name, method, "n", role) for label, name, method, role in shown]
    sizes = sorted({row["n"] for row in rows})
    series.append(Series("1/(3√n)", sizes, [1 / (3 * math.sqrt(n)) for n in sizes], role="theory"))
    points = [(n, error) for n, error in CLAIMED.items() if n <= max(sizes)]
    series.append(Series("the source", [n for n, _ in points], [e for _, e in points], role="claimed"))
    caption = "Crosses are the source's figures; vertical bars are 95% intervals over seeds."
    return Plot(
        "Error against size",
        Axis("n", log=True, spec=","),
        Axis("relative error", log=True, spec="g%"),
        series,
        caption,
    )


def against_share(rows: list[Row]) -> Plot:
    """Error against the share of the multiply–adds, at one size."""
    at = [row for row in rows if row["n"] == FIXED and row["share"] is not None]
    families: tuple[tuple[str, str, Role], ...] = (
        ("mean part", "mean_field", "measured"),
        ("mean part + slices", "centred", "measured"),
        ("sampling", "sampled", "baseline"),
    )
    series = []
    for name in INPUTS:
        for label, head, role in families:
            part = sorted(
                (r for r in at if r["input"] == name and r["method"].startswith(head)), key=lambda r: r["share"]
            )
            series.append(_series(f"{label}, {name}", part, name, None, "share", role))
    series.append(Series("the source", [0.1, 0.2], [CLAIMED[FIXED]] * 2, role="claimed"))
    x = Axis("share of the multiply–adds", log=True, spec="g%")
    caption = "Each method on both inputs; crosses are the source's figure at both ends of its 10 to 20%."
    return Plot(f"Error against cost at n = {FIXED:,}", x, Axis("relative error", log=True, spec="g%"), series, caption)


def _series(label: str, rows: list[Row], name: str, method: str | None, x: str, role: Role) -> Series:
    part = [row for row in rows if row["input"] == name and method in (None, row["method"])]
    columns = {key: [row[key] for row in part] for key in (x, "error", "low", "high")}
    return Series(label, columns[x], columns["error"], columns["low"], columns["high"], role=role)
