"""What is wrong with a plan file: all of it at once, each with its line and how to mend it.

Owns how a problem is kept and printed. Does not own what counts as one. One `Problems` belongs to one
reading of one file.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from tallygate.core.errors import InputError

_SHOWN_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it stands, which field it is in, what is wrong, and what would be right."""

    source: str
    line: int
    field: str
    problem: str
    mend: str = ""

    def __str__(self) -> str:
        """Return `plans.yaml:12: plans[0].key: … (…)`."""
        place = f"{self.source}:{self.line}: " + (f"{self.field}: " if self.field else "")
        return place + self.problem + (f" ({self.mend})" if self.mend else "")


class InvalidCatalogueError(InputError):
    """A plan file that cannot be used; `problems` are all that is wrong with it, in the order of its lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Take at least one problem; the first stands for all where only one can be told."""
        first = problems[0]
        super().__init__(first.field, first.problem, first.mend)
        self.problems = problems

    def __str__(self) -> str:
        """Return one problem a line."""
        return "\n".join(str(problem) for problem in self.problems)


class Problems:
    """Collects what is found wrong in one file."""

    def __init__(self, source: str) -> None:
        """Take the name of the file, as it is to be printed."""
        self._source = source
        self._found: list[Problem] = []

    def add(self, line: int, field: str, problem: str, mend: str = "") -> None:
        """Note a problem at `line`, counted from 1."""
        self._found.append(Problem(self._source, line, field, problem, mend))

    def raise_if_any(self) -> None:
        """Raise InvalidCatalogueError with everything noted, if anything was."""
        if self._found:
            raise InvalidCatalogueError(tuple(sorted(self._found, key=lambda problem: problem.line)))


def shown(text: str) -> str:
    """Return `text` quoted for a message: shortened, and with nothing a terminal would act upon."""
    return json.dumps(text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "...")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the mend for a mistyped word: the nearest known one, else the list of all."""
    names = sorted(known)
    near = difflib.get_close_matches(word[:_SHOWN_LENGTH], names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "known here: " + ", ".join(names) if names else ""
