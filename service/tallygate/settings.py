"""Settings: every knob, its unit, its default and why; read once, refused as a whole when any is wrong.

Sources, the later wins: the default here, a TOML file (`--config FILE`, keys in lower case), the environment
(`TALLYGATE_<NAME>`, or `TALLYGATE_<NAME>_FILE` naming a file for secrets). No secret has a default.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from tallygate.core.errors import InputError

PREFIX = "TALLYGATE_"
MASK = "********"
SERVICES_OFF = frozenset({"", "off"})
"""What `services_listen` says for nowhere; an empty variable of the environment is one that is not set."""
_PEPPER_MIN = _SERVICES_KEY_MIN = 32


def _whole_number(value: object) -> object:
    """Return the number a text of digits stands for: the environment knows only text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseModel):
    """All settings. Field descriptions are the documentation (`tallygate config show`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    postgres_dsn: SecretStr | None = Field(None, description="Postgres, as a URL. A secret: it holds a password.")
    redis_url: SecretStr | None = Field(
        None, description="Counter store: redis://, rediss://, redis+cluster:// or redis+sentinel://."
    )
    pepper: SecretStr | None = Field(
        None,
        min_length=_PEPPER_MIN,
        description="Key of token digests, 32 characters or more. Lose it, lose all tokens.",
    )
    pepper_previous: SecretStr | None = Field(
        None, min_length=_PEPPER_MIN, description="The key before, while tokens made with it are still in use."
    )
    listen: str = Field("0.0.0.0:50051", description="Where Envoy asks: host:port or unix:/path.")
    transport: Literal["h2corn", "grpcio"] = Field(
        "h2corn", description="The gRPC server: h2corn, or grpcio, which is slower and gRPC's own."
    )
    workers: int = Field(
        1, ge=1, le=256, description="Worker processes: one for each CPU that is to decide. See docs/workers.md."
    )
    worker_endpoints: Literal["each", "shared"] = Field(
        "each", description="Each worker on a port (LISTEN + number) or Unix socket of its own, or one shared."
    )
    worker_cpus: Literal["auto", "one", "any"] = Field(
        "auto",
        description="Keep each worker's threads on one CPU, whichever the system chose, or let them run on any; "
        "`auto`: on one where there are as many workers as CPUs.",
    )
    tls_cert_file: Path | None = Field(None, description="PEM certificate of the gRPC server, its chain after it.")
    tls_key_file: Path | None = Field(None, description="PEM key of that certificate, without passphrase.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM authorities of clients: with it, who asks has to show a certificate of theirs."
    )
    metrics_listen: str = Field("0.0.0.0:9464", description="/metrics, /healthz and /readyz: host:port.")
    metrics_customers: int = Field(
        0, ge=0, le=1000, description="Busiest customers who have series of their own, at most; 0 for none."
    )
    traces_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+(/\S*)?$",
        description="Where traces are sent by OTLP over HTTP, such as http://collector:4318. See docs/traces.md.",
    )
    traces_ratio: float = Field(
        0.01, ge=0, le=1, description="Share of requests traced where who asks has not decided (`traceparent`)."
    )
    services_listen: str = Field(
        "0.0.0.0:50052",
        description="Where access logs and usage are told: host:port or unix:/path; `off` for nowhere. "
        "All workers share it.",
    )
    services_key: SecretStr | None = Field(
        None,
        min_length=_SERVICES_KEY_MIN,
        description="What callers there show as `authorization: Bearer …`, 32 characters or more.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level logged.")
    token_prefix: str = Field("tg", pattern="^[A-Za-z0-9]{1,16}$", description="What tokens begin with.")
    license_ttl_s: float = Field(
        25,
        gt=0,
        le=29,
        description="Seconds a license is kept unasked; under 30, the bound when all notices are lost.",
    )
    license_max_stale_s: float = Field(
        3600,
        ge=0,
        le=82_800,
        description="Seconds a known license is still used while Postgres does not answer; 82800 at most, for bills.",
    )
    license_cache_entries: int = Field(200_000, ge=100, description="Licenses kept in memory, at most.")
    license_cache_mib: int = Field(256, ge=1, description="Memory for licenses in MiB, at most (estimated).")
    store_timeout_s: Seconds = Field(1.0, description="Deadline of one read of Postgres, in seconds.")
    limiter_timeout_s: Seconds = Field(
        0.15, description="Deadline of one call to Redis, in seconds; below Envoy's timeout, which is 0.2."
    )
    drain_s: float = Field(2.0, ge=0, le=600, description="Seconds reported not serving before calls are refused.")
    realm: str = Field("api", pattern=r'^[^"\\\r\n]{1,100}$', description="The realm of WWW-Authenticate.")
    problem_base_url: str = Field(
        "https://tallygate.dev/problems/", pattern=r"^[a-z]+:\S+$", description="What problem types begin with."
    )
    credits_status: Annotated[Literal[402, 429], BeforeValidator(_whole_number)] = Field(
        402, description="HTTP status when credits are used up."
    )
    query_parameter: str | None = Field(
        None, pattern="^[A-Za-z0-9_-]{1,64}$", description="Also take a token from this query parameter."
    )
    cookie: str | None = Field(None, pattern="^[A-Za-z0-9_-]{1,64}$", description="Also take a token from this cookie.")
    admin_listen: str = Field("127.0.0.1:8080", description="The REST API of `tallygate admin`: host:port.")
    admin_metrics_listen: str | None = Field(
        None,
        description="Where `tallygate admin` shows the /metrics of the worker that it runs: host:port; nowhere if left "
        "out, for `serve` on the same host has METRICS_LISTEN.",
    )
    admin_requests_per_s: int = Field(
        200, ge=1, le=100_000, description="Requests a second of one admin key; five times as many at once."
    )
    admin_strangers_per_s: int = Field(
        20, ge=1, le=100_000, description="Requests a second of one address without an admin key; ten times at once."
    )
    usage_round_s: Seconds = Field(10, description="Seconds between two looks for usage that is to be moved.")
    usage_minutes_days: int = Field(
        400, ge=0, le=36_500, description="Days for which usage is kept by the minute, as it was counted; 0 for ever."
    )
    usage_hours_days: int = Field(
        800,
        ge=0,
        le=36_500,
        description="Days for which usage is kept by the hour; 0 for ever, as are days and months.",
    )
    exports_file: Path | None = Field(
        None, description="TOML file of those who are told of usage. See docs/exports.md."
    )
    leak_keys: SecretStr | None = Field(
        None, description="Who may report leaked tokens: GitHub's `public_keys` document, `shared_secrets` beside it."
    )
    leak_policy: Literal["revoke", "rotate"] = Field("revoke", description="What becomes of a leaked token.")
    leak_grace_s: float = Field(
        3600, ge=0, le=2_592_000, description="Seconds a leaked token still works where the policy is to rotate it."
    )


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings and, for each field, where its value came from."""

    values: Settings
    sources: Mapping[str, str]


