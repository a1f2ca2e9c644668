"""M6: Monte Carlo of a Lennard-Jones liquid whose energies come from approximate products, hidden by its noise."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "CLAIMED", "RATIO", "judge"]

CLAIMED = {128: 20.6, 256: 64.1, 512: 1.0}  # particles: statistical noise / error, the best of some settings
RATIO = 0.5  # largest share of the multiply–adds; the source names none here, and half is its most elsewhere
_NOISES = {"run": "the mean of a run", "one": "a single configuration"}


def judge(found: Evidence) -> Finding:
    """Whether a product within half of the work errs by so much less than the noise, of a run or of a configuration.

    It reads the tables ``errors`` (N, what is summed over, method, role, share of the multiply–adds, mean error, and
    both ratios with their ends), ``liquid`` (N, noise) and ``times``.
    """
    rows = found.rows("errors")
    sizes = [n for n in CLAIMED if found.rows("errors", n=n)]
    if not sizes:
        return Finding("unmeasured", "Nothing was measured.")
    within = [row for row in rows if row["share"] <= RATIO]
    fourier = [row for row in within if row["role"] == "fourier"]
    products = [row for row in within if row["role"] in ("fourier", "product")]
    figures = " / ".join(show(_best(fourier, n, "one"), ".2g") for n in sizes)
    measured = f"{figures} by a Fourier basis at N = {' / '.join(map(str, sizes))}, for one configuration"
    reason = "\n".join(filter(None, (_bias(found, fourier, sizes), _waves(rows), _hidden(rows), _cost(found))))
    if _reached(fourier, sizes, "run"):
        return Finding("holds", "A Fourier basis errs by as little within half of the work.", measured, reason)
    for some, words in ((fourier, "a Fourier basis"), (products, "some product other than by a Fourier basis")):
        for noise in _NOISES:
            if _reached(some, sizes, noise):
                condition = f"the noise is that of {_NOISES[noise]} and the energy comes from {words}."
                return Finding("holds if", "Reached within half of the work.", measured, reason, condition=condition)
    least = show(min(1 / _best(fourier, n, "one") for n in sizes), ".2g")
    summary = f"Within half of the work a Fourier basis errs by {least} times the noise of a configuration or more."
    return Finding("fails", summary, measured, reason)


def _best(rows: list[Row], n: int, noise: str) -> float:
    return max((float(row[noise]) for row in rows if row["n"] == n), default=float("nan"))


def _reached(rows: list[Row], sizes: list[int], noise: str) -> bool:
    def low(row: Row) -> float:
        end = row[f"{noise}_low"]
        return float(row[noise] if end is None else end)

    return all(any(low(row) >= CLAIMED[n] for row in rows if row["n"] == n) for n in sizes)


def _bias(found: Evidence, fourier: list[Row], sizes: list[int]) -> str:
    rows = [row for row in fourier if row["over"] == "particles"]
    words = []
    for n in sizes:
        part = [row for row in rows if row["n"] == n]
        liquid = found.rows("liquid", n=n)
        if part and liquid:
            best = max(part, key=lambda row: float(row["one"]))
            words.append(
                f"at N = {n} by {show(best['bias'], '+.2f')} a particle ({best['method']}), the noise being "
                f"{show(liquid[0]['one'], '.2g')} of a configuration and {show(liquid[0]['run'], '.2g')} of a run"
            )
    if not words:
        return ""
    known = max(row["corrected"] for row in rows)
    spread = min(row["spread"] for row in rows)
    return (
        f"Over particles a Fourier basis errs {'; '.join(words)}. tr(W·W) is a sum of squares over frequencies, so "
        "what is dropped is always missing: a bias that no run, however long, averages out. Were its mean known and "
        f"subtracted, the ratio would be {show(known, '.2g')} at best; and the total energy's error varies by "
        f"{show(spread, '.2g')} kT or more between configurations: Boltzmann factors of another liquid."
    )


def _waves(rows: list[Row]) -> str:
    some = [row for row in rows if row["over"] == "waves"]
    if not some:
        return ""
    n = max(row["n"] for row in some)
    words = [f"{show(row['share'], 'g')}·N slices {show(row['bias'], '+.2g')}" for row in some if row["n"] == n]
    return (
        f"Over waves, N = {n}, errors a particle are: {'; '.join(words)}. The potential rises so steeply within a "
        "diameter that its spectrum hardly ends, and N slices cost as much as the plain product."
    )


def _hidden(rows: list[Row]) -> str:
    """What makes a ratio large without a product that is good."""
    sentences = [
        "How noise is counted decides such a ratio: that of a run falls with the root of its length and a bias stays, "
        f"so {CLAIMED[128]:g} times a bias is the noise of a run {show(CLAIMED[128] ** 2, ',.0f')} times too short to "
        "see it."
    ]
    for row in [row for row in rows if row["role"] == "reduced"][-1:]:
        sentences.append(
            f"{row['method']} (all multiply–adds in fewer bits, N = {row['n']}) has {show(row['one'], '.2g')} for a "
            f"configuration and {show(row['run'], '.2g')} for a run."
        )
    for row in [row for row in rows if row["role"] == "weights"][-1:]:
        sentences.append(
            f"{row['method']} errs by {show(row['matrix'], '.2g%')} of the matrix and {show(row['rms'], '.1g')} in the "
            "energy: it draws slices by the squares of their norms, whose sum is the trace, so the energy is known "
            "from an O(N²) pass over W before anything is multiplied."
        )
    for row in [row for row in rows if row["method"].startswith("sketched")][-1:]:
        sentences.append(
            f"Unbiased errors are noise themselves: {row['method']} has {show(row['one'], '.2g')} for a configuration, "
            "and averages out."
        )
    return " ".join(sentences)


def _cost(found: Evidence) -> str:
    words = [
        f"{row['way']} {show(row['share'], '.2g%')} of the multiply–adds and {show(row['time'], '.2g%')} of the seconds"
        for row in found.rows("times")
    ]
    if not words:
        return ""
    n = found.rows("times")[0]["n"]
    return (
        f"No product is needed. Beside the plain one at N = {n}: {'; '.join(words)}. The difference of each move "
        f"is what a practitioner computes anyway; their sum is the energy, here to {show(found.facts['drift'], '.0e')}."
    )


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m6_measure import measure  # imports torch and numba: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M6",
    title="Monte Carlo with approximate energies",
    says=(
        "A Lennard-Jones system is simulated by Monte Carlo with products in a Fourier-projection basis. Their error "
        "is smaller than the statistical noise, 20.6 times at 128 particles, 64.1 times at 256 and in every setting "
        "at 512: the approximation is free."
    ),
    claimed="noise / error 20.6 at N = 128, 64.1 at 256, > 1 at 512",
    baseline="the plain product; the sum over pairs; the O(N) difference of each Metropolis move",
    budget=8.0,
    measure=_measure,
    judge=judge,
)
