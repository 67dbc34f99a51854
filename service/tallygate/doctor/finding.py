"""What doctor says: a mistake, where it was made, what comes of it, and what to write instead.

Pure values. The mistakes themselves are in `mistakes`.
"""

from dataclasses import dataclass
from enum import StrEnum

_DOCS = "docs/doctor.md"


class Severity(StrEnum):
    """How bad it is: an error lets somebody in, keeps everybody out or loses requests; a warning may."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A kind of mistake: its name, which is its section's in docs/doctor.md, and what comes of it, in a line."""

    name: str
    severity: Severity
    consequence: str

    @property
    def docs(self) -> str:
        """Return where it is explained."""
        return f"{_DOCS}#{self.name}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake that was made at `line`: what is written there, and the YAML that mends it."""

    mistake: Mistake
    line: int
    problem: str
    mend: str
