"""`tallygate tokens inspect`: what a text that may be a token is, without a server as far as that goes."""

import re

import typer

from tallygate.admin.leaks import pattern_of
from tallygate.admin.records import Json
from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.given_settings import load_settings
from tallygate.cli.options import TokenRef, token_of
from tallygate.cli.output import AsJson, complain, print_json, print_object
from tallygate.core.errors import InputError, NotFoundError
from tallygate.tokens.format import TokenFormat


def inspect(token: TokenRef, as_json: AsJson = False) -> None:
    """Check a token. Its prefix and checksum offline, then its state where a database is configured."""
    values = load_settings().values
    text = token_of(token)
    parsed = TokenFormat(values.token_prefix).parse(text)
    if parsed is None:
        raise InputError("token", _malformation(text, values.token_prefix), "copy it again, whole")
    found: Json = {"is_well_formed": True, "environment": parsed.environment.value, "checksum": "ok"}
    if values.postgres_dsn is None or values.pepper is None:
        complain("its state is not known: TALLYGATE_POSTGRES_DSN and TALLYGATE_PEPPER are not both set")
        print_object(found | {"status": "not looked up"}, as_json=as_json)
        return
    try:
        state = represent(with_control_plane(lambda control: control.tokens.show(text)))
    except NotFoundError:
        print_object(found | {"status": "unknown"}, as_json=as_json)
        return
    print_object(found | (state if as_json else state | told(state)), as_json=as_json)


def pattern(as_json: AsJson = False) -> None:
    """Print the regular expression of tokens. Register it with secret-scanning partners."""
    found = pattern_of(TokenFormat(load_settings().values.token_prefix))
    if as_json:
        print_json({"pattern": found})
    else:
        typer.echo(found)


def told(token: Json) -> Json:
    """Return in words what an empty field of a token means."""
    return {
        "scopes": "all of its plan's" if token["scopes"] is None else token["scopes"],
        "networks": token["networks"] or "any",
        "expires_at": token["expires_at"] or "never",
        "last_used_at": token["last_used_at"] or "never",
    }


def _malformation(text: str, prefix: str) -> str:
    if not text.startswith((f"{prefix}_live_", f"{prefix}_test_")):
        return f"does not begin with {prefix}_live_ or {prefix}_test_"
    if re.fullmatch(TokenFormat(prefix).pattern, text):
        return "its checksum is wrong: it was mistyped or made up"
    return "is not 36 letters and digits after its prefix"
