"""Write a decision as Envoy's CheckResponse, or say that there is none.

Owns the answer without a decision; `allowed` and `refused` write the others. Never writes an empty message, which
Envoy reads as *allowed*. What is written again and again is kept, bounded (`kept`). For one event loop.
"""

from http import HTTPStatus

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckResponse, Status
from tallygate.decision.decision import Allow, CheckInput, Decision
from tallygate.decision.denials import PAYMENT_REQUIRED, PROBLEM_BASE_URL
from tallygate.envoy.allowed import AllowedWriter
from tallygate.envoy.messages import denied_response
from tallygate.envoy.problems import Problem
from tallygate.envoy.ratelimit_fields import KeptFields
from tallygate.envoy.refused import RefusedWriter, common, is_grpc

INTERNAL_ERROR = "internal_error"
"""The body's `reason` where there is no decision, and so no `Reason`."""
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
        fields = KeptFields()
        self._allowed = AllowedWriter(fields)
        self._refused = RefusedWriter(
            fields, realm=realm, problem_base_url=problem_base_url, credits_status=credits_status
        )

    def write(self, decision: Decision, asked: CheckInput) -> bytes:
        """Return the serialized CheckResponse."""
        if isinstance(decision, Allow):
            return self._allowed.write(decision, asked.headers)
        return self._refused.write(decision, asked)

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
        is_to_grpc = asked is not None and is_grpc(asked)
        retry = {"retry-after": "1"} if is_readable else {}
        body = problem.detail if is_to_grpc else problem.json()
        return CheckResponse(
            status=Status(code=code, message=problem.title),
            error_response=denied_response(status, retry | common(code if is_to_grpc else None), body),
        ).SerializeToString()
