"""What an answer is before it is bytes: a status, a JSON body, headers, and the secret it may show."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from tallygate.admin.records import IssuedToken, as_json, issued_as_json

OK, CREATED = 200, 201
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; `secret` is the text within the body that may be stored nowhere."""

    body: object
    status: int = OK
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)

    def content(self) -> bytes:
        """Return the body as it is sent."""
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()

    def head(self) -> dict[str, str]:
        """Return every header."""
        return {**_JSON, **self.headers}

    def response(self) -> Response:
        """Return it for the server."""
        return Response(self.content(), self.status, self.head())


def shown(record: object) -> Answer:
    """Return an object; its revision, where it has one, is its entity tag."""
    return Answer(as_json(record), headers=_tag(record))


def made_at(path: str) -> Callable[[Any], Answer]:
    """Return how an object with an `id` that was just made below `path` is represented."""
    return lambda record: Answer(as_json(record), CREATED, {**_tag(record), "location": f"{path}/{record.id}"})


def issued(made: IssuedToken) -> Answer:
    """Return a token with its secret, for this one time."""
    headers = {**_tag(made.record), "location": f"/v1/tokens/{made.record.id}"}
    return Answer(issued_as_json(made), CREATED, headers, made.secret)


def _tag(record: object) -> dict[str, str]:
    revision = getattr(record, "revision", None)
    return {} if revision is None else {"etag": f'"{revision}"'}
