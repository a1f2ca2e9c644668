"""Outcomes for an event loop, which is never blocked: an epoch runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from tithe.lattice.outcome import Outcome

__all__ = ["streamed"]


async def streamed(
    outcomes: Callable[[], Iterator[Outcome]], room: int, cancel: Callable[[str], None]
) -> AsyncIterator[Outcome]:
    """What an iterator gives, as it gives it.

    Args:
        outcomes: starts the iterator; it is called and read in a thread.
        room: how many outcomes may wait for the reader.
        cancel: is called with a reason where the reader leaves early.

    Raises what the iterator raises.
    """
    loop, free = asyncio.get_running_loop(), threading.Semaphore(room)
    news: asyncio.Queue[Outcome | BaseException | None] = asyncio.Queue()

    def work() -> None:
        end: BaseException | None = None
        try:
            for outcome in outcomes():
                free.acquire()
                loop.call_soon_threadsafe(news.put_nowait, outcome)
        except BaseException as error:
            end = error
        loop.call_soon_threadsafe(news.put_nowait, end)

    thread = threading.Thread(target=work, name="lattice-stream", daemon=True)
    thread.start()
    try:
        while isinstance(outcome := await news.get(), Outcome):
            free.release()
            yield outcome
        if outcome is not None:
            raise outcome
    finally:
        if thread.is_alive():
            cancel("its stream was left")
            free.release(room)
            await asyncio.to_thread(thread.join)
