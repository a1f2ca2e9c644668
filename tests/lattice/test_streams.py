"""Many calls at once, futures, and streams for event loops."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import CancelledError

import pytest

from tithe.errors import (
    InvalidStateError,
    InvalidValueError,
)
from tithe.lattice import Lattice, Task


def failing(message="no", kind=ValueError):
    raise kind(message)


class TestMap:
    @pytest.mark.parametrize("chunk", [None, 1, 7])
    def test_values_come_in_order(self, lattice, chunk):
        assert list(lattice.map(pow, range(100), itertools.repeat(2), chunk=chunk)) == [n * n for n in range(100)]
        assert list(lattice.map(abs, [])) == []

    def test_the_first_exception_is_raised_when_it_is_its_turn(self, lattice):
        seen = []
        with pytest.raises(ZeroDivisionError) as caught:
            for value in lattice.map(divmod, itertools.repeat(6), [3, 2, 0, 1, 0], chunk=2):
                seen.append(value)
        assert seen == [(2, 0), (3, 0)] and "in call 1 of 2 of its task" in caught.value.__notes__
        assert list(lattice.map(abs, [-1])) == [1]

    def test_endless_iterables_are_read_as_there_is_room(self, threads):
        count = itertools.count()
        squares = threads.map(pow, count, itertools.repeat(2), chunk=10)
        assert [next(squares) for _ in range(500)] == [n * n for n in range(500)]
        assert next(count) < 10_000  # a worker that waits for a core lets the other one run ahead
        squares.close()
        assert threads.run_epoch([Task(abs, -1)]).results == [1]

    def test_hostile_chunks(self, threads):
        with pytest.raises(InvalidValueError, match="chunk is 0"):
            list(threads.map(abs, [1], chunk=0))


class TestFuturesAndStreams:
    def test_futures(self, threads):
        futures = [threads.submit(Task(pow, 2, n)) for n in range(20)]
        assert [future.result(10) for future in futures] == [2**n for n in range(20)]
        with pytest.raises(ValueError, match="no"):
            threads.submit(Task(failing)).result(10)
        with pytest.raises(InvalidStateError):
            threads.run_epoch([Task(int)])

    def test_an_epoch_cannot_begin_once_something_was_submitted(self):
        for _ in range(50):  # at whatever moment of its beginning the thread behind it is
            with Lattice(1) as lattice:
                future = lattice.submit(Task(int, "3"))
                with pytest.raises(InvalidStateError, match="an epoch is running"):
                    lattice.run_epoch([Task(int)])
                assert future.result(10) == 3

    def test_a_future_can_be_cancelled_until_a_worker_has_its_task(self):
        with Lattice(1) as lattice:
            gate = threading.Event()
            running = lattice.submit(Task(gate.wait))
            ran = []
            waiting = [lattice.submit(Task(ran.append, n)) for n in range(5)]
            assert waiting[3].cancel()
            gate.set()
            assert running.result(10) and [waiting[n].result(10) for n in (0, 1, 2, 4)] == [None] * 4
            with pytest.raises(CancelledError):
                waiting[3].result(10)
        assert 3 not in ran and len(ran) == 4

    def test_closing_waits_for_what_was_submitted(self):
        with Lattice(2) as lattice:
            futures = [lattice.submit(Task(time.sleep, 0.01)) for _ in range(20)]
        assert all(future.done() for future in futures)
        with pytest.raises(InvalidStateError):
            lattice.submit(Task(int))

    def test_an_async_stream(self, lattice):
        async def collect():
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.001)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            found = [outcome.value async for outcome in lattice.stream([Task(pow, 2, n) for n in range(50)])]
            ticking.cancel()
            return found

        assert sorted(asyncio.run(collect())) == [2**n for n in range(50)]

    def test_an_async_stream_may_be_left(self, threads):
        async def some():
            seen = 0
            stream = threads.stream(Task(time.sleep, 0.001) for _ in range(10**9))
            async for _ in stream:
                seen += 1
                if seen == 20:
                    break
            await stream.aclose()

        asyncio.run(some())
        assert threads.run_epoch([Task(abs, -1)]).results == [1]

    def test_errors_of_a_stream_reach_its_reader(self, threads):
        async def read():
            return [outcome async for outcome in threads.stream([Task(int, needs="nobody")])]

        with pytest.raises(InvalidValueError, match="not in this epoch"):
            asyncio.run(read())
