"""`tallygate plans`: a file is validated, applied, listed and shown."""

import json
from pathlib import Path

import pytest
from support.commands import Shell

WRONG = """\
plans:
  - key: Pro
    nmae: Professional
    limits:
      - {name: burst, rate: fast}
      - {name: monthly, quota: -5, period: fortnight}
"""


def test_the_sample_plans_are_valid(bare_shell: Shell, sample_plans: Path) -> None:
    """Validating needs no database and no settings."""
    ran = bare_shell("plans", "validate", str(sample_plans))
    assert ran.code == 0
    assert "is valid: 3 plans" in ran.out
    told = bare_shell("plans", "validate", str(sample_plans), "--json").json
    assert told == {"is_valid": True, "plans": ["free", "pro", "enterprise"]}


@pytest.mark.parametrize("command", [["validate"], ["apply"], ["apply", "--dry-run"]])
def test_every_mistake_is_told_with_its_line(shell: Shell, tmp_path: Path, command: list[str]) -> None:
    """A wrong file exits 2 with all its mistakes at once, each with file, line and field; nothing is applied."""
    path = tmp_path / "plans.yaml"
    path.write_text(WRONG)
    complaint = shell("plans", *command, str(path)).refused()
    mistakes = [(2, "plans[0].key"), (3, "plans[0]: "), (5, "limits[0].rate"), (6, "limits[1].quota")]
    for line, field in [*mistakes, (6, "limits[1].period")]:
        assert [told for told in complaint.splitlines() if f"{path}:{line}: " in told and field in told]
    assert shell("plans", "list", "--json").items == []


def test_a_pipeline_reads_mistakes_as_json_and_a_file_from_a_pipe(bare_shell: Shell, sample_plans: Path) -> None:
    """`--json` gives each mistake in parts, exit 2; `-` is standard input, for `validate` as for `apply`."""
    ran = bare_shell("plans", "validate", "-", "--json", stdin=WRONG)
    assert (ran.code, ran.err) == (2, "")
    told = json.loads(ran.out)
    assert told["is_valid"] is False
    assert [problem["line"] for problem in told["problems"]] == [2, 3, 5, 6, 6]
    assert told["problems"][1] == {
        "source": "standard input",
        "line": 3,
        "field": "plans[0]",
        "problem": 'unknown key "nmae"',
        "mend": "did you mean name?",
    }
    assert "standard input is valid" in bare_shell("plans", "validate", "-", stdin=sample_plans.read_text()).out
    assert "standard input:1: the file is empty" in bare_shell("plans", "validate", "-").refused()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"plans: [", "plans.yaml"),
        (b"- just\n- a list\n", "plans.yaml"),
        (b"x" * (4 * 1024 * 1024 + 1), "larger than 4 MiB"),
    ],
    ids=["missing", "binary", "broken", "list", "huge"],
)
def test_a_file_that_is_no_plan_file_is_bad_input(
    bare_shell: Shell, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    """Whatever it holds, the answer is a sentence and exit 2."""
    path = tmp_path / "plans.yaml"
    if content is not None:
        path.write_bytes(content)
    assert problem in bare_shell("plans", "validate", str(path)).refused()
    assert "cannot be read" in bare_shell("plans", "validate", str(tmp_path)).refused()
    assert "larger than 4 MiB" in bare_shell("plans", "validate", "/dev/zero").refused()


def test_applying_says_what_it_did_and_does_it_once(shell: Shell, sample_plans: Path, tmp_path: Path) -> None:
    """A dry run says what would be; applying does it; applying again changes nothing; an edit is a new version."""
    plan_file = str(sample_plans)
    would = shell("plans", "apply", plan_file, "--dry-run")
    assert would.out.splitlines() == [
        "free@1  would be created",
        "pro@1  would be created",
        "enterprise@1  would be created",
        "routes  would be replaced",
    ]
    assert shell("plans", "list", "--json").items == []
    applied = shell("plans", "apply", plan_file, "--json").json
    assert [change["action"] for change in applied["plans"]] == ["created"] * 3
    assert (applied["routes"], applied["is_dry_run"]) == ("replaced", False)
    again = shell("plans", "apply", plan_file)
    assert again.out.splitlines() == [f"{name}  unchanged" for name in ("free@1", "pro@1", "enterprise@1", "routes")]
    edited = tmp_path / "edited.yaml"
    edited.write_text(sample_plans.read_text().replace("name: Pro\n", "name: Professional\n"))
    told = shell("plans", "apply", str(edited)).out
    assert "pro@2  published" in told
    assert "`tallygate plans migrate pro@1 pro@2`" in told


def test_published_plans_are_listed_and_shown(shell: Shell, sample_plans: Path) -> None:
    """Each version has an id such as `pro@1`, in words and as JSON."""
    shell("plans", "apply", str(sample_plans))
    listed = shell("plans", "list", "--json").items
    assert sorted(item["id"] for item in listed) == ["enterprise@1", "free@1", "pro@1"]
    assert {item["status"] for item in listed} == {"published"}
    shown = shell("plans", "show", "pro", "--json").json
    assert (shown["id"], shown["status"], shown["key"], shown["version"], shown["name"]) == (
        "pro@1",
        "published",
        "pro",
        1,
        "Pro",
    )
    text = shell("plans", "show", "pro@1").out
    assert text.startswith("# pro@1, published 20")
    assert "limits:" in text
    written = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert written == ["key", "name", "price", "scopes", "features", "limits", "overage", "upgrade_url"]
    assert "- name: burst\n  rate: 50/s\n" in text
    first = shell("plans", "list", "--limit", "2", "--json").json
    rest = shell("plans", "list", "--after", first["next_cursor"], "--json").json
    assert [item["id"] for item in (*first["items"], *rest["items"])] == [item["id"] for item in listed]
    rules = shell("plans", "routes", "--json").json
    assert (rules["version"], rules["items"][-1]["match"]) == (1, "* /v1/**")
    assert "GET /v1/reports/{id}" in shell("plans", "routes").out
    reports = next(item for item in shell("plans", "features", "--json").items if item["id"] == "reports")
    assert reports["plans"] == {"enterprise@1": True, "free@1": False, "pro@1": True}
    table = shell("plans", "list").out
    assert all(plan in table for plan in ("enterprise@1", "free@1", "pro@1"))


def test_a_plan_that_is_not_there_is_bad_input(shell: Shell) -> None:
    """Unknown plans and mistyped versions exit 2."""
    for ref in ("gold", "pro@9", "pro@x"):
        assert "plan" in shell("plans", "show", ref).refused()
