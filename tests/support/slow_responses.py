"""Answers to Envoy written the plain way: one message each, built from nothing, nothing kept.

What the shipped writers put together from pieces must be the same message. Fit for tests only: it costs ten times as
much.
"""

from collections.abc import Iterable, Mapping, Sequence

from tallygate._proto.envoy.v3.external_auth_pb2 import (
    CheckResponse,
    DeniedHttpResponse,
    HeaderValueOption,
    OkHttpResponse,
    Status,
)
from tallygate.decision.decision import Allow, CheckInput, Decision, Deny
from tallygate.decision.denials import PROBLEM_BASE_URL, denials
from tallygate.envoy.messages import denied_response, header, struct, well_formed
from tallygate.envoy.problems import Problem, challenge, retry_after_s
from tallygate.envoy.ratelimit_fields import ratelimit_policy
from tallygate.envoy.structured_fields import LARGEST_INTEGER, dictionary, item
from tallygate.licenses.license import Grant, License
from tallygate.limits.limiter import LimitState

REALM = "things"
_OURS = "x-tallygate-"


def slow_response(decision: Decision, asked: CheckInput) -> CheckResponse:
    """Return the answer to a decision."""
    return _allow(decision, asked) if isinstance(decision, Allow) else _deny(decision, asked)


def _allow(decision: Allow, asked: CheckInput) -> CheckResponse:
    receipt = "" if decision.receipt is None else f"{decision.license.customer}:{decision.receipt}"
    identity = _identity(decision.license, decision.phase.grant) | {_OURS + "receipt": receipt}
    headers = _shown(identity)
    cookie = decision.credential.set_cookie_header
    if cookie:
        headers.append(header("cookie", cookie))
    removed = {
        *decision.credential.remove_headers,
        *_spoofed(asked.headers, identity),
        *(name for name, value in identity.items() if not value),
        *(("cookie",) if cookie == "" else ()),
    }
    return CheckResponse(
        status=Status(code=0),
        ok_response=OkHttpResponse(
            headers=headers,
            headers_to_remove=sorted(removed),
            query_parameters_to_remove=decision.credential.remove_query,
            response_headers_to_add=_shown(_ratelimit_headers(decision.states)),
        ),
        dynamic_metadata=struct(_metadata(decision), meters=dict(decision.route.costs)),
    )


def _deny(decision: Deny, asked: CheckInput) -> CheckResponse:
    denial = denials()[decision.reason]
    wait_s = retry_after_s(denial, decision.states)
    problem = Problem.of(denial, decision, wait_s, PROBLEM_BASE_URL)
    headers = {
        "www-authenticate": challenge(denial, decision.route.scope if decision.route else None, REALM),
        "retry-after": "" if wait_s is None else str(wait_s),
    }
    if denial.shows_limits:
        headers |= _ratelimit_headers(decision.states)
    return CheckResponse(
        status=Status(code=denial.grpc_code, message=well_formed(denial.title)),
        denied_response=_refuse(problem, headers, denial.grpc_code, asked),
        dynamic_metadata=struct(_metadata(decision)),
    )


def _refuse(problem: Problem, headers: Mapping[str, str], grpc_code: int, asked: CheckInput) -> DeniedHttpResponse:
    common = {**headers, "cache-control": "no-store"}
    content_type = asked.headers.get("content-type", "")
    if content_type == "application/grpc" or content_type.startswith("application/grpc+"):
        return denied_response(problem.status, {**common, "grpc-status": str(grpc_code)}, problem.detail)
    return denied_response(problem.status, {**common, "content-type": "application/problem+json"}, problem.json())


def _identity(license_: License, grant: Grant) -> dict[str, str]:
    return {
        _OURS + "customer": license_.customer,
        _OURS + "subscription": license_.subscription,
        _OURS + "plan": grant.plan,
        _OURS + "token": license_.family,
        _OURS + "scopes": " ".join(sorted(license_.scopes_under(grant))),
        _OURS + "features": dictionary(grant.features),
    }


def _spoofed(sent: Mapping[str, str], identity: Mapping[str, str]) -> Iterable[str]:
    for name in map(str.lower, sent):
        is_ours = name.replace("_", "-").startswith(_OURS)
        if name == "x-envoy-auth-failure-mode-allowed" or (is_ours and name not in identity):
            yield name


def _ratelimit_headers(states: Sequence[LimitState]) -> dict[str, str]:
    return {"ratelimit-policy": ratelimit_policy(states), "ratelimit": _ratelimit(states)}


def _ratelimit(states: Sequence[LimitState]) -> str:
    shown = [state for state in states if not state.limit.is_shadow]
    wanted = [{"r": state.remaining, "t": state.reset_s} for state in shown]
    known = [[(key, _units(units)) for key, units in one.items() if units is not None] for one in wanted]
    return ", ".join(item(state.limit.name, one) for state, one in zip(shown, known, strict=True))


def _units(number: int) -> int:
    return min(max(number, 0), LARGEST_INTEGER)


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
    if isinstance(decision, Allow):
        known |= {"route": decision.route.text, "receipt": decision.receipt or ""}
        known["would_refuse"] = "" if decision.would_refuse is None else decision.would_refuse.value
    return known
