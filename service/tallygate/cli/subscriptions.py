"""`tallygate subscriptions`: which customer is on which plan version, and on what terms."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tallygate.admin.operations import Operations
from tallygate.admin.records import IssuedToken, Json, Subscription, issued_as_json
from tallygate.admin.records import as_json as represent
from tallygate.admin.subscriptions import When
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.options import Reason, Revision
from tallygate.cli.output import AsJson, print_json, print_list, print_object, print_secret
from tallygate.cli.values import instant
from tallygate.core.errors import InputError, TallygateError
from tallygate.plans.contract import Carry
from tallygate.tokens.format import Environment

app = noun("subscriptions", example="create --customer acme --plan pro")
_MAXIMUM_CHARS = 4 * 1024 * 1024
"""Far more than overrides may have; a device has no end."""
_COLUMNS = ("id", "customer", "plan", "environment", "status", "starts_at", "ends_at")

Ref = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="Id.")]
At = Annotated[str, typer.Option("--at", help="now, period-end, an instant, or a duration from now such as 30d.")]


@app.command()
def create(
    customer: Annotated[str, typer.Option(help="Id or key of the customer.")],
    plan: Annotated[str, typer.Option(help="pro for its newest version, or pro@2.")],
    env: Annotated[Environment, typer.Option(help="Which world its tokens belong to.")] = Environment.LIVE,
    starts: Annotated[str | None, typer.Option(help="When it starts; now if left out.")] = None,
    anchor: Annotated[str | None, typer.Option(help="When billing periods begin; the start if left out.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA zone whose days and months its periods are.")] = "UTC",
    issue_token: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Issue a token of this name too; its secret is shown this once."),
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put a customer on a plan, its trial first if it has one."""
    now = datetime.now(UTC)
    starts_at = None if starts is None else instant("starts", starts, now)
    anchor_at = None if anchor is None else instant("anchor", anchor, now)

    async def put_on(control: Operations) -> tuple[Subscription, IssuedToken | None]:
        made = await control.subscriptions.create(
            customer,
            plan,
            environment=env,
            starts_at=starts_at,
            anchor_at=anchor_at,
            timezone=timezone,
            reason=reason,
        )
        return made, None if issue_token is None else await _issue_for(control, made, issue_token, reason)

    made, issued = with_control_plane(put_on)
    if issued is None:
        _print(made, as_json=as_json)
    elif as_json:
        print_json(represent(made) | {"issued": issued_as_json(issued)})
    else:
        _print(made, as_json=False)
        print_secret("token", issued.secret)


