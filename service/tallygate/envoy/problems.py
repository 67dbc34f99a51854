"""What a refused caller reads: the problem (RFC 9457), the challenge (RFC 6750), when to come back.

Pure. The words come from `decision/denials`; this puts in what belongs to the one request.
"""

import json
from dataclasses import dataclass, field

from tallygate.decision.decision import Deny
from tallygate.decision.denials import Denial
from tallygate.limits.limiter import LimitOutcome, LimitState

Member = str | int | list[str]


@dataclass(frozen=True, slots=True)
class Problem:
    """The members of an `application/problem+json` body; `extensions` stand beside the standard ones."""

    type: str
    title: str
    status: int
    detail: str
    extensions: dict[str, Member] = field(default_factory=dict)

    @classmethod
    def of(cls, denial: Denial, decision: Deny, wait_s: int | None, base_url: str) -> "Problem":
        """Return the problem of a refused request; `wait_s` is its Retry-After in seconds, if there is one."""
        extensions: dict[str, Member] = {
            "instance": f"urn:tallygate:decision:{decision.decision_id}",
            "reason": denial.reason.value,
        }
        violated = [state.limit.name for state in decision.states if state.outcome is LimitOutcome.EXCEEDED]
        if denial.shows_limits and violated:
            extensions["violated-policies"] = violated
        if wait_s is not None:
            extensions["retry_after_s"] = wait_s
        upgrade_url = decision.phase.grant.upgrade_url if decision.phase else None
        if denial.is_upgradable and upgrade_url:
            extensions["upgrade_url"] = upgrade_url
        return cls(
            type=denial.problem_type(base_url),
            title=denial.title,
            status=denial.http_status,
            detail=denial.detail or decision.detail,
            extensions=extensions,
        )

    def json(self) -> str:
        """Return the body, in ASCII."""
        members = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return json.dumps({**members, **self.extensions})


def challenge(denial: Denial, scope: str | None, realm: str) -> str:
    """Return the value of WWW-Authenticate (RFC 6750 §3), empty when no credential would help.

    `scope` is what the route asks for, if it does.
    """
    if not denial.needs_credential:
        return ""
    parameters = {"realm": realm}
    if denial.error is not None:
        parameters["error"] = denial.error
    if denial.error == "insufficient_scope" and scope is not None:
        parameters["scope"] = scope
    return "Bearer " + ", ".join(f"{name}={_quoted(value)}" for name, value in parameters.items())


def retry_after_s(denial: Denial, states: tuple[LimitState, ...]) -> int | None:
    """Return the seconds to say in Retry-After; None when waiting does not help, or nobody knows."""
    if not denial.shows_limits:
        return denial.retry_after_s
    waits = [state.retry_after_s for state in states if state.outcome is LimitOutcome.EXCEEDED]
    known = [wait for wait in waits if wait is not None]
    # A limit that never lets the request pass makes the others' waits pointless.
    return max(known) if known and len(known) == len(waits) else None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
