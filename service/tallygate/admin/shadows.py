"""Use cases of shadows: trying a version beside the one in force, on live traffic, without any effect.

A limit in shadow (`mode: shadow`) looks on from the publication of its version on, and is only shown here.

While a shadow runs, every phase on the version beside which it runs carries the tried one too (`Phase.shadow`),
so whoever comes to that version later, by a scheduled change or the end of a trial, has it from that instant on.
The subscriptions are compiled anew in batches, each a transaction of its own; starting again what was broken
off compiles the rest.
"""

from dataclasses import asdict, replace

from tallygate.admin.catalogue import need_version
from tallygate.admin.desk import PAGE, Desk, check_reason
from tallygate.admin.dossier import recompile
from tallygate.admin.records import InShadow, LimitInShadow, PlanVersion, Shadow, as_json
from tallygate.admin.rows.plans import split_ref
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.core.ids import new_id
from tallygate.insights.shadow import NOTHING_SEEN, ShadowLedger
from tallygate.licenses.license import limit_ref
from tallygate.plans.codec import plan_from_document
from tallygate.plans.document import LimitMode

_BATCH = 200


class Shadows:
    """Start, stop, show and list shadows."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def start(self, ref: str, shadow_ref: str, *, counts: ShadowLedger, reason: str = "") -> Shadow:
        """Try `shadow_ref` beside `ref`, for all who are or will be on `ref`; raise ConflictError beside another.

        What `counts` hold of it from an earlier trial beside `ref` is forgotten. Raises DependencyError, and starts
        nothing, when they do not answer.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            plan, tried = await need_version(rows, ref), await need_version(rows, shadow_ref)
            if plan.ref == tried.ref:
                raise InputError("shadow", f"{ref} is in force", "name another version")
            await rows.plans.lock(plan)
            running = await rows.plans.running_shadow(plan)
            if running is not None and running.shadow != tried.ref:
                raise ConflictError("plan", f"{running.shadow} is being tried beside {ref}", "stop it first")
            if running is None:
                running = Shadow(new_id("shd", rows.now), plan.ref, tried.ref, rows.now, None)
                await counts.forget(plan.ref, tried.ref)
                await rows.plans.insert_shadow(running)
                rows.audit("plan.shadow_start", plan.ref, None, as_json(running), reason)
        return replace(running, subscriptions=await self._recompile(plan))

    async def stop(self, ref: str, *, reason: str = "") -> Shadow:
        """Stop trying a version beside `ref`; raise NotFoundError when none is, having finished an earlier stop."""
        check_reason(reason)
        stopped = None
        async with self._desk.transaction() as rows:
            plan = await need_version(rows, ref)
            await rows.plans.lock(plan)
            running = await rows.plans.running_shadow(plan)
            if running is not None:
                await rows.plans.stop_shadow(running.id)
                stopped = replace(running, stopped_at=rows.now)
                rows.audit("plan.shadow_stop", plan.ref, as_json(running), as_json(stopped), reason)
        count = await self._recompile(plan)
        if stopped is None:
            raise NotFoundError("shadow", f"nothing is tried beside {ref}", "see `tallygate plans shadow start`")
        return replace(stopped, subscriptions=count)

    async def show(self, ref: str, *, counts: ShadowLedger) -> InShadow:
        """Return what is in shadow on `ref` now, and what `counts` hold of it; raise NotFoundError where nothing is.

        `pro` without a version is the newest of its versions that another is tried beside; where there is none, the
        newest with a limit in shadow. Raises DependencyError when the counts do not answer.
        """
        async with self._desk.transaction() as rows:
            plan = await _looked_at(rows, ref)
            running = await rows.plans.running_shadow(plan)
        limits = _limits_in_shadow(plan)
        if running is None and not limits:
            raise _nothing_in_shadow(ref)
        seen = NOTHING_SEEN if running is None else await counts.report(plan.ref, running.shadow)
        seen_by = {name: await counts.report(plan.ref, limit_ref(plan.ref, name)) for name in limits}
        return InShadow(
            id=None if running is None else running.id,
            plan=plan.ref,
            shadow=None if running is None else running.shadow,
            started_at=None if running is None else running.started_at,
            stopped_at=None,
            **asdict(seen),
            limits=tuple(LimitInShadow(name, **asdict(report)) for name, report in seen_by.items()),
        )

    async def list(self, after: str = "", limit: int = PAGE) -> list[Shadow]:
        """Return shadows in order of their start, stopped ones too, after the id `after`."""
        async with self._desk.transaction() as rows:
            return await rows.plans.shadows(after, limit)

    async def _recompile(self, plan: PlanVersion) -> int:
        """Compile everybody who is or will be on `plan` anew; return how many."""
        count, after = 0, ""
        while True:
            async with self._desk.transaction() as rows:
                ids = await rows.plans.subscriptions_on(plan, after, _BATCH)
                await rows.subscriptions.lock(ids)
                await recompile(rows, ids)
            count += len(ids)
            if len(ids) < _BATCH:
                return count
            after = ids[-1]


async def _looked_at(rows: Transaction, ref: str) -> PlanVersion:
    if "@" in ref:
        return await need_version(rows, ref)
    tried_beside = [each for each in await rows.plans.running_shadows() if split_ref(each)[0] == ref]
    if tried_beside:
        return await need_version(rows, max(tried_beside, key=split_ref))
    version = await rows.plans.newest_in_shadow(ref)
    if version is None:
        raise _nothing_in_shadow(ref)
    return version


def _limits_in_shadow(plan: PlanVersion) -> list[str]:
    return [limit.name for limit in plan_from_document(plan.document).limits if limit.mode is LimitMode.SHADOW]


def _nothing_in_shadow(ref: str) -> NotFoundError:
    problem = f"nothing is tried beside {ref}, and no limit of it is in shadow"
    return NotFoundError("shadow", problem, "see `tallygate plans shadow start`")
