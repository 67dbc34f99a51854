"""`tallygate admin-keys`: who may use the REST API."""

from typing import Annotated

import typer

from tallygate.admin.records import Role, key_as_json
from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.options import Reason
from tallygate.cli.output import AsJson, print_json, print_list, print_object, print_secret

app = noun("admin-keys", example="create ci --role issuer")
_COLUMNS = ("id", "name", "role", "created_at", "revoked_at", "last_used_at")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What or whom it is for.")],
    role: Annotated[
        Role, typer.Option(help="viewer reads, issuer also issues and revokes tokens, admin does everything.")
    ] = Role.VIEWER,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a key; its secret is printed this once."""
    issued = with_control_plane(lambda control: control.keys.create(name, role, reason=reason))
    if as_json:
        print_json(key_as_json(issued))
        return
    print_object(represent(issued.record), as_json=False)
    print_secret("key", issued.secret)


@app.command("list")
def list_(
    after: Annotated[str, typer.Option(help="Start after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List keys, oldest first."""
    found = with_control_plane(lambda control: control.keys.list(after, limit))
    more = found[-1].id if len(found) == limit else None
    print_list([represent(item) for item in found], _COLUMNS, as_json=as_json, next_cursor=more)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id.")], reason: Reason = "", as_json: AsJson = False
) -> None:
    """Revoke a key now."""
    revoked = with_control_plane(lambda control: control.keys.revoke(key, reason))
    print_object(represent(revoked), as_json=as_json)
