"""`/v1/tokens`: issue, rotate, revoke, and look at tokens.

A token's secret is in `token` of the answer that issues it, this once; a repetition under the same
`Idempotency-Key` is that same answer. Paths and queries take ids only, for addresses end up in logs.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi import Body as FromBody
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.records import UNSET, Revocation, Token
from tallygate.admin.rest.access import Issuer, Viewer
from tallygate.admin.rest.call import Revision
from tallygate.admin.rest.paging import ById, Page
from tallygate.admin.rest.representation import issued, shown
from tallygate.admin.rest.schemas import IssuedTokenView
from tallygate.admin.rest.values import (
    Act,
    BatchSize,
    Body,
    FamilyId,
    Flag,
    Instant,
    Networks,
    Ref,
    Scopes,
    Seconds,
    SubscriptionId,
    Text,
    TokenId,
    Why,
    one_of,
    seconds,
)
from tallygate.admin.revocations import TokenFilter
from tallygate.tokens.format import Environment

router = APIRouter(prefix="/tokens", tags=["tokens"])

Id = Annotated[TokenId, Path(description="Id of the token.")]


class NewToken(Act):
    """A token to be, in a family of its own. Name the subscription, or the customer if they have just one."""

    model_config = one_of(subscription={"type": "string"}, customer={"type": "string"})

    subscription: SubscriptionId | None = None
    customer: Ref | None = None
    environment: Environment | None = None
    name: Text = ""
    scopes: Annotated[Scopes | None, Field(description="Some of the plan's; all of them where it is null.")] = None
    networks: Networks = Field(default_factory=list, description="Where it may be used from; anywhere without any.")
    not_before_at: Instant | None = None
    expires_at: Instant | None = None


class TokenPatch(Act):
    """What may be changed of a token; what is left out stays."""

    scopes: Scopes | None = None
    networks: Networks = Field(default_factory=list)
    expires_at: Instant | None = None


class Rotation(Act):
    """How long the old token still works."""

    grace_s: Seconds = 0


class Inspection(Body):
    """The token itself."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class BulkRevocation(Act):
    """Which tokens: every condition given must hold, and at least one is given."""

    model_config = one_of(
        customer={"type": "string"},
        subscription={"type": "string"},
        family={"type": "string"},
        name={"type": "string"},
        created_before={"type": "string"},
        not_used_since={"type": "string"},
    )

    customer: Ref | None = None
    subscription: SubscriptionId | None = None
    family: FamilyId | None = None
    name: Text | None = None
    created_before: Instant | None = None
    not_used_since: Instant | None = None
    dry_run: Flag = False
    limit: BatchSize = 10_000
    cursor: Annotated[TokenId | None, Field(description="The answer before's next_cursor.")] = None


@router.get("", response_model=Page[Token])
async def list_(
    call: Viewer,
    page: ById,
    customer: Annotated[Ref | None, Query(description="Only this customer's.")] = None,
    subscription: Annotated[SubscriptionId | None, Query(description="Only this subscription's.")] = None,
    family: Annotated[FamilyId | None, Query(description="Only this family's.")] = None,
    hint: Annotated[str | None, Query(pattern="^[0-9A-Za-z]{4}$", description="Their last four characters.")] = None,
    name: Annotated[Text | None, Query(description="Only of this name.")] = None,
) -> Response:
    """List tokens, oldest first."""
    found = await page.page(
        lambda after, limit: call.operations.tokens.list(
            customer=customer, subscription=subscription, family=family, hint=hint, name=name, after=after, limit=limit
        ),
        lambda token: token.id,
    )
    return found.response()


@router.post("", response_model=IssuedTokenView, status_code=201)
async def issue(call: Issuer, body: NewToken) -> Response:
    """Make a token; its secret is in `token`, this once."""
    return await call.once(
        call.operations.tokens.issue(
            customer=body.customer,
            subscription=body.subscription,
            environment=body.environment,
            name=body.name,
            scopes=None if body.scopes is None else tuple(body.scopes),
            networks=tuple(body.networks),
            not_before_at=body.not_before_at,
            expires_at=body.expires_at,
            reason=body.reason,
        ),
        issued,
    )


@router.post("/inspect", response_model=Token)
async def inspect(call: Viewer, body: Inspection) -> Response:
    """Show the token that this secret is."""
    return await call.once(call.operations.tokens.show(body.token))


@router.post("/revoke", response_model=Revocation)
async def revoke_many(call: Issuer, body: BulkRevocation) -> Response:
    """Revoke every token that meets the conditions; repeat with `next_cursor` until there is none."""
    chosen = TokenFilter(
        customer=body.customer,
        subscription=body.subscription,
        family=body.family,
        name=body.name,
        created_before=body.created_before,
        not_used_since=body.not_used_since,
    )
    work = call.operations.revocations.revoke(
        chosen, is_dry_run=body.dry_run, limit=body.limit, after=body.cursor or "", reason=body.reason
    )
    return await call.once(work)


@router.get("/{token}", response_model=Token)
async def show(call: Viewer, token: Id) -> Response:
    """Show a token, without its secret."""
    return shown(await call.operations.tokens.show(token)).response()


@router.patch("/{token}", response_model=Token)
async def update(call: Issuer, token: Id, body: TokenPatch, revision: Revision) -> Response:
    """Change what a token may do; null scopes are the plan's, a null end is none."""
    given = body.model_fields_set
    work = call.operations.tokens.update(
        token,
        scopes=UNSET if "scopes" not in given else None if body.scopes is None else tuple(body.scopes),
        networks=tuple(body.networks) if "networks" in given else UNSET,
        expires_at=body.expires_at if "expires_at" in given else UNSET,
        reason=body.reason,
        revision=revision,
    )
    return shown(await work).response()


@router.post("/{token}/rotate", response_model=IssuedTokenView, status_code=201)
async def rotate(
    call: Issuer, token: Id, revision: Revision, body: Annotated[Rotation, FromBody(default_factory=Rotation)]
) -> Response:
    """Replace it by a new token of its family; no counter is reset."""
    work = call.operations.tokens.rotate(token, seconds(body.grace_s), body.reason, revision=revision)
    return await call.once(work, issued)


@router.post("/{token}/revoke", response_model=Token)
async def revoke(call: Issuer, token: Id, revision: Revision, why: Why) -> Response:
    """Revoke it, now."""
    work = call.operations.tokens.revoke(token, why.reason, revision=revision)
    return await call.once(work, lambda revoked: shown(revoked[0]))


@router.post("/{token}/disable", response_model=Token)
async def disable(call: Issuer, token: Id, revision: Revision, why: Why) -> Response:
    """Refuse it until it is enabled."""
    return await call.once(call.operations.tokens.disable(token, why.reason, revision=revision))


@router.post("/{token}/enable", response_model=Token)
async def enable(call: Issuer, token: Id, revision: Revision, why: Why) -> Response:
    """Let a disabled token work again."""
    return await call.once(call.operations.tokens.enable(token, why.reason, revision=revision))
