"""M5: a map of 512 stars from a twentieth of the work, and a horizon behind which dark objects are told by stars."""

from __future__ import annotations

import math

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.claims.m2_random_products import CLAIMED as CLAIMED_OF_RANDOM
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["AT_RANDOM", "CERTIFIED", "CLAIM", "CLAIMED", "DARK", "DARK_ALONE", "HORIZON", "INTACT", "ISLANDS", "MEANS",
           "STARS", "STARS_ALONE", "judge"]  # fmt: skip

CLAIMED = {0.5: 2e-6, 0.05: 2.5e-5}  # ratio: relative error
INTACT = 0.999  # share of neighbours that are kept, where constellations count as intact
STARS, DARK = 64, 1216
HORIZON = {"dark_dark": 0.0039, "star_dark": 0.04, "star_star": 0.836}
CERTIFIED = "tithe.matmul"
MEANS, DARK_ALONE, STARS_ALONE, ISLANDS = "means", "dark objects alone", "stars alone", "islands"  # what is known
AT_RANDOM = "at random"
_RANDOM = 1024  # the size of random matrices to compare with
_LEAST = 1e-6  # the least error that is told apart


def judge(found: Evidence) -> Finding:
    """Whether some estimator reaches both errors with constellations intact, and stars alone tell the dark objects.

    It reads the table ``maps`` (map, ratio, method, role, share, error, error without the Sun, neighbours kept), the
    table ``horizon`` (kind of dark objects, what is known, errors of the blocks) and the table ``times``.
    """
    names = list(dict.fromkeys(row["map"] for row in found.rows("maps")))
    if not names:
        return Finding("unmeasured", "Nothing was measured.")
    best = {(name, ratio): _best(found, name, ratio) for name in names for ratio in CLAIMED}
    whole = [name for name in names if all(_reached(best[name, ratio]) for ratio in CLAIMED)]
    kinds = list(dict.fromkeys(row["dark"] for row in found.rows("horizon")))
    told = [kind for kind in kinds if _told(found.rows("horizon", dark=kind, known=STARS_ALONE))]
    shown = whole[0] if whole else names[0]
    errors = " / ".join(show(best[shown, ratio]["error"], ".2g%").removesuffix("%") for ratio in CLAIMED)
    measured = f"{shown}: {errors}% at 50 / 5%, {_kept(best[shown, min(CLAIMED)])} of the neighbours kept"
    reason = _reason(found, names, best, whole)
    summary = (
        f"Errors as claimed with constellations intact on {len(whole)} of {len(names)} maps; "
        f"dark objects told by the stars alone in {len(told)} of {len(kinds)} kinds."
    )
    if len(whole) == len(names) and len(told) == len(kinds):
        return Finding("holds", summary, measured, reason)
    if not whole:
        return Finding("fails", summary, measured, reason)
    condition = f"the map has few directions, as {_listed(whole)} have: as many as a place on the sky has coordinates"
    condition += f"; and for the horizon, if dark objects interact {_listed(told)}" if told else ""
    return Finding("holds if", summary, measured, reason, condition=f"{condition}.")


def _best(found: Evidence, name: str, ratio: float) -> Row:
    """The one that keeps most neighbours among those as accurate as claimed, else the most accurate one."""
    rows = [row for row in found.rows("maps", map=name, ratio=ratio) if row["share"] <= ratio * (1 + 1e-6)]
    accurate = [row for row in rows if row["error"] <= CLAIMED[ratio]]
    if accurate:
        return max(accurate, key=lambda row: (float(row["kept"]), -float(row["error"])))
    return min(rows, key=lambda row: float(row["error"]))


def _reached(row: Row) -> bool:
    return bool(row["error"] <= CLAIMED[row["ratio"]] and row["kept"] >= INTACT)


def _told(rows: list[Row]) -> bool:
    return bool(rows) and all(row[block] <= most for row in rows for block, most in HORIZON.items())


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _kept(row: Row) -> str:
    return show(row["kept"], ".0%" if row["kept"] in (0, 1) else ".1%")


def _reason(found: Evidence, names: list[str], best: dict[tuple[str, float], Row], whole: list[str]) -> str:
    paragraphs = [
        _few_directions(best, whole), _sun(found), _others(best, [name for name in names if name not in whole]),
        _mean_part(found), _from_stars(found), _certified(found),
    ]  # fmt: skip
    return "\n".join(filter(None, paragraphs))


def _few_directions(best: dict[tuple[str, float], Row], whole: list[str]) -> str:
    least = min(CLAIMED)
    words = [f"{name} {show(row['error'], '.2g%')} by {row['method']}" for name in whole for row in [best[name, least]]]
    return f"At 5% a handful of anchors reaches every direction that there is: {'; '.join(words)}." if words else ""


