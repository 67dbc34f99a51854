"""The tree of exceptions.

A refusal of a request is not here: it is a value (`decision.Deny`). Exceptions are for input that
cannot be used and for dependencies that do not answer::

    TallygateError
    ├── InputError            what was typed, sent or configured is wrong       CLI exit 2, REST 422
    │   ├── NotFoundError     it names something that does not exist            CLI exit 2, REST 404
    │   └── ConflictError     it contradicts the present state                  CLI exit 2, REST 409
    └── DependencyError       something Tallygate needs does not answer         CLI exit 1, REST 503
        ├── StoreUnavailableError     Postgres: licenses cannot be read or changed
        ├── LimiterUnavailableError   Redis: counters cannot be read or changed
        └── OverloadedError           a bounded queue of our own is full
"""


class TallygateError(Exception):
    """Root of every error Tallygate raises on purpose."""


class InputError(TallygateError):
    """Input that cannot be used; says which field and how to mend it."""

    def __init__(self, field: str, problem: str, mend: str = "") -> None:
        """Take the `field` (a path such as `plans[0].key`), what is wrong, and what would be right."""
        self.field = field
        self.problem = problem
        self.mend = mend
        super().__init__(f"{field}: {problem}" + (f" ({mend})" if mend else ""))


class NotFoundError(InputError):
    """The input names an object that does not exist."""


class ConflictError(InputError):
    """The input contradicts what is already there."""


class DependencyError(TallygateError):
    """A dependency does not answer, or not in time."""

    dependency = "unknown"


class StoreUnavailableError(DependencyError):
    """Postgres does not answer, or not in time."""

    dependency = "postgres"


class LimiterUnavailableError(DependencyError):
    """Redis does not answer, or not in time. `may_have_run`: what was asked was sent, and may be done all the same."""

    dependency = "redis"

    def __init__(self, problem: str, *, may_have_run: bool = False) -> None:
        """Say what is wrong."""
        super().__init__(problem)
        self.may_have_run = may_have_run


class OverloadedError(DependencyError):
    """A bounded queue of this process is full; the caller should try again shortly."""

    dependency = "self"
