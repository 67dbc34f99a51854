"""Use cases of shadows: trying a version beside the one in force, on live traffic, without any effect.

While a shadow runs, every phase on the version beside which it runs carries the tried one too (`Phase.shadow`),
so whoever comes to that version later, by a scheduled change or the end of a trial, has it from that instant on.
The subscriptions are compiled anew in batches, each a transaction of its own; starting again what was broken
off compiles the rest.
"""

from dataclasses import replace

from tallygate.admin.catalogue import need_version
from tallygate.admin.desk import PAGE, Desk, check_reason
from tallygate.admin.dossier import recompile
from tallygate.admin.records import PlanVersion, Shadow, as_json
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.core.ids import new_id

_BATCH = 200


class Shadows:
    """Start, stop, show and list shadows."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def start(self, ref: str, shadow_ref: str, *, reason: str = "") -> Shadow:
        """Try `shadow_ref` beside `ref`, for all who are or will be on `ref`; raise ConflictError beside another."""
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
        return replace(_running(ref, stopped), subscriptions=count)

    async def show(self, ref: str) -> Shadow:
        """Return what is tried beside `ref` now; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return _running(ref, await rows.plans.running_shadow(await need_version(rows, ref)))

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


def _running(ref: str, shadow: Shadow | None) -> Shadow:
    if shadow is None:
        raise NotFoundError("shadow", f"nothing is tried beside {ref}", "see `tallygate plans shadow start`")
    return shadow
