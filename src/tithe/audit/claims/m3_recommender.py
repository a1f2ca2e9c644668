"""M3: a recommender whose products are approximated, and its predictions hardly the worse for it."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "CLAIMED", "judge"]

CLAIMED = {0.5: 0.0006, 0.3: 0.0021, 0.2: 0.0045}  # ratio: share by which the RMSE may be worse
_AROUND = ("corrected", "structured")  # whose products leave the residual exact


def judge(found: Evidence) -> Finding:
    """Whether approximate products reach every claimed figure, intervals included, or a way around products does.

    It reads the table ``methods``: method, role, share of the multiply–adds, RMSE, how much worse it is than exact
    (a share, with its ends) and time.
    """
    rows = found.rows("methods")
    exact = found.rows("methods", role="exact")
    if not exact:
        return Finding("unmeasured", "Nothing was measured.")
    products, around = ({r: _best(rows, roles, r) for r in CLAIMED} for roles in (("product",), _AROUND))
    measured = f"RMSE {show(exact[0]['rmse'], '.4f')}; worse by {_figures(products)}"
    measured += f", by {_figures(around)} with an exact residual"
    reason = _reason(rows)
    if _reached(products):
        return Finding("holds", "Approximate products reach every claimed figure.", measured, reason)
    summary = f"With all products approximated the RMSE is worse by {_figures(products)}"
    if _reached(around):
        condition = (
            "the residual of the normal equations is exact: their matrices are applied and never formed (conjugate "
            "gradients), or approximate ones only correct the last sweep's factors"
        )
        times = [row["time"] for row in around.values() if row is not None and row["time"] is not None]
        if times and max(times) > 1:
            condition += (
                f", and the cost is counted in multiply–adds (up to {show(max(times), '.1f')} times the time here)"
            )
        summary += f"; where the residual stays exact, by {_figures(around)}."
        return Finding("holds if", summary, measured, reason, condition=f"{condition}.")
    return Finding("fails", f"{summary}.", measured, reason)


def _best(rows: list[Row], roles: tuple[str, ...], ratio: float) -> Row | None:
    within = [row for row in rows if row["role"] in roles and row["share"] <= ratio]
    return min(within, key=_upper, default=None)


def _upper(row: Row) -> float:
    return float(row["worse"] if row["high"] is None else row["high"])


def _reached(best: dict[float, Row | None]) -> bool:
    return all(row is not None and _upper(row) <= CLAIMED[ratio] for ratio, row in best.items())


def _figures(best: dict[float, Row | None]) -> str:
    figures = " / ".join("–" if row is None else show(100 * row["worse"], ".2f") for row in best.values())
    return f"{figures}% at ratio {' / '.join(f'{ratio:g}' for ratio in best)}"


def _reason(rows: list[Row]) -> str:
    sentences = []
    for role, words in (
        ("product", "Products over a part of each row's ratings leave those ratings out"),
        ("corrected", "Sampled normal matrices that only correct, by an exact residual, err on what goes to zero"),
        ("structured", "Normal matrices that are applied and never formed need two products with a vector a step"),
        ("baseline", "As much is saved by asking for less, with exact products"),
    ):
        if part := [row for row in rows if row["role"] == role]:
            figures = "; ".join(f"{row['method']} {show(100 * row['worse'], '.2f')}%{_cost(row)}" for row in part)
            sentences.append(f"{words}: {figures}.")
    return "\n".join(sentences)


def _cost(row: Row) -> str:
    time = "" if row["time"] is None else f", {show(row['time'], '.0%')} of the time"
    return f" ({show(row['share'], '.0%')} of the work{time})"


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m3_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M3",
    title="A recommender with all products approximated",
    says=(
        "Films are recommended to the 943 users of MovieLens 100K by factors found with alternating least squares. "
        "With its products approximated at ratios of 50, 30 and 20%, predicted ratings are worse by 0.06, 0.21 and "
        "0.45% in RMSE, where one to five percent would do."
    ),
    claimed="RMSE worse by 0.06 / 0.21 / 0.45% at ratio 50 / 30 / 20%",
    baseline="exact normal equations; sampling; fewer factors and fewer sweeps at the same cost",
    budget=10.0,
    measure=_measure,
    judge=judge,
)
