"""The settings file named by --config, for the one command this process runs."""

import os
from pathlib import Path

_VARIABLE = "TALLYGATE_CONFIG"


class _Chosen:
    config: Path | None = None


def use_config(path: Path | None) -> None:
    """Take settings from this TOML file, or from the one `TALLYGATE_CONFIG` names."""
    named = os.environ.get(_VARIABLE)
    _Chosen.config = path if path is not None else (Path(named) if named else None)


def config_file() -> Path | None:
    """Return the file to take settings from, if one was named."""
    return _Chosen.config
