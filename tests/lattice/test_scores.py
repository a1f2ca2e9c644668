"""Scores: once for each piece of data, from a sample, when there is time."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tithe.errors import InvalidValueError
from tithe.lattice.jobs import Job
from tithe.lattice.scores import Scores, sample
from tithe.lattice.task import Task


def job(data):
    return Job(Task(print, data=data), 0, 0, None, 0.0)


def counting(scores):
    seen = []

    def score(data):
        seen.append(data)
        return scores

    return score, seen


def test_data_is_scored_once_however_many_tasks_use_it():
    score, seen = counting(0.5)
    scores, block = Scores(score), np.ones(10)
    jobs = [job(block) for _ in range(5)]
    for one in jobs:
        scores.join(one)
    assert len(scores) == 1 and scores.known(jobs[0]) is None
    assert scores.advance() == [(jobs[0].group, 0.5)] and len(seen) == 1
    scores.join(job(block))
    assert scores.known(job(block)) == 0.5 and scores.advance() == []


def test_scoring_waits_until_work_pays_for_it():
    score, seen = counting(0.5)
    scores = Scores(score, share=0.02)
    blocks = [np.ones(3) for _ in range(50)]
    for block in blocks:
        scores.join(job(block))
    scores.seconds, scores.count = 1.0, 1  # as if the first one had taken a second
    scores.worked = 90.0
    assert scores.advance() == [] and seen == []
    scores.worked = 110.0
    assert len(scores.advance()) > 0


def test_scores_of_arrays_outlive_their_tasks_and_not_the_arrays():
    score, seen = counting(0.5)
    scores, block = Scores(score), np.ones(10)
    one = job(block)
    scores.join(one)
    scores.advance()
    scores.leave(one)
    again = job(block)
    scores.join(again)
    assert scores.known(again) == 0.5 and len(seen) == 1
    scores.leave(again)
    group = one.group
    seen.clear()
    del block, one, again
    gc.collect()
    assert group not in scores._known


def test_scores_of_what_cannot_be_watched_end_with_the_last_task():
    score, seen = counting(0.5)
    scores, block = Scores(score), [1, 2]
    one, two = job(block), job(block)
    for each in (one, two):
        scores.join(each)
    scores.advance()
    scores.leave(one)
    assert scores.now(two) == 0.5 and len(seen) == 1
    scores.leave(two)
    assert scores._known == {} and scores._users == {}


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_scores_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidValueError, match="from 0 to 1"):
        Scores(lambda data: wrong).now(job("x"))


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(16, 4000))
def test_samples_are_small_views_of_neighbours(shape, most):
    x = np.arange(np.prod(shape)).reshape(shape)
    part = sample(x, most)
    assert part.ndim == x.ndim and part.size >= 1
    assert part.size <= max(2 * most, 1) and (x.size > most or part is x)
    assert part.base is not None or part is x
    if part.shape[-1] > 1:
        assert (np.diff(part, axis=-1) == 1).all()  # along the last axis, neighbours stay neighbours


def test_tensors_are_sampled_too_and_other_data_is_not():
    assert sample(torch.zeros(4000, 28, 28)).numel() <= 2 << 16
    assert sample("x" * 99) == "x" * 99


def test_scores_of_names_are_kept_for_later_and_not_without_end():
    score, seen = counting(0.5)
    scores = Scores(score)
    for number in range(5000):
        one = job(f"block {number}")
        scores.join(one)
        scores.now(one)
        scores.leave(one)
    assert scores.known(job("block 4999")) == 0.5 and scores.known(job("block 0")) is None
    assert len(scores._known) <= 4096 and len(seen) == 5000
