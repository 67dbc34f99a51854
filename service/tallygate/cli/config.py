"""`tallygate config`: every setting, its value and where it came from."""

import typer

from tallygate import settings
from tallygate.app.exports import configured_exports
from tallygate.app.observing import check_traces
from tallygate.app.services_at import check_endpoints, services_at
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json, print_list
from tallygate.core.errors import InputError
from tallygate.probes import host_and_port
from tallygate.storage.redis_url import parse_redis_url
from tallygate.transport.tls import TlsFiles

app = noun("config", example="show")
_NEEDED_TO_SERVE = ("postgres_dsn", "redis_url", "pepper")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Say whether `serve` could start with these settings. Exits 2 with every wrong one named if not."""
    values = load_settings().values
    settings.require(values, *_NEEDED_TO_SERVE)
    _check_addresses(values)
    if as_json:
        print_json({"is_valid": True})
    else:
        typer.echo("the settings are valid")


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show every setting with its source; secrets are masked."""
    loaded = load_settings()
    rows = [
        {
            "name": settings.PREFIX + name.upper(),
            "value": settings.shown(loaded.values, name),
            "source": loaded.sources[name],
            "meaning": field.description or "",
        }
        for name, field in settings.Settings.model_fields.items()
    ]
    print_list(rows, ("name", "value", "source", "meaning"), as_json=as_json)


def _check_addresses(values: settings.Settings) -> None:
    """Read every address as `serve` will; raise InvalidSettingsError naming all that cannot be used."""
    assert values.postgres_dsn is not None  # noqa: S101 - required before
    assert values.redis_url is not None  # noqa: S101
    dsn, redis_url = values.postgres_dsn.get_secret_value(), values.redis_url.get_secret_value()
    problems = []
    for read in (
        lambda: _check_dsn(dsn),
        lambda: parse_redis_url(redis_url),
        lambda: check_endpoints(values),
        lambda: services_at(values),
        lambda: TlsFiles.of(values.tls_cert_file, values.tls_key_file, values.tls_client_ca_file),
        lambda: host_and_port(values.metrics_listen, "TALLYGATE_METRICS_LISTEN"),
        lambda: configured_exports(values),
        lambda: check_traces(values),
    ):
        try:
            read()
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise settings.InvalidSettingsError(problems)


def _check_dsn(dsn: str) -> None:
    if not dsn.startswith(("postgresql://", "postgres://")):
        mend = "write postgresql://user:password@host:5432/database"
        raise InputError("TALLYGATE_POSTGRES_DSN", "is no Postgres connection string", mend)
