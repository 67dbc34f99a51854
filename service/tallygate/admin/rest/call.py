"""One admitted request: the use cases acting for its caller, and how it is done once and only once.

Owns idempotency keys and entity tags as HTTP has them. With an `Idempotency-Key` a repeated request gets the
answer of the first (`admin.answers`): refusals too, but never an answer that says "not now" (412, 5xx), which is
worth asking again. The act and the record of its answer commit together, but for the operations in `APART`.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Coroutine
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from tallygate.admin.answers import UnderWayError
from tallygate.admin.leaks import LeakPolicy
from tallygate.admin.operations import ControlPlane, Operations
from tallygate.admin.rest.problems import IDEMPOTENCY_KEY, MEDIA_TYPE, Problem, problem_of
from tallygate.admin.rest.representation import Answer, shown
from tallygate.admin.rest.signatures import LeakKeys
from tallygate.admin.rest.throttle import Throttle
from tallygate.core.clock import Clock
from tallygate.core.errors import ConflictError, InputError, TallygateError
from tallygate.decision.decision import CheckInput, Decision
from tallygate.insights.shadow import ShadowLedger
from tallygate.usage.reading import UsageReader

REPLAYED = "Idempotency-Replayed"
APART = frozenset({
    "tokens.revoke_many", "plans.migrate", "plans.start_shadow", "plans.stop_shadow",  # work in batches that stay done
    "tokens.inspect", "explain.explain",  # look, and through connections of their own
})  # fmt: skip
"""Operations that under an `Idempotency-Key` are done apart from the record of their answer; any may be done twice."""
T = TypeVar("T")
_REVISION = r'^("[0-9]{1,9}"|[0-9]{1,9}|\*)$'  # without quotes too: shells eat them


@dataclass(frozen=True, slots=True)
class Backstage:
    """What the handlers stand on.

    `explain` decides without consuming, `shadow_counts` holds what shadows saw, `usage` what was counted.
    """

    control: ControlPlane
    throttle: Throttle
    explain: Callable[[CheckInput], Coroutine[Any, Any, Decision]]
    shadow_counts: ShadowLedger
    usage: UsageReader
    leak_keys: LeakKeys
    leak_policy: LeakPolicy
    leak_grace: timedelta
    clock: Clock
    problem_base_url: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in."""

    request: Request
    backstage: Backstage
    operations: Operations

    async def once(
        self, work: Coroutine[Any, Any, T], represent: Callable[[T], Answer] = shown
    ) -> Response:  # fmt: skip
        """Do `work` and represent what it returns; once, however often it is asked for with one `Idempotency-Key`."""
        key = self.request.headers.get(IDEMPOTENCY_KEY)
        if key is None:
            return represent(await work).response()
        answers = self.operations.answers
        way = answers.apart if operation_id(self.request.scope["route"]) in APART else answers.once
        with closing(work):  # where the answer is known already, it never starts
            async with way(key, self._fingerprint()) as once:
                if once.stored is not None:
                    return Response(once.stored.body, once.stored.status, {**once.stored.headers, REPLAYED: "true"})
                answer = await self._done(work, represent)
                await once.finish(answer.status, answer.head(), answer.content(), secret=answer.secret)
            return answer.response()

    async def _done(self, work: Coroutine[Any, Any, T], represent: Callable[[T], Answer]) -> Answer:
        """Do it; a refusal is an answer too."""
        try:
            return represent(await work)
        except InputError as error:
            problem = told(self.request, error)
            if problem.status == HTTPStatus.PRECONDITION_FAILED:
                raise
            body = problem.body(self.backstage.problem_base_url, self.request.state.request_id)
            return Answer(body, problem.status, {**problem.headers, "content-type": MEDIA_TYPE})

    def _fingerprint(self) -> bytes:
        """Return what makes two requests the same: method, path, query and the bytes of the body."""
        url = self.request.url
        head = f"{self.request.method} {url.path}?{url.query}\n".encode()
        return hashlib.sha256(head + self.request.state.body).digest()


def backstage(request: Request) -> Backstage:
    """Return what the app was built with."""
    found: Backstage = request.app.state.backstage
    return found


def operation_id(route: APIRoute) -> str:
    """Return `customers.create`."""
    return f"{route.tags[0]}.{route.name.strip('_')}"


def told(request: Request, error: TallygateError) -> Problem:
    """Return the problem of an error, pointing into the request's own body."""
    if isinstance(error, UnderWayError):
        told_wait = {"Retry-After": str(error.retry_after_s)}
        members = {"retry_after_s": error.retry_after_s}
        return Problem(HTTPStatus.CONFLICT, str(error), slug="under-way", headers=told_wait, members=members)
    if isinstance(error, ConflictError) and error.field == "revision":
        return Problem(HTTPStatus.PRECONDITION_FAILED, error.problem, slug="precondition-failed")
    return problem_of(error, _members(request))


def _members(request: Request) -> Collection[str] | None:
    try:
        body = json.loads(request.state.body or b"null")
    except (ValueError, RecursionError):
        return None
    return body.keys() if isinstance(body, dict) else None


def _revision(
    if_match: Annotated[
        str | None,
        Header(pattern=_REVISION, description="The ETag the object must still have: 412 when it was changed."),
    ] = None,
) -> int | None:
    return None if if_match in (None, "*") else int(if_match.strip('"'))


Revision = Annotated[int | None, Depends(_revision)]
