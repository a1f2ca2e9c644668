"""Exchange of states by way of a process group: the fastest, as long as no member is lost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch import distributed as dist

from tithe.errors import CorruptFileError, InvalidStateError, InvalidValueError
from tithe.tether.exchange.hearing import Hearing
from tithe.tether.exchange.message import DTYPES, MOST_BYTES, Message, head_of, message_of, need_dense, valid_name

__all__ = ["GroupExchange"]

_MOST_HEADER = 1 << 22
_ALIGNED = 16  # bytes; a view as another dtype must begin at a multiple of its size


class GroupExchange:
    """A member of a population whose members are the ranks of one intact ``torch.distributed`` process group.

    To make one and to ``collect`` are collective: all ranks do it, as often and in the same order, and wait for each
    other. A rank that has published nothing since takes part and sends nothing. States travel in one flat buffer,
    padded to the largest, and stay on the GPU with NCCL.

    A process group does not survive the loss of a rank: with gloo the others get ``InvalidStateError`` as soon as the
    connection breaks or the group's timeout has passed, with NCCL its watchdog may end their processes. Where members
    come and go, use ``StoreExchange`` or ``FolderExchange``.

    Args:
        group: ``None`` for the default one.
        name: this member's own; by default ``rank0``, ``rank1``, ….
        device: of the buffers; by default the current GPU with NCCL, else the CPU.
        most_age: generations that a peer may be behind this member; ``None`` for any.
        most_bytes: of a state; the least among the ranks counts for all.

    Raises ``InvalidStateError`` where there is no process group, or a rank is lost, ``InvalidValueError`` where two
    ranks have one name. Memory: ranks · largest state. Source: MISSION T2.

    >>> from torch import distributed as dist
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> with GroupExchange() as alone:
    ...     alone.publish({"w": torch.ones(2)}, generation=0)
    ...     alone.collect({"w": torch.zeros(2)})
    []
    >>> dist.destroy_process_group()
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None = None,
        name: str | None = None,
        *,
        device: torch.device | str | None = None,
        most_age: int | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        if not dist.is_initialized():
            raise InvalidStateError("there is no process group; call torch.distributed.init_process_group before")
        self._group, self._most_bytes = group, most_bytes
        self._rank, self._ranks = dist.get_rank(group), dist.get_world_size(group)
        own = f"rank{self._rank}" if name is None else name
        self._hearing = Hearing(own, most_age=most_age)
        if device is None:
            device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else "cpu"
        self._device = torch.device(device)
        self._outgoing = _none(self._device)
        self._closed, self._lost = False, ""
        text = own.encode().ljust(64)
        found = self._gather(_bytes(text, self._device))
        self._names = [valid_name(bytes(row.tolist()).decode().strip()) for row in found]
        if len(set(self._names)) < self._ranks:
            raise InvalidValueError(f"the ranks are called {', '.join(self._names)}; give each a name of its own")

    @property
    def name(self) -> str:
        """Name of this member."""
        return self._hearing.name

    @property
    def generation(self) -> int:
        """The last generation that this member published; −1 before the first."""
        return self._hearing.generation

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Sender and reason of what was not taken, the last 256, oldest first."""
        return list(self._hearing.refused)

    def publish(
        self,
        tensors: Mapping[str, Tensor],
        *,
        generation: int,
        step: int = 0,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Copy a state that the next ``collect`` hands out (see ``Exchange``); this waits for nobody."""
        self._open()
        text = head_of(Message(self.name, generation, step, tensors, info or {}))
        self._hearing.newer(generation)
        need_dense(tensors)
        layout = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()]
        header = json.dumps([text, layout]).encode()
        size = sum(_padded(tensor.nbytes) for tensor in tensors.values())
        if size > self._most_bytes or len(header) > _MOST_HEADER:
            raise InvalidValueError(
                f"a state of {size} bytes and a header of {len(header)}; at most {self._most_bytes} and {_MOST_HEADER}"
            )
        flat, start = torch.zeros(size, dtype=torch.uint8, device=self._device), 0
        for tensor in tensors.values():
            content = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            flat[start : start + len(content)].copy_(content)
            start += _padded(len(content))
        self._outgoing = (_bytes(header, self._device), flat)
        self._hearing.generation = generation

    def collect(self, like: Mapping[str, Tensor]) -> list[Message]:
        """The states that the others have published since (see ``Exchange``); waits until all ranks collect."""
        self._open()
        header, flat = self._outgoing
        sizes = self._gather(torch.tensor([len(header), len(flat), self._most_bytes], device=self._device)).tolist()
        most = min(limit for _, _, limit in sizes)  # all ranks find the same
        for rank, (_, size, _) in enumerate(sizes):
            if size > most:
                self._hearing.refuse(self._names[rank], f"has {size} bytes; at most {most} are taken")
                sizes[rank] = [0, 0, 0]
        if sizes[self._rank][0] == 0:
            header, flat = _none(self._device)
        headers = self._gather(_filled(header, max(size for size, _, _ in sizes)))
        buffers = self._gather(_filled(flat, max(size for _, size, _ in sizes)))
        self._outgoing = _none(self._device)
        found = []
        for rank in sorted(range(self._ranks), key=lambda rank: self._names[rank]):
            length, size, _ = sizes[rank]
            if rank == self._rank or length == 0:
                continue
            try:
                message = _parsed(bytes(headers[rank, :length].cpu().numpy()), buffers[rank, :size])
            except CorruptFileError as error:
                self._hearing.refuse(self._names[rank], str(error))
                continue
            taken = self._hearing.take(self._names[rank], message, like)
            found += [taken] if taken else []
        return found

    def peers(self) -> list[str]:
        """Names of the other ranks; none once one is lost."""
        return [] if self._lost else sorted(set(self._names) - {self.name})

    def leave(self) -> None:
        """Take no further part. Ranks that go on collecting would wait for this one: leave together."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def _gather(self, own: Tensor) -> Tensor:
        """What each rank has, (ranks, …); all of one shape."""
        found = own.new_empty(self._ranks, *own.shape)
        if own.numel():
            with self._reaching():
                dist.all_gather(list(found.unbind()), own, group=self._group)
        return found

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._lost = str(error).partition("\n")[0][:200]
            self._open()

    def _open(self) -> None:
        if self._closed:
            raise InvalidStateError(f"{self.name!r} has left; make a new GroupExchange to come back")
        if self._lost:
            raise InvalidStateError(
                f"a rank of the process group is lost ({self._lost}), and a group does not survive that: "
                f"start all ranks anew, or use StoreExchange or FolderExchange, in which members come and go"
            )


def _parsed(header: bytes, flat: Tensor) -> Message:
    try:
        text, layout = json.loads(header)
        tensors, start = {}, 0
        for name, kind, shape in layout:
            dtype = DTYPES[kind]
            size = torch.Size(shape).numel() * dtype.itemsize
            if not 0 <= size <= len(flat) - start:
                raise CorruptFileError(f"announces {size} bytes of {name!r}, more than it has")
            tensors[name] = flat[start : start + size].view(dtype).view(shape)
            start += _padded(size)
    except (LookupError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptFileError(f"is no message ({type(error).__name__}: {str(error)[:200]})") from error
    return message_of(text, tensors)


def _none(device: torch.device) -> tuple[Tensor, Tensor]:
    return (torch.zeros(0, dtype=torch.uint8, device=device), torch.zeros(0, dtype=torch.uint8, device=device))


def _bytes(content: bytes, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)


def _filled(content: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(content, (0, size - len(content)))


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
