"""What every way of exchanging states between the members of a population offers."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from tithe.tether.exchange.message import Message

__all__ = ["Exchange"]


@runtime_checkable
class Exchange(Protocol):
    """A member's place among the others: it publishes its state and collects theirs.

    A member that comes back under its name after a crash goes on from ``generation``. Not for several threads at once.

    Source: MISSION T2, T4.
    """

    @property
    def name(self) -> str:
        """Name of this member."""
        ...

    @property
    def generation(self) -> int:
        """The last generation published under this name, also by a process before; −1 where there is none."""
        ...

    def publish(
        self,
        tensors: Mapping[str, Tensor],
        *,
        generation: int,
        step: int = 0,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Hand out a state; the others get the newest only.

        Args:
            tensors: by name, of any dtype that safetensors has; copied at once.
            generation: greater than the last.
            step: of the training.
            info: what JSON can hold, such as the loss.

        Raises ``InvalidValueError`` where the generation is not newer or something cannot be sent. O(bytes).
        """
        ...

    def collect(self, like: Mapping[str, Tensor]) -> list[Message]:
        """The newest state of each living peer that is valid and was not taken before.

        Args:
            like: this member's own tensors, which tell what fits (see ``check``).

        Returns:
            Messages by the names of their senders; what is refused is noted in ``refused``. O(bytes that are new).
        """
        ...

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Sender and reason of what was not taken, the last 256, oldest first."""
        ...

    def peers(self) -> list[str]:
        """Names of the other members that are alive."""
        ...

    def leave(self) -> None:
        """Say goodbye; the others stop hearing this member at once. Doing it twice does nothing more."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
