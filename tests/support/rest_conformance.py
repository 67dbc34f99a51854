"""Holds every answer a test gets against the OpenAPI document: its status, its media type and the form of its body."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker

Json = dict[str, Any]


class Conformance:
    """The document, as a hook for the answers of an httpx client."""

    def __init__(self, document: Json) -> None:
        """Read the document."""
        self._components = {"components": document["components"]}
        exact_first = sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
        self._paths = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), item) for path, item in exact_first]
        self._validators: dict[int, Draft202012Validator] = {}

    async def check(self, answer: httpx.Response) -> None:
        """Raise AssertionError for an answer of a documented operation that is not documented."""
        found: list[Json] = [item for pattern, item in self._paths if pattern.fullmatch(answer.request.url.path)]
        operation = next(iter(found), {}).get(answer.request.method.lower())
        if operation is None:
            return
        await answer.aread()
        told = operation["responses"].get(str(answer.status_code))
        assert told is not None, f"{operation['operationId']} does not say that it may answer {answer.status_code}"
        if "$ref" in told:
            told = self._components["components"]["responses"][told["$ref"].rpartition("/")[2]]
        content = told["content"].get(answer.headers["content-type"])
        assert content is not None, f"{operation['operationId']} does not answer {answer.headers['content-type']}"
        wrong = [f"{error.json_path}: {error.message}" for error in self._of(content).iter_errors(answer.json())]
        assert wrong == [], f"{operation['operationId']} answers {answer.status_code} in another form"

    def _of(self, content: Json) -> Draft202012Validator:
        """Return the validator of a part of the document, made once."""
        made = self._validators.get(id(content))
        if made is None:
            schema = content["schema"] | self._components
            made = self._validators[id(content)] = Draft202012Validator(schema, format_checker=FormatChecker())
        return made
