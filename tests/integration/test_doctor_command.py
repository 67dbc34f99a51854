"""`tallygate doctor`, run as people run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.gateway import HARDENED, MINIMAL

BAD = MINIMAL.replace("failure_mode_allow: false", "failure_mode_allow: true")
DOUBTFUL = HARDENED.replace("merge_slashes: true", "merge_slashes: false")
LINE = BAD.splitlines().index("                      failure_mode_allow: true") + 1


def doctor(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command on a file from standard input, unless it is told another."""
    where = () if "--envoy" in arguments else ("--envoy", "-")
    command = [sys.executable, "-m", "tallygate", "doctor", *where, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)


def test_a_finding_is_told_with_its_mend(tmp_path: Path) -> None:
    """One reads where it is, what comes of it, what to write instead, and where more is said."""
    path = tmp_path / "envoy.yaml"
    path.write_text(BAD)
    ran = doctor("--envoy", str(path))
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{path}:{LINE}: error failure-mode-allow: failure_mode_allow is true\n")
    assert "every request passes" in ran.stdout
    assert "(docs/doctor.md#failure-mode-allow)" in ran.stdout
    assert "    failure_mode_allow: false\n" in ran.stdout
    assert ran.stdout.endswith(f"{path}: 1 error, 0 warnings\n")


def test_programs_read_json() -> None:
    """A pipeline finds each field by its name."""
    ran = doctor("--json", given=BAD)
    assert ran.returncode == 1
    told = json.loads(ran.stdout)
    assert told["accepted"] == []
    (finding,) = told["findings"]
    assert (finding["name"], finding["severity"], finding["line"]) == ("failure-mode-allow", "error", LINE)
    assert finding["mend"] == "failure_mode_allow: false"


def test_json_configurations_are_read_too() -> None:
    """What is clean in YAML is clean in JSON."""
    assert doctor(given=json.dumps(yaml.safe_load(HARDENED), indent=2)).returncode == 0
    assert doctor(given=json.dumps(yaml.safe_load(BAD))).returncode == 1


def test_warnings_fail_only_if_asked_to() -> None:
    """Exit 1 is for errors; --strict is for those who want none of either."""
    assert [doctor(*strict, given=DOUBTFUL).returncode for strict in ((), ("--strict",))] == [0, 1]


def test_workers_are_told_or_set() -> None:
    """One endpoint is right for one worker, and wrong for four."""
    assert doctor(given=HARDENED).returncode == 0
    ran = doctor("--workers", "4", given=HARDENED)
    assert ran.returncode == 1
    assert "error one-connection: there are 4 workers, and 1 endpoint" in ran.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a: [1\nb: 2", "error: standard input:2: "),
        ("", "has nothing that could ask Tallygate"),
        ("kind: Deployment\nspec: {}", "has nothing that could ask Tallygate"),
    ],
)
def test_what_cannot_be_judged_is_bad_input(given: str, said: str) -> None:
    """Exit 2 and one line that says where and what, never a traceback and never "nothing found"."""
    ran = doctor(given=given)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    """The path is named."""
    ran = doctor("--envoy", str(tmp_path / "none.yaml"))
    assert ran.returncode == 2
    assert "none.yaml: cannot be read" in ran.stderr
