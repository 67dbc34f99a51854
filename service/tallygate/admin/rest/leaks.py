"""`/v1/leaks`: the receiver of secret-scanning partners. What they report is revoked or rotated, by policy.

The sender is known by a signature over the body (`signatures`), not by an admin key. The answer tells for
each secret whether it was one of ours, by its hash: the secret itself is neither sent back nor kept.
"""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from tallygate.admin.leaks import LeakItem
from tallygate.admin.records import LeakAnswer
from tallygate.admin.rest.access import Viewer, charge_stranger, need_json
from tallygate.admin.rest.call import Call, backstage
from tallygate.admin.rest.problems import Problem
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.schemas import LeakLabel, LeakPattern

router = APIRouter(prefix="/leaks", tags=["leaks"])

_GITHUB = APIKeyHeader(
    name="Github-Public-Key-Signature",
    scheme_name="PartnerSignature",
    auto_error=False,
    description="ECDSA P-256 over the body, by the key that Github-Public-Key-Identifier names.",
)
_WEBHOOK = APIKeyHeader(
    name="webhook-signature",
    scheme_name="WebhookSignature",
    auto_error=False,
    description="Standard Webhooks: v1,<HMAC-SHA256 of id.timestamp.body>, with webhook-id and webhook-timestamp.",
)
_MAXIMUM_ITEMS = 1000


class FoundToken(BaseModel):
    """A secret somebody found; members we do not know are passed over.

    Nothing but the body is bounded: one odd item must not keep the tokens beside it alive.
    """

    token: str
    type: str | None = None
    url: str | None = None
    source: str | None = None


async def from_partner(
    request: Request,
    _github: Annotated[str | None, Depends(_GITHUB)],
    _webhook: Annotated[str | None, Depends(_WEBHOOK)],
) -> Call:
    """Let a signed report in, or raise Problem: 401, 415 or 429."""
    stage = backstage(request)
    await charge_stranger(request, stage)
    reporter = stage.leak_keys.reporter(request.headers, request.state.body, stage.clock)
    if reporter is None:
        raise Problem(
            401,
            "The report is not signed by anybody known here.",
            slug="signature-invalid",
            headers={"WWW-Authenticate": 'Signature realm="leaks"'},
        )
    need_json(request)
    return Call(request, stage, stage.control.acting(f"leak:{reporter}", request.state.request_id))


@router.get("/pattern", response_model=LeakPattern)
async def pattern(call: Viewer) -> Response:
    """Show the regular expression to register with secret-scanning partners."""
    return Answer({"pattern": call.operations.leaks.pattern()}).response()


@router.post("", response_model=list[LeakLabel])
async def report(
    call: Annotated[Call, Depends(from_partner)],
    found: Annotated[list[FoundToken], Field(max_length=_MAXIMUM_ITEMS)] | FoundToken,
) -> Response:
    """Report tokens found in public; those of ours are revoked, or rotated, as the policy says."""
    tokens = found if isinstance(found, list) else [found]
    stage = call.backstage
    work = call.operations.leaks.report(
        [LeakItem(item.token, item.type or "", item.url or "", item.source or "") for item in tokens],
        policy=stage.leak_policy,
        grace=stage.leak_grace,
    )
    return await call.once(work, lambda answers: _labels(tokens, answers))


def _labels(found: list[FoundToken], answers: list[LeakAnswer]) -> Answer:
    return Answer(
        [
            {
                "token_hash": hashlib.sha256(item.token.encode("utf-8", "replace")).hexdigest(),
                "token_type": answer.type,  # without anything in it that looks like a token: answers may be stored
                "label": answer.label,
            }
            for item, answer in zip(found, answers, strict=True)
        ]
    )
