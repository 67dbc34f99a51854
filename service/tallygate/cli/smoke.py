"""`tallygate dev --smoke`: real requests through the real Envoy, and whether each came back as it should.

Owns the scenario and its table. Every row is checked for status and reason; one wrong row fails the run.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
from rich import box
from rich.table import Table

from tallygate.admin.records import IssuedToken
from tallygate.cli.system import System
from tallygate.cli.tables import console
from tallygate.plans.parse import parse
from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint

_QUOTA, _ASKED = 20, 30
_REVOKED_WITHIN_S = 1.0
_PATH = "/v1/things"
_CATALOGUE = f"""
routes:
  - {{match: "DELETE /v1/things/{{id}}", scope: things.delete}}
  - {{match: "* /v1/**"}}
plans:
  - key: smoke
    name: Smoke test
    scopes: [things.delete]
    limits:
      - {{name: monthly, quota: {_QUOTA}, period: month}}
"""


@dataclass(slots=True)
class _Table:
    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def check(self, request: str, expected: str, got: str) -> None:
        self.rows.append((request, expected, got, expected == got))

    def show(self) -> None:
        table = Table("request", "expected", "got", "", box=box.SIMPLE_HEAD, pad_edge=False)
        for request, expected, got, is_right in self.rows:
            table.add_row(request, expected, got, "[green]ok[/]" if is_right else "[red]WRONG[/]")
        console().print(table)

    @property
    def is_right(self) -> bool:
        return all(is_right for *_, is_right in self.rows)


async def smoke(system: System) -> bool:
    """Run the scenario against `system`, print its table, and say whether every row was right."""
    await system.control.plans.apply(parse(_CATALOGUE, "the smoke test's plan"))
    table = _Table()
    async with httpx.AsyncClient(base_url=system.gateway_url, timeout=5, trust_env=False) as http:
        await _refusals(table, http)
        customer = await system.control.customers.create(f"smoke-{time.time_ns()}", None)
        await system.control.subscriptions.create(customer.id, "smoke")
        token = await system.control.tokens.issue(customer=customer.id, scopes=())
        await _identity(table, http, customer.id, token)
        await _quota(table, http, system, token)
        await _expiry_and_revocation(table, http, system, customer.id)
        envoy = (await http.get(f"{system.envoy_admin_url}/server_info")).json()["version"].split("/")[1]
    table.check("any credential in the upstream's log", "none", _leaks(system))
    table.show()
    wrong = sum(not is_right for *_, is_right in table.rows)
    verdict = f"{wrong} of {len(table.rows)} wrong" if wrong else f"all {len(table.rows)} as they should be"
    console().print(f"Envoy {envoy}: {verdict}")
    return table.is_right


async def _refusals(table: _Table, http: httpx.AsyncClient) -> None:
    table.check("no token", "401 credential_missing", _seen(await http.get(_PATH)))
    malformed = await http.get(_PATH, headers=_bearer("tg_live_not-a-token"))
    table.check("malformed token", "401 token_malformed", _seen(malformed))
    invented = mint(TokenFormat(), Environment.LIVE).text
    table.check(
        "well-formed, unknown token", "401 token_unknown", _seen(await http.get(_PATH, headers=_bearer(invented)))
    )
    two = await http.get(_PATH, headers=_bearer(invented) | {"x-api-key": mint(TokenFormat(), Environment.LIVE).text})
    table.check("two different tokens", "400 credential_ambiguous", _seen(two))


async def _identity(table: _Table, http: httpx.AsyncClient, customer: str, token: IssuedToken) -> None:
    spoofed = {"x-tallygate-customer": "cus_somebody_else", "x-tallygate-admin": "true"}
    answer = await http.get(_PATH, headers=_bearer(token.secret) | spoofed)
    table.check("good token", "200", _seen(answer))
    received = {name.lower(): value for name, value in answer.json().get("headers", {}).items()}
    table.check("  upstream sees customer", customer, received.get("x-tallygate-customer", "nobody"))
    table.check("  upstream sees made-up x-tallygate-admin", "no", received.get("x-tallygate-admin", "no"))
    table.check("  upstream sees the credential", "no", "yes" if token.secret in answer.text else "no")
    deleted = await http.delete(f"{_PATH}/1", headers=_bearer(token.secret))
    table.check("a scope it lacks", "403 scope_missing", _seen(deleted))


async def _quota(table: _Table, http: httpx.AsyncClient, system: System, token: IssuedToken) -> None:
    """Ask for more than is left, all at once; one unit went to the good token's first request."""
    answers = await asyncio.gather(*(http.get(_PATH, headers=_bearer(token.secret)) for _ in range(_ASKED)))
    counted = Counter(_seen(answer) for answer in answers)
    expected = f"{_QUOTA - 1} x 200, {_ASKED - _QUOTA + 1} x 429 quota_exceeded"
    got = ", ".join(f"{count} x {seen}" for seen, count in sorted(counted.items()))
    table.check(f"{_ASKED} more at once, {_QUOTA - 1} left", expected, got)
    rotated = await system.control.tokens.rotate(token.record.id)
    answer = await http.get(_PATH, headers=_bearer(rotated.secret))
    table.check("the token rotated: the quota stays used", "429 quota_exceeded", _seen(answer))


async def _expiry_and_revocation(table: _Table, http: httpx.AsyncClient, system: System, customer: str) -> None:
    await system.control.subscriptions.cancel((await system.control.subscriptions.list(customer))[0].id)
    await system.control.subscriptions.create(customer, "smoke")
    token = await system.control.tokens.issue(customer=customer)
    table.check("another good token", "200", _seen(await http.get(_PATH, headers=_bearer(token.secret))))
    await system.control.tokens.revoke(token.record.id, "smoke test")
    started = time.monotonic()
    # A revoked token reads like an unknown one, so that a thief learns nothing.
    while (seen := _seen(await http.get(_PATH, headers=_bearer(token.secret)))) == "200":
        if time.monotonic() - started > _REVOKED_WITHIN_S:
            break
    elapsed_ms = (time.monotonic() - started) * 1000
    table.check(f"the same, revoked ({elapsed_ms:.0f} ms ago)", "401 token_unknown", seen)


def _bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def _seen(answer: httpx.Response) -> str:
    """Return status and reason as the caller sees them: `401 token_unknown`."""
    if answer.status_code == httpx.codes.OK:
        return "200"
    is_problem = answer.headers.get("content-type", "") == "application/problem+json"
    return f"{answer.status_code} {answer.json()['reason'] if is_problem else answer.text[:40]}"


def _leaks(system: System) -> str:
    text = system.upstream_log.read_text()
    return "found" if "tg_live_" in text or "authorization" in text.lower() else "none"
