"""A training that is killed at random moments ends as if it had not been."""

import sys

import pytest
from benchmarks.pipeline_crashes import Crashes, crash


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_training_that_is_killed_goes_on():
    found = crash(3, seed=1, longest=1.5)
    assert found == Crashes(kills=3, runs=found.runs)
    assert found.runs >= 1