class InvalidSettingsError(InputError):
    """One or more settings are wrong; the message lists them all."""

    def __init__(self, problems: list[str]) -> None:
        """Take one line per wrong setting."""
        self.problems = problems
        super().__init__("settings", "\n  ".join(["these are wrong:", *problems]))


def load(environment: Mapping[str, str] = os.environ, config: Path | None = None) -> LoadedSettings:
    """Read every source and validate; raise InvalidSettingsError naming every wrong setting and its source."""
    given: dict[str, object] = {}
    sources = dict.fromkeys(Settings.model_fields, "default")
    for origin, layer in (_from_file(config), _from_environment(environment)):
        given |= layer
        sources |= {name: origin or _variable(name, environment) for name in layer}
    try:
        return LoadedSettings(Settings.model_validate(given), sources)
    except ValidationError as error:
        raise InvalidSettingsError([_problem(item, sources) for item in error.errors()]) from None


def require(settings: Settings, *names: str) -> None:
    """Raise InvalidSettingsError unless every one of these optional settings is given."""
    missing = [name for name in names if getattr(settings, name) is None]
    if missing:
        lines = [f"{PREFIX}{name.upper()}: is not set ({Settings.model_fields[name].description})" for name in missing]
        raise InvalidSettingsError(lines)


def shown(settings: Settings, name: str) -> str:
    """Return the value of a setting as text, secrets masked."""
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return MASK
    return "" if value is None else str(value)


def _from_file(config: Path | None) -> tuple[str, dict[str, object]]:
    if config is None:
        return "", {}
    try:
        with config.open("rb") as file:
            return str(config), tomllib.load(file)
    except OSError as error:
        raise InputError("--config", f"{config} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("--config", f"{config} is not TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    given: dict[str, object] = {}
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if environment.get(variable):  # an empty variable is one that is not set
            given[name] = environment[variable]
        elif environment.get(variable + "_FILE"):
            given[name] = _read_secret(variable + "_FILE", Path(environment[variable + "_FILE"]))
    return "", given


def _read_secret(variable: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(variable, f"{path} cannot be read: {error}") from None


def _variable(name: str, environment: Mapping[str, str]) -> str:
    variable = PREFIX + name.upper()
    return variable if environment.get(variable) else variable + "_FILE"


def _problem(item: Mapping[str, object], sources: Mapping[str, str]) -> str:
    location = item["loc"]
    name = str(location[0]) if isinstance(location, tuple) and location else "?"
    origin = sources.get(name, "default")
    if item["type"] == "extra_forbidden":
        return f"{name}: there is no such setting (see `tallygate config show`)"
    label = origin if origin.startswith(PREFIX) else f"{PREFIX}{name.upper()} ({origin})"
    return f"{label}: {item['msg']}"
