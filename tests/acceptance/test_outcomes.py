"""The system as `tallygate dev` runs it: how a request ended, or what its upstream says, corrects its charge."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from support.world import Account, World

from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.cli.system import running_system
from tallygate.plans.parse import parse

COMPLETIONS, CHATS, BIG = "/v1/completions", "/v1/chats", 10**6
PLANS = """
meters:
  requests: {refund_on: [5xx]}
  tokens: {}
  output_tokens: {parent: tokens, actual: {header: x-usage-output-tokens}}
  chat_tokens: {parent: tokens, actual: reported}
routes:
  - {match: "* /v1/completions", cost: {requests: 1, output_tokens: 30}}
  - {match: "* /v1/chats", cost: {chat_tokens: 50}}
  - {match: "* /v1/**"}
plans:
  - key: metered
    name: Metered
    limits:
      - {name: requests, quota: 1_000_000, period: billing}
      - {name: tokens, quota: 1_000_000, period: billing, meter: tokens}
  - {key: narrow, name: Narrow, limits: [{name: at-once, concurrency: 1, hold: 1h}]}
"""


@pytest.fixture(scope="module")
async def metered(servers_dir: Path) -> AsyncIterator[World]:
    """Return the running system with plans that wait for outcomes."""
    async with (
        running_system(servers_dir / "metered", parse(PLANS, "outcomes.yaml")) as system,
        httpx.AsyncClient(timeout=20, trust_env=False) as http,
    ):
        yield World(system, http)


async def used(world: World, account: Account) -> str:
    """Return the requests and tokens that have been used."""
    decision = await world.explain(account.secret, "/v1/none")
    (requests,) = (state.remaining for state in decision.states if state.limit.name == "requests")
    decision = await world.explain(account.secret, COMPLETIONS)
    (tokens,) = (state.remaining for state in decision.states if state.limit.name == "tokens")
    return f"{BIG - 1 - requests} requests, {BIG - 30 - tokens} tokens"


async def call(world: World, method: str, asked: Message) -> bytes:
    """Call the usage service with the key that `dev` tells."""
    environment = world.system.environment
    metadata = [("authorization", f"Bearer {environment['SERVICES_KEY']}")]
    async with grpc.aio.insecure_channel(environment["SERVICES_LISTEN"]) as channel:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/tallygate.v1.UsageService/{method}"
        )
        return await unary(asked.SerializeToString(), metadata=metadata, timeout=20)


async def test_a_failure_is_given_back_and_a_number_is_believed(metered: World) -> None:
    """A 503 costs no request; the header says what was used in place of the estimate."""
    account = await metered.account("metered")
    failed = await metered.get(account.secret, COMPLETIONS, headers={"x-answer-status": "503"})
    assert failed.status_code == 503
    await metered.until("0 requests, 30 tokens", lambda: used(metered, account))
    answered = await metered.get(account.secret, COMPLETIONS, headers={"x-answer-x-usage-output-tokens": "812"})
    assert answered.status_code == 200
    await metered.until("1 requests, 842 tokens", lambda: used(metered, account))


async def test_an_upstream_settles_and_reports(metered: World) -> None:
    """By the receipt it was given, and by the ids in its headers; each once."""
    account = await metered.account("metered")
    headers = (await metered.get(account.secret, CHATS)).json()["headers"]
    settlement = wire.Settlement(receipt=headers["x-tallygate-receipt"], units={"chat_tokens": 7})
    for expected in (wire.RESULT_DONE, wire.RESULT_REPEATED):
        answer = await call(metered, "Settle", wire.SettleRequest(settlements=[settlement]))
        assert [each.result for each in wire.SettleResponse.FromString(answer).results] == [expected]
        assert await used(metered, account) == "0 requests, 7 tokens"
    holder = wire.UsageReport.Holder(
        family=headers["x-tallygate-token"], subscription=headers["x-tallygate-subscription"]
    )
    report = wire.UsageReport(idempotency_key="batch-1", holder=holder, units={"output_tokens": 2 * BIG})
    for expected in (wire.RESULT_DONE, wire.RESULT_REPEATED):
        answer = await call(metered, "Report", wire.ReportRequest(reports=[report]))
        (result,) = wire.ReportResponse.FromString(answer).results
        assert (result.result, [(at.name, at.remaining) for at in result.limits]) == (expected, [("tokens", 0)])
    assert await metered.seen(account.secret, COMPLETIONS) == "429 quota_exceeded"
    asked = wire.IntrospectRequest(token=account.secret, method="GET", path=COMPLETIONS)
    told = wire.IntrospectResponse.FromString(await call(metered, "Introspect", asked))
    assert (told.is_active, told.reason, told.customer) == (False, "quota_exceeded", account.customer.id)


async def test_the_end_of_a_request_makes_room_for_the_next(metered: World) -> None:
    """With one at a time, the next passes as soon as Envoy has told of the end, an hour before its hold is over."""
    account = await metered.account("narrow")
    for _ in range(2):
        await metered.until("200", lambda: metered.seen(account.secret))
