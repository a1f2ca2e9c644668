import json
import re
import subprocess
import sys

import pytest

import tithe
import tithe.audit
from tithe.audit import Claim, Evidence, Finding
from tithe.cli import main


def run(*arguments, timeout=60):
    return subprocess.run(
        [sys.executable, "-m", "tithe", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture
def claims(monkeypatch):
    def make(id, measure):
        return Claim(
            id=id, title=f"Claim {id}", says="", claimed="5%", baseline="", budget=1.5, measure=measure,
            judge=lambda found: Finding("holds", f"{id} was measured [so it is]."),
        )  # fmt: skip

    def broken(run):
        raise RuntimeError("boom [/]")

    found = (make("X1", lambda run: Evidence(facts={"mode": run.mode, "seed": run.seed})), make("X2", broken))
    monkeypatch.setattr(tithe.audit, "discover", lambda: found)
    return found


def test_version_and_help_from_a_shell():
    version = run("--version")
    assert (version.returncode, version.stdout.strip()) == (0, tithe.__version__)
    usage = run("--help")
    assert usage.returncode == 0
    assert all(command in usage.stdout for command in ("audit", "data", "machine"))


def test_the_command_line_does_not_import_torch_before_it_is_needed():
    code = (
        "import sys; from tithe.cli import main\n"
        "for line in ('--help', 'audit --help', 'audit --list', '--version'): assert main(line.split()) == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_an_unknown_claim_names_the_known_ones(tmp_path):
    found = run("audit", "M2", "q7", "--out", str(tmp_path / "out"))
    assert found.returncode == 2
    assert "unknown claim Q7; the claims are H1, H2, H3" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "out").exists()


def test_audit_writes_the_report_and_says_where(claims, tmp_path, capsys):
    assert main(["audit", "x1", "--out", str(tmp_path), "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert "X1 was measured [so it is]." in out
    assert "X2" not in out
    assert str(tmp_path / "report.html") in out.replace("\n", "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["claims"][0]["facts"] == {"mode": "quick", "seed": 7}


@pytest.mark.parametrize(("flag", "mode"), [("--quick", "quick"), ("--full", "full")])
def test_modes(claims, tmp_path, flag, mode):
    assert main(["audit", "X1", flag, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["mode"] == mode


def test_an_unexpected_error_is_printed_and_counts(claims, tmp_path, capsys):
    assert main(["audit", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "unexpected RuntimeError: boom [/]" in captured.out.replace("\n", " ")
    assert "Traceback" in captured.err


def test_list_measures_nothing(claims, capsys):
    assert main(["audit", "--list"]) == 0
    out = capsys.readouterr().out
    assert "Claim X1" in out
    assert "1.5 s" in out


def test_what_tithe_reports_is_one_line_without_a_traceback(claims, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["audit", "--device", "cuda", "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "no CUDA device" in err


def test_a_folder_that_cannot_be_written(claims, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["audit", "--out", str(tmp_path / "file" / "below")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["audit", "--seed", "one"], ["audit", "--device", "tpu"], ["audit", "--no"]]
)
def test_usage_errors(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_data_lists_and_describes(capsys):
    assert main(["data"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("mnist", "digits", "stars", "lexicon:"))
    assert main(["data", "digits"]) == 0
    assert "1797 images" in capsys.readouterr().out
    assert main(["data", "digts"]) == 1
    assert "did you mean 'digits'" in capsys.readouterr().err


def test_machine_describes_this_one(capsys):
    assert main(["machine"]) == 0
    out = capsys.readouterr().out
    assert "int8 units" in out
    assert "torch" in out


@pytest.mark.slow
def test_a_real_quick_audit(tmp_path):
    found = run("audit", "--quick", "--out", str(tmp_path), timeout=600)
    assert found.returncode == 0, found.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert all(claim["verdict"] != "unmeasured" for claim in report["claims"])
    assert re.search(r"(src|href)=\"?http", (tmp_path / "report.html").read_text()) is None
