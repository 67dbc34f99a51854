"""Rows of plan versions, their shadows, and routes."""

import json
from datetime import datetime

from tallygate.admin.postgres import Row, Statements
from tallygate.admin.records import Json, PlanVersion, Shadow
from tallygate.admin.rows import to_json
from tallygate.plans.codec_routes import as_table

_ABOVE_ALL = 2**31 - 1


def split_ref(ref: str) -> tuple[str, int]:
    """Return key and number of a version's name, `pro@3`."""
    key, _, number = ref.partition("@")
    return key, int(number)


class PlanRows:
    """Plan versions, shadows and routes in one transaction, at the instant `now`."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now

    async def lock_publishing(self) -> None:
        """Wait until no other transaction publishes plans."""
        await self._sql.run("lock_plans")

    async def publish(self, key: str, version: int, name: str, document: Json) -> None:
        """Add a published plan version."""
        await self._sql.run("insert_plan", key, self._now)
        await self._sql.run("publish_version", key, version, name, to_json(document), self._now)

    async def version(self, key: str, version: int) -> PlanVersion | None:
        """Return a version by its number."""
        return _version(await self._sql.row("plan_version", key, version))

    async def newest(self, key: str) -> PlanVersion | None:
        """Return the newest version of a plan, whatever its state."""
        return _version(await self._sql.row("newest_version", key))

    async def newest_in_shadow(self, key: str) -> PlanVersion | None:
        """Return the newest version of a plan with a limit in shadow, whatever its state."""
        return _version(await self._sql.row("newest_version_in_shadow", key))

    async def newest_offered(self, key: str) -> PlanVersion | None:
        """Return the newest version of a plan that takes new subscriptions."""
        return _version(await self._sql.row("newest_offered_version", key))

    async def page(self, key: str | None, after: str, limit: int) -> list[PlanVersion]:
        """Return versions after the one named `after`: by key, newest first."""
        after_key, below = split_ref(after) if after else ("", _ABOVE_ALL)
        if key is None:
            rows = await self._sql.rows("plan_versions", after_key, below, limit)
        else:
            rows = await self._sql.rows("versions_of_plan", key, below, limit)
        return [version for row in rows if (version := _version(row)) is not None]

    async def lock(self, version: PlanVersion) -> None:
        """Let nobody else change a version's state, or pin it, until the transaction ends."""
        await self._sql.row("lock_version", version.key, version.version)

    async def hold(self, version: PlanVersion) -> None:
        """Let nobody change a version's state until the transaction ends."""
        await self._sql.row("hold_version", version.key, version.version)

    async def set_state(
        self, version: PlanVersion, deprecated_at: datetime | None, retired_at: datetime | None
    ) -> None:
        """Set since when a version is deprecated and retired."""
        await self._sql.run("set_version_state", version.key, version.version, deprecated_at, retired_at)

    async def pins(self, key: str) -> dict[int, int]:
        """Return for each version of a plan how many live subscriptions are or will be on it."""
        rows = await self._sql.rows("pins", key, self._now)
        return {row["version"]: row["subscriptions"] for row in rows}

    async def subscriptions_on(self, version: PlanVersion, after: str, limit: int) -> list[str]:
        """Return ids of live subscriptions that may be, or will be, on a version, after the id `after`."""
        rows = await self._sql.rows(
            "subscriptions_on_version", version.key, version.version, self._now, after, limit
        )  # fmt: skip
        return [row["id"] for row in rows]

    async def insert_shadow(self, shadow: Shadow) -> None:
        """Start trying a version beside another; raise ConflictError when one is being tried already."""
        await self._sql.run(
            "insert_shadow", shadow.id, *split_ref(shadow.plan), *split_ref(shadow.shadow), shadow.started_at
        )

    async def stop_shadow(self, shadow_id: str) -> None:
        """Stop trying."""
        await self._sql.run("stop_shadow", shadow_id, self._now)

    async def running_shadow(self, version: PlanVersion) -> Shadow | None:
        """Return what is tried beside a version now."""
        row = await self._sql.row("running_shadow", version.key, version.version)
        return None if row is None else _shadow(row)

    async def running_shadows(self) -> dict[str, str]:
        """Return what is tried beside each version now, by the versions' names."""
        found = [_shadow(row) for row in await self._sql.rows("running_shadows")]
        return {shadow.plan: shadow.shadow for shadow in found}

    async def shadows(self, after: str, limit: int) -> list[Shadow]:
        """Return shadows started after the id `after`, oldest first."""
        return [_shadow(row) for row in await self._sql.rows("shadows", after, limit)]

    async def routes(self) -> tuple[int, Json]:
        """Return the number and document of the route table in force; number 0 and no rules before the first."""
        row = await self._sql.row("current_routes")
        return (0, as_table([])) if row is None else (row["version"], as_table(json.loads(row["document"])))

    async def insert_routes(self, version: int, document: Json) -> None:
        """Put a new route table in force."""
        await self._sql.run("insert_routes", version, to_json(document), self._now)


def _version(row: Row | None) -> PlanVersion | None:
    if row is None:
        return None
    deprecated_at, retired_at = row["deprecated_at"], row["retired_at"]
    return PlanVersion(
        key=row["plan_key"],
        version=row["version"],
        name=row["name"],
        status="retired" if retired_at else "deprecated" if deprecated_at else "published",
        published_at=row["published_at"],
        deprecated_at=deprecated_at,
        retired_at=retired_at,
        shadow=row["shadow"],
        revision=row["revision"],
        document=json.loads(row["document"]),
    )


def _shadow(row: Row) -> Shadow:
    return Shadow(
        id=row["id"],
        plan=f"{row['plan_key']}@{row['plan_version']}",
        shadow=f"{row['shadow_key']}@{row['shadow_version']}",
        started_at=row["started_at"],
        stopped_at=row["stopped_at"],
    )
