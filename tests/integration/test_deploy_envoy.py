"""The Envoy configurations we ship do, in a real Envoy, what their headers say."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from support.decisions import BURST, ROUTE, TOKEN, allow, deny, license_of, state
from support.gateway import (
    ACCESS_LOG,
    HARDENED,
    MINIMAL,
    SHARED_LISTENER,
    WORKER_ENDPOINTS,
    Gateway,
    config_of,
    gateway,
)

from tallygate.credentials.extract import Credential
from tallygate.decision.decision import CheckInput, Decision, Reason
from tallygate.decision.denials import DENIALS
from tallygate.devservers.envoy_config import parse
from tallygate.limits.limiter import LimitOutcome

BEARER = ("authorization", f"Bearer {TOKEN}")
EXCEEDED = state(BURST, LimitOutcome.EXCEEDED, remaining=0, retry_after_s=3, reset_s=1)


SHIPPED = {
    "minimal": MINIMAL,
    "hardened": HARDENED,
    "worker-endpoints": WORKER_ENDPOINTS,
    "shared-listener": SHARED_LISTENER,
    "access-log": ACCESS_LOG,
    "route-rules": config_of("06-route-rules"),
    "failure-modes": config_of("11-failure-modes"),
    "plan-statistics": config_of("12-plan-statistics"),
}
"""Those in front of an API of any kind, over a port, that enforce: what they promise of every request is one thing."""


@pytest.fixture(scope="module", params=SHIPPED)
async def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Each configuration in turn, running; `api` gives every test a clean view of it."""
    async with gateway(SHIPPED[request.param], tmp_path_factory.mktemp(request.param), lambda _: allow()) as running:
        yield running


@pytest.fixture
def api(shipped: Gateway) -> Gateway:
    """The running gateway, with nothing remembered and every request allowed."""
    shipped.pipeline.decide = lambda _: allow()
    for memory in (shipped.pipeline.asked, shipped.received, shipped.reports):
        memory.clear()
    return shipped


@pytest.fixture
async def hardened(tmp_path: Path) -> AsyncIterator[Gateway]:
    """The hardened configuration, running for this test alone."""
    async with gateway(HARDENED, tmp_path / "envoy", lambda _: allow()) as running:
        yield running


def always(api: Gateway, decision: Decision) -> None:
    """Have every request decided so."""
    api.pipeline.decide = lambda _: decision


