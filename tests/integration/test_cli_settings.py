"""The command line itself and `tallygate config`: usage, settings, what is shown and what never is."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import Shell

from tallygate import __version__
from tallygate.cli.nouns import NOUNS
from tallygate.settings import MASK, Settings

SECRET = "do-not-show-me-" + "x" * 32
NEEDED = {"POSTGRES_DSN": f"postgresql://u:{SECRET}@h/d", "REDIS_URL": f"redis://:{SECRET}@h", "PEPPER": SECRET}
ALONE = {"dev", "serve", "admin", "worker", "explain", "doctor"}
"""Nouns that are a command themselves."""
SHOWN = ("DRAIN_S", "REALM", "PEPPER", "POSTGRES_DSN", "COOKIE")


def test_it_runs_as_a_module_and_as_a_command() -> None:
    """`python -m tallygate` and the installed command are the same program."""
    for command in ([sys.executable, "-m", "tallygate"], [str(Path(sys.executable).with_name("tallygate"))]):
        ran = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout == f"tallygate {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["tokens", "no-such-command"],
        ["tokens", "issue", "--no-such-option"],
        ["tokens", "show"],
        ["tokens", "list", "--limit", "0"],
        ["tokens", "list", "--limit", "many"],
        ["tokens", "issue", "--env", "staging"],
        ["dev", "--port", "99999"],
    ],
)
def test_wrong_usage_is_2(bare_shell: Shell, arguments: list[str]) -> None:
    """What cannot be understood exits 2 and says what was wrong."""
    assert "Error" in bare_shell(*arguments).refused()


def listed(help_text: str) -> dict[str, str]:
    """Return the commands a help lists, and what it says of each."""
    lines = help_text.partition("Commands:")[2].partition("Example:")[0].strip().splitlines()
    return {line.split()[0]: line.strip().partition("  ")[2].strip() for line in lines}


@pytest.mark.parametrize("noun", ["", *NOUNS])
def test_every_noun_has_help(bare_shell: Shell, noun: str) -> None:
    """`--help` exits 0 and tells in a whole sentence what every command does; a noun is known by the root."""
    ran = bare_shell(*noun.split(), "--help")
    assert ran.code == 0
    assert f"Usage: {f'tallygate {noun}'.strip()} [OPTIONS]" in ran.out
    commands = listed(ran.out)
    assert bool(commands) == (noun not in ALONE)
    assert [name for name, told in commands.items() if not told or told.endswith("...")] == []
    assert noun != "" or list(commands) == list(NOUNS)


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun not in {"dev", "serve", "admin", "worker"}])
def test_the_example_of_a_noun_is_understood(bare_shell: Shell, noun: str) -> None:
    """What a help shows as an example is no wrong usage: it comes as far as its file, or the settings it needs."""
    example = " ".join(bare_shell(noun, "--help").out.partition("Example: tallygate ")[2].split())
    assert example.startswith(noun)
    ran = bare_shell(*shlex.split(example))
    assert "Usage:" not in ran.err
    assert "Error" not in ran.err


def test_config_check_accepts_what_serve_could_start_with(bare_shell: Shell) -> None:
    """Exit 0 in words or as JSON."""
    assert bare_shell("config", "check", **NEEDED).code == 0
    assert bare_shell("config", "check", "--json", **NEEDED).json == {"is_valid": True}


def test_config_check_names_everything_that_is_missing_or_wrong(bare_shell: Shell) -> None:
    """One run shows all mistakes; none of them shows a secret."""
    missing = bare_shell("config", "check").refused()
    assert all(f"TALLYGATE_{name}" in missing for name in NEEDED)
    wrong = bare_shell(
        "config", "check", **NEEDED, DRAIN_S="soon", LICENSE_TTL_S="31", PEPPER_PREVIOUS="short"
    ).refused()
    assert all(f"TALLYGATE_{name}" in wrong for name in ("DRAIN_S", "LICENSE_TTL_S", "PEPPER_PREVIOUS"))
    assert "short" not in wrong
    assert SECRET not in wrong


@pytest.mark.parametrize(
    "settings",
    [{"LISTEN": "nowhere"}, {"METRICS_LISTEN": "nowhere"}, {"REDIS_URL": "http://host"}, {"POSTGRES_DSN": "nonsense"}],
    ids=lambda settings: next(iter(settings)),
)
def test_config_check_reads_addresses_as_serve_would(bare_shell: Shell, settings: dict[str, str]) -> None:
    """An address that `serve` would refuse is found before anything is deployed."""
    complaint = bare_shell("config", "check", **(NEEDED | settings)).refused()
    assert next(iter(settings)) in complaint.upper()


def test_config_show_names_sources_and_masks_secrets(bare_shell: Shell, tmp_path: Path) -> None:
    """Every setting with its value and where it came from; a secret is never shown, in words or as JSON."""
    config, pepper = tmp_path / "tallygate.toml", tmp_path / "pepper"
    config.write_text('drain_s = 7\nrealm = "file"\n')
    pepper.write_text(SECRET)
    settings = NEEDED | {"PEPPER": "", "PEPPER_FILE": str(pepper), "REALM": "environment"}
    rows = {
        row["name"]: row for row in bare_shell("--config", str(config), "config", "show", "--json", **settings).items
    }
    assert len(rows) == len(Settings.model_fields)
    shown = {name: (rows[f"TALLYGATE_{name}"]["value"], rows[f"TALLYGATE_{name}"]["source"]) for name in SHOWN}
    assert shown == {
        "DRAIN_S": ("7.0", str(config)),
        "REALM": ("environment", "TALLYGATE_REALM"),
        "PEPPER": (MASK, "TALLYGATE_PEPPER_FILE"),
        "POSTGRES_DSN": (MASK, "TALLYGATE_POSTGRES_DSN"),
        "COOKIE": ("", "default"),
    }
    table = bare_shell("config", "show", **settings)
    assert table.code == 0
    assert SECRET not in table.out + str(rows)


def test_the_config_file_may_be_named_by_the_environment(bare_shell: Shell, tmp_path: Path) -> None:
    """`TALLYGATE_CONFIG` does what `--config` does, and `--config` wins."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f'realm = "{name}"\n')
    named = {"CONFIG": str(tmp_path / "one")}
    told = [
        {row["name"]: row["value"] for row in ran.items}["TALLYGATE_REALM"]
        for ran in (
            bare_shell("config", "show", "--json", **named),
            bare_shell("--config", str(tmp_path / "two"), "config", "show", "--json", **named),
        )
    ]
    assert told == ["one", "two"]


def test_a_broken_config_file_is_bad_input(bare_shell: Shell, tmp_path: Path) -> None:
    """A file that is missing, no TOML, or names an unknown setting: exit 2 with the reason."""
    path = tmp_path / "tallygate.toml"
    assert "cannot be read" in bare_shell("--config", str(path), "config", "show").refused()
    for content, complaint in (
        ("drain_s = ", "not TOML"),
        ("drain = 1", "no such setting"),
        ("drain_s = 'x'", "DRAIN_S"),
    ):
        path.write_text(content)
        assert complaint in bare_shell("--config", str(path), "config", "show").refused()


def test_a_command_that_needs_settings_asks_for_them(bare_shell: Shell) -> None:
    """Without a database no customer can be listed: exit 2 and the names of what to set."""
    for arguments in (["customers", "list"], ["db", "status"], ["serve"], ["explain", "--token", "x", "GET", "/"]):
        assert "TALLYGATE_POSTGRES_DSN" in bare_shell(*arguments).refused()
