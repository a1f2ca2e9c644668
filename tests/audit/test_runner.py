import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tithe.audit import VERDICTS, Evidence, audit
from tithe.errors import DataUnavailableError, InvalidValueError, UnmeasurableError

KEYS = {
    "id", "title", "says", "claimed", "baseline", "verdict", "summary", "measured", "condition", "reason", "seconds",
    "budget", "tables", "plots", "facts", "notes", "error", "mode", "device", "seed",
}  # fmt: skip


def raising(error):
    def measure(run):
        raise error

    return measure


def read(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_reaches_the_report(fake, tmp_path, verdict):
    report = audit([fake(verdict=verdict)], tmp_path, seed=3)
    assert report.exit_code == 0
    found = read(tmp_path)
    assert found == report.to_dict()
    assert set(found) == {"tithe", "date", "mode", "device", "seed", "interrupted", "machine", "claims"}
    (claim,) = found["claims"]
    assert set(claim) == KEYS
    assert (claim["verdict"], claim["seed"], claim["mode"], claim["error"]) == (verdict, 3, "quick", None)
    assert claim["tables"]["errors"]["rows"][0] == {"n": 64, "error": 0.04, "low": 0.03, "high": 0.05}
    assert claim["seconds"] >= 0
    assert f">{verdict}<" in (tmp_path / "report.html").read_text().replace("</i> ", "</i>>").replace("</span>", "<")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataUnavailableError("mnist is in none of its places"), "mnist is in none of its places"),
        (DataUnavailableError("mnist is nowhere:\n  1. look\n  2. find"), "mnist is nowhere:\n  1. look\n  2. find"),
        (UnmeasurableError("needs a CUDA device"), "needs a CUDA device"),
        (ModuleNotFoundError("no ray", name="ray.tune"), "needs the package 'ray.tune', which is not installed"),
    ],
)
def test_what_is_missing_is_said_and_is_no_error(fake, tmp_path, error, reason):
    report = audit([fake(measure=raising(error)), fake("X2")], tmp_path)
    assert report.exit_code == 0
    first, second = read(tmp_path)["claims"]
    assert (first["verdict"], first["reason"], first["error"]) == ("unmeasured", reason, None)
    assert first["summary"] == reason.splitlines()[0]
    assert second["verdict"] == "holds"


@pytest.mark.parametrize("error", [RuntimeError("boom"), ModuleNotFoundError("gone", name="tithe.gone")])
def test_an_unexpected_error_is_shown_and_counts(fake, tmp_path, error):
    report = audit([fake(measure=raising(error)), fake("X2")], tmp_path)
    assert report.exit_code == 1
    first, second = read(tmp_path)["claims"]
    assert first["verdict"] == "unmeasured"
    assert type(error).__name__ in first["reason"]
    assert "Traceback" in first["error"]
    assert str(error) in first["error"]
    assert second["verdict"] == "holds"
    assert "Traceback" in (tmp_path / "report.html").read_text()


def test_a_judge_that_raises_leaves_the_evidence(fake, tmp_path):
    report = audit([fake(judge=raising(KeyError("no such fact")))], tmp_path)
    assert report.exit_code == 1
    assert read(tmp_path)["claims"][0]["facts"] == {"exponent": -0.5}


def test_the_report_is_written_after_every_claim(fake, tmp_path):
    seen = []

    def measure(run):
        seen.append([claim["summary"] for claim in read(tmp_path)["claims"]])
        return Evidence()

    audit([fake("X1", measure=measure), fake("X2", measure=measure)], tmp_path)
    assert seen == [["not reached yet"] * 2, ["X1 ends so.", "not reached yet"]]


def test_an_interruption_keeps_what_is_finished(fake, tmp_path):
    report = audit([fake("X1"), fake("X2", measure=raising(KeyboardInterrupt())), fake("X3")], tmp_path)
    assert report.exit_code == 130
    found = read(tmp_path)
    assert found["interrupted"]
    assert [claim["verdict"] for claim in found["claims"]] == ["holds", "unmeasured", "unmeasured"]
    assert [claim["reason"] for claim in found["claims"]][1:] == ["interrupted"] * 2
    assert "interrupted" in (tmp_path / "report.html").read_text()


def test_quick_runs_have_a_deadline_and_full_ones_none(fake, tmp_path):
    left = []
    claim = fake(measure=lambda run: left.append(run.left()) or Evidence(), budget=50.0)
    audit([claim], tmp_path)
    audit([claim], tmp_path, mode="full")
    assert 40 < left[0] <= 50
    assert left[1] == float("inf")


def test_events_tell_of_start_progress_and_result(fake, tmp_path):
    def measure(run):
        run.progress(0.5, "halfway")
        return Evidence()

    events = []
    audit([fake(measure=measure)], tmp_path, watch=events.append)
    assert [(event.done, event.what) for event in events] == [(0.0, "starts"), (0.5, "halfway"), (1.0, "holds")]
    assert [event.result is None for event in events] == [True, True, False]


@pytest.mark.parametrize("given", [{"mode": "slow"}, {"device": "tpu"}])
def test_unknown_modes_and_devices_are_refused(fake, tmp_path, given):
    with pytest.raises(InvalidValueError, match="unknown"):
        audit([fake()], tmp_path, **given)


def test_a_missing_device_is_refused_before_anything_runs(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InvalidValueError, match="no CUDA device"):
        audit([fake(measure=raising(AssertionError()))], tmp_path, device="cuda")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(fake, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        audit([fake(measure=raising(AssertionError()))], tmp_path / "file")


INTERRUPTED = """
import sys, time
import tithe.audit, tithe.cli
from tithe.audit import Claim, Evidence, Finding

def sleep(run):
    run.progress(0.5, "sleeps")
    print("asleep", flush=True)
    time.sleep(60)

def claim(id, measure):
    return Claim(id=id, title="", says="", claimed="", baseline="", budget=1.0, measure=measure,
                 judge=lambda found: Finding("holds", "Finished."))

claims = (claim("X1", lambda run: Evidence()), claim("X2", sleep), claim("X3", sleep))
tithe.audit.discover = lambda: claims
sys.exit(tithe.cli.main(["audit", "--out", sys.argv[1]]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to a process")
def test_ctrl_c_in_a_real_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stdout.readline() == "asleep\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert [claim["summary"] for claim in read(tmp_path)["claims"]] == ["Finished.", "interrupted", "interrupted"]
    assert (tmp_path / "report.html").exists()
    assert "Traceback" not in err
    assert "Finished." in out
