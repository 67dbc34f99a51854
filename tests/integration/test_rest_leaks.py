"""The receiver of secret-scanning partners: a leaked token ends, and nobody learns more than they knew."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
from support.leak_reports import GithubSigner, webhook_headers
from support.rest import Rest, dumped, problem, running_rest
from support.servers import Database

SIGNER = GithubSigner("key-1")
SECRET = b"0123456789abcdef0123456789abcdef"
KEYS = json.dumps(
    {
        "public_keys": [SIGNER.public_key()],
        "shared_secrets": [{"name": "scanner", "secret": "whsec_" + base64.b64encode(SECRET).decode()}],
    }
)
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def receiving(
    database: Database, redis_url: str, policy: str = "revoke", grace_s: int = 3600
) -> AsyncIterator[tuple[Rest, str, str]]:
    """Run an API with the partners' keys; also return the id and the secret of a token."""
    async with running_rest(database, redis_url, leak_keys=KEYS, leak_policy=policy, leak_grace_s=grace_s) as rest:
        contract = await rest.subscribed()
        token = await rest.made("/v1/tokens", subscription=contract["id"])
        yield rest, token["id"], token["token"]


def report_of(*secrets: str) -> bytes:
    """Return a report as GitHub sends it."""
    url = "https://github.example/octocat/hello/blob/1/.env"
    return dumped([{"token": secret, "type": "tallygate", "url": url, "source": "content"} for secret in secrets])


async def send(rest: Rest, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send a report, signed by GitHub unless told otherwise."""
    return await rest.stranger.post("/v1/leaks", content=body, headers=JSON | (headers or SIGNER.headers(body)))


async def test_an_odd_item_keeps_no_other_token_alive(database: Database, redis_url: str) -> None:
    """Addresses of any length, no address, a text that is no token: what is ours in the same report still ends."""
    async with receiving(database, redis_url) as (rest, token_id, secret):
        odd = [
            {"token": "", "type": "x" * 300, "url": "https://example.com/" + "x" * 4000, "source": "y" * 300},
            {"token": "z" * 9000, "url": None, "source": None, "type": None},
        ]
        answer = await send(rest, dumped([*odd, {"token": secret}]))
        assert [each["label"] for each in answer.json()] == ["false_positive"] * 2 + ["true_positive"]
        assert (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()["status"] == "revoked"


async def test_a_reported_token_is_revoked(database: Database, redis_url: str) -> None:
    """GitHub reports; the token ends; GitHub hears, by hashes, which of its findings were real."""
    async with receiving(database, redis_url) as (rest, token_id, secret):
        made_up = "tg_live_" + "0" * 36
        answer = await send(rest, report_of(secret, made_up))
        assert answer.status_code == 200
        assert answer.json() == [
            {"token_hash": hashlib.sha256(text.encode()).hexdigest(), "token_type": "tallygate", "label": label}
            for text, label in ((secret, "true_positive"), (made_up, "false_positive"))
        ]
        assert secret not in answer.text
        token = (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()
        assert (token["status"], token["leaked_at"] is not None) == ("revoked", True)
        entries = (await rest.viewer.get("/v1/audit", params={"object": token_id})).json()["items"]
        assert [(entry["action"], entry["actor"]) for entry in entries][1:] == [("token.leaked", "leak:github:key-1")]


async def test_a_report_sent_again_changes_nothing(database: Database, redis_url: str) -> None:
    """GitHub's signature does not age, so a replay must do nothing: same labels, no new entry."""
    async with receiving(database, redis_url) as (rest, token_id, secret):
        body = report_of(secret)
        headers = SIGNER.headers(body)
        first = await send(rest, body, headers)
        before = (await rest.viewer.get("/v1/audit")).json()
        again = await send(rest, body, headers)
        assert again.json() == first.json()
        assert (await rest.viewer.get("/v1/audit")).json() == before
        assert (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()["status"] == "revoked"


async def test_a_report_nobody_signed_is_refused(database: Database, redis_url: str) -> None:
    """Without a signature, or with somebody else's, nothing is looked up and nothing ends."""
    async with receiving(database, redis_url) as (rest, token_id, secret):
        body = report_of(secret)
        for headers in ({}, GithubSigner("key-1").headers(body), SIGNER.headers(body + b" ")):
            refused = await rest.stranger.post("/v1/leaks", content=body, headers=JSON | headers)
            told = problem(refused, 401)
            assert told["type"].endswith("/signature-invalid")
            assert "www-authenticate" in refused.headers
        problem(await rest.admin.post("/v1/leaks", content=body, headers=JSON), 401)
        assert (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()["status"] == "active"


async def test_a_partner_with_a_shared_secret_may_report(database: Database, redis_url: str) -> None:
    """One finding or a list of them, signed as Standard Webhooks; an old report is refused."""
    async with receiving(database, redis_url) as (rest, token_id, secret):
        body = dumped({"token": secret, "found_by": "our own scanner"})
        old = webhook_headers(SECRET, body, datetime(2026, 1, 1, tzinfo=UTC))
        problem(await send(rest, body, old), 401)
        answer = await send(rest, body, webhook_headers(SECRET, body, datetime.now(UTC)))
        assert [label["label"] for label in answer.json()] == ["true_positive"]
        assert (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()["status"] == "revoked"


async def test_a_policy_may_leave_time_to_rotate(database: Database, redis_url: str) -> None:
    """With the policy `rotate` the token is flagged, and ends after the grace."""
    async with receiving(database, redis_url, "rotate", 600) as (rest, token_id, secret):
        assert (await send(rest, report_of(secret))).status_code == 200
        token = (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()
        assert (token["status"], token["leaked_at"] is not None) == ("active", True)
        ends_at = datetime.fromisoformat(token["revoked_at"])
        assert 0 < (ends_at - datetime.now(UTC)).total_seconds() <= 600
        await send(rest, report_of(secret))
        assert (await rest.viewer.get(f"/v1/tokens/{token_id}")).json()["revoked_at"] == token["revoked_at"]


async def test_a_report_of_the_wrong_form_is_pointed_at(database: Database, redis_url: str) -> None:
    """A signed report that cannot be read is a problem like any other; an empty one is none."""
    async with receiving(database, redis_url) as (rest, _, _):
        for body, status in ((b"[{}]", 422), (b"7", 422), (b"{", 400), (b'[{"token": 7}]', 422)):
            problem(await send(rest, body), status)
        too_many = report_of(*["x"] * 1001)
        problem(await send(rest, too_many), 422)
        assert (await send(rest, b"[]")).json() == []


async def test_what_to_register_with_partners_finds_every_token(database: Database, redis_url: str) -> None:
    """The pattern finds a token in a line of code, and nothing that is longer or shorter."""
    async with receiving(database, redis_url) as (rest, _, secret):
        pattern = (await rest.viewer.get("/v1/leaks/pattern")).json()["pattern"]
        assert re.findall(f"(?:{pattern})", f'KEY = "{secret}"') or re.search(pattern, f'KEY = "{secret}"')
        assert not re.search(pattern, secret[:-1])
        assert not re.search(pattern, f"{secret}0")
