"""The OpenAPI document is what the API does: schemathesis holds one against the other with every check it has."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from support.rest import Rest, running_rest
from support.servers import Database

from tallygate.admin.records import Role

ROOT = Path(__file__).parents[2]
QUICKER = """
[[operations]]  # the plan's schema is covered by plans.apply
include-operation-id = "plans.publish"
phases.coverage.enabled = false
"""
COMMAND = (sys.executable, "-m", "schemathesis.cli")


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API that nobody is too fast for."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        async with running_rest(
            database, redis_url, admin_requests_per_s=100_000, admin_strangers_per_s=100_000
        ) as running:
            yield running
    finally:
        structlog.reset_defaults()


@pytest.fixture
async def document(rest: Rest) -> dict[str, Any]:
    """The OpenAPI document."""
    return dict((await rest.stranger.get("/openapi.json")).json())


@pytest.mark.timeout(300)
async def test_the_api_does_what_its_document_says(rest: Rest, tmp_path: Path) -> None:
    """Whatever schemathesis makes up, right or wrong, is answered as documented: all checks, every operation."""
    contract = await rest.subscribed()
    token = await rest.made("/v1/tokens", subscription=contract["id"])
    config = tmp_path / "schemathesis.toml"
    there = {"customer": "acme", "key": "pro", "version": 1, "subscription": contract["id"], "token": token["id"]}
    pins = "".join(f'"path.{name}" = {value!r}\n' for name, value in there.items())
    ours = (ROOT / "schemathesis.toml").read_text().replace('"tests/', f'"{ROOT}/tests/')
    config.write_text(f"{ours}\n[parameters]\n{pins}\n{QUICKER}")
    arguments = (
        "--config-file", str(config), "run", f"{rest.url}/openapi.json", "--checks", "all", "--max-examples", "2",
        "--header", f"Authorization: Bearer {rest.secrets[Role.ADMIN]}", "--seed", "1", "--no-color",
        "--suppress-health-check", "all",  # one worker: CPython 3.11 cannot parse Python in two threads at once
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()


def test_the_document_is_openapi_31_and_names_everything(document: dict[str, Any]) -> None:
    """Version, security, operation ids and every error an operation may answer with are in it."""
    assert document["openapi"] == "3.1.0"
    ids = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            ids.append(operation["operationId"])
            assert operation["description"]
            assert operation["security"]
            errors = set(operation["responses"])
            assert {"401", "429", "500", "503"} <= errors | {"403"}
            if method == "post":
                assert {"400", "408", "409", "413", "415", "422"} <= errors
                assert {"$ref": "#/components/parameters/Idempotency-Key"} in operation["parameters"]
            if "{" in path:
                assert "404" in errors
    assert len(ids) == len(set(ids))


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    """A client needs one reader for all errors, and finds the retry and challenge headers where they matter."""
    for status, answer in document["components"]["responses"].items():
        assert list(answer["content"]) == ["application/problem+json"]
        expected = {"401": "WWW-Authenticate", "403": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
        assert expected.get(status, "x-request-id") in answer["headers"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """A generator of clients meets no reference to nothing, and nothing of FastAPI's own errors."""
    references = set[str]()

    def collect(node: Any) -> None:  # noqa: ANN401 - any part of the document
        for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(item)
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            references.add(node["$ref"])

    collect(document)
    assert len(references) > 50
    for reference in references:
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    assert not [name for name in document["components"]["schemas"] if "ValidationError" in name]
