"""``plan``: how to multiply, chosen once for a stream of operands that are alike, and looked after since."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.product.accounts import Tally, plain_cost, receipt_of, seconds_since
from tithe.product.batch import Item, child, join, multiply_item, split
from tithe.product.compiling import opaque
from tithe.product.gradients import differentiable
from tithe.product.guard import Guard
from tithe.product.operands import Shape, check_operands
from tithe.product.planner import Outcome, missed
from tithe.product.rates import Rates, rates
from tithe.product.request import Request
from tithe.product.way import Like, Way
from tithe.receipt import Bound, Cost, Receipt, join_methods

__all__ = ["Plan", "is_due", "plan"]


@opaque
def plan(
    A: Tensor,
    B: Tensor,
    *,
    tol: float,
    confidence: float = 0.999,
    generator: torch.Generator | None = None,
    check_every: int = 32,
) -> Plan:
    """Choose how to multiply operands like these once, and freeze the choice: the ``Plan`` multiplies so when called.

    A call of a plan costs the product, a look at a few of its entries (see ``tithe.product.guard.Guard``) and no
    more: nothing is predicted, and no certificate made. Calls 1, 2, 4, 8, … and then every ``check_every``-th are
    certified as those of ``tithe.matmul`` are, and so is each on which the guard takes alarm. If the bound of such a
    call is above ``tol``, the call is planned anew and answered by that, or by the plain product: the receipt's
    ``tried`` says so, and the schedule begins again. Only where such a call has another number of rows than the one
    that was planned for and the one before it, the choice stays. A plan that came to the plain product looks for
    another way on the same schedule.

    Args:
        A: left operand, shape (..., m, k), of any kind that ``tithe.matmul`` takes; later ones may differ in m, and in
            their batch dimensions too as long as all items share B.
        B: right operand, shape (..., k, n).
        tol: relative error allowed, > 0, of every item of a batch.
        confidence: probability in (0, 1) that the bound of a certified call holds, over all its items.
        generator: makes random choices repeatable; it is advanced by three draws. Fresh entropy without one.
        check_every: calls between two certified ones in the long run, at least 1.

    Returns:
        A ``Plan``. The product of A and B themselves is made once, certified, and dropped.

    Raises:
        InvalidValueError: shapes, devices, or any other argument that cannot be used.
        InvalidDTypeError: operands that are not floating-point tensors of one dtype.

    The bound of a certified call has the scope ``checked``. That of a call in between has the scope ``plan``: it is
    the largest certified one since the plan was made, and its confidence is that of each certificate. What carries it
    over to the call is that operands are alike, which no probe has shown; the guard looks for signs that they are
    not. Gradients are those of the plain product. Operands that change their distribution all the time are dearer
    here than with ``tithe.matmul``. Source: MISSION M1.

    >>> multiply = plan(torch.rand(1024, 1024), torch.rand(1024, 1024), tol=0.02)
    >>> for _ in range(3):
    ...     C, receipt = multiply(torch.rand(1024, 1024), torch.rand(1024, 1024))
    >>> receipt.bound.upper <= 0.02, multiply.calls, multiply.checks
    (True, 3, 2)
    """
    return Plan(A, B, tol, confidence, generator, check_every)


class Plan:
    """A frozen choice of how to multiply, made by ``tithe.plan``; call it with operands like those it was made for.

    Attributes:
        calls: how often it was called.
        checks: how many of these calls were certified, or looked for another way than the plain product.
        alarms: how many of the checks the guard asked for, off the schedule.
        replans: how often the choice was changed.
    """

    def __init__(
        self,
        A: Tensor,
        B: Tensor,
        tol: float,
        confidence: float = 0.999,
        generator: torch.Generator | None = None,
        check_every: int = 32,
    ) -> None:
        shape, self._request = check_operands(A, B), Request(tol, None, "auto", confidence)
        if tol is None:
            raise InvalidDTypeError("tol is None; a plan needs a relative error that it may make, such as 1e-2")
        if not isinstance(check_every, int) or check_every < 1:
            raise InvalidValueError(f"check_every={check_every}: a whole number of calls is expected, at least 1")
        if shape.flops == 0:
            raise InvalidValueError(f"A has shape {tuple(A.shape)} and B {tuple(B.shape)}: nothing to plan from")
        known, start = rates(A.device), time.perf_counter()
        self.calls = self.checks = self.alarms = self.replans = 0
        self._tol, self._check_every, self._age = tol, check_every, 0  # calls since the choice was made
        self._drawing, self._judging = child(generator, A.device), child(generator, A.device)
        self._guard = Guard(self._tol, child(generator, torch.device("cpu")))
        with torch.no_grad(), torch.autocast(A.device.type, enabled=False):
            items = split(A, B, shape)
            failure = (1 - confidence) / len(items)
            outcomes = [self._look(item, failure, known) for item in items]
        self._like = Like.of(A, B, shape)
        self._planned_rows = self._last_rows = len(items[0].A)
        self._ways, self._bound = [Way.of(outcome) for outcome in outcomes], self._largest(outcomes)
        self._tally = Tally(self._receipt(A, B, shape, outcomes, known, start))

    @property
    def method(self) -> str:
        """What products are made by, named as receipts name it."""
        name, *others = (way.name for way in self._ways)
        for other in others:
            name = join_methods(name, other)
        return name

    @property
    def receipt(self) -> Receipt:
        """The sum over all calls, with what planning spent; its confidence is that of all its certificates together."""
        return self._tally.receipt

    def __repr__(self) -> str:
        paid = self.receipt.ratio("seconds") or self.receipt.ratio("flops")
        error = "none" if self._bound == Bound.exact() else f"≤ {self._bound.upper:.3g} where certified"
        return (
            f"Plan: {self.method} for {self._like}\n"
            f"  error {error}, tol={self._tol:g}\n"
            f"  {self.calls} calls, {self.checks} checks, {self.alarms} of them alarms, {self.replans} replans"
            + ("" if paid is None else f"\n  {paid:.1%} of the plain cost, planning included")
        )

    @opaque
    def __call__(self, A: Tensor, B: Tensor) -> tuple[Tensor, Receipt]:
        """The product, shape (..., m, n), and its receipt; see ``tithe.plan``.

        Raises ``InvalidValueError`` for operands of another shape, dtype or device than those it was made for; only m
        may differ.
        """
        shape, kind = check_operands(A, B), A.device.type
        if (like := Like.of(A, B, shape)) != self._like:
            remedy = f"make another for these: tithe.plan(A, B, tol={self._tol:g})"
            raise InvalidValueError(f"this plan is for {self._like}, and was given {like}; {remedy}")
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return self(A, B)
        if shape.flops == 0:
            return A @ B, Receipt("exact", Cost(0.0), Cost(0.0), Bound.exact())
        known, start, before = rates(A.device), time.perf_counter(), self.checks
        due = is_due(self._age + 1, self._check_every)
        if due or any(way.by for way in self._ways):
            outcomes: list[Outcome] = []

            def multiply(A: Tensor, B: Tensor) -> Tensor:
                outcomes.extend(self._multiply(split(A, B, shape), due, known))
                return join([outcome.product for outcome in outcomes], shape)

            product = differentiable(A, B, multiply)
            receipt = self._receipt(A, B, shape, outcomes, known, start)
        else:
            product, self.calls, self._age = A @ B, self.calls + 1, self._age + 1
            spent = Cost(shape.flops, seconds=seconds_since(start, A))
            receipt = Receipt(self.method, spent, plain_cost(known, A, B, shape), Bound.exact())
        self._tally.add(receipt, certified=self.checks > before)
        return product, receipt

    def _multiply(self, items: list[Item], due: bool, known: Rates) -> list[Outcome]:
        """All items, and what follows from them for the plan."""
        outcomes = [self._one(item, way, due, known) for item, way in zip(items, self._ways, strict=True)]
        alarm = not due and any(way.by and o.bound.scope != "plan" for way, o in zip(self._ways, outcomes, strict=True))
        self.calls, self.checks, self.alarms = self.calls + 1, self.checks + (due or alarm), self.alarms + alarm
        ways = [Way.of(outcome) for outcome in outcomes]
        rows, self._age = len(items[0].A), self._age + 1
        if ways == self._ways:
            self._bound = self._largest(outcomes, self._bound)
        elif rows in (self._planned_rows, self._last_rows):  # else it is a last batch, or another stray
            self._age, self._bound, self._ways, self._planned_rows = 0, self._largest(outcomes), ways, rows
            self.replans += 1
            self._guard.reset()
        self._last_rows = rows
        return outcomes

    def _one(self, item: Item, way: Way, due: bool, known: Rates) -> Outcome:
        """One item, certified if that is due or if the guard takes alarm."""
        failure = (1 - self._request.confidence) / len(self._ways)  # of the certificates of one item
        if due:
            return self._checked(item, way, failure, known)
        made = way.make(item, self._drawing)
        if not way.by:
            return Outcome(made.product, way.name, Bound.exact(), made.flops)
        seen = self._guard.look(item.A, item.B, made.product, made.squares)
        spent = made.flops + self._guard.operations(item.A.shape[1])
        if seen <= self._guard.level:
            return Outcome(made.product, way.name, self._bound, spent, by=way.by)
        checked = self._checked(item, way, failure, known)
        if checked.by == way.by:
            self._guard.excuse(seen)
        return replace(checked, flops=spent + checked.flops)

    def _checked(self, item: Item, way: Way, failure: float, known: Rates) -> Outcome:
        """The way of the plan, if its bound keeps the tolerance; else another."""
        if not way.by:
            return self._look(item, failure, known)
        outcome = way.judged(item, self._tol, failure / 2, self._drawing, self._judging)
        if outcome.bound.upper <= self._tol:
            return outcome
        other = self._look(item, failure / 2, known)
        tried = (missed(way.name, outcome.bound, self._tol), *other.tried)
        return replace(other, flops=outcome.flops + other.flops, tried=tried)

    def _look(self, item: Item, failure: float, known: Rates) -> Outcome:
        """The cheapest certified product, as ``tithe.matmul`` finds it."""
        return multiply_item(item, self._request, failure, known, self._drawing, self._judging)

    def _largest(self, outcomes: list[Outcome], *others: Bound) -> Bound:
        worst = max((*others, *(outcome.bound for outcome in outcomes)), key=lambda bound: bound.upper)
        exact = worst == Bound.exact()
        return worst if exact else replace(worst, confidence=self._request.confidence, scope="plan")

    def _receipt(
        self, A: Tensor, B: Tensor, shape: Shape, outcomes: list[Outcome], known: Rates, start: float
    ) -> Receipt:
        spent = Cost(sum(outcome.flops for outcome in outcomes), seconds=seconds_since(start, A))
        return receipt_of(outcomes, spent, plain_cost(known, A, B, shape), self._request.confidence)


def is_due(call: int, every: int) -> bool:
    """Whether that call since the choice, from 1, is certified: 1, 2, 4, 8, …, then each multiple of ``every``.

    >>> [call for call in range(1, 40) if is_due(call, 12)]
    [1, 2, 4, 8, 12, 24, 36]
    """
    return call % every == 0 or (call < every and call.bit_count() == 1)
