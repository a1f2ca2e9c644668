"""The tables and the plot of M6, from the rows that were measured."""

from __future__ import annotations

from tithe.audit.claims._m6_liquid import PUBLISHED
from tithe.audit.claims.m6_monte_carlo import CLAIMED
from tithe.audit.evidence import Axis, Column, Plot, Role, Row, Series, Table

__all__ = ["PAIR_WORK", "errors_table", "liquid_table", "ratio_plot", "times_table"]

PAIR_WORK = 10  # multiply–adds of a pair: three differences, their images and squares, a division, powers


def liquid_table(rows: list[Row]) -> Table:
    columns = [
        Column("n", "N"), Column("energy", "energy per particle", ".4f", "low", "high"),
        Column("one", "± of a configuration", ".4f"), Column("run", "± of a run's mean", ".4f"),
        Column("kept", "configurations"), Column("accepted", "moves accepted", ".0%"), Column("chains", "chains"),
    ]  # fmt: skip
    caption = (
        "The liquid and its statistical noise: standard deviation of one configuration, and standard error of the mean "
        "of one run, from blocks of ten configurations; mean and 95% interval over chains. With a cut-off of 3, NIST "
        f"publishes an energy of {PUBLISHED:.4f}."
    )
    return Table(caption, rows, columns)


def errors_table(rows: list[Row]) -> Table:
    columns = [
        Column("n", "N"), Column("over", "over"), Column("method", "product by"), Column("role", ""),
        Column("share", "multiply–adds", ".2g%"), Column("matrix", "matrix error", ".2g%"),
        Column("bias", "mean error", "+.2g", "bias_low", "bias_high"),
        Column("one", "noise / error, one configuration", ".3g", "one_low", "one_high"),
        Column("run", "of a run's mean", ".3g", "run_low", "run_high"),
        Column("corrected", "mean error known", ".2g"), Column("spread", "spread, kT", ".2g"),
    ]  # fmt: skip
    caption = (
        "Errors of the energy per particle, and the noise as a multiple of them: of one configuration (its standard "
        "deviation over the root mean square error), of a run (standard error over mean error), and of one "
        "configuration if the mean error is known and subtracted. Spread: standard deviation of the total energy's "
        "error. Mean and 95% interval over chains, geometric for ratios."
    )
    return Table(caption, rows, columns)


def times_table(rows: list[Row]) -> Table:
    columns = [
        Column("n", "N"), Column("way", "way"), Column("share", "multiply–adds", ".2g%"),
        Column("time", "time", ".2g%", "time_low", "time_high"),
    ]  # fmt: skip
    caption = f"Cost beside one plain float32 product of N × N matrices; a pair counts as {PAIR_WORK} multiply–adds."
    return Table(caption, rows, columns)


def ratio_plot(rows: list[Row]) -> Plot:
    n = max(row["n"] for row in rows)

    def series(name: str, look: Role, **equal: str) -> Series:
        part = [row for row in rows if row["n"] == n and all(row[key] == value for key, value in equal.items())]
        part.sort(key=lambda row: float(row["share"]))
        y, low, high = ([row[key] for row in part] for key in ("one", "one_low", "one_high"))
        return Series(name, [row["share"] for row in part], y, low, high, role=look)

    drawn = [
        series("Fourier, over particles", "measured", over="particles", role="fourier"),
        series("Fourier, over waves", "measured", over="waves"),
        series("other products", "baseline", role="product"),
        series("drawn by weights that sum to it", "baseline", role="weights"),
        series("int8", "baseline", role="reduced"),
        Series("the source", [0.5], [CLAIMED[n]], role="claimed"),
    ]
    x = Axis("share of the multiply–adds", log=True, spec="g%")
    y = Axis("noise of one configuration / error", log=True)
    caption = f"N = {n}. The source names no share; its figure stands at a half."
    return Plot("Noise over error of the energy", x, y, drawn, caption)
