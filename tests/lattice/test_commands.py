"""``tithe lattice run``, as a shell calls it."""

import json
import subprocess
import sys

import pytest

from tithe.errors import InvalidDTypeError, InvalidValueError
from tithe.lattice.commands import calls, function, listed

WORK = """
import os, signal
from tithe.lattice import Task

def half(x, by=2):
    return x / by

def tasks():
    yield Task(half, 3)
    yield Task(half, "no")

def three():
    return 3
"""


@pytest.fixture
def shell(tmp_path):
    (tmp_path / "work.py").write_text(WORK)

    def run(*arguments, given=""):
        command = [sys.executable, "-m", "tithe.cli", "lattice", "run", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, text=True, timeout=60)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


def test_a_call_for_each_line_and_only_those_that_are_not_done(shell, tmp_path):
    (tmp_path / "in.jsonl").write_text('[3]\n\n{"x": 9, "by": 3}\n"no"\n')
    code, lines, errors = shell("work:half", "--each", "in.jsonl", "-j", 2, "--journal", "journal.db", "--retries", 1)
    assert code == 1 and sorted(line.get("value", 0) for line in lines) == [0, 1.5, 3.0]
    (failed,) = (line for line in lines if line["status"] == "failed")
    assert failed["error"].startswith("TypeError") and failed["attempts"] == 2 and "2 done" in errors
    code, lines, errors = shell("work:half", "--each", "in.jsonl", "--journal", "journal.db")
    assert code == 1 and [line["attempts"] for line in lines if line["status"] == "done"] == [0, 0]


def test_tasks_of_a_function_and_lines_of_the_standard_input(shell):
    code, lines, _ = shell("work:tasks", "--executor", "threads")
    assert code == 1 and sorted(line["status"] for line in lines) == ["done", "failed"]
    code, lines, _ = shell("work:half", "--each", "-", "--executor", "inline", given="1\n2\n")
    assert code == 0 and [line["value"] for line in lines] == [0.5, 1.0]


@pytest.mark.parametrize("target", ["work", "work:", ":half", "nowhere:f", "work:nothing", "os:sep"])
def test_targets_that_are_none(target):
    with pytest.raises(InvalidValueError, match=r"names no function|cannot be had|name a function"):
        function(target)


def test_wrong_lines_and_wrong_returns(shell):
    with pytest.raises(InvalidValueError, match="line 2 is no JSON"):
        list(calls("math:sqrt", ["1", "{"]))
    with pytest.raises(InvalidDTypeError, match="returned a float"):
        listed("time:monotonic")
    code, lines, errors = shell("work:three", "--executor", "inline")
    assert code == 1 and not lines and "returned a int" in errors
