"""The settings a command was given, and what its libraries may say on stderr: no credential."""

import logging
import os

from tallygate import settings
from tallygate.cli.config_file import config_file
from tallygate.core.redaction import hide_secrets


class _WithoutSecrets(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


def load_settings() -> settings.LoadedSettings:
    """Load settings and set up what libraries log; raise InvalidSettingsError.

    `serve` and `admin`, which run for long, set up structured logs (`tallygate.log`) in its place.
    """
    loaded = settings.load(os.environ, config_file())
    handler = logging.StreamHandler()
    handler.setFormatter(_WithoutSecrets("%(levelname)s: %(message)s"))
    logging.basicConfig(level=loaded.values.log_level.upper(), handlers=[handler], force=True)
    return loaded
