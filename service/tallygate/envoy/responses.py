"""Write a decision as Envoy's CheckResponse: what the upstream sees, what the client sees, what is logged.

Owns the identity headers and how the credential disappears. Does not own what a refusal says
(`decision/denials`, `envoy/problems`). Stateless after construction; never writes an empty message, which
Envoy reads as *allowed*.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from tallygate._proto.envoy.v3.external_auth_pb2 import (
    CheckResponse,
    DeniedHttpResponse,
    HeaderValueOption,
    OkHttpResponse,
    Status,
)
from tallygate.decision.decision import Allow, CheckInput, Decision, Deny
from tallygate.decision.denials import PAYMENT_REQUIRED, PROBLEM_BASE_URL, denials
from tallygate.envoy.messages import denied_response, header, struct, well_formed
from tallygate.envoy.problems import Problem, challenge, retry_after_s
from tallygate.envoy.ratelimit_fields import ratelimit, ratelimit_policy
from tallygate.envoy.structured_fields import dictionary
from tallygate.licenses.license import Grant, License
from tallygate.limits.limiter import LimitState

IDENTITY_PREFIX = "x-tallygate-"
FAILURE_MODE_HEADER = "x-envoy-auth-failure-mode-allowed"
INTERNAL_ERROR = "internal_error"
"""The body's `reason` where there is no decision, and so no `Reason`."""
_OK = 0
_INTERNAL = 13
_UNAVAILABLE = 14


class ResponseWriter:
    """Writes CheckResponses for one realm."""

    def __init__(
        self,
        *,
        realm: str = "api",
        problem_base_url: str = PROBLEM_BASE_URL,
        credits_status: int = PAYMENT_REQUIRED,
    ) -> None:
        """Take the realm of challenges, where our problem types live, and 402 or 429 for exhausted credits."""
        self._realm = realm
        self._problem_base_url = problem_base_url
        self._denials = denials(credits_status)

    def write(self, decision: Decision, asked: CheckInput) -> bytes:
        """Return the serialized CheckResponse."""
        response = self._allow(decision, asked) if isinstance(decision, Allow) else self._deny(decision, asked)
        return response.SerializeToString()

    def write_failure(self, *, is_readable: bool, asked: CheckInput | None = None) -> bytes:
        """Return the answer when there is no decision: an error, which obeys Envoy's `failure_mode_allow`.

        503 and UNAVAILABLE, or 500 and INTERNAL when not even the question could be read.
        """
        code, status = (_UNAVAILABLE, 503) if is_readable else (_INTERNAL, 500)
        problem = Problem(
            type="about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail="The request was neither allowed nor refused.",
            extensions={"reason": INTERNAL_ERROR},
        )
        headers = {"retry-after": "1"} if is_readable else {}
        return CheckResponse(
            status=Status(code=code, message=problem.title),
            error_response=_refuse(problem, headers, code, asked),
        ).SerializeToString()

    def _allow(self, decision: Allow, asked: CheckInput) -> CheckResponse:
        identity = _identity(decision.license, decision.phase.grant)
        headers = [header(name, value) for name, value in identity.items() if value]
        cookie = decision.credential.set_cookie_header
        if cookie:
            headers.append(header("cookie", cookie))
        # A name that is both set and removed is removed: the two must stay apart.
        removed = {
            *decision.credential.remove_headers,
            *_spoofed(asked.headers, identity),
            *(name for name, value in identity.items() if not value),
            *(("cookie",) if cookie == "" else ()),
        }
        return CheckResponse(
            status=Status(code=_OK),
            ok_response=OkHttpResponse(
                headers=headers,
                headers_to_remove=sorted(removed),
                query_parameters_to_remove=decision.credential.remove_query,
                response_headers_to_add=_shown(_ratelimit_headers(decision.states)),
            ),
            dynamic_metadata=struct(_metadata(decision), meters=dict(decision.route.costs)),
        )

    def _deny(self, decision: Deny, asked: CheckInput) -> CheckResponse:
        denial = self._denials[decision.reason]
        wait_s = retry_after_s(denial, decision.states)
        problem = Problem.of(denial, decision, wait_s, self._problem_base_url)
        headers = {
            "www-authenticate": challenge(denial, decision.route, self._realm),
            "retry-after": "" if wait_s is None else str(wait_s),
        }
        if denial.shows_limits:
            headers |= _ratelimit_headers(decision.states)
        return CheckResponse(
            status=Status(code=denial.grpc_code, message=well_formed(denial.title)),
            denied_response=_refuse(problem, headers, denial.grpc_code, asked),
            dynamic_metadata=struct(_metadata(decision)),
        )


def is_grpc(asked: CheckInput) -> bool:
    """Say whether Envoy will treat the request as gRPC: its own test, so gRPC-Web is not."""
    content_type = asked.headers.get("content-type", "")
    return content_type == "application/grpc" or content_type.startswith("application/grpc+")


def _refuse(
    problem: Problem, headers: Mapping[str, str], grpc_code: int, asked: CheckInput | None
) -> DeniedHttpResponse:
    common = {**headers, "cache-control": "no-store"}
    if asked is not None and is_grpc(asked):
        # Envoy makes the body the grpc-message; without this header it would guess a code from the status.
        return denied_response(problem.status, {**common, "grpc-status": str(grpc_code)}, problem.detail)
    return denied_response(problem.status, {**common, "content-type": "application/problem+json"}, problem.json())


def _identity(license_: License, grant: Grant) -> dict[str, str]:
    return {
        IDENTITY_PREFIX + "customer": license_.customer,
        IDENTITY_PREFIX + "subscription": license_.subscription,
        IDENTITY_PREFIX + "plan": grant.plan,
        IDENTITY_PREFIX + "token": license_.family,
        IDENTITY_PREFIX + "scopes": " ".join(sorted(license_.scopes_under(grant))),
        IDENTITY_PREFIX + "features": dictionary(grant.features),
    }


def _spoofed(sent: Mapping[str, str], identity: Mapping[str, str]) -> Iterable[str]:
    # Many upstreams read an underscore as a hyphen: a name counts as ours either way.
    for name in sent:
        is_ours = name.replace("_", "-").startswith(IDENTITY_PREFIX)
        if name == FAILURE_MODE_HEADER or (is_ours and name not in identity):
            yield name


def _ratelimit_headers(states: tuple[LimitState, ...]) -> dict[str, str]:
    return {"ratelimit-policy": ratelimit_policy(states), "ratelimit": ratelimit(states)}


def _shown(headers: Mapping[str, str]) -> list[HeaderValueOption]:
    return [header(name, value) for name, value in headers.items() if value]


def _metadata(decision: Decision) -> dict[str, str]:
    known = {"reason": decision.reason.value, "decision_id": decision.decision_id}
    license_, phase = decision.license, decision.phase
    if license_ is not None and phase is not None:
        known |= {
            "customer": license_.customer,
            "subscription": license_.subscription,
            "plan": phase.grant.plan,
            "family": license_.family,
        }
    if isinstance(decision, Allow) and decision.would_refuse is not None:
        known["would_refuse"] = decision.would_refuse.value
    return known