def _sun(found: Evidence) -> str:
    """The starkest case of an error as small as claimed that says nothing about the stars."""
    rows = [row for row in found.rows("maps") if row["error"] <= CLAIMED[row["ratio"]] and "brightness" in row["map"]]
    if not rows:
        return ""
    row = max(rows, key=lambda row: float(row["among"]))
    why = " Beside an anchored Sun float32 rounds the others away." if row["method"].startswith("anchored") else ""
    return (
        "By brightness the Sun is nearly all of the norm, and an error says nothing about constellations: on "
        f"{row['map']} {row['method']} errs by {show(row['error'], '.2g%')}, without the Sun's row and column by "
        f"{show(row['among'], '.2g%')}, and keeps {_kept(row)} of the neighbours.{why}"
    )


def _others(best: dict[tuple[str, float], Row], names: list[str]) -> str:
    least = min(CLAIMED)
    words = [
        f"{name} {show(row['error'], '.2g%')} with {_kept(row)} of the neighbours"
        for name in names
        for row in [best[name, least]]
    ]
    if not words:
        return ""
    return f"Elsewhere 5% of the multiply–adds leave errors or lose neighbours, at best: {'; '.join(words)}."


def _mean_part(found: Evidence) -> str:
    rows = found.rows("horizon", known=MEANS, dark=AT_RANDOM)
    if not rows:
        return ""
    mean, random = (1 / (3 * math.sqrt(n)) for n in (STARS + DARK, _RANDOM))
    claimed, of_random = HORIZON["dark_dark"] / mean, CLAIMED_OF_RANDOM[_RANDOM] / random
    return (
        "The horizon's three figures have the pattern that means make, not stars. Interactions between 0 and 1 have a "
        f"mean, whose part of the product errs by 1/(3√n) = {show(mean, '.2g%')} on dark–dark, whatever the stars are; "
        f"the source's figure is {show(claimed, '.2f')} of that, its figure for random matrices at n = {_RANDOM:,} "
        f"{show(of_random, '.2f')} of theirs. Means cannot show the one entry that no dark object has a share in, the "
        f"Sun with itself: where that is large enough to make star–star err by {show(rows[0]['star_star'], '.3g%')}, "
        f"the rest follows: {_blocks(rows[0])}, and the stars without the Sun {show(rows[0]['no_sun'], '.2g%')}."
    )


def _from_stars(found: Evidence) -> str:
    sentences = []
    for words, label in (
        ("From the stars' own rows and columns", STARS_ALONE),
        ("From as many of the dark objects'", DARK_ALONE),
        ("From islands", ISLANDS),
    ):
        if rows := found.rows("horizon", known=label):
            figures = "; ".join(f"{row['dark']}, {_blocks(row)}" for row in rows)
            sentences.append(f"{words}, {show(rows[0]['share'], '.2g%')} of the multiply–adds: {figures}.")
    stars, means = (found.rows("horizon", known=label, dark=AT_RANDOM) for label in (STARS_ALONE, MEANS))
    if stars and means:
        times = show(stars[0]["dark_dark"] / means[0]["dark_dark"], ".1f")
        sentences.append(
            f"So of what random dark objects are beyond their mean the stars tell nothing: {times} times as much is "
            "lost as there is."
        )
    return " ".join(sentences)


def _blocks(row: Row) -> str:
    words = (("dark–dark", "dark_dark", ".2g%"), ("star–dark", "star_dark", ".2g%"), ("star–star", "star_star", ".3g%"))
    return ", ".join(
        f"{word} {show(row[key], spec) if row[key] >= _LEAST else f'under {_LEAST:.4%}'}" for word, key, spec in words
    )


def _certified(found: Evidence) -> str:
    rows = found.rows("maps", role=CERTIFIED)
    if not rows:
        return ""
    reached = {ratio: sum(_reached(row) for row in rows if row["ratio"] == ratio) for ratio in CLAIMED}
    counts = " and ".join(f"{count} at {show(ratio, '.0%')}" for ratio, count in reached.items())
    times = "; ".join(f"{row['method']} {show(row['time'], '.3g')}" for row in found.rows("times"))
    return (
        f"With its certificate paid for, tithe.matmul(ratio=…) is as claimed on {counts}: of 5% little is left beside "
        "the probes of a product of this size."
        + (f" In seconds, as shares of the plain product of the cosines: {times}." if times else "")
    )


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m5_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M5",
    title="Maps of stars, and the horizon",
    says=(
        "A map of 512 stars of the Hipparcos, Yale and Gliese catalogues, the Sun included, errs by 0.0002% at half "
        "of the work and by 0.0025% at 5%, with the constellations as they are. Of 64 stars and 1,216 random dark "
        "objects, the blocks dark–dark, star–dark and star–star err by 0.39, 4.0 and 83.6%, the last for the Sun "
        "alone: from the 5% that are known, the others are told."
    ),
    claimed="0.0002% at 50%, 0.0025% at 5%; horizon 0.39 / 4.0 / 83.6%",
    baseline="the float32 product for the time, float64 for errors and neighbours",
    budget=5.0,
    measure=_measure,
    judge=judge,
)
