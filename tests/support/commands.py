"""Command lines as a shell would run them, and what came of each."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_SERVER = Path(__file__).with_name("command_server.py")
_KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did; `code` is its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON of any shape
        """Return what it printed; it must have been done, and have said nothing else."""
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)

    @property
    def items(self) -> list[Any]:
        """Return the items of the page it printed."""
        assert self.json.keys() == {"items", "next_cursor"}
        return list(self.json["items"])

    def refused(self, code: int = 2) -> str:
        """Return the complaint of a command that was refused: nothing on stdout, no traceback."""
        assert (self.code, self.out) == (code, ""), self
        assert "Traceback" not in self.err
        return self.err


class Commands:
    """Runs commands from an interpreter that has Tallygate imported already; a context manager."""

    def __init__(self, directory: Path) -> None:
        """Keep what commands read and print in `directory`."""
        self._directory = directory
        self._files = [directory / name for name in ("stdin", "stdout", "stderr")]

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, str(_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=30)

    def run(self, *arguments: str, environment: Mapping[str, str], stdin: str = "") -> Ran:
        """Run `tallygate` with these arguments, in an environment of these variables and little else."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        for path, text in zip(self._files, (stdin, "", ""), strict=True):
            path.write_text(text)
        job = {
            "arguments": arguments,
            "environment": kept | dict(environment),
            "files": [str(path) for path in self._files],
        }
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(job) + "\n")
        code = int(self._server.stdout.readline())
        _, out, err = (path.read_text() for path in self._files)
        return Ran(code, out, err)


@dataclass(frozen=True, slots=True)
class Shell:
    """A command line with settings in its environment."""

    commands: Commands
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: str = "", **settings: str) -> Ran:
        """Run a command; `settings` such as `PEPPER="…"` are added, those that are empty count as not set."""
        changed = {f"TALLYGATE_{name}": value for name, value in settings.items()}
        return self.commands.run(*arguments, environment={**self.environment, **changed}, stdin=stdin)
