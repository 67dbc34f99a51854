"""A decision told step by step, consuming nothing.

The same pipeline decides, over a limiter that only looks; the steps are read off the decision, so the
explanation cannot drift from what is enforced.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tallygate.decision.decision import Allow, Decision, Reason
from tallygate.limits.limiter import Acquirer, Acquisition, Subject, Verdict


class Looking:
    """An `Acquirer` that peeks when told to acquire."""

    def __init__(self, limiter: Acquirer) -> None:
        """Look at the counters of `limiter`."""
        self._limiter = limiter

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Say what acquiring would answer."""
        return await self._limiter.peek(acquisition)

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say the same."""
        return await self._limiter.peek(acquisition)

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:  # noqa: ARG002
        """Say when; whatever is asked, an explanation is no use."""
        return await self._limiter.first_used_at(subject, is_look=True)


class StepOutcome(StrEnum):
    """How one step went."""

    PASSED = "passed"
    REFUSED = "refused"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline: what it asks, how it went, and what it saw."""

    name: str
    outcome: StepOutcome
    detail: str


_STEPS: tuple[tuple[str, frozenset[Reason]], ...] = (
    ("credential", frozenset({Reason.CREDENTIAL_MISSING, Reason.CREDENTIAL_AMBIGUOUS})),
    ("token form", frozenset({Reason.TOKEN_MALFORMED})),
    ("license", frozenset({Reason.TOKEN_UNKNOWN})),
    (
        "token state",
        frozenset({Reason.TOKEN_REVOKED, Reason.TOKEN_DISABLED, Reason.TOKEN_EXPIRED, Reason.TOKEN_NOT_YET_VALID}),
    ),
    (
        "subscription",
        frozenset(
            {
                Reason.CUSTOMER_SUSPENDED,
                Reason.SUBSCRIPTION_ENDED,
                Reason.SUBSCRIPTION_SUSPENDED,
                Reason.PAYMENT_REQUIRED,
            }
        ),
    ),
    ("network", frozenset({Reason.NETWORK_DENIED})),
    ("route", frozenset({Reason.ROUTE_DENIED})),
    ("scope and feature", frozenset({Reason.SCOPE_MISSING, Reason.FEATURE_MISSING})),
    (
        "limits",
        frozenset({Reason.RATE_LIMITED, Reason.QUOTA_EXCEEDED, Reason.CREDITS_EXHAUSTED, Reason.CONCURRENCY_EXCEEDED}),
    ),
)


def steps_of(decision: Decision) -> list[Step]:
    """Return every step of the pipeline with how it went for this decision."""
    stopped_at = _stop(decision)
    steps = []
    for index, (name, _) in enumerate(_STEPS):
        if stopped_at is None or index < stopped_at:
            steps.append(Step(name, StepOutcome.PASSED, _seen(name, decision)))
        elif index == stopped_at and not isinstance(decision, Allow):
            steps.append(Step(name, StepOutcome.REFUSED, decision.detail))
        else:
            steps.append(Step(name, StepOutcome.NOT_REACHED, ""))
    return steps


def decision_as_json(decision: Decision) -> dict[str, Any]:
    """Return the representation of a decision, step by step."""
    return {
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "reason": decision.reason.value,
        "plan": None if decision.phase is None else decision.phase.grant.plan,
        "route": None if decision.route is None else decision.route.text,
        "steps": [
            {"name": step.name, "outcome": step.outcome.value, "detail": step.detail} for step in steps_of(decision)
        ],
        "limits": [
            {
                "name": state.limit.name,
                "kind": state.limit.kind.value,
                "amount": state.limit.amount,
                "remaining": state.remaining,
                "outcome": state.outcome.value,
                "reset_s": state.reset_s,
            }
            for state in decision.states
        ],
    }


def _stop(decision: Decision) -> int | None:
    if isinstance(decision, Allow):
        return None
    for index, (_, reasons) in enumerate(_STEPS):
        if decision.reason in reasons:
            return index
    # A lost dependency: of the counters when the license was read, of the licenses otherwise.
    return len(_STEPS) - 1 if decision.license is not None else 2


def _seen(name: str, decision: Decision) -> str:
    token_license, phase = decision.license, decision.phase
    if token_license is None or phase is None:
        return ""
    seen = {
        "license": f"{token_license.customer} on {phase.grant.plan}, {token_license.subscription}",
        "token state": f"{token_license.token} of {token_license.family}",
        "subscription": f"{phase.standing.value}, customer {token_license.customer_status.value}",
        "network": ", ".join(str(network) for network in token_license.networks) or "from anywhere",
        "route": "" if decision.route is None else _route(decision),
        "scope and feature": " ".join(sorted(token_license.scopes_under(phase.grant))),
        "limits": ", ".join(f"{state.limit.name}: {state.remaining} would be left" for state in decision.states),
    }
    return seen.get(name, "")


def _route(decision: Decision) -> str:
    route = decision.route
    if route is None:
        return ""
    return f"{route.text}, costs " + ", ".join(f"{units} {meter}" for meter, units in route.costs)
