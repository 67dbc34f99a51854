"""Every way a request is refused before a counter is asked, as a caller reads it through the real Envoy."""

import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from support.world import THINGS, Account, World, told

from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint


@pytest.fixture(scope="module")
async def account(world: World) -> Account:
    """A customer on a plan without limits, with a token that may do everything."""
    return await world.account("open")


def invented() -> str:
    """Return a token of the right form that nobody was ever given."""
    return mint(TokenFormat(), Environment.LIVE).text


async def test_no_token_is_a_challenge_without_an_error(world: World) -> None:
    """Whoever sends no credential learns that one is needed, and no error code (RFC 6750 §3.1)."""
    answer = await world.get(None)
    assert told(answer) == "401 credential_missing"
    assert answer.headers["www-authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("token", ["tg_live_short", "tg_live_" + "0" * 36, "opaque", ""])
async def test_a_malformed_token_is_told_as_such(world: World, token: str) -> None:
    """A token that was copied badly is told from one that does not exist."""
    answer = await world.get(None, headers={"x-api-key": token})
    assert told(answer) == "401 token_malformed"
    assert answer.headers["www-authenticate"] == 'Bearer realm="api", error="invalid_token"'


async def test_a_revoked_token_reads_like_an_unknown_one(world: World) -> None:
    """A thief learns nothing: every byte is the same but the ids of the one answer."""
    account = await world.account("open")
    await world.system.control.tokens.revoke(account.issued.record.id)
    await world.until("401 token_unknown", lambda: world.seen(account.secret))
    answers = [await world.get(secret) for secret in (account.secret, invented())]
    assert [told(answer) for answer in answers] == ["401 token_unknown"] * 2
    revoked, unknown = [_without_ids(answer) for answer in answers]
    assert revoked == unknown


def _without_ids(answer: httpx.Response) -> tuple[str, list[tuple[str, str]]]:
    text = re.sub(r"decision:[0-9a-f]{32}", "decision:…", answer.text)
    varying = ("date", "x-envoy-upstream-service-time")
    return text, sorted((name, value) for name, value in answer.headers.items() if name not in varying)


async def test_a_token_expires_on_time(world: World) -> None:
    """A token works before its end and not after, though nobody writes anything then."""
    account = await world.account("open", expires_at=datetime.now(UTC) + timedelta(milliseconds=400))
    seen = await world.seen(account.secret)
    assert seen in {"200", "401 token_expired"}
    await world.until("401 token_expired", lambda: world.seen(account.secret))
    assert datetime.now(UTC) >= account.issued.record.expires_at  # type: ignore[operator]  # it was given one


async def test_a_token_is_not_valid_before_its_time(world: World) -> None:
    """A token for tomorrow does not work today."""
    account = await world.account("open", not_before_at=datetime.now(UTC) + timedelta(days=1))
    assert await world.seen(account.secret) == "401 token_not_yet_valid"


async def test_a_token_of_another_network_is_refused_whatever_the_caller_claims(world: World) -> None:
    """The address that counts is the connection's: no header moves a caller into an allowed network."""
    elsewhere = await world.account("open", networks=("198.51.100.0/24",))
    here = await world.account("open", networks=("198.51.100.0/24", "127.0.0.0/8"))
    claims = {
        "x-forwarded-for": "198.51.100.7",
        "x-envoy-external-address": "198.51.100.7",
        "x-real-ip": "198.51.100.7",
    }
    assert await world.seen(elsewhere.secret) == "403 network_denied"
    assert told(await world.get(elsewhere.secret, headers=claims)) == "403 network_denied"
    assert await world.seen(here.secret) == "200"


async def test_a_missing_scope_is_named_in_the_challenge(world: World) -> None:
    """A caller learns which scope was needed, and where a larger plan is to be had if the plan lacks it."""
    narrowed, lacking = await world.account("open", scopes=("things.read",)), await world.account("plain")
    answer = await world.get(narrowed.secret, "/v1/things/7", "DELETE")
    assert told(answer) == "403 scope_missing"
    challenge = 'Bearer realm="api", error="insufficient_scope", scope="things.delete"'
    assert answer.headers["www-authenticate"] == challenge
    assert "upgrade_url" not in answer.json()
    upgradable = await world.get(lacking.secret, "/v1/things/7", "DELETE")
    assert upgradable.json()["upgrade_url"] == "https://example.com/up"


async def test_a_missing_feature_is_refused(world: World, account: Account) -> None:
    """What the plan does not include is not reached, though the token has the scope."""
    plain = await world.account("plain")
    assert await world.seen(plain.secret, "/v1/reports/7") == "403 feature_missing"
    assert await world.seen(account.secret, "/v1/reports/7") == "200"


@pytest.mark.parametrize("path", ["/", "/v2/things", "/v1%2Fthings", "/v1/things;v=2", "/healthz", "/metrics"])
async def test_what_no_rule_prices_does_not_pass(world: World, account: Account, path: str) -> None:
    """A path outside the catalogue, or one that upstreams read differently, is refused."""
    assert await world.seen(account.secret, path) in {"403 route_denied", "400"}


async def test_two_different_credentials_are_a_bad_request(world: World, account: Account) -> None:
    """Two Authorization headers, or different tokens in two places, are refused whichever would have worked."""
    good, other = f"Bearer {account.secret}", f"Bearer {invented()}"
    url = world.system.gateway_url + THINGS
    twice = [[("authorization", good), ("authorization", other)], [("authorization", good), ("authorization", good)]]
    answers = [await world.http.get(url, headers=headers) for headers in twice]
    answers.append(await world.get(account.secret, headers={"x-api-key": invented()}))
    assert [told(answer) for answer in answers] == ["400 credential_ambiguous"] * 3
    assert answers[0].headers["www-authenticate"] == 'Bearer realm="api", error="invalid_request"'


async def test_the_same_token_in_two_places_is_one_credential(world: World, account: Account) -> None:
    """A client library and a proxy that both add the key do not break each other."""
    answer = await world.get(account.secret, headers={"x-api-key": account.secret})
    assert answer.status_code == 200
    assert account.secret not in answer.text


async def test_a_refusal_is_a_problem_document(world: World) -> None:
    """Every refusal has the members of RFC 9457 and ours, is not cached, and names its decision."""
    answer = await world.get(invented())
    body = json.loads(answer.text)
    assert body.keys() == {"type", "title", "status", "detail", "instance", "reason"}
    assert (body["status"], body["reason"]) == (401, "token_unknown")
    assert body["instance"].startswith("urn:tallygate:decision:")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_new_token_works_at_once_even_if_it_was_tried_before(world: World, account: Account) -> None:
    """What is remembered of unknown tokens never makes a new one wait."""
    control = world.system.control
    for _ in range(20):
        assert await world.seen(invented()) == "401 token_unknown"
        made = await control.tokens.issue(subscription=account.subscription.id)
        assert await world.seen(made.secret) == "200"
