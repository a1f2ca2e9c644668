"""Finds the claims: every module of ``tithe.audit.claims`` holds one, as ``CLAIM``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence

from tithe.audit.claim import Claim
from tithe.errors import InvalidValueError, UnknownClaimError

__all__ = ["discover", "select"]


def discover(package: str = "tithe.audit.claims") -> tuple[Claim, ...]:
    """All claims of a package, sorted by id.

    A module ``m2_random_products`` holds claim M2 under the name ``CLAIM``; names that begin with an underscore are
    skipped. A claim imports what is optional inside ``measure``, so that listing works without it.

    Raises ``InvalidValueError`` for a module without a claim, a file name that does not begin with the id, or an id
    used twice. O(modules).

    >>> [claim.id for claim in discover()][:1]
    ['H1']
    """
    home = importlib.import_module(package)
    claims: dict[str, Claim] = {}
    for info in pkgutil.iter_modules(home.__path__):
        if info.name.startswith("_"):
            continue
        claim = getattr(importlib.import_module(f"{package}.{info.name}"), "CLAIM", None)
        if not isinstance(claim, Claim):
            raise InvalidValueError(f"{package}.{info.name} defines no claim; expected CLAIM = Claim(...)")
        if info.name.split("_")[0] != claim.id.lower():
            raise InvalidValueError(f"{package}.{info.name} holds {claim.id}; name the file {claim.id.lower()}_<what>")
        if claim.id in claims:
            raise InvalidValueError(f"{package}: two claims are called {claim.id}")
        claims[claim.id] = claim
    return tuple(sorted(claims.values(), key=lambda claim: claim.order))


def select(claims: Iterable[Claim], ids: Sequence[str]) -> tuple[Claim, ...]:
    """Those of the claims whose ids were asked for (in either case), in their own order; all for no ids.

    Raises ``UnknownClaimError`` naming the known ids. O(claims).

    >>> [claim.id for claim in select(discover(), ["m2"])]
    ['M2']
    >>> select(discover(), ["Z9"])
    Traceback (most recent call last):
    ...
    tithe.errors.UnknownClaimError: unknown claim Z9; the claims are ...
    """
    claims = tuple(claims)
    wanted = {name.upper() for name in ids}
    known = {claim.id for claim in claims}
    if unknown := sorted(wanted - known):
        names = ", ".join(claim.id for claim in claims)
        raise UnknownClaimError(f"unknown claim {', '.join(unknown)}; the claims are {names}")
    return tuple(claim for claim in claims if not wanted or claim.id in wanted)
