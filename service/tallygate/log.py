"""Structured logs, one JSON object a line (or coloured text on a terminal), without credentials.

Whatever is logged passes `redact`: a credential's name hides its value, and anything that looks like one
of our tokens is cut out of any text, exception traces included.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from tallygate.core.redaction import HIDDEN, hide_secrets

_SECRET_NAMES = frozenset({"authorization", "x-api-key", "cookie", "token", "secret", "pepper", "password", "dsn"})


def configure(level: str, *, is_terminal: bool | None = None) -> None:
    """Set up logging for this process: `level` is debug, info, warning or error; output goes to stderr."""
    terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> Mapping[str, Any]:
    """Hide credentials in an event (a structlog processor)."""
    return {key: _hide(key, value) for key, value in event.items()}


def _hide(key: str, value: object) -> object:
    if key.lower() in _SECRET_NAMES:
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {hide_secrets(str(name)): _hide(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(key, item) for item in value]
    # Anything else would be written as its repr: what that tells must be looked through too.
    return hide_secrets(value if isinstance(value, str) else repr(value))
