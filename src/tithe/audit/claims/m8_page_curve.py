"""M8: the centre of a black hole's kernel, restored from a few lines of it, if they are the right ones."""

from __future__ import annotations

from tithe.audit.claim import Claim, Finding, Run
from tithe.audit.evidence import Evidence, Row
from tithe.audit.formatting import show

__all__ = ["CLAIM", "CURVE", "MOST", "STRATEGY_ERRORS", "judge"]

STRATEGY_ERRORS = {"exterior": 0.99999, "ring": 0.783, "random": 0.145, "islands": 0.034}
CURVE = {3: 0.296, 11: 0.043, 38: 0.035}  # by anchors: 1.1, 4.3 and 15 % of 256 points; without islands it is 100 %
MOST = max(CURVE)
_LOST = 0.99  # of the block: all of it, for what a kernel's tail is worth


def judge(found: Evidence) -> Finding:
    """For which kernels islands reach every claimed error while the other strategies come in the claimed order.

    It reads the table ``errors`` (kernel, anchors, strategy, role, share of the multiply–adds, error of the singular
    block with its ends), the table ``times`` and the share of the block.
    """
    kernels = list(dict.fromkeys(row["kernel"] for row in found.rows("errors")))
    if not kernels:
        return Finding("unmeasured", "Nothing was measured.")
    met = [name for name in kernels if _met(found, name)]
    measured = f"islands {_span(found, met or kernels)} at {' / '.join(map(str, CURVE))} anchors"
    reason = "\n".join(filter(None, (_why(found, met or kernels), _missed(found, kernels, met), _cost(found))))
    if met == kernels:
        return Finding("holds", "Islands restore the block on every kernel, in the claimed order.", measured, reason)
    if not met:
        return Finding("fails", "On no kernel are the claimed errors reached in their order.", measured, reason)
    summary = f"Reached in the claimed order on {len(met)} of {len(kernels)} kernels that fit the description"
    costs = [row["share"] for row in found.rows("errors", strategy="islands", anchors=MOST)]
    if costs:
        summary += f"; {MOST} islands cost {show(max(costs), '.0%')} of the multiply–adds"
    condition = (
        f"the kernel is {_listed(met)} (in radii of the horizon): on smoother ones random anchors are enough, on "
        "rougher ones islands are not."
    )
    return Finding("holds if", f"{summary}.", measured, reason, condition=condition)


def _met(found: Evidence, kernel: str) -> bool:
    islands = {n: _row(found, kernel, "islands", n) for n in CURVE}
    if any(row is None or _upper(row) > CURVE[n] for n, row in islands.items()):
        return False
    exterior, ring, random, best = (_error(found, kernel, name, MOST) for name in STRATEGY_ERRORS)
    return exterior >= _LOST and ring > random > STRATEGY_ERRORS["islands"] >= best


def _row(found: Evidence, kernel: str, strategy: str, anchors: int) -> Row | None:
    return next(iter(found.rows("errors", kernel=kernel, strategy=strategy, anchors=anchors)), None)


def _error(found: Evidence, kernel: str, strategy: str, anchors: int) -> float:
    row = _row(found, kernel, strategy, anchors)
    return float("nan") if row is None else float(row["error"])


def _upper(row: Row) -> float:
    return float(row["error"] if row["high"] is None else row["high"])


def _span(found: Evidence, kernels: list[str]) -> str:
    """Of the hardest kernel, at each number of anchors."""
    worst = [max(_error(found, kernel, "islands", n) for kernel in kernels) for n in CURVE]
    return f"{_slashed(worst)} or less"


def _why(found: Evidence, kernels: list[str]) -> str:
    """The strategies on the hardest of these kernels, and what other lines and the best matrix of the rank reach."""
    hard = max(kernels, key=lambda kernel: _error(found, kernel, "islands", MOST))

    def figures(names: tuple[str, ...], anchors: int) -> str:
        rows = [(name, _row(found, hard, name, anchors)) for name in names]
        return ", ".join(f"{name} {show(row['error'], '.2g%')}" for name, row in rows if row is not None)

    few = sorted(CURVE)[1]
    return (
        f"The kernel {hard}, {MOST} anchors: {figures((*STRATEGY_ERRORS, 'golden'), MOST)}. A block is lost where no "
        "anchor lies near it, and those that do restore what few directions carry: islands, the greedy choice that "
        f"reveals the rank, are not special, and golden anchors, spread evenly, know of no singularity. {few} anchors: "
        f"{figures(('islands', 'golden', 'inside', 'best rank', 'best rank of the block'), few)} (inside: random lines "
        "through the block; best rank: by eigenvalues). An error that falls with every anchor is no Page curve "
        "either, which rises before it falls."
    )


def _missed(found: Evidence, kernels: list[str], met: list[str]) -> str:
    """On which kernels islands are not needed, and what they reach on those that are left."""
    rest = [kernel for kernel in kernels if kernel not in met]
    random = {kernel: _error(found, kernel, "random", MOST) for kernel in rest}
    needless = [kernel for kernel in rest if random[kernel] <= STRATEGY_ERRORS["islands"]]
    sentences = [f"Random anchors are enough where the kernel is {_listed(needless)}."] if needless else []
    words = [
        f"{kernel}: islands {_slashed([_error(found, kernel, 'islands', n) for n in CURVE])}, random anchors "
        f"{show(random[kernel], '.2g%')}"
        for kernel in rest
        if kernel not in needless
    ]
    if words:
        sentences.append(f"Not so, at {' / '.join(map(str, CURVE))} anchors: {'; '.join(words)}.")
    return " ".join(sentences)


def _cost(found: Evidence) -> str:
    words = []
    for row in found.rows("times", strategy="islands"):
        words.append(
            f"{row['anchors']} anchors take {show(row['share'], '.2g%')} of the multiply–adds and "
            f"{show(row['time'], '.2g%')} of the seconds"
        )
    block = found.facts.get("block share")
    if not words or block is None:
        return ""
    return (
        f"Of the plain product of 256 × 256 matrices, islands at {'; at '.join(words)}. The block alone, multiplied "
        f"plainly, is exact for {show(block, '.2g%')} of the multiply–adds."
    )


def _slashed(errors: list[float]) -> str:
    return " / ".join(show(error, ".2g%").removesuffix("%") for error in errors) + "%"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])}; or {names[-1]}"


def _measure(run: Run) -> Evidence:
    from tithe.audit.claims._m8_measure import measure  # imports torch: not needed to list the claim

    return measure(run)


CLAIM = Claim(
    id="M8",
    title="Page curve by anchor strategy",
    says=(
        "In a kernel of 256 points with a Schwarzschild-like metric the block of the singularity is restored from "
        "anchors. With anchors in the exterior alone all of it is lost, with a ring at the horizon 78.3%, at random "
        "14.5%, and with islands 3.4%. As islands are added, the error falls as a Page curve does."
    ),
    claimed="exterior 99.999, ring 78.3, random 14.5, islands 3.4%; by islands 29.6 / 4.3 / 3.5% at 1.1 / 4.3 / 15%",
    baseline="the plain product in float64; the best matrix of the same rank; random lines through the block",
    budget=4.0,
    measure=_measure,
    judge=judge,
)
