"""Which plan version a subscription was on, when, and where its trial ended.

Owns the history that a bill stands on. It is compiled from the contract (the plan it was made on, every change that
was not taken back, its trial, its first use, its end), never from the compiled license, which forgets what is over.
Unpaid and suspended time is not taken off: the contract runs on. A trial that ended in suspension or cancellation,
and what comes after the end, is no time on a plan. Pure; whatever is given is not kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tallygate.licenses.license import Standing
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract, Overrides
from tallygate.plans.document import Plan

FOR_EVER = datetime.max.replace(tzinfo=UTC)
_ON_A_PLAN = (Standing.TRIALING, Standing.ACTIVE)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time, half-open, on the plan version `plan` (`pro@3`), in its trial or after."""

    plan: str
    is_trial: bool
    from_at: datetime
    to_at: datetime


def life(contract: Contract, plans: Mapping[str, Plan], first_used_at: datetime | None) -> tuple[Stretch, ...]:
    """Return the times on each plan version, in order; `plans` holds every version the contract names."""
    bare = replace(contract, past_due_at=None, suspended_at=None, overrides=Overrides(), grants=(), shadows={})
    phases = compile_terms(bare, plans).timeline(first_used_at)
    ends = [*(phase.starts_at for phase in phases[1:]), FOR_EVER]
    found: list[Stretch] = []
    for phase, to_at in zip(phases, ends, strict=True):
        if phase.standing not in _ON_A_PLAN or phase.starts_at >= to_at:
            continue
        stretch = Stretch(phase.grant.plan, phase.standing is Standing.TRIALING, phase.starts_at, to_at)
        if found and _goes_on(found[-1], stretch):
            found[-1] = replace(found[-1], to_at=to_at)
        else:
            found.append(stretch)
    return tuple(found)


def _goes_on(before: Stretch, after: Stretch) -> bool:
    return (before.plan, before.is_trial, before.to_at) == (after.plan, after.is_trial, after.from_at)
