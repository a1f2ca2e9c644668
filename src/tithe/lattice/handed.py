"""What workers have: chunks of jobs, some of whose results may have come back."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from tithe.lattice.executors.executor import Loss, Report
from tithe.lattice.jobs import Job

__all__ = ["Handed"]


@dataclass(slots=True)
class _Chunk:
    worker: int
    jobs: list[Job]
    seconds: float
    reported: int = 0


class Handed:
    """Knows which job every call of every chunk is."""

    def __init__(self) -> None:
        self._chunks: dict[int, _Chunk] = {}
        self._of_worker: dict[int, list[int]] = {}
        self._last: dict[int, Hashable] = {}

    def __len__(self) -> int:
        return len(self._chunks)

    def give(self, number: int, worker: int, jobs: list[Job], seconds: float) -> None:
        """A worker gets a chunk that is likely to take so many seconds."""
        self._chunks[number] = _Chunk(worker, jobs, seconds)
        self._of_worker.setdefault(worker, []).append(number)
        self._last[worker] = jobs[-1].group

    def take_back(self, news: Report | Loss) -> list[Job]:
        """The jobs that were reported, or all that are lost; none of a chunk that is not known any more."""
        chunk = self._chunks.get(news.chunk)
        if chunk is None:  # of an epoch that was broken off
            return []
        start = chunk.reported
        chunk.reported = start + len(news.results) if isinstance(news, Report) else len(chunk.jobs)
        if isinstance(news, Loss) or news.finished:
            del self._chunks[news.chunk]
            self._of_worker[chunk.worker].remove(news.chunk)
        return chunk.jobs[start : chunk.reported]

    def job(self, number: int, call: int) -> Job | None:
        """The job of a call that was not reported yet."""
        chunk = self._chunks.get(number)
        return chunk.jobs[call] if chunk is not None and chunk.reported <= call < len(chunk.jobs) else None

    def jobs(self) -> Iterator[Job]:
        """All that were not reported."""
        for chunk in self._chunks.values():
            yield from chunk.jobs[chunk.reported :]

    def load(self, worker: int) -> int:
        """How many chunks a worker has."""
        return len(self._of_worker.get(worker, ()))

    def seconds(self, worker: int) -> float:
        """How long all that a worker has is likely to take."""
        return sum([self._chunks[number].seconds for number in self._of_worker.get(worker, ())])

    def last_group(self, worker: int) -> Hashable:
        """The group of the last job that a worker got."""
        return self._last.get(worker)
