"""`tallygate plans …`: what becomes of a published version, and of those who are on it."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from tallygate.admin.operations import Operations
from tallygate.admin.records import InShadow, LimitInShadow, Shadow, version_as_json
from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.given_settings import load_settings
from tallygate.cli.options import Reason, Revision
from tallygate.cli.output import AsJson, print_json, print_list, print_object
from tallygate.cli.values import instant
from tallygate.core.errors import InputError
from tallygate.insights.shadow import ShadowLedger
from tallygate.plans.contract import Carry

shadow = typer.Typer(help="Try a version on live traffic, without effect.", no_args_is_help=True)
_SHADOW_COLUMNS = ("id", "plan", "shadow", "started_at", "stopped_at")

Ref = Annotated[str, typer.Argument(metavar="VERSION", help="Such as pro@2.")]


def deprecate(
    plan: Ref,
    undo: Annotated[bool, typer.Option("--undo", help="Take new subscriptions again.")] = False,
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Take no new subscriptions on a version. Nothing changes for those who are on it."""
    changed = with_control_plane(
        lambda control: (control.versions.reinstate if undo else control.versions.deprecate)(
            plan, reason=reason, revision=revision
        ),
        shown_by=f"plans show {plan}",
    )
    _print(version_as_json(changed), as_json=as_json)


def retire(plan: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Close a deprecated version for good. Refused while anybody is, or will be, on it."""
    changed = with_control_plane(
        lambda control: control.versions.retire(plan, reason=reason, revision=revision), shown_by=f"plans show {plan}"
    )
    _print(version_as_json(changed), as_json=as_json)


def pins(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Key, such as pro.")], as_json: AsJson = False
) -> None:
    """Count the subscriptions on each version of a plan. Those that will be on it count too."""
    found = with_control_plane(lambda control: control.plans.pins(plan))
    rows = [{"plan": f"{plan}@{version}", "subscriptions": count} for version, count in found.items()]
    print_list(rows, ("plan", "subscriptions"), as_json=as_json)


def migrate(
    from_plan: Annotated[str, typer.Argument(metavar="FROM", help="The version they are on, such as pro@2.")],
    to_plan: Annotated[str, typer.Argument(metavar="TO", help="The version to move them to.")],
    percent: Annotated[str, typer.Option(help="How many: a stable cohort, to which a higher share adds.")] = "100",
    carry: Annotated[Carry, typer.Option(help="What becomes of units used in running periods.")] = Carry.CARRY,
    at: Annotated[str, typer.Option(help="now, an instant, or a duration from now such as 30d.")] = "now",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Move subscriptions from one version to another. All or a cohort; name them the other way round to go back."""
    share = _share(percent)
    when = None if at == "now" else instant("at", at, datetime.now(UTC))
    done = with_control_plane(
        lambda control: control.versions.migrate(
            from_plan, to_plan, percent=share, carry=carry, at=when, is_dry_run=dry_run, reason=reason
        )
    )
    if as_json:
        print_json(represent(done))
        return
    would = "would move" if dry_run else "moved"
    typer.echo(f"{would} {done.moved} of {done.eligible} subscriptions from {done.from_plan} to {done.to_plan}")
    if done.trialing:
        typer.echo(f"{done.trialing} more are in their trial and stay: move them when it is over")
    if done.ended:
        typer.echo(f"{done.ended} more had a trial that ended, and stay: a change would serve them again")


@shadow.command()
def start(
    plan: Ref,
    tried: Annotated[str, typer.Argument(metavar="SHADOW", help="The version to try, such as pro@3.")],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Count what another version would have refused. Everybody who is on the first is looked at; nobody notices."""

    async def begin(control: Operations) -> Shadow:
        async with _shadow_counts() as counts:
            return await control.shadows.start(plan, tried, counts=counts, reason=reason)

    print_object(represent(with_control_plane(begin)), as_json=as_json)


@shadow.command()
def show(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="pro@2, or pro for the newest with a shadow.")],
    as_json: AsJson = False,
) -> None:
    """Show what the tried version, and limits in shadow, would have refused. Of the requests that were allowed."""

    async def look(control: Operations) -> InShadow:
        async with _shadow_counts() as counts:
            return await control.shadows.show(plan, counts=counts)

    seen = with_control_plane(look)
    if as_json:
        print_json(represent(seen))
        return
    if seen.started_at is not None:
        typer.echo(f"{seen.shadow} beside {seen.plan} since {seen.started_at:%Y-%m-%d %H:%M:%S} UTC")
        _print_seen(seen)
    for limit in seen.limits:
        typer.echo(f"limit {limit.name} in shadow of {seen.plan}")
        _print_seen(limit)


@shadow.command()
def stop(plan: Ref, reason: Reason = "", as_json: AsJson = False) -> None:
    """Stop trying a version."""
    stopped = with_control_plane(lambda control: control.shadows.stop(plan, reason=reason))
    print_object(represent(stopped), as_json=as_json)


@shadow.command("list")
def list_(
    after: Annotated[str, typer.Option(help="Start after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what is and was tried, oldest first."""
    found = with_control_plane(lambda control: control.shadows.list(after, limit))
    more = found[-1].id if len(found) == limit else None
    print_list([represent(item) for item in found], _SHADOW_COLUMNS, as_json=as_json, next_cursor=more)


def _shadow_counts() -> AbstractAsyncContextManager[ShadowLedger]:
    from tallygate.app.shadow_counts import shadow_counts  # noqa: PLC0415 - only shadows need what talks to Redis

    return shadow_counts(load_settings().values)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `tallygate plans`."""
    for command in (deprecate, retire, pins, migrate):
        app.command(command.__name__)(command)
    app.add_typer(shadow, name="shadow")


def _share(text: str) -> Decimal:
    try:
        return Decimal(text.removesuffix("%"))
    except InvalidOperation:
        raise InputError("percent", f"{text!r} is no share", "write 0 to 100, such as 10") from None


def _print_seen(seen: InShadow | LimitInShadow) -> None:
    refused = sum(seen.refused.values())
    typer.echo(f"would have refused {refused} of {seen.requests} requests that were allowed")
    for column, counts in (("reason", seen.refused), ("subscription", seen.subscriptions)):
        rows = [{column: name, "requests": number} for name, number in counts.items()]
        if rows:
            print_list(rows, (column, "requests"), as_json=False)


def _print(value: dict[str, object], *, as_json: bool) -> None:
    print_object(value if as_json else {k: v for k, v in value.items() if k != "document"}, as_json=as_json)
