"""What every command needs: settings, the control plane, and an event loop."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tallygate import app, log, settings
from tallygate.admin.operations import Operations

T = TypeVar("T")
_CONFIG_VARIABLE = "TALLYGATE_CONFIG"


class _Chosen:
    """The file named by --config, for the one command this process runs."""

    config: Path | None = None


def use_config(path: Path | None) -> None:
    """Take settings from this TOML file, or from the one `TALLYGATE_CONFIG` names."""
    named = os.environ.get(_CONFIG_VARIABLE)
    _Chosen.config = path if path is not None else (Path(named) if named else None)


def load_settings() -> settings.LoadedSettings:
    """Load settings and set up logging by them; raise InvalidSettingsError."""
    loaded = settings.load(os.environ, _Chosen.config)
    log.configure(loaded.values.log_level)
    return loaded


def with_control_plane(work: Callable[[Operations], Awaitable[T]]) -> T:
    """Run `work` with the control plane of the settings, in an event loop of its own."""
    values = load_settings().values

    async def session() -> T:
        async with app.control_plane(values, actor=f"cli:{_user()}") as control:
            return await work(control)

    return asyncio.run(session())


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return str(os.getuid())
