"""Write a Deny as Envoy's CheckResponse: what the refused caller is told, and what is logged.

Owns the headers of a refusal and how a gRPC caller is answered. Does not own what is said (`decision/denials`,
`envoy/problems`). What depends on the reason alone is serialized once: a flood of bad tokens is made of such answers.
"""

from functools import lru_cache

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckResponse, DeniedHttpResponse, Status
from tallygate.decision.decision import CheckInput, Deny, Reason
from tallygate.decision.denials import denials
from tallygate.envoy import metadata
from tallygate.envoy.messages import denied_response, headers, well_formed
from tallygate.envoy.problems import Problem, challenge, retry_after_s
from tallygate.envoy.ratelimit_fields import KeptFields
from tallygate.envoy.wire import Blank, head

_SCOPES = 4096
_BODY = DeniedHttpResponse.BODY_FIELD_NUMBER
_DENIED_RESPONSE = CheckResponse.DENIED_RESPONSE_FIELD_NUMBER
_METADATA = CheckResponse.DYNAMIC_METADATA_FIELD_NUMBER


def _shown(name: str) -> Blank:
    return Blank(lambda value: DeniedHttpResponse(headers=headers({name: value})))


_RATELIMIT, _POLICY, _RETRY_AFTER = map(_shown, ("ratelimit", "ratelimit-policy", "retry-after"))


class RefusedWriter:
    """Writes CheckResponses of refused requests for one realm."""

    def __init__(self, fields: KeptFields, *, realm: str, problem_base_url: str, credits_status: int) -> None:
        """Take the realm of challenges, where our problem types live, and 402 or 429 for exhausted credits."""
        self._fields = fields
        self._realm = realm
        self._problem_base_url = problem_base_url
        self._denials = denials(credits_status)
        self._same = lru_cache(_SCOPES)(self._written)

    def write(self, decision: Deny, asked: CheckInput) -> bytes:
        """Return the serialized CheckResponse."""
        denial, is_to_grpc = self._denials[decision.reason], is_grpc(asked)
        wait_s = retry_after_s(denial, decision.states)
        scope = decision.route.scope if decision.route else None
        status, denied = self._same(decision.reason, scope, is_to_grpc=is_to_grpc)
        if wait_s is not None:
            denied += _RETRY_AFTER.fill(str(wait_s))
        if denial.shows_limits and decision.states:
            fields = self._fields.of(decision.states)
            denied += _POLICY.fill(fields.policy) + _RATELIMIT.fill(fields.ratelimit(decision.states))
        problem = Problem.of(denial, decision, wait_s, self._problem_base_url)
        body = well_formed(problem.detail if is_to_grpc else problem.json()).encode()
        denied += head(_BODY, len(body)) + body
        logged = metadata.of_decision(decision)
        if decision.license is not None and decision.phase is not None:
            logged += metadata.of_holder(decision.license, decision.phase)
        return b"".join((status, head(_DENIED_RESPONSE, len(denied)), denied, head(_METADATA, len(logged)), logged))

    def _written(self, reason: Reason, scope: str | None, *, is_to_grpc: bool) -> tuple[bytes, bytes]:
        """Return the status, and what is the same in every DeniedHttpResponse for this reason and scope."""
        denial = self._denials[reason]
        values = {"www-authenticate": challenge(denial, scope, self._realm)}
        denied = denied_response(denial.http_status, values | common(denial.grpc_code if is_to_grpc else None), "")
        status = CheckResponse(status=Status(code=denial.grpc_code, message=well_formed(denial.title)))
        return status.SerializeToString(), denied.SerializeToString()


def common(grpc_code: int | None) -> dict[str, str]:
    """Return the headers of every refusal: to a gRPC caller with its code, else with the body's type."""
    # Envoy makes the body the grpc-message; without this header it would guess a code from the status.
    kind = {"content-type": "application/problem+json"} if grpc_code is None else {"grpc-status": str(grpc_code)}
    return {"cache-control": "no-store", **kind}


def is_grpc(asked: CheckInput) -> bool:
    """Say whether Envoy will treat the request as gRPC: its own test, so gRPC-Web is not."""
    content_type = asked.headers.get("content-type", "")
    return content_type == "application/grpc" or content_type.startswith("application/grpc+")
