"""`/v1/plans`: published plan versions, publishing new ones, moving cohorts, and versions in shadow.

A plan is written here as in a plan file, in JSON. What the file's schema cannot say is told by pointers.
"""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi import Body as FromBody
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.operations import Operations
from tallygate.admin.records import (
    AppliedCatalogue,
    InShadow,
    Json,
    Migration,
    PlanVersion,
    Shadow,
    as_json,
    version_as_json,
)
from tallygate.admin.rest.access import Admin, Viewer
from tallygate.admin.rest.call import Call, Revision
from tallygate.admin.rest.paging import ByPlan, Page, Paging
from tallygate.admin.rest.problems import moved
from tallygate.admin.rest.representation import CREATED, OK, Answer, shown
from tallygate.admin.rest.schemas import PlanVersionView
from tallygate.admin.rest.values import (
    Act,
    BodyVersionNumber,
    Flag,
    Instant,
    JsonObject,
    PlanKey,
    PlanRef,
    VersionNumber,
    VersionRef,
    Why,
)
from tallygate.core.errors import InputError
from tallygate.plans.contract import Carry
from tallygate.plans.document import Catalogue
from tallygate.plans.parse import InvalidCatalogueError, parse

router = APIRouter(prefix="/plans", tags=["plans"])

Key = Annotated[PlanKey, Path(description="Key of the plan.")]
Ref = Annotated[PlanRef, Path(description="`pro` for its newest version, or `pro@3`.")]
Number = Annotated[VersionNumber, Path(description="Number of the version.")]
File = Annotated[JsonObject, FromBody(description="A plan file.", json_schema_extra={"x-schema": "plan-file"})]
PlanDocument = Annotated[JsonObject, FromBody(description="A plan.", json_schema_extra={"x-schema": "plan-file.plan"})]
DryRun = Annotated[bool, Query(description="Say what would be done, and do nothing.")]


class NewMigration(Act):
    """Which cohort moves where: always the same customers for the same percentage, and back likewise."""

    from_version: BodyVersionNumber
    to: PlanRef
    percent: Annotated[str, Field(pattern=r"^(100(\.0{1,2})?|[1-9]?[0-9](\.[0-9]{1,2})?)$")] = "100"
    carry: Carry = Carry.CARRY
    at: Instant | None = None
    dry_run: Flag = False


class NewShadow(Act):
    """The version in force, and the one to be tried beside it."""

    version: BodyVersionNumber
    shadow: VersionRef


class StoppedShadow(Act):
    """The version in force whose shadow ends."""

    version: BodyVersionNumber


@router.get("", response_model=Page[PlanVersionView])
async def list_(call: Viewer, page: ByPlan) -> Response:
    """List plan versions by key, newest first."""
    return await _versions(call, page, None)


@router.post("", response_model=AppliedCatalogue)
async def apply(call: Admin, document: File, dry_run: DryRun = False) -> Response:
    """Apply a plan file: publish a new version of every plan that changed, and put the routes in force.

    A file without routes leaves those in force as they are. Applying it again changes nothing.
    """
    return await call.once(_apply(call.operations, document, is_dry_run=dry_run))


@router.get("/{plan}", response_model=PlanVersionView)
async def show(call: Viewer, plan: Ref) -> Response:
    """Show a plan version."""
    return _version(await call.operations.plans.show(plan)).response()


@router.get("/{key}/versions", response_model=Page[PlanVersionView])
async def list_versions(call: Viewer, key: Key, page: ByPlan) -> Response:
    """List the versions of a plan, newest first."""
    return await _versions(call, page, key)


@router.post(
    "/{key}/versions",
    response_model=PlanVersionView,
    status_code=CREATED,
    responses={OK: {"model": PlanVersionView, "description": "Nothing new: the newest version."}},
)
async def publish(call: Admin, key: Key, document: PlanDocument) -> Response:
    """Publish the next version of a plan; one that says the same as the newest is not published again (200)."""
    return await call.once(_publish(call.operations, key, document), lambda answer: answer)


@router.get("/{key}/versions/{version}", response_model=PlanVersionView)
async def show_version(call: Viewer, key: Key, version: Number) -> Response:
    """Show a plan version."""
    return _version(await call.operations.plans.show(f"{key}@{version}")).response()


@router.post("/{key}/versions/{version}/deprecate", response_model=PlanVersionView)
async def deprecate(call: Admin, key: Key, version: Number, revision: Revision, why: Why) -> Response:
    """Let no new subscription begin on a version."""
    work = call.operations.versions.deprecate(f"{key}@{version}", reason=why.reason, revision=revision)
    return await call.once(work, _version)


