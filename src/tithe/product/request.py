"""What a caller asks of a product, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product.certificate import check_confidence
from tithe.product.estimators import Estimator, from_name
from tithe.product.estimators.sampled import check_share

__all__ = ["Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """Tolerance, ratio, method (``auto``, a name or an estimator) and confidence of one call.

    Raises ``InvalidValueError`` or ``InvalidDTypeError`` for what cannot be used.
    """

    tol: float | None
    ratio: float | None
    method: str | Estimator
    confidence: float

    def __post_init__(self) -> None:
        for name, value in (("tol", self.tol), ("ratio", self.ratio), ("confidence", self.confidence)):
            if value is not None and not isinstance(value, int | float):
                raise InvalidDTypeError(f"{name} is a {type(value).__name__}; a number is expected")
        if self.tol is not None and not self.tol > 0:
            raise InvalidValueError(f"tol={self.tol}: a relative error above 0 is expected, such as 1e-2")
        if self.ratio is not None:
            check_share(self.ratio)
        check_confidence(self.confidence)
        if isinstance(self.method, str):
            if not self.auto:
                from_name(self.method, ratio=self.ratio)
        elif isinstance(self.method, type) or not isinstance(self.method, Estimator):
            kind = self.method.__name__ + " class" if isinstance(self.method, type) else type(self.method).__name__
            raise InvalidDTypeError(f"method is a {kind}; a name such as 'auto' or an estimator is expected")

    @property
    def auto(self) -> bool:
        """Whether the planner chooses."""
        return isinstance(self.method, str) and self.method == "auto"

    def estimator(self, kind: str) -> Estimator:
        """The estimator that was named; ``kind`` is what ``reduced`` stands for on this machine."""
        if isinstance(self.method, str):
            return from_name(self.method, ratio=self.ratio, kind=kind)
        return self.method