@app.command("list")
def list_(
    customer: Annotated[str | None, typer.Option(help="Only this customer's.")] = None,
    plan: Annotated[str | None, typer.Option(help="Only those made on this version, such as pro@2.")] = None,
    after: Annotated[str, typer.Option(help="Start after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List subscriptions, oldest first."""
    found = with_control_plane(lambda control: control.subscriptions.list(customer, after, limit, plan=plan))
    more = found[-1].id if len(found) == limit else None
    print_list([represent(item) for item in found], _COLUMNS, as_json=as_json, next_cursor=more)


@app.command()
def show(subscription: Ref, as_json: AsJson = False) -> None:
    """Show one subscription. What it is now, and what it becomes if nobody does anything."""
    _print(with_control_plane(lambda control: control.subscriptions.show(subscription)), as_json=as_json)


@app.command()
def change(
    subscription: Ref,
    plan: Annotated[str, typer.Option(help="pro for its newest version, or pro@2.")],
    at: At = "now",
    carry: Annotated[
        Carry,
        typer.Option(help="Units used in the running period: keep them, weigh both plans by days, or begin anew."),
    ] = Carry.CARRY,
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Put a subscription on another plan, now or later."""
    when = _when(at)
    changed = with_control_plane(
        lambda control: control.contracts.change(
            subscription, plan, at=when, carry=carry, reason=reason, revision=revision
        ),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(changed, as_json=as_json)


@app.command("cancel-change")
def cancel_change(
    change_id: Annotated[str, typer.Argument(metavar="CHANGE", help="Id of a change that lies ahead.")],
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take back a change of plan before it takes force."""
    changed = with_control_plane(
        lambda control: control.contracts.cancel_change(change_id, reason=reason, revision=revision),
        shown_by="subscriptions show SUBSCRIPTION",
    )
    _print(changed, as_json=as_json)


@app.command()
def override(
    subscription: Ref,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Terms in YAML or JSON; {} takes all away.")],
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give a subscription terms of its own. Limits, features and scopes other than its plan's."""
    text, source = _text(file)
    changed = with_control_plane(
        lambda control: control.contracts.override(subscription, text, source=source, reason=reason, revision=revision),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(changed, as_json=as_json)


@app.command()
def grant(
    subscription: Ref,
    limit: Annotated[str, typer.Argument(help="The credits limit whose balance grows.")],
    amount: Annotated[int, typer.Argument(help="Units.")],
    expires: Annotated[str | None, typer.Option(help="Until when they may be spent: 90d, or an instant.")] = None,
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Grant credits."""
    expires_at = None if expires is None else instant("expires", expires, datetime.now(UTC))
    changed = with_control_plane(
        lambda control: control.contracts.grant_credits(
            subscription, limit, amount, expires_at=expires_at, reason=reason, revision=revision
        ),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(changed, as_json=as_json)


@app.command()
def suspend(subscription: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Refuse every token of a subscription until resumed."""
    changed = with_control_plane(
        lambda control: control.subscriptions.suspend(subscription, reason, revision=revision),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(changed, as_json=as_json)


@app.command()
def resume(subscription: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a suspended subscription's tokens work again."""
    changed = with_control_plane(
        lambda control: control.subscriptions.resume(subscription, reason, revision=revision),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(changed, as_json=as_json)


@app.command()
def cancel(
    subscription: Ref, at: At = "now", revision: Revision = None, reason: Reason = "", as_json: AsJson = False
) -> None:
    """End a subscription; its tokens are refused from then on."""
    when = _when(at)
    ended = with_control_plane(
        lambda control: control.subscriptions.cancel(subscription, reason, at=when, revision=revision),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(ended, as_json=as_json)


@app.command()
def uncancel(subscription: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take back an end that lies ahead."""
    kept = with_control_plane(
        lambda control: control.subscriptions.uncancel(subscription, reason, revision=revision),
        shown_by=f"subscriptions show {subscription}",
    )
    _print(kept, as_json=as_json)


async def _issue_for(control: Operations, made: Subscription, name: str, reason: str) -> IssuedToken:
    """Issue the first token; where that fails, say that the subscription stands, so that nobody makes another."""
    try:
        return await control.tokens.issue(subscription=made.id, name=name, reason=reason)
    except TallygateError as error:
        mend = f"use `tallygate tokens issue --subscription {made.id}`"
        raise TallygateError(f"{made.id} is made, but its token is not: {error} ({mend})") from None


def _when(text: str) -> When:
    if text == "now":
        return "now"
    if text == "period-end":
        return "period-end"
    return instant("at", text, datetime.now(UTC))


def _text(file: str) -> tuple[str, str]:
    """Return the text of a file or of standard input, and what to call it in messages."""
    if file == "-":
        return sys.stdin.read(_MAXIMUM_CHARS), "standard input"
    try:
        with Path(file).open(encoding="utf-8") as opened:
            return opened.read(_MAXIMUM_CHARS), file
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(file, "is not UTF-8 text", "save it as UTF-8") from None


def _print(subscription: Subscription, *, as_json: bool) -> None:
    value = represent(subscription)
    print_object(value if as_json else value | _told(subscription), as_json=as_json)


def _told(subscription: Subscription) -> Json:
    """Return the parts of a subscription that have parts, a line each."""
    changes = [each for each in subscription.changes if each.canceled_at is None]
    return {
        "phases": "\n".join(f"{each.at:%Y-%m-%d %H:%M} {each.status} on {each.plan}" for each in subscription.phases),
        "changes": "\n".join(f"{each.id} {each.at:%Y-%m-%d %H:%M} to {each.plan}, {each.carry}" for each in changes),
        "credits": "\n".join(
            f"{each.amount} to {each.limit}" + (f" until {each.expires_at:%Y-%m-%d %H:%M}" if each.expires_at else "")
            for each in subscription.credits
        ),
    }
