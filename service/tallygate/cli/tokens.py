"""`tallygate tokens`: issue, rotate, revoke and look at tokens."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate.admin.operations import Operations
from tallygate.admin.records import UNSET, IssuedToken, Revocation, Token, Unset, issued_as_json
from tallygate.admin.records import as_json as represent
from tallygate.admin.revocations import TokenFilter
from tallygate.cli import inspection
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.options import Reason, Revision, TokenRef, token_of
from tallygate.cli.output import AsJson, print_json, print_list, print_object, print_secret
from tallygate.cli.values import duration, instant, past_instant
from tallygate.core.errors import InputError
from tallygate.tokens.format import Environment

app = noun("tokens", example="issue --customer acme --name ci --expires 90d")
_COLUMNS = ("id", "family", "customer", "environment", "name", "hint", "status", "expires_at")


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
def show(token: TokenRef, as_json: AsJson = False) -> None:
    """Show one token, without its secret."""
    ref = token_of(token)
    _print(with_control_plane(lambda control: control.tokens.show(ref)), as_json=as_json)


@app.command()
def rotate(
    token: TokenRef,
    grace: Annotated[str, typer.Option(help="How long the old token still works, such as 24h.")] = "0s",
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Replace a token by a new one of its family; no counter is reset. The new secret is printed this once."""
    ref, overlap = token_of(token), duration("grace", grace)
    issued = with_control_plane(
        lambda control: control.tokens.rotate(ref, overlap, reason, revision=revision), shown_by=f"tokens show {ref}"
    )
    _print_secret(issued, as_json=as_json)


@app.command()
def update(
    token: TokenRef,
    scopes: Annotated[
        list[str] | None, typer.Option("--scopes", "--scope", help="Of the plan's; repeat. 'all' gives all of them.")
    ] = None,
    networks: Annotated[
        list[str] | None, typer.Option("--networks", "--network", help="Networks; repeat. 'any' gives all of them.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, an instant, or 'never'.")] = None,
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Change what a token may do, from where, until when. What is left out stays."""
    ref = token_of(token)
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
            revision=revision,
        ),
        shown_by=f"tokens show {ref}",
    )
    _print(changed, as_json=as_json)


@app.command()
def disable(token: TokenRef, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Refuse a token until it is enabled again."""
    ref = token_of(token)
    changed = with_control_plane(
        lambda control: control.tokens.disable(ref, reason, revision=revision), shown_by=f"tokens show {ref}"
    )
    _print(changed, as_json=as_json)


@app.command()
def enable(token: TokenRef, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a disabled token work again."""
    ref = token_of(token)
    changed = with_control_plane(
        lambda control: control.tokens.enable(ref, reason, revision=revision), shown_by=f"tokens show {ref}"
    )
    _print(changed, as_json=as_json)


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
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Revoke a token, a family, or all that fit the options. They are refused from now on."""
    now = datetime.now(UTC)
    chosen = TokenFilter(
        customer=customer,
        subscription=subscription,
        family=family,
        name=name,
        created_before=None if created_before is None else past_instant("created-before", created_before, now),
        not_used_since=None if unused_since is None else past_instant("unused-since", unused_since, now),
    )
    if revision is not None and (token is None or token.startswith("fam_")):
        raise InputError("--revision", "goes with one token", "name the token, or leave it out")
    if token is None:
        _revoke_many(chosen, reason, is_dry_run=dry_run, as_json=as_json)
        return
    if chosen != TokenFilter() or dry_run:
        raise InputError("token", "goes without --customer and the like", "name the token, or describe it")
    ref = token_of(token)
    revoked = with_control_plane(
        lambda control: control.tokens.revoke(ref, reason, revision=revision), shown_by=f"tokens show {ref}"
    )
    if len(revoked) == 1:
        _print(revoked[0], as_json=as_json)
    else:
        print_list([represent(item) for item in revoked], _COLUMNS, as_json=as_json)


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
    _print(issued.record, as_json=False)
    print_secret("token", issued.secret)


def _print(token: Token, *, as_json: bool) -> None:
    value = represent(token)
    print_object(value if as_json else value | inspection.told(value), as_json=as_json)


def _words(texts: list[str]) -> tuple[str, ...]:
    return tuple(word for text in texts for word in re.split(r"[\s,]+", text) if word)


app.command()(inspection.inspect)
app.command()(inspection.pattern)
