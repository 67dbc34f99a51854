"""The commercial acts as commands, in two ways: by the control plane in this process, and by the command line.

One interface, so that `acts` measures both alike. The command line is a process of its own for each command, the start
of the interpreter included, as an operator or a script would run it.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Protocol

from benchmarks.lab import PEPPER, Lab

from tallygate.admin.operations import Operations
from tallygate.plans.parse import parse

_COMMAND_S = 60


class Commands(Protocol):
    """What somebody who sells an API does."""

    async def issue(self, subscription: str) -> str:
        """Issue a token; return its secret."""
        ...

    async def rotate(self, token: str) -> str:
        """Replace a token; return the secret of the new one."""
        ...

    async def revoke(self, token: str) -> None:
        """Revoke a token."""
        ...

    async def suspend(self, subscription: str) -> None:
        """Suspend a subscription."""
        ...

    async def subscribe(self, customer: str, plan: str) -> str:
        """Put a customer on a plan and issue a token; return its secret."""
        ...

    async def override(self, subscription: str, terms: dict[str, Any]) -> None:
        """Give a contract terms of its own."""
        ...

    async def apply(self, catalogue: str) -> None:
        """Publish what has changed in a plan file."""
        ...

    async def migrate(self, old: str, new: str) -> None:
        """Move everyone on one version to another."""
        ...


class InProcess:
    """By the use cases, as the REST API calls them."""

    def __init__(self, operations: Operations) -> None:
        """Act by `operations`."""
        self._operations = operations

    async def issue(self, subscription: str) -> str:
        """Issue a token."""
        return (await self._operations.tokens.issue(subscription=subscription)).secret

    async def rotate(self, token: str) -> str:
        """Replace a token at once."""
        return (await self._operations.tokens.rotate(token)).secret

    async def revoke(self, token: str) -> None:
        """Revoke a token."""
        await self._operations.tokens.revoke(token)

    async def suspend(self, subscription: str) -> None:
        """Suspend a subscription."""
        await self._operations.subscriptions.suspend(subscription)

    async def subscribe(self, customer: str, plan: str) -> str:
        """Put a customer on a plan and issue a token."""
        return await self.issue((await self._operations.subscriptions.create(customer, plan)).id)

    async def override(self, subscription: str, terms: dict[str, Any]) -> None:
        """Give a contract terms of its own."""
        await self._operations.contracts.override(subscription, terms)

    async def apply(self, catalogue: str) -> None:
        """Publish what has changed in a plan file."""
        await self._operations.plans.apply(parse(catalogue, "benchmark"))

    async def migrate(self, old: str, new: str) -> None:
        """Move everyone on one version to another."""
        await self._operations.versions.migrate(old, new)


class CommandLine:
    """By `tallygate …`."""

    def __init__(self, lab: Lab) -> None:
        """Act on the servers of `lab`."""
        self._directory = lab.directory
        self._environment = {
            "TALLYGATE_POSTGRES_DSN": lab.control_dsn,
            "TALLYGATE_REDIS_URL": lab.redis_url,
            "TALLYGATE_PEPPER": PEPPER,
            "HOME": str(lab.directory),
        }

    async def issue(self, subscription: str) -> str:
        """Issue a token."""
        return str((await self._run("tokens", "issue", "--subscription", subscription))["token"])

    async def rotate(self, token: str) -> str:
        """Replace a token at once."""
        return str((await self._run("tokens", "rotate", token, "--grace", "0s"))["token"])

    async def revoke(self, token: str) -> None:
        """Revoke a token."""
        await self._run("tokens", "revoke", token)

    async def suspend(self, subscription: str) -> None:
        """Suspend a subscription."""
        await self._run("subscriptions", "suspend", subscription)

    async def subscribe(self, customer: str, plan: str) -> str:
        """Put a customer on a plan and issue a token."""
        words = ("--customer", customer, "--plan", plan, "--issue-token", "first")
        return str((await self._run("subscriptions", "create", *words))["issued"]["token"])

    async def override(self, subscription: str, terms: dict[str, Any]) -> None:
        """Give a contract terms of its own."""
        await self._run("subscriptions", "override", subscription, self._file("terms.yaml", json.dumps(terms)))

    async def apply(self, catalogue: str) -> None:
        """Publish what has changed in a plan file."""
        await self._run("plans", "apply", self._file("plans.yaml", catalogue))

    async def migrate(self, old: str, new: str) -> None:
        """Move everyone on one version to another."""
        await self._run("plans", "migrate", old, new)

    def _file(self, name: str, text: str) -> str:
        path: Path = self._directory / name
        path.write_text(text)
        return str(path)

    async def _run(self, *words: str) -> Any:  # noqa: ANN401 - JSON of any shape
        return json.loads(await _told("-m", "tallygate", *words, "--json", environment=self._environment))


async def start_interpreter() -> None:
    """Start Python and let it end: what every command costs before it is ours."""
    await _told("-c", "")


async def _told(*words: str, environment: dict[str, str] | None = None) -> bytes:
    """Run Python with these words; return what it prints; raise RuntimeError with its complaint when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_COMMAND_S):
            told, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(complaint.decode())
    return told
