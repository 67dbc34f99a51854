"""Use cases of plans: applying a catalogue, listing and showing versions, who is on them."""

from tallygate.admin.desk import PAGE, Desk, check_reason
from tallygate.admin.records import AppliedCatalogue, Json, PlanChange, PlanVersion
from tallygate.admin.rows.plans import split_ref
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.licenses.store import ROUTES_SUBJECT
from tallygate.plans.codec import canonical, plan_to_document
from tallygate.plans.codec_routes import routes_to_document
from tallygate.plans.document import Catalogue, Plan

_DIGITS = 9
"""A version's number fits int4."""


class Plans:
    """Publish and read plan versions."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def apply(
        self, catalogue: Catalogue, *, is_dry_run: bool = False, reason: str = ""
    ) -> AppliedCatalogue:  # fmt: skip
        """Publish every plan that differs from its newest version, and put the routes in force.

        One transaction; applying the same catalogue again changes nothing. Subscriptions stay pinned to
        the version they have. Plans the catalogue does not name stay as they are, and so do the routes where it
        says nothing of them. A dry run only says.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            await rows.plans.lock_publishing()
            changes = [await _publish(rows, plan, reason, is_dry_run=is_dry_run) for plan in catalogue.plans]
            routes = await _put_routes(rows, catalogue, reason, is_dry_run=is_dry_run)
        return AppliedCatalogue(tuple(changes), routes, is_dry_run)

    async def show(self, ref: str) -> PlanVersion:
        """Return `pro@3`, or for `pro` its newest version; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return await need_plan(rows, ref)

    async def routes(self) -> tuple[int, Json]:
        """Return the number of the table in force, 0 before the first, and the table: `meters`, `routes` and more."""
        async with self._desk.transaction() as rows:
            return await rows.plans.routes()

    async def pins(self, key: str) -> dict[int, int]:
        """Return for each version of a plan how many live subscriptions are, or will be, on it; none is left out."""
        async with self._desk.transaction() as rows:
            return await rows.plans.pins(key)

    async def newest(self) -> list[PlanVersion]:
        """Return the newest version of every plan, by key."""
        newest: dict[str, PlanVersion] = {}
        after = ""
        while found := await self.list(after):
            for version in found:
                newest.setdefault(version.key, version)
            after = found[-1].ref
        return [*newest.values()]

    async def features(self) -> list[Json]:
        """Return each feature by its key, with what the newest version of each plan that has it grants."""
        versions = await self.newest()
        keys = sorted({key for version in versions for key in version.document["features"]})
        return [{"id": key, "plans": _granted(versions, key)} for key in keys]

    async def list(self, after: str = "", limit: int = PAGE, *, key: str | None = None) -> list[PlanVersion]:
        """Return versions after the one named `after` (`pro@3`): by key, newest first; of one plan, or of all."""
        if after:
            _check_ref(after)
        async with self._desk.transaction() as rows:
            return await rows.plans.page(key, after, limit)


def _granted(versions: list[PlanVersion], feature: str) -> Json:
    values = {version.ref: version.document["features"] for version in versions}
    return {ref: features[feature] for ref, features in values.items() if feature in features}


async def need_plan(rows: Transaction, ref: str) -> PlanVersion:
    """Return the version `key@n`, or the newest of `key`; raise NotFoundError or InputError."""
    if "@" in ref:
        return await need_version(rows, ref)
    return _found(ref, await rows.plans.newest(ref))


async def need_version(rows: Transaction, ref: str) -> PlanVersion:
    """Return the version `key@n`; raise NotFoundError or InputError."""
    _check_ref(ref)
    return _found(ref, await rows.plans.version(*split_ref(ref)))


async def need_offered(rows: Transaction, ref: str) -> PlanVersion:
    """Return `key@n`, or the newest of `key` that is offered, so that it stays offered until the end.

    Raises NotFoundError, InputError, or ConflictError for a version that takes no new subscriptions.
    """
    newest = None if "@" in ref else await rows.plans.newest_offered(ref)
    version = newest or await need_plan(rows, ref)
    await rows.plans.hold(version)
    version = await need_version(rows, version.ref)  # read again: it may have changed before it was held
    if version.status != "published":
        raise ConflictError("plan", f"{version.ref} is {version.status}", "choose a newer version")
    return version


def _check_ref(ref: str) -> None:
    _, at, number = ref.partition("@")
    if not (at and number.isascii() and number.isdigit() and len(number) <= _DIGITS):
        raise InputError("plan", f"{ref!r} names no version", "write pro, or pro@2")


def _found(ref: str, version: PlanVersion | None) -> PlanVersion:
    if version is None:
        raise NotFoundError("plan", f"there is no published plan {ref!r}", "see `tallygate plans list`")
    return version


async def _publish(rows: Transaction, plan: Plan, reason: str, *, is_dry_run: bool) -> PlanChange:
    document = plan_to_document(plan)
    newest = await rows.plans.newest(plan.key)
    if newest is not None and canonical(newest.document) == canonical(document):
        return PlanChange(newest.ref, "unchanged")
    version = 1 if newest is None else newest.version + 1
    ref = f"{plan.key}@{version}"
    if not is_dry_run:
        await rows.plans.publish(plan.key, version, plan.name, document)
        rows.audit("plan.publish", ref, None if newest is None else newest.document, document, reason)
    return PlanChange(ref, "created" if newest is None else "published")


async def _put_routes(rows: Transaction, catalogue: Catalogue, reason: str, *, is_dry_run: bool) -> str:
    if not catalogue.has_routes:
        return "unchanged"
    document = routes_to_document(catalogue.routes, catalogue.meters, catalogue.policies)
    version, standing = await rows.plans.routes()
    if canonical(document) == canonical(standing):
        return "unchanged"
    if not is_dry_run:
        await rows.plans.insert_routes(version + 1, document)
        rows.changed(ROUTES_SUBJECT)
        rows.audit("routes.replace", ROUTES_SUBJECT, standing, document, reason)
    return "replaced"
