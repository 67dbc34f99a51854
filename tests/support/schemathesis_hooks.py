"""What schemathesis cannot know: the refusals of well-formed requests that OpenAPI has no words for.

- 412: an entity tag somebody made up is stale (RFC 9110 §13.1.1).
- 422 of the type `refused`: a rule between fields, with the clock, or with an `Idempotency-Key` used before.
  Of the type `invalid` it would be a lie of the document, and a failure.
"""

from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

_PRECONDITION_FAILED, _UNPROCESSABLE = 412, 422


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext,
    failure: Failure,
    _case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Tell whether a failure is one."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    if response.status_code == _UNPROCESSABLE:
        return not str(response.json()["type"]).endswith("/refused")
    return bool(response.status_code != _PRECONDITION_FAILED)