@router.post("/{key}/versions/{version}/reinstate", response_model=PlanVersionView)
async def reinstate(call: Admin, key: Key, version: Number, revision: Revision, why: Why) -> Response:
    """Let subscriptions begin on a deprecated version again."""
    work = call.operations.versions.reinstate(f"{key}@{version}", reason=why.reason, revision=revision)
    return await call.once(work, _version)


@router.post("/{key}/versions/{version}/retire", response_model=PlanVersionView)
async def retire(call: Admin, key: Key, version: Number, revision: Revision, why: Why) -> Response:
    """Retire a deprecated version nobody is on, for good."""
    work = call.operations.versions.retire(f"{key}@{version}", reason=why.reason, revision=revision)
    return await call.once(work, _version)


@router.post("/{key}/migrations", response_model=Migration)
async def migrate(call: Admin, key: Key, body: NewMigration) -> Response:
    """Move a cohort of a version's subscriptions to another version."""
    work = call.operations.versions.migrate(
        f"{key}@{body.from_version}",
        body.to,
        percent=Decimal(body.percent),
        carry=body.carry,
        at=body.at,
        is_dry_run=body.dry_run,
        reason=body.reason,
    )
    return await call.once(work)


@router.get("/{key}/shadow", response_model=InShadow)
async def show_shadow(
    call: Viewer,
    key: Key,
    version: Annotated[
        VersionNumber | None, Query(description="Which version; the newest with a version in shadow, or else a limit.")
    ] = None,
) -> Response:
    """Show what the version in shadow, and each limit in shadow, would have refused on live traffic since it began."""
    ref = key if version is None else f"{key}@{version}"
    return Answer(as_json(await call.operations.shadows.show(ref, counts=call.backstage.shadow_counts))).response()


@router.post("/{key}/shadow", response_model=Shadow, status_code=201)
async def start_shadow(call: Admin, key: Key, body: NewShadow) -> Response:
    """Try a version beside the one in force: it counts for itself and decides nothing."""
    work = call.operations.shadows.start(
        f"{key}@{body.version}", body.shadow, counts=call.backstage.shadow_counts, reason=body.reason
    )
    location = {"location": f"/v1/plans/{key}/shadow?version={body.version}"}
    return await call.once(work, lambda shadow: Answer(as_json(shadow), CREATED, location))


@router.post("/{key}/shadow/stop", response_model=Shadow)
async def stop_shadow(call: Admin, key: Key, body: StoppedShadow) -> Response:
    """End the trial of a version in shadow."""
    return await call.once(call.operations.shadows.stop(f"{key}@{body.version}", reason=body.reason))


async def _versions(call: Call, page: Paging, key: str | None) -> Response:
    found = await page.page(
        lambda after, limit: call.operations.plans.list(after, limit, key=key),
        lambda version: version.ref,
        version_as_json,
    )
    return found.response()


async def _apply(operations: Operations, document: Json, *, is_dry_run: bool) -> AppliedCatalogue:
    return await operations.plans.apply(read_file(document), is_dry_run=is_dry_run)


async def _publish(operations: Operations, key: str, document: Json) -> Answer:
    """Publish one plan, read among the newest of the others, for plans speak of each other; those are let alone."""
    others = {version.key: version.document for version in await operations.plans.newest() if version.key != key}
    try:
        catalogue = read_file({"plans": [{"key": key, **document}, *others.values()]})
    except InvalidCatalogueError as error:
        raise moved(error, "plans[0]") from None
    if catalogue.plans[0].key != key:
        raise InputError("key", f"is not {key}", "leave it out, or publish at the plan's own address")
    # The others may have newer versions by now, which theirs here would take back.
    applied = await operations.plans.apply(replace(catalogue, plans=catalogue.plans[:1]))
    answer = _version(await operations.plans.show(applied.plans[0].plan))
    if applied.plans[0].action == "unchanged":
        return answer
    _, _, number = applied.plans[0].plan.partition("@")
    location = {"location": f"/v1/plans/{key}/versions/{number}"}
    return replace(answer, status=CREATED, headers={**answer.headers, **location})


def read_file(document: Json) -> Catalogue:
    """Read a plan file that came as JSON, where 7.0 is the whole number 7."""
    try:
        text = json.dumps(json.loads(json.dumps(document), parse_float=_number), ensure_ascii=False)
    except RecursionError:
        raise InputError("plans", "are nested too deep", "write them as a plan file has them") from None
    return parse(text, "body")


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _version(version: PlanVersion) -> Answer:
    return replace(shown(version), body=version_as_json(version))
