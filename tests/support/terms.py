"""Terms by hand: the phases of a plain subscription, without a plan or a contract."""

from dataclasses import replace
from datetime import UTC, datetime

from tallygate.licenses.license import Grant, Phase, Standing, Terms
from tallygate.limits.limit import Limit

START_AT = datetime(2026, 1, 1, tzinfo=UTC)


def terms_of(
    grant: Grant,
    *,
    starts_at: datetime = START_AT,
    suspended_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Terms:
    """Return the terms of a subscription that runs from its start until it is suspended or ends."""
    phases = [Phase(datetime.min.replace(tzinfo=UTC), Standing.SCHEDULED, grant)]
    for at, standing in (
        (starts_at, Standing.ACTIVE),
        (suspended_at, Standing.SUSPENDED),
        (ends_at, Standing.CANCELED),
    ):
        if at is not None:
            phases = [*(phase for phase in phases if phase.starts_at < at), Phase(at, standing, grant)]
    return Terms(tuple(phases))


def with_shadow(terms: Terms, shadow: Grant) -> Terms:
    """Return `terms` with this version tried beside the plan of every phase."""
    return replace(terms, phases=tuple(replace(phase, shadow=shadow) for phase in terms.phases))


def with_limits(terms: Terms, limits: tuple[Limit, ...]) -> Terms:
    """Return `terms` with these limits in every phase."""
    return replace(
        terms, phases=tuple(replace(phase, grant=replace(phase.grant, limits=limits)) for phase in terms.phases)
    )
