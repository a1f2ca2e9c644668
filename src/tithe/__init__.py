"""Tithe: pay a tenth of the compute, and get a receipt.

>>> import torch, tithe
>>> A, B = torch.rand(1024, 1024), torch.rand(1024, 1024)
>>> C, receipt = tithe.matmul(A, B, tol=2e-2)
>>> receipt.bound.upper <= 2e-2
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> where it lives. Nothing of it is imported before it is used, so `import tithe` stays fast.
_EXPORTS = {
    "Attempt": "tithe.receipt",
    "Bound": "tithe.receipt",
    "Cost": "tithe.receipt",
    "Ledger": "tithe.ledger",
    "Meter": "tithe.meter",
    "Receipt": "tithe.receipt",
    "convert": "tithe.product",
    "matmul": "tithe.product",
    "paired": "tithe.meter",
    "plan": "tithe.product",
    "restore": "tithe.product",
}
_SUBPACKAGES = (
    "audit", "calibration", "data", "errors", "files", "golden", "hashtron", "integrations", "lattice", "ledger",
    "machine", "meter", "product", "receipt", "resolvent", "tether",
)  # fmt: skip

__all__ = [
    "Attempt",
    "Bound",
    "Cost",
    "Ledger",
    "Meter",
    "Receipt",
    "__version__",
    "convert",
    "matmul",
    "paired",
    "plan",
    "restore",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
        globals()[name] = value
        return value
    if name in _SUBPACKAGES:
        return importlib.import_module(f"tithe.{name}")
    raise AttributeError(f"module 'tithe' has no attribute {name!r}; its public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})


if TYPE_CHECKING:
    from tithe.ledger import Ledger
    from tithe.meter import Meter, paired
    from tithe.product.conversion import convert, restore
    from tithe.product.matmul import matmul
    from tithe.product.plan import plan
    from tithe.receipt import Attempt, Bound, Cost, Receipt