async def grpc_refusal(api: Gateway) -> tuple[grpc.StatusCode, str | None]:
    """Call through the gateway as a gRPC client; return the code and the message of the refusal."""
    async with grpc.aio.insecure_channel(api.address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/things.Things/Get")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"", timeout=20)
    return refused.value.code(), refused.value.details()


async def test_the_credential_ends_at_the_gateway(api: Gateway) -> None:
    """Tallygate is told the credential; the upstream finds it in no header and not in the query."""
    always(api, allow(Credential(TOKEN, ("authorization", "x-api-key"), ("api_key",))))
    await api.get(f"/v1/things?api_key={TOKEN}&a=1", [BEARER, ("x-api-key", TOKEN)])
    assert api.pipeline.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in repr(api.received[0])
    assert api.received[0].path == "/v1/things?a=1"


async def test_identity_headers_are_ours_alone(api: Gateway) -> None:
    """What a caller claims to be is overwritten, and claims that Tallygate does not make are removed."""
    always(api, allow(license_=license_of(features={"reports": True, "max": 3})))
    await api.get(
        headers=[
            BEARER,
            ("x-tallygate-customer", "somebody-else"),
            ("X-Tallygate-Customer", "and-again"),
            ("x-tallygate-role", "admin"),
            ("x-envoy-auth-failure-mode-allowed", "true"),
        ]
    )
    ours = {name: value for name, value in api.received[0].headers if name.startswith("x-tallygate-")}
    assert ours == {
        "x-tallygate-customer": "cus_1",
        "x-tallygate-subscription": "sub_1",
        "x-tallygate-plan": "pro@3",
        "x-tallygate-token": "fam_1",
        "x-tallygate-scopes": "reports.read things.read",
        "x-tallygate-features": "max=3, reports",
    }
    assert api.received[0].values("x-tallygate-customer") == ["cus_1"]
    assert api.received[0].values("x-envoy-auth-failure-mode-allowed") == []


async def test_a_claim_to_what_the_license_lacks_does_not_survive(api: Gateway) -> None:
    """A token without scopes cannot borrow them by sending the header itself."""
    always(api, allow(license_=license_of(scopes=frozenset())))
    await api.get(headers=[BEARER, ("x-tallygate-scopes", "admin"), ("x-tallygate-features", "everything")])
    assert api.received[0].values("x-tallygate-scopes") == []
    assert api.received[0].values("x-tallygate-features") == []


async def test_underscores_are_no_way_around(api: Gateway) -> None:
    """A server that reads underscores as hyphens is not fooled either: the name is removed, or refused."""
    response = await api.get(headers=[BEARER, ("x_tallygate_customer", "somebody-else")])
    assert response.status_code == 400 or api.received[0].values("x_tallygate_customer") == []


async def test_an_allowed_response_tells_the_limits_once(api: Gateway) -> None:
    """The RateLimit fields are Tallygate's; an upstream's own are replaced, not joined."""
    always(api, allow(states=(state(BURST, remaining=9, reset_s=1),)))
    response = await api.get(headers=[BEARER])
    assert response.headers.get_list("ratelimit") == ['"burst";r=9;t=1']
    assert response.headers.get_list("ratelimit-policy") == ['"burst";q=50;w=1;tallygate-burst=100']


async def test_a_denial_is_tallygates_own_answer(api: Gateway) -> None:
    """The caller reads the status, the problem and the headers that Tallygate wrote; the upstream sees nothing."""
    always(api, deny(Reason.RATE_LIMITED, license_=license_of(), states=(EXCEEDED,)))
    response = await api.get(headers=[BEARER])
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "3"
    assert response.headers["ratelimit"] == '"burst";r=0;t=1'
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["reason"] == "rate_limited"
    assert response.json()["violated-policies"] == ["burst"]
    assert api.received == []


async def test_a_missing_credential_is_challenged(api: Gateway) -> None:
    """A caller without a token learns how to send one."""
    always(api, deny(Reason.CREDENTIAL_MISSING))
    response = await api.get()
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="test"'


@pytest.mark.parametrize("reason", DENIALS)
async def test_a_grpc_caller_gets_the_reasons_own_code(api: Gateway, reason: Reason) -> None:
    """A gRPC client sees RESOURCE_EXHAUSTED for a limit, not UNAVAILABLE, which they would retry."""
    always(api, deny(reason, detail="In words.", license_=license_of(), route=ROUTE, states=(EXCEEDED,)))
    code, message = await grpc_refusal(api)
    assert code.value[0] == DENIALS[reason].grpc_code
    assert message == (DENIALS[reason].detail or "In words.")
    assert api.received == []


async def test_a_failure_of_the_pipeline_is_never_a_pass(api: Gateway) -> None:
    """When there is no decision the caller gets a whole 503, in HTTP and in gRPC, and the operator a report."""

    def fail(asked: CheckInput) -> Decision:
        raise KeyError(asked.headers.get("authorization"))

    api.pipeline.decide = fail
    response = await api.get(headers=[BEARER])
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 503
    assert (await grpc_refusal(api))[0] is grpc.StatusCode.UNAVAILABLE
    assert api.received == []
    assert len(api.reports) == 2
    assert TOKEN not in api.reports[0]


@pytest.mark.parametrize("config", SHIPPED.values(), ids=SHIPPED)
async def test_nothing_passes_while_tallygate_is_down(config: str, tmp_path: Path) -> None:
    """A stopped Tallygate means 503, not an open door."""
    async with gateway(config, tmp_path / "envoy", lambda _: allow()) as api:
        await api.workers[0].stop(0)
        response = await api.get(headers=[BEARER])
        assert response.status_code == 503
        assert api.received == []


@pytest.mark.parametrize(
    "config", [MINIMAL, HARDENED.replace('x-api-key"}', 'x-api-key|cookie"}')], ids=["minimal", "hardened"]
)
@pytest.mark.parametrize(("sent", "left", "arrives"), [("t=T; a=1", "a=1", ["a=1"]), ("t=T", "", [])])
async def test_a_cookie_that_is_the_credential_is_taken_out(
    config: str, tmp_path: Path, sent: str, left: str, arrives: list[str]
) -> None:
    """The other cookies go on; when there are none, neither does the header."""
    decision = allow(Credential(TOKEN, set_cookie_header=left))
    async with gateway(config, tmp_path / "envoy", lambda _: decision) as api:
        response = await api.get(headers=[("cookie", sent)])
        assert response.status_code == 200
        assert api.received[0].values("cookie") == arrives


@pytest.mark.parametrize("path", ["//v1//things", "/v1/a/../things", "/v1/./things", "/v1/%74hings"])
async def test_hardened_means_one_thing_by_a_path(hardened: Gateway, path: str) -> None:
    """Tallygate and the upstream are given the same, normal path."""
    await hardened.get(path)
    assert (hardened.pipeline.asked[0].target, hardened.received[0].path) == ("/v1/things", "/v1/things")


async def test_hardened_refuses_what_may_be_read_in_two_ways(hardened: Gateway) -> None:
    """An encoded slash and a header with an underscore are 400 before anybody is asked."""
    assert (await hardened.get("/v1%2Fthings")).status_code == 400
    assert (await hardened.get(headers=[("x_any", "1")])).status_code == 400
    assert hardened.pipeline.asked == []


async def test_hardened_knows_the_caller_by_the_connection(hardened: Gateway) -> None:
    """No header moves a caller into an allowed network, and nobody is believed for being near."""
    await hardened.get(headers=[("x-envoy-external-address", "203.0.113.9"), ("x-forwarded-for", "203.0.113.9")])
    await hardened.get()
    assert [asked.client_address for asked in hardened.pipeline.asked] == ["127.0.0.1", "127.0.0.1"]
    assert all(received.values("x-envoy-internal") == [] for received in hardened.received)


async def test_hardened_loses_no_request_to_a_worker_that_goes(tmp_path: Path) -> None:
    """A check cut off by a worker's end is asked again of another, and so is one that finds nobody there."""
    async with gateway(HARDENED, tmp_path / "envoy", lambda _: allow(), workers=2) as api:
        under_way = [asyncio.create_task(api.get(headers=[BEARER])) for _ in range(50)]
        await api.workers[0].stop(0)
        responses = await asyncio.gather(*under_way)
        responses += [await api.get(headers=[BEARER]) for _ in range(50)]
    assert {response.status_code for response in responses} == {200}


async def test_several_endpoints_are_asked_in_turn(tmp_path: Path) -> None:
    """Every worker gets its share of the requests, though Envoy opens one connection to each."""
    async with gateway(WORKER_ENDPOINTS, tmp_path / "envoy", lambda _: allow(), workers=4) as api:
        for _ in range(40):
            await api.get(headers=[BEARER])
        async with httpx.AsyncClient(trust_env=False) as http:
            clusters = (await http.get(f"{api.admin_url}/clusters?format=json")).json()["cluster_statuses"]
    (tallygate,) = (cluster for cluster in clusters if cluster["name"] == "tallygate")
    shares = [
        int(next(stat["value"] for stat in host["stats"] if stat["name"] == "rq_total"))
        for host in tallygate["host_statuses"]
    ]
    assert len(shares) == 4
    assert min(shares) >= 9


async def test_hardened_logs_decisions_and_no_credential(tmp_path: Path) -> None:
    """The access log says what was decided for whom, of allowed and refused requests, and never the token."""
    decisions: list[Decision] = [allow(), deny(Reason.TOKEN_EXPIRED, license_=license_of())]
    async with gateway(HARDENED, tmp_path / "envoy", lambda _: decisions.pop(0)) as api:
        for _ in range(2):
            await api.get(f"/v1/things?api_key={TOKEN}", [BEARER, ("x-api-key", TOKEN), ("cookie", f"t={TOKEN}")])
    log = api.log_path.read_text()
    assert re.findall(r'"path":"([^"]*)"', log) == ["/v1/things", "/v1/things"]
    assert re.findall(r'"reason":"([^"]*)"', log) == ["ok", "token_expired"]
    assert re.findall(r'"customer":"([^"]*)"', log) == ["cus_1", "cus_1"]
    assert TOKEN not in log


def test_access_log_is_the_hardened_configuration_and_one_log_more() -> None:
    """What is said of the hardened one holds of it too: nothing else differs."""
    told, hardened = (parse(text)["static_resources"] for text in (ACCESS_LOG, HARDENED))
    (manager,) = (one["filter_chains"][0]["filters"][0]["typed_config"] for one in told["listeners"])
    assert manager["access_log"].pop()["name"] == "envoy.access_loggers.http_grpc"
    told["clusters"] = [cluster for cluster in told["clusters"] if cluster["name"] != "tallygate-services"]
    assert told == hardened
