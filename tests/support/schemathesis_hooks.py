"""What schemathesis cannot know, for OpenAPI has no words for it: rules that a well-formed request may break.

Each is a row of `RULES`: the operation, and the fields that may be refused there (422, type `refused`). Any other
refusal of a well-formed request is a failure, and so is a refusal of the type `invalid`, which is about form.
An `Idempotency-Key` is for one request, so each request gets one of its own.
"""

import re
from itertools import count
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

# The schema of plan files has no words for what parts of it ask of each other, nor for how long a number is.
PLAN_FILE = r"/.+"
RULES = {
    # Parameters of a query that exclude each other.
    "GET /v1/tokens": "filter",
    "GET /v1/subscriptions": "plan",
    # Instants begin a unit of time, one before the other; a cursor is what an answer gave; minutes are of one customer.
    "GET /v1/usage": "from|to|by|cursor",
    # Which instants make sense depends on the clock and on each other.
    "POST /v1/customers/{customer}/past-due": "/since",
    "POST /v1/tokens": "/expires_at",
    "PATCH /v1/tokens/{token}": "/expires_at",
    "POST /v1/subscriptions/{subscription}/cancel": "/at",
    "POST /v1/subscriptions/{subscription}/change": "/at",
    "POST /v1/subscriptions/{subscription}/credits": "/expires_at",
    "GET /v1/customers/{customer}/invoice-preview": "at",
    # Which time zones there are changes without us; instants as above.
    "POST /v1/subscriptions": "/timezone|/starts_at|/anchor_at",
    # The version in the body must be another than the one it names before.
    "POST /v1/plans/{key}/migrations": "/at|/to",
    "POST /v1/plans/{key}/shadow": "/shadow",
    "POST /v1/plans": PLAN_FILE,
    "POST /v1/plans/{key}/versions": PLAN_FILE,  # and its key must be the one of the address
    "POST /v1/routes": PLAN_FILE,
    "POST /v1/subscriptions/{subscription}/override": r"/document(/.+)?",
}
_KEY = "Idempotency-Key"
_GOOD_KEY = re.compile("[!-~]{1,255}")
_numbers = count(1)


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], **_more: object) -> None:
    """Give a well-formed request a key that no other has had, where it has one.

    One that is meant to be wrong stays as it is: schemathesis would take it for a well-formed one.
    """
    headers: Any = case.headers or {}
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    if _GOOD_KEY.fullmatch(str(headers.get(_KEY, ""))):
        headers[_KEY] = f"{headers[_KEY][:200]}-{next(_numbers)}"


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Tell whether a failure is one."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    rule = RULES.get(f"{case.method} {case.path}")
    if rule is None or not str(problem["type"]).endswith("/refused"):
        return True
    refused = [error["pointer"] for error in problem.get("errors", [])] or [problem["detail"].partition(":")[0]]
    return not all(re.fullmatch(rule, field) for field in refused)
