"""The instants at which a compiled contract has to be looked at."""

from datetime import UTC, datetime, timedelta

from support.lives import AWKWARD, MOMENT

from tallygate.licenses.license import Terms
from tallygate.plans.contract import Contract

_EVER = datetime.min.replace(tzinfo=UTC)


def moments(contract: Contract, terms: Terms, used_after: timedelta | None = None) -> list[datetime]:
    """Return every instant at which something may happen, and the ones just before and after."""
    optional = [contract.ends_at, contract.suspended_at, contract.past_due_at]
    then = terms.first_use.then if terms.first_use else ()
    edges: set[datetime] = {contract.starts_at, *AWKWARD, *(at for at in optional if at is not None)}
    edges |= {change.at for change in contract.changes}
    edges |= {phase.starts_at for phase in (*terms.phases, *then) if phase.starts_at > _EVER}
    if used_after is not None and terms.first_use:
        edges.add(contract.starts_at + used_after + timedelta(seconds=terms.first_use.lasts_s))
    return sorted(edge + step for edge in edges for step in (-MOMENT, timedelta(), MOMENT))
