"""From a name, as receipts print it, to the estimator: ``centred(truncated(0.5, int8))``."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from tithe.errors import InvalidValueError
from tithe.product.estimators.anchored import Anchored
from tithe.product.estimators.anchors import STRATEGIES
from tithe.product.estimators.centred import Centred
from tithe.product.estimators.exact import Exact
from tithe.product.estimators.fourier import Fourier
from tithe.product.estimators.interpolated import SIDES, Interpolated
from tithe.product.estimators.low_rank import LowRank
from tithe.product.estimators.mean_field import MeanField
from tithe.product.estimators.protocol import Estimator
from tithe.product.estimators.reduced import KINDS, Reduced
from tithe.product.estimators.sampled import Sampled
from tithe.product.estimators.sketched import Sketched
from tithe.product.estimators.trajectory import Trajectory
from tithe.product.estimators.truncated import Truncated

__all__ = ["METHODS", "from_name"]

#: Families of estimators and what each does; any of ``KINDS`` names a ``reduced`` product too.
METHODS: dict[str, str] = {
    "exact": "the plain product",
    "reduced": "all of it in fewer bits: " + ", ".join(KINDS),
    "mean_field": "the rank-one part made by the means, O(n²)",
    "centred": "the mean part plus another estimator on the rest",
    "truncated": "the heaviest slices of the contraction axis",
    "sampled": "random slices, rescaled to be unbiased (Drineas, Kannan and Mahoney)",
    "sketched": "slices folded at random into fewer (CountSketch)",
    "low_rank": "a low-rank product from a randomised range finder",
    "anchored": "exact rows and columns, the rest from them through their core: " + ", ".join(STRATEGIES),
    "interpolated": "exact rows, the others combined from them as those of one operand are: " + ", ".join(SIDES),
    "fourier": "the heaviest frequencies along the contraction axis",
    "trajectory": "the first slices summed, the end of the process forecast",
}

_SHARED: dict[str, Callable[..., Estimator]] = {
    "truncated": Truncated, "sampled": Sampled, "sketched": Sketched, "low_rank": LowRank, "anchored": Anchored,
    "interpolated": Interpolated, "fourier": Fourier, "trajectory": Trajectory,
}  # fmt: skip
_NUMBERS = dict.fromkeys(_SHARED, 1) | {"low_rank": 2}
_WORDS = {"anchored": STRATEGIES, "interpolated": SIDES}


def from_name(name: str, *, ratio: float | None = None, kind: str = "int8") -> Estimator:
    """The estimator that ``name`` stands for.

    Args:
        name: a family in ``METHODS`` or a kind in ``KINDS``, with arguments in brackets where it takes some.
        ratio: share of the multiply–adds, for families that need one and whose name gives none.
        kind: what ``reduced`` stands for on this machine.

    Raises ``InvalidValueError`` for an unknown name, or a missing ratio. O(len(name)).

    >>> from_name("centred(truncated(0.5, int8))")
    Centred(inner=Truncated(ratio=0.5, inner=Reduced(kind='int8')))
    >>> from_name("sampled", ratio=0.2)
    Sampled(ratio=0.2)
    >>> from_name("anchored(0.1, islands)")
    Anchored(ratio=0.1, strategy='islands')
    """
    family, arguments = _split(name)
    numbers = [float(x) for x in arguments if _is_number(x)]
    words = [x for x in arguments if x in _WORDS.get(family, ())]
    inners = [from_name(x, ratio=ratio, kind=kind) for x in arguments if not _is_number(x) and x not in words]
    takes_inner = family in ("centred", "truncated")
    if len(numbers) > _NUMBERS.get(family, 0) or len(inners) > takes_inner or len(words) > 1:
        raise InvalidValueError(f"method={name!r}: too many arguments; write it like centred(truncated(0.5, int8))")
    if family in _SHARED:
        share = numbers[0] if numbers else ratio
        if share is None:
            raise InvalidValueError(f"method={name!r} needs a share of the multiply–adds: give ratio=, such as 0.2")
        return _SHARED[family](share, *(int(x) if x.is_integer() else x for x in numbers[1:]), *words, *inners)
    if family == "exact":
        return Exact()
    if family == "mean_field":
        return MeanField()
    if family == "reduced" or family in KINDS:
        return Reduced(kind if family == "reduced" else family)
    if family == "centred":
        default: Estimator = Reduced(kind) if ratio is None else Truncated(ratio)
        return Centred(inners[0] if inners else default)
    known = ["auto", *METHODS, *KINDS]
    near = difflib.get_close_matches(family, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidValueError(f"method={name!r} is not known{hint} The methods are {', '.join(known)}")


def _split(name: str) -> tuple[str, list[str]]:
    family, bracket, rest = name.strip().partition("(")
    if not bracket:
        return family, []
    if not rest.endswith(")"):
        raise InvalidValueError(f"method={name!r}: the brackets do not match")
    arguments, depth = [""], 0
    for char in rest[:-1]:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            raise InvalidValueError(f"method={name!r}: the brackets do not match")
        if char == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += char
    return family.strip(), [a.strip() for a in arguments]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
