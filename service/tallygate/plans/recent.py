"""Licenses that do not grow for ever: compiled whole, then without what is long over.

A contract keeps every change of plan and every grant of credits it ever had. Its license needs none that ended
before the oldest instant at which anybody may still decide by it. Pure: that instant is passed in.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tallygate.licenses.license import Phase, Terms
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract, CreditGrant
from tallygate.plans.document import Plan

PAST_KEPT = timedelta(days=2)
"""How far back a license is kept whole: no worker's clock is that far behind the one it was compiled by."""


def is_recent(grant: CreditGrant, since_at: datetime) -> bool:
    """Tell whether credits granted may still be spent at some instant from `since_at` on."""
    return grant.expires_at is None or grant.expires_at > since_at


def compile_since(since_at: datetime, contract: Contract, plans: Mapping[str, Plan]) -> Terms:
    """Return what `contract` comes to, with which every decision from `since_at` on is that of `compile_terms`.

    What was refilled and used before still counts: only phases and grants that are over by then are left out.
    """
    grants = tuple(grant for grant in contract.grants if is_recent(grant, since_at))
    terms = compile_terms(replace(contract, grants=grants), plans)
    trial = terms.first_use
    return Terms(
        phases=_from(terms.phases, since_at),
        first_use=None if trial is None else replace(trial, then=_from(trial.then, since_at)),
    )


def _from(phases: tuple[Phase, ...], since_at: datetime) -> tuple[Phase, ...]:
    """Return the phase in force at `since_at` and those after it."""
    begun = sum(phase.starts_at <= since_at for phase in phases)
    return phases[max(begun - 1, 0) :]
