"""What commands need: the settings, and for most the control plane in an event loop of its own."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tallygate.admin.operations import Operations
from tallygate.app.control_plane import control_plane
from tallygate.cli.given_settings import load_settings
from tallygate.core.errors import ConflictError, TallygateError
from tallygate.core.redaction import hide_secrets

T = TypeVar("T")


class ChangedMeanwhileError(TallygateError):
    """An object is no longer at the revision a command was given: exit 1, for what was typed was right once."""


def with_control_plane(work: Callable[[Operations], Awaitable[T]], *, shown_by: str = "") -> T:
    """Run `work` with the control plane of the settings, in an event loop of its own.

    `shown_by` is the command that shows the object as it is: whoever gave a stale --revision is told it.
    Raises ChangedMeanwhileError for that, and what `work` raises.
    """
    values = load_settings().values

    async def session() -> T:
        async with control_plane(values, actor=f"cli:{_user()}") as control:
            return await work(control)

    try:
        return asyncio.run(session())
    except ConflictError as error:
        if error.field != "revision":
            raise
        seen = f"see what it is now: tallygate {hide_secrets(shown_by)}"
        raise ChangedMeanwhileError(f"--revision: it {error.problem} ({seen})") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return str(os.getuid())
