"""The OpenAPI 3.1 document: FastAPI's, and what the frame around every handler adds to it.

Errors, headers and idempotency are the frame's doing and the same everywhere, so they are added here by
rule: what an operation may answer follows from its method, its parameters and its security.
"""

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tallygate.admin.rest.call import REPLAYED
from tallygate.admin.rest.problems import IDEMPOTENCY_KEY, MEDIA_TYPE
from tallygate.plans.schema import overrides_schema, plan_file_schema

Json = dict[str, Any]

_DESCRIPTION = """
Plans, subscriptions and tokens of an API, changed in seconds. Every change is one transaction, and reaches every
worker within a second.

- **Keys**: `Authorization: Bearer` with an admin key; each operation names the role it needs
  (`viewer` reads, `issuer` handles tokens, `admin` does everything).
- **Once**: a POST with an `Idempotency-Key` (1 to 255 printable ASCII characters, kept 24 hours) is done once;
  repeated, it gets the same answer, a token's secret included, marked `Idempotency-Replayed: true`. Another request
  under the same key is refused (422). Acts on many objects, and looks, are done apart from the record of their answer:
  a repetition while the first is under way is 409 with `Retry-After`, and when the first was broken off it does the
  rest, after 40 seconds.
- **Pages**: lists are `{items, next_cursor}`; hand `next_cursor` back as `cursor` until it is null.
- **Versions**: objects carry an `ETag`; with `If-Match` a change is refused (412) when somebody else was faster.
- **Errors**: `application/problem+json` (RFC 9457), with a JSON pointer to each bad field in `errors`.
- **Values**: instants are RFC 3339 in UTC, money decimal strings with an ISO 4217 code, amounts integers.
- **Requests** carry an `x-request-id` of yours or get one; it is in the answer, in our logs and in the audit log.
"""

_PROBLEM: Json = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "Every bad field: `pointer` into the body (RFC 6901), or `in` and `parameter`.",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {name: {"type": "string"} for name in ("detail", "pointer", "in", "parameter")},
            },
        },
        "violated-policies": {"type": "array", "items": {"type": "string"}},
        "retry_after_s": {"type": "integer"},
    },
}
_PROBLEMS = {
    "400": "The body is not JSON.",
    "401": "No key, or none we know.",
    "403": "The key's role does not allow it.",
    "404": "Nothing has this address, or something the request names is not there.",
    "408": "The body did not arrive in time.",
    "409": "It contradicts what is there, or the first request under its `Idempotency-Key` is still under way.",
    "412": "The object has changed since its `ETag` was read.",
    "413": "The body is larger than 1 MiB.",
    "415": "The body is not JSON.",
    "422": "A field cannot be used, or the `Idempotency-Key` was used for another request.",
    "429": "Too many requests.",
    "500": "Our fault.",
    "503": "Something we need does not answer; ask again shortly.",
}
_HEADERS = {
    "x-request-id": "The request's id, in our logs and in the audit log too.",
    "ETag": "The object's revision, for `If-Match`.",
    "Location": "Where the object is.",
    REPLAYED: "`true` where the answer was given before.",
    "RateLimit": "What is left (draft-ietf-httpapi-ratelimit-headers-10).",
    "RateLimit-Policy": "How often this key may ask.",
    "Retry-After": "Seconds to wait.",
    "WWW-Authenticate": "What is asked for (RFC 6750).",
}
_ON_EVERY_ANSWER = ("x-request-id", "RateLimit", "RateLimit-Policy")
_ON_PROBLEMS = {
    "401": "WWW-Authenticate",
    "403": "WWW-Authenticate",
    "409": "Retry-After",
    "429": "Retry-After",
    "503": "Retry-After",
}
_PRINTED = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\ufffe\uffff]*$"
_IDEMPOTENCY_KEY: Json = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": "Done once under this key; repeated, the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def document(app: FastAPI) -> Json:
    """Return the OpenAPI document of the app."""
    made: Json = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=_DESCRIPTION, routes=app.routes
    )
    components = made["components"]
    ours = {"Problem": _PROBLEM, "overrides": overrides_schema()}
    components["schemas"] = _without_validation_errors(components["schemas"]) | _plan_file() | ours
    components["responses"] = {status: _problem(status, text) for status, text in _PROBLEMS.items()}
    components["headers"] = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
    }
    components["parameters"] = {IDEMPOTENCY_KEY: _IDEMPOTENCY_KEY}
    for path, method, operation in _operations(made):
        _complete(path, method, operation)
    referred: Json = _referred(made)
    return referred


def _operations(made: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in made["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _complete(path: str, method: str, operation: Json) -> None:
    for status, answer in operation["responses"].items():
        answer["headers"] = _success_headers(method, status)
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _without_null(parameter["schema"])
    for status in sorted(_statuses(path, method, operation)):
        operation["responses"][status] = {"$ref": f"#/components/responses/{status}"}
    if method == "post":
        reference = {"$ref": f"#/components/parameters/{IDEMPOTENCY_KEY}"}
        operation["parameters"] = [*operation.get("parameters", []), reference]


def _statuses(path: str, method: str, operation: Json) -> set[str]:
    """Return the errors an operation may answer with."""
    statuses = {"429", "500", "503"}
    if operation.get("security"):
        statuses |= {"401", "403"}
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= {"422"}
    if "{" in path or method != "get" or operation.get("parameters"):
        statuses |= {"404"}
    if method != "get":
        statuses |= {"400", "408", "409", "413", "415", "422"}
    if any(parameter.get("name") == "if-match" for parameter in operation.get("parameters", [])):
        statuses |= {"412"}
    return statuses


def _success_headers(method: str, status: str) -> Json:
    names = [*_ON_EVERY_ANSWER, "ETag", *([REPLAYED] if method == "post" else [])]
    names += ["Location"] if status == "201" else []
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem(status: str, text: str) -> Json:
    names = [*_ON_EVERY_ANSWER, *([_ON_PROBLEMS[status]] if status in _ON_PROBLEMS else [])]
    return {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _plan_file() -> Json:
    """Return the schema of the plan file, its parts as components of their own.

    A file cannot hold what YAML does not print; in JSON it could be escaped, so that is said here.
    """
    schema = plan_file_schema()
    for part, name in (("route", "match"), ("plan", "name")):
        schema["$defs"][part]["properties"][name]["allOf"] = [{"pattern": _PRINTED}]
    parts = {f"plan-file.{name}": part for name, part in schema.pop("$defs").items()}
    whole = {key: value for key, value in schema.items() if not key.startswith("$")}
    text = json.dumps({"plan-file": whole, "plan-file.meters": whole["properties"]["meters"], **parts})
    moved: Json = json.loads(text.replace('"#/$defs/', '"#/components/schemas/plan-file.'))
    return moved


def _referred(node: Any) -> Any:  # noqa: ANN401 - any part of the document
    """Return a part of the document with `x-schema: name` made a reference to that component."""
    if isinstance(node, list):
        return [_referred(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "x-schema" in node:
        return {"$ref": f"#/components/schemas/{node['x-schema']}"}
    return {name: _referred(item) for name, item in node.items()}


def _without_null(schema: Json) -> Json:
    """Return the schema of a parameter, which is left out rather than null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] | {"title": schema["title"]} if len(kinds) == 1 else schema


def _without_validation_errors(schemas: Json) -> Json:
    """Leave out FastAPI's own shapes of errors, which are never answered with."""
    return {name: schema for name, schema in schemas.items() if not name.endswith("ValidationError")}
