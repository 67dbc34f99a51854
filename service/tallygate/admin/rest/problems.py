"""Every error as a problem (RFC 9457): its body, and which one each kind of error becomes.

Owns titles, types, statuses and the pointers to bad fields. Does not own when an error happens. A body
never holds a traceback or a secret.

Of the problems with status 422, `invalid` is a field of another form than the OpenAPI document has it, and
`refused` one that breaks a rule no schema can say.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from tallygate.admin.rest.hints import MEMBERS, in_rest
from tallygate.core.errors import ConflictError, DependencyError, InputError, NotFoundError, TallygateError
from tallygate.core.redaction import hide_secrets
from tallygate.plans.problems import InvalidCatalogueError

MEDIA_TYPE = "application/problem+json"
IDEMPOTENCY_KEY = "Idempotency-Key"
MALFORMED = HTTPStatus.BAD_REQUEST
INVALID = HTTPStatus.UNPROCESSABLE_ENTITY

_RETRY_AFTER_S = "1"
_TITLES = {
    INVALID: "Something in the request cannot be used",
    HTTPStatus.CONFLICT: "The request contradicts what is there",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
}
_IN_WORDS = {"missing": "is missing", "extra_forbidden": "is not known here (see /docs for what is)"}
_STEPS = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad field: in the body `at` is a JSON pointer (RFC 6901), elsewhere a parameter's name."""

    at: str
    detail: str
    place: str = "body"

    def as_json(self) -> dict[str, str]:
        """Return the entry of `errors`."""
        at = hide_secrets(self.at)
        place = {"pointer": at} if self.place == "body" else {"in": self.place, "parameter": at}
        return {**place, "detail": hide_secrets(self.detail)}


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """A refusal to answer with; may be raised anywhere below the frame."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        slug: str = "",
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        """Take the status and one sentence; `slug` ends our own problem type, a URI is one by itself."""
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.slug = slug
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def body(self, base_url: str, request_id: str) -> dict[str, Any]:
        """Return the members of the body; our own types stand under `base_url`."""
        return {
            "type": self._type(base_url),
            "title": _TITLES.get(self.status, self.status.phrase),
            "status": self.status.value,
            "detail": hide_secrets(self.detail),
            "instance": f"urn:tallygate:request:{request_id}",
            **({"errors": [fault.as_json() for fault in self.faults]} if self.faults else {}),
            **self.members,
        }

    def response(self, base_url: str, request_id: str) -> Response:
        """Return the answer that tells it."""
        body = json.dumps(self.body(base_url, request_id), ensure_ascii=False)
        return Response(body.encode("utf-8", "replace"), self.status, self.headers, MEDIA_TYPE)

    def _type(self, base_url: str) -> str:
        if ":" in self.slug:
            return self.slug
        return base_url + self.slug if self.slug else "about:blank"


def problem_of(error: TallygateError, members: Collection[str] | None = None) -> Problem:
    """Return the problem an error of the use cases is told as.

    `members` are the names in the request's body, None where it has none: only a field that is there, or is
    missing from it, can be pointed at.
    """
    match error:
        case DependencyError():
            headers = {"Retry-After": _RETRY_AFTER_S}
            detail = f"{error.dependency} does not answer in time"
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, slug="dependency-down", headers=headers)
        case NotFoundError():
            return Problem(HTTPStatus.NOT_FOUND, _told(error), slug="not-found", faults=_faults([error], members))
        case ConflictError():
            return Problem(HTTPStatus.CONFLICT, _told(error), slug="conflict", faults=_faults([error], members))
        case InvalidCatalogueError():
            number = len(error.problems)
            detail = (
                "One thing in the document is wrong." if number == 1 else f"{number} things in the document are wrong."
            )
            return Problem(INVALID, detail, slug="refused", faults=_faults(error.problems, members))
        case InputError():
            return Problem(INVALID, _told(error), slug="refused", faults=_faults([error], members))
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side.")


def problem_of_validation(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """Return the problem of a request whose parameters or body have the wrong form (pydantic's errors)."""
    faults = [_fault_of_validation(error) for error in errors if error["type"] != "json_invalid"]
    if not faults:
        return Problem(MALFORMED, "The body is not JSON.", slug="malformed")
    if any(fault.place == "path" for fault in faults):
        return Problem(HTTPStatus.NOT_FOUND, "Nothing has this address.", slug="not-found")
    detail = "One field has the wrong form" if len(faults) == 1 else f"{len(faults)} fields have the wrong form"
    return Problem(INVALID, detail + ".", slug="invalid", faults=faults)


def moved(error: InvalidCatalogueError, prefix: str, place: str = "") -> InvalidCatalogueError:
    """Return what is wrong with a document as wrong with a body, that has at `place` what was at `prefix`."""
    found = []
    for problem in error.problems:
        rest = problem.field.removeprefix(prefix).removeprefix(".")
        found.append(replace(problem, field=f"{place}.{rest}" if place and rest else place or rest))
    return InvalidCatalogueError(tuple(found))


def _pointer(steps: Iterable[object]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _faults(found: Sequence[Any], members: Collection[str] | None) -> list[Fault]:
    """Return where each of `found` (they have field, problem and mend) stands in the body."""
    faults = [Fault(item.field, item.problem, "header") for item in found if item.field == IDEMPOTENCY_KEY]
    if faults or members is None:
        return faults
    return [Fault(_pointer(steps), _told(item)) for item, steps in _placed(found, members)]


def _placed(found: Iterable[Any], members: Collection[str]) -> Iterator[tuple[Any, list[str]]]:
    for item in found:
        steps = _STEPS.findall(item.field)
        steps[:1] = [name if name in members else MEMBERS.get(name, name) for name in steps[:1]]
        is_of_state = isinstance(item, NotFoundError | ConflictError)
        if not is_of_state or steps[0] in members:
            yield item, steps


def _fault_of_validation(error: Mapping[str, Any]) -> Fault:
    place, *steps = error["loc"]
    at = _pointer(steps) if place == "body" else str(steps[0] if steps else "")
    detail = _IN_WORDS.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    return Fault(at, detail, place)


def _told(item: Any) -> str:  # noqa: ANN401 - an InputError, or a plan file's problem: both have these fields
    # A plan document has words of its own, which are those of its file.
    mend = in_rest(item.mend) if isinstance(item, InputError) else item.mend
    return f"{item.field}: {item.problem}".removeprefix(": ") + (f" ({mend})" if mend else "")
