"""`tallygate tokens`: issue, rotate, revoke and look at tokens."""

import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate.admin.operations import Operations
from tallygate.admin.records import UNSET, IssuedToken, Json, Revocation, Unset, issued_as_json
from tallygate.admin.records import as_json as represent
from tallygate.admin.revocations import TokenFilter
from tallygate.cli.context import load_settings, with_control_plane
from tallygate.cli.output import AsJson, complain, console, print_json, print_list, print_object
from tallygate.cli.values import duration, instant, past_instant
from tallygate.core.errors import InputError, NotFoundError
from tallygate.tokens.format import Environment, TokenFormat

app = typer.Typer(help="Issue, rotate and revoke tokens.", no_args_is_help=True)
_COLUMNS = ("id", "family", "customer", "environment", "name", "hint", "status", "expires_at")

Ref = Annotated[str, typer.Argument(metavar="TOKEN", help="Id, or the token itself; - reads it from standard input.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]


@app.command()
def issue(
    subscription: Annotated[str | None, typer.Option(help="Id of the subscription.")] = None,
    customer: Annotated[str | None, typer.Option(help="Or the customer, if they have just one.")] = None,
    env: Annotated[Environment | None, typer.Option(help="Or the customer's one in this world.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scopes", "--scope", help="Of the plan's; repeat, or separate by spaces. All if left out."),
    ] = None,
    networks: Annotated[
        list[str] | None, typer.Option("--networks", "--network", help="Networks it may be used from; repeat.")
    ] = None,
    not_before: Annotated[str | None, typer.Option(help="Not valid before this instant.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, or an instant. Never if left out.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a token; its secret is printed this once."""
    now = datetime.now(UTC)
    made = with_control_plane(
        lambda control: control.tokens.issue(
            subscription=subscription,
            customer=customer,
            environment=env,
            name=name,
            scopes=None if scopes is None else _words(scopes),
            networks=_words(networks or []),
            not_before_at=None if not_before is None else instant("not-before", not_before, now),
            expires_at=None if expires is None else instant("expires", expires, now),
            reason=reason,
        )
    )
    _print_secret(made, as_json=as_json)


@app.command("list")
def list_(
    customer: Annotated[str | None, typer.Option(help="Only this customer's.")] = None,
    subscription: Annotated[str | None, typer.Option(help="Only this subscription's.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family's.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this name.")] = None,
    hint: Annotated[str | None, typer.Option(help="Only those that end in these four characters.")] = None,
    after: Annotated[str, typer.Option(help="Start after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List tokens, oldest first."""
    found = with_control_plane(
        lambda control: control.tokens.list(
            customer=customer,
            subscription=subscription,
            family=family,
            name=name,
            hint=hint,
            after=after,
            limit=limit,
        )
    )
    more = found[-1].id if len(found) == limit else None
    print_list([represent(item) for item in found], _COLUMNS, as_json=as_json, next_cursor=more)


@app.command()
def show(token: Ref, as_json: AsJson = False) -> None:
    """Show one token, without its secret."""
    ref = _ref(token)
    print_object(represent(with_control_plane(lambda control: control.tokens.show(ref))), as_json=as_json)


@app.command()
def rotate(
    token: Ref,
    grace: Annotated[str, typer.Option(help="How long the old token still works, such as 24h.")] = "0s",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Replace a token by a new one of its family; no counter is reset. The new secret is printed this once."""
    ref, overlap = _ref(token), duration("grace", grace)
    _print_secret(with_control_plane(lambda control: control.tokens.rotate(ref, overlap, reason)), as_json=as_json)


@app.command()
def update(
    token: Ref,
    scopes: Annotated[
        list[str] | None, typer.Option("--scopes", "--scope", help="Of the plan's; repeat. 'all' gives all of them.")
    ] = None,
    networks: Annotated[
        list[str] | None, typer.Option("--networks", "--network", help="Networks; repeat. 'any' gives all of them.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, an instant, or 'never'.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Change what a token may do, from where, and until when; what is left out stays."""
    ref = _ref(token)
    ends_at: datetime | Unset | None = UNSET
    if expires is not None:
        ends_at = None if expires == "never" else instant("expires", expires, datetime.now(UTC))
    words = None if scopes is None else _words(scopes)
    places = None if networks is None else _words(networks)
    changed = with_control_plane(
        lambda control: control.tokens.update(
            ref,
            scopes=UNSET if words is None else None if words == ("all",) else words,
            networks=UNSET if places is None else () if places == ("any",) else places,
            expires_at=ends_at,
            reason=reason,
        )
    )
    print_object(represent(changed), as_json=as_json)


@app.command()
def disable(token: Ref, reason: Reason = "", as_json: AsJson = False) -> None:
    """Refuse a token until it is enabled again."""
    ref = _ref(token)
    changed = with_control_plane(lambda control: control.tokens.disable(ref, reason))
    print_object(represent(changed), as_json=as_json)


@app.command()
def enable(token: Ref, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a disabled token work again."""
    ref = _ref(token)
    changed = with_control_plane(lambda control: control.tokens.enable(ref, reason))
    print_object(represent(changed), as_json=as_json)


@app.command()
def revoke(
    token: Annotated[
        str | None, typer.Argument(metavar="[TOKEN|FAMILY]", help="Id, the token itself, or a family's id.")
    ] = None,
    customer: Annotated[str | None, typer.Option(help="Or every token of this customer.")] = None,
    subscription: Annotated[str | None, typer.Option(help="Or of this subscription.")] = None,
    family: Annotated[str | None, typer.Option(help="Or of this family, however large.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this name.")] = None,
    created_before: Annotated[str | None, typer.Option(help="Only those made before: an instant, or 90d ago.")] = None,
    unused_since: Annotated[str | None, typer.Option(help="Only those not used since: an instant, or 90d ago.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Revoke a token, every token of a family, or all that fit the options, now."""
    now = datetime.now(UTC)
    chosen = TokenFilter(
        customer=customer,
        subscription=subscription,
        family=family,
        name=name,
        created_before=None if created_before is None else past_instant("created-before", created_before, now),
        not_used_since=None if unused_since is None else past_instant("unused-since", unused_since, now),
    )
    if token is None:
        _revoke_many(chosen, reason, is_dry_run=dry_run, as_json=as_json)
        return
    if chosen != TokenFilter() or dry_run:
        raise InputError("token", "goes without --customer and the like", "name the token, or describe it")
    ref = _ref(token)
    gone = [represent(item) for item in with_control_plane(lambda control: control.tokens.revoke(ref, reason))]
    if len(gone) == 1:
        print_object(gone[0], as_json=as_json)
    else:
        print_list(gone, _COLUMNS, as_json=as_json)


@app.command()
def inspect(token: Ref, as_json: AsJson = False) -> None:
    """Check a token's prefix and checksum offline, then its state where a database is configured."""
    values = load_settings().values
    text = _ref(token)
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
        state = {"status": "unknown"}
    print_object(found | state, as_json=as_json)


def _revoke_many(chosen: TokenFilter, reason: str, *, is_dry_run: bool, as_json: bool) -> None:
    async def all_of_them(control: Operations) -> Revocation:
        done = await control.revocations.revoke(chosen, is_dry_run=is_dry_run, reason=reason)
        while done.next_cursor is not None:
            more = await control.revocations.revoke(
                chosen, is_dry_run=is_dry_run, after=done.next_cursor, reason=reason
            )
            done = replace(more, matched=done.matched + more.matched, revoked=done.revoked + more.revoked)
        return done

    done = with_control_plane(all_of_them)
    if as_json:
        print_json(represent(done))
    else:
        typer.echo(f"{'would revoke' if is_dry_run else 'revoked'} {done.revoked} of {done.matched} tokens")


def _print_secret(issued: IssuedToken, *, as_json: bool) -> None:
    if as_json:
        print_json(issued_as_json(issued))
        return
    print_object(represent(issued.record), as_json=False)
    console().print(f"\ntoken  {issued.secret}", markup=False, soft_wrap=True)
    console().print("Keep it now: it is stored nowhere and cannot be shown again.")


def _ref(text: str) -> str:
    return sys.stdin.readline().strip() if text == "-" else text


def _words(texts: list[str]) -> tuple[str, ...]:
    return tuple(word for text in texts for word in re.split(r"[\s,]+", text) if word)


def _malformation(text: str, prefix: str) -> str:
    if not text.startswith((f"{prefix}_live_", f"{prefix}_test_")):
        return f"does not begin with {prefix}_live_ or {prefix}_test_"
    if re.fullmatch(TokenFormat(prefix).pattern, text):
        return "its checksum is wrong: it was mistyped or made up"
    return "is not 36 letters and digits after its prefix"
