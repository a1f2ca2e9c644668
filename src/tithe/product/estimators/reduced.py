"""All the multiply–adds in fewer bits: signs, int8 and fp8 with row and column scales, bf16, fp16, tf32, fp32."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tithe.errors import InvalidValueError
from tithe.product.estimators.protocol import Approximation, Look, Work
from tithe.product.kernels import floats, integers, signs
from tithe.product.pair import Pair, RankOne

__all__ = ["KINDS", "SCALED", "Reduced"]

# Relative root-mean-square error of rounding to p significant bits, values spread over a binade: 0.41·2⁻ᵖ.
_ROUNDING = {kind: 0.41 * 2.0**-bits for kind, bits in
             {"float8": 4, "bfloat16": 8, "float16": 11, "tf32": 11, "float32": 24}.items()}  # fmt: skip
_ROUNDS_RESULT = {"bfloat16", "float16", "float8"}  # float8 products come back as bfloat16
SCALED = (*integers.LEVELS, "float8")
KINDS = (*integers.LEVELS, "sign", *_ROUNDING)


@dataclass(frozen=True, slots=True)
class Reduced:
    """Both operands rounded to ``kind``, multiplied by the units that the hardware has for it, scaled back.

    int7 and int6 use fewer of int8's levels: on CPUs that have AVX2 and no VNNI that is faster. Does every
    multiply–add, in a fraction of the seconds where there are units for it (int8: VNNI or AMX on a CPU,
    tensor cores on a GPU; float8: Ada and Hopper) and many times slower where there are none. ``sign`` keeps one bit
    and the mean magnitude of each line: worth it inside ``centred``, where the means are most of the product.

    Args:
        kind: one of ``KINDS``. Integers and float8 scale each row of A and each column of B to the full range.

    Raises ``InvalidValueError`` for an unknown kind. Source: the error of rounding is modelled as independent and
    uniform, as in Higham and Mary 2019, SIAM J. Sci. Comput. 41(5).

    >>> pair = Pair(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5], [0.25]]))
    >>> Reduced("bfloat16").multiply(pair).tensor(torch.float32)
    tensor([[0.]])
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidValueError(f"kind={self.kind!r}: one of {', '.join(KINDS)} is expected")

    @property
    def name(self) -> str:
        """The kind itself."""
        return self.kind

    def multiply(
        self, pair: Pair, *, generator: torch.Generator | None = None, plus: RankOne | None = None
    ) -> Approximation:
        """The product in fewer bits."""
        if self.kind in integers.LEVELS:
            return Approximation(integers.multiply(pair, self.kind, plus))
        if self.kind == "sign":
            return Approximation(signs.multiply(pair, plus))
        dense = _FLOATS[self.kind](pair)
        if plus is None:
            return Approximation(dense)
        return Approximation(dense.to(pair.wide).addr_(plus.u, plus.v))  # wider than the kind: the means are large

    def work(self, m: int, k: int, n: int, dtype: torch.dtype) -> Work:
        """All the multiply–adds, and the passes that round the operands and scale the result."""
        operands = float(m * k + k * n)
        work = {f"gemm.{self.kind}": float(m) * k * n}
        if self.kind in integers.LEVELS:
            return work | {"round": operands, "rescale": float(m * n)}
        if self.kind == "sign":
            return work | {"pack": operands}
        if self.kind == "float8":
            return work | {"round": operands, "cast": float(m * n)}
        if self.kind == "float16" and dtype != torch.float16:
            return work | {"reach": operands, "cast": 2 * (operands + m * n)}
        if self.kind == "tf32" or self.kind == str(dtype).removeprefix("torch."):
            return work
        return work | {"cast": operands + m * n}

    def expected_error(self, pair: Pair, look: Look) -> float:
        """Rounding errors of both operands (and of the result, where it is rounded too) added in square.

        Of signs: see ``Pair.sign_error``.
        """
        if self.kind == "sign":
            return look.centred * pair.sign_error
        left, right = pair.norms
        if self.kind in integers.LEVELS:
            left_steps, right_steps = pair.reach_norms
            return math.hypot(left_steps * right, right_steps * left) / (math.sqrt(12) * integers.LEVELS[self.kind])
        rounding = _ROUNDING[self.kind]
        operands = 2 * rounding**2 * (left * right) ** 2 / pair.k
        result = _ROUNDING["bfloat16" if self.kind == "float8" else self.kind] if self.kind in _ROUNDS_RESULT else 0.0
        return math.sqrt(operands + (result * look.norm) ** 2)


_FLOATS: dict[str, Callable[[Pair], Tensor]] = {
    "float8": floats.float8,
    "tf32": floats.tf32,
    "bfloat16": lambda pair: floats.cast(pair, torch.bfloat16),
    "float16": lambda pair: floats.cast(pair, torch.float16),
    "float32": lambda pair: floats.cast(pair, torch.float32),
}
