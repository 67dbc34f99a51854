"""The Envoy configurations for single needs (06 and on) do, in a real Envoy, what their headers say.

What holds of all of them is asked in `test_deploy_envoy`, and of older versions in `test_deploy_envoy_versions`.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
import yaml
from support.certificates import Authority
from support.decisions import BURST, allow, deny, license_of, state
from support.decisions import TOKEN as STUB_TOKEN
from support.deployed import GRPC_UPSTREAM, MTLS, UNIX_SOCKET, count_things, deployed, get_thing
from support.gateway import Gateway, config_of
from support.pipelines import GRANT, TOKEN, Desk
from support.terms import terms_of

from tallygate.credentials.extract import Credential
from tallygate.decision.decision import Allow, CheckInput, Decision, Reason
from tallygate.devservers.envoy_config import parse
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limiter import LimitOutcome
from tallygate.plans.parse import parse as parse_plans
from tallygate.transport.tls import TlsFiles

BEARER = ("authorization", f"Bearer {STUB_TOKEN}")
EXCEEDED = state(BURST, LimitOutcome.EXCEEDED, remaining=0, retry_after_s=3, reset_s=1)
LIMITED = deny(Reason.RATE_LIMITED, license_=license_of(), states=(EXCEEDED,))
ROUTE_RULES, SHADOW, FAILURE_MODES, STATISTICS = (
    "06-route-rules",
    "10-shadow",
    "11-failure-modes",
    "12-plan-statistics",
)
OPENED = "x-envoy-auth-failure-mode-allowed"


async def statistics(api: Gateway, prefix: str) -> dict[str, int]:
    """Return Envoy's counters of this prefix that are not 0, by the rest of their names."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{api.admin_url}/stats", params={"filter": f"^{re.escape(prefix)}", "format": "json"})
    found = {one["name"]: one["value"] for one in answer.json()["stats"] if "value" in one}
    return {name.removeprefix(prefix): value for name, value in found.items() if value}


def fail(asked: CheckInput) -> Decision:
    """Decide nothing: an error of our own."""
    raise KeyError(asked.target)


async def never(_: CheckInput) -> Decision:
    """Hang until the call is given up."""
    await asyncio.Event().wait()
    raise AssertionError


def in_turn(*decisions: Decision) -> Callable[[CheckInput], Decision]:
    """Return what decides so, one after the other."""
    left = list(decisions)
    return lambda _: left.pop(0)


# 06-route-rules.yaml


def rules_in_the_header() -> tuple[RouteRule, ...]:
    """Return the rules that the header of 06-route-rules.yaml gives as an example, as the plan file reads them."""
    lines = [line.removeprefix("#") for line in config_of(ROUTE_RULES).splitlines() if line.startswith("#   ")]
    routes = yaml.safe_load("\n".join(lines))["routes"]
    plan = {"key": "pro", "name": "Pro", "scopes": ["things.export"]}
    document = {"meters": {"requests": {}, "searches": {}}, "routes": routes, "plans": [plan]}
    return parse_plans(yaml.safe_dump(document), "the header of 06-route-rules.yaml").routes


@pytest.fixture
async def routed() -> AsyncIterator[tuple[Gateway, list[Decision]]]:
    """Return a gateway in front of a real pipeline with those rules, and what that decides."""
    desk, made = Desk(), list[Decision]()
    desk.rules = rules_in_the_header()
    desk.issue(terms=terms_of(replace(GRANT, scopes=GRANT.scopes | {"things.export"})))

    async def decide(asked: CheckInput) -> Decision:
        made.append(await desk.check(asked))
        return made[-1]

    async with deployed(ROUTE_RULES, decide) as api:
        yield api, made


@pytest.mark.parametrize(
    ("path", "host", "rule", "arrives"),
    [
        ("/v1/things", "search.example.com", "* /@search/**", "search /v1/things"),
        ("/export.csv", "search.example.com:8080", "* /@search/**", "search /export.csv"),
        ("/export.csv?all=1", "api.example.com", "GET /v1/things/export", "upstream /v1/things/export?all=1"),
        ("/v1/things/export", "api.example.com", "GET /v1/things/export", "upstream /v1/things/export"),
        ("/v1/things", "api.example.com", "* /v1/**", "upstream /v1/things"),
    ],
)
async def test_envoys_route_names_the_rule(
    routed: tuple[Gateway, list[Decision]], path: str, host: str, rule: str, arrives: str
) -> None:
    """A host has a rule and an upstream of its own, an old path that of the new one; any other path finds its rule."""
    api, decisions = routed
    await api.get(path, [("authorization", f"Bearer {TOKEN.text}"), ("host", host)])
    cluster, target = arrives.split(" ")
    assert await statistics(api, f"cluster.{cluster}.ext_authz.") != {}
    (decision,) = decisions
    assert decision.route is not None
    assert decision.route.text == rule
    assert api.received[0].path == target


async def test_a_named_rule_is_charged_and_required(routed: tuple[Gateway, list[Decision]]) -> None:
    """What the rule costs is what the request costs, and its scope is asked for."""
    api, decisions = routed
    bearer = ("authorization", f"Bearer {TOKEN.text}")
    assert (await api.get("/v1/things", [bearer, ("host", "search.example.com")])).status_code == 200
    assert isinstance(decisions[0], Allow)
    assert dict(decisions[0].route.costs) == {"requests": 1, "searches": 1}
    without = Desk()
    without.rules = rules_in_the_header()
    api.pipeline.decide = without.check
    refused = await api.get("/export.csv", [bearer])
    assert (refused.status_code, refused.json()["reason"]) == (403, "scope_missing")


async def test_a_caller_names_no_rule(routed: tuple[Gateway, list[Decision]]) -> None:
    """Headers that look like the extension change nothing."""
    api, decisions = routed
    claims = [("tallygate.route", "* /@search/**"), ("x-tallygate-route", "* /@search/**")]
    await api.get("/v1/things", [("authorization", f"Bearer {TOKEN.text}"), *claims])
    assert decisions[0].route is not None
    assert decisions[0].route.text == "* /v1/**"


@pytest.mark.parametrize(
    "written", ['tallygate.route: "GET /v1/things/exports"', "tallygate.rout: GET /v1/things/export"]
)
async def test_a_rule_that_there_is_not_refuses(written: str) -> None:
    """A typing error in the name of the rule, or of the extension, lets nobody through at another price."""
    desk = Desk()
    desk.rules = rules_in_the_header()
    config = config_of(ROUTE_RULES).replace('tallygate.route: "GET /v1/things/export"', written)
    async with deployed(ROUTE_RULES, desk.check, config=config) as api:
        response = await api.get("/export.csv", [("authorization", f"Bearer {TOKEN.text}")])
        assert (response.status_code, response.json()["reason"]) == (403, "route_denied")
        assert "names a route rule" in response.json()["detail"]
        assert (await api.get("/v1/things", [("authorization", f"Bearer {TOKEN.text}")])).status_code == 200


async def test_open_routes_ask_nobody_and_carry_no_claims(routed: tuple[Gateway, list[Decision]]) -> None:
    """/status is answered without a token; what a caller says of itself is gone all the same."""
    api, decisions = routed
    response = await api.get("/status", [("x-tallygate-customer", "somebody-else"), (OPENED, "true")])
    assert (response.status_code, decisions) == (200, [])
    assert api.received[0].values("x-tallygate-customer") + api.received[0].values(OPENED) == []
    assert (await api.get("/status/x")).status_code == 401


# 07-grpc-upstream.yaml


async def test_grpc_calls_and_streams_go_through() -> None:
    """Each is asked about once, and the upstream learns who calls, not with what."""
    async with deployed(GRPC_UPSTREAM, lambda _: allow()) as api:
        assert await get_thing(api, BEARER, ("x-tallygate-customer", "somebody-else")) == b"thing"
        assert await count_things(api, BEARER) == [b"0", b"1", b"2"]
        asked, received = api.pipeline.asked, api.received
    assert [(one.method, one.target) for one in asked] == [
        ("POST", "/things.v1.Things/Get"),
        ("POST", "/things.v1.Things/Count"),
    ]
    assert [one.values("x-tallygate-customer") for one in received] == [["cus_1"], ["cus_1"]]
    assert [one.values("authorization") for one in received] == [[], []]


async def test_grpc_refusals_are_grpcs_own() -> None:
    """A limit is RESOURCE_EXHAUSTED in words, a bad token UNAUTHENTICATED; what is no gRPC call has no route."""
    decisions = in_turn(LIMITED, deny(Reason.TOKEN_EXPIRED, license_=license_of()))
    async with deployed(GRPC_UPSTREAM, decisions) as api:
        for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await get_thing(api, BEARER)
            assert refused.value.code() is code
            assert refused.value.details() == "Because."
        assert (await api.get("/things.v1.Things/Get")).status_code == 404
        assert api.received == []


# 08-mtls.yaml


@pytest.mark.parametrize("stranger", ["tallygate", "authority", "envoy"])
async def test_each_side_believes_only_who_has_the_right_certificate(stranger: str, tmp_path: Path) -> None:
    """Another authority's Tallygate, our authority's but of another name, another's Envoy: no check, so no request."""
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    server = (other if stranger == "authority" else ours).sign(
        "other.internal" if stranger == "tallygate" else "tallygate.internal"
    )
    client_ca = other if stranger == "envoy" else ours
    tls = TlsFiles(server.certificate, server.key, client_ca.certificate)
    async with deployed(MTLS, lambda _: allow(), tls=tls, authority=ours) as api:
        response = await api.get(headers=[BEARER])
        assert (response.status_code, api.received, api.pipeline.asked) == (503, [], [])
        assert await statistics(api, "cluster.tallygate.upstream_cx_total") != {}  # it was tried


async def test_with_the_right_certificates_it_is_asked(tmp_path: Path) -> None:
    """The same, with nobody strange: the check goes through, in TLS 1.3."""
    ours = Authority(tmp_path, "ours")
    server = ours.sign("tallygate.internal")
    tls = TlsFiles(server.certificate, server.key, ours.certificate)
    async with deployed(MTLS, lambda _: allow(), tls=tls, authority=ours) as api:
        assert (await api.get(headers=[BEARER])).status_code == 200
        assert await statistics(api, "cluster.tallygate.ssl.versions.") == {"TLSv1.3": 1}


# 09-unix-socket.yaml


async def test_checks_go_through_the_socket() -> None:
    """There is no port to reach Tallygate at, and a restarted one is found at the same path."""
    async with deployed(UNIX_SOCKET, lambda _: allow()) as api:
        assert api.workers[0].port == 0
        assert (await api.get(headers=[BEARER])).status_code == 200
        await api.workers[0].stop(0)
        assert (await api.get(headers=[BEARER])).status_code == 503
        await api.workers[0].start()
        assert (await api.get(headers=[BEARER])).status_code == 200


# 10-shadow.yaml


async def test_shadow_lets_everything_pass_as_it_came(tmp_path: Path) -> None:
    """Allowed, refused, failed, not there: all arrive with the credential and nothing of ours, and all are told."""
    turns: list[Decision | None] = [allow(states=(state(BURST, remaining=9, reset_s=1),)), LIMITED, None]

    def decide(asked: CheckInput) -> Decision:
        return turns.pop(0) or fail(asked)

    async with deployed(SHADOW, decide, run_dir=tmp_path / "envoy") as api:
        answers = [await api.get(headers=[BEARER, ("x-tallygate-customer", "me")]) for _ in range(3)]
        await api.workers[0].stop(0)
        answers.append(await api.get(headers=[BEARER]))
        counted = await statistics(api, "http.gateway.ext_authz.")
    log = [json.loads(line) for line in api.log_path.read_text().splitlines() if line.startswith("{")]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(api.pipeline.asked) == 3
    assert [one.values("authorization") for one in api.received] == [[BEARER[1]]] * 4
    assert not [name for one in api.received for name, _ in one.headers if name.startswith("x-tallygate-")]
    assert answers[0].headers["ratelimit"] == '"burst";r=9;t=1'
    assert answers[1].headers["ratelimit"] == '"theirs";r=1'
    assert [one["check"] for one in log] == ["OK", "DENIED", "ERROR", "ERROR"]
    assert [one["reason"] for one in log] == ["ok", "rate_limited", None, None]
    assert (log[1]["would_be"], log[1]["status"], log[1]["customer"]) == ("429", 200, "cus_1")
    assert (counted["ok"], counted["shadow_denied"], counted["shadow_error"]) == (1, 1, 2)


async def test_shadow_takes_a_token_out_of_the_query_alone() -> None:
    """What the header says of queries is so: Envoy's rules for mutations are for headers."""
    given = Credential(STUB_TOKEN, ("authorization",), ("api_key",))
    async with deployed(SHADOW, lambda _: allow(given)) as api:
        await api.get(f"/v1/things?api_key={STUB_TOKEN}&a=1", [BEARER])
        assert api.received[0].path == "/v1/things?a=1"
        assert api.received[0].values("authorization") == [BEARER[1]]


async def test_shadow_waits_no_longer_than_its_timeout() -> None:
    """While Tallygate hangs, requests pass as they came, too."""
    async with deployed(SHADOW, never, waits="0.5s") as api:
        assert (await api.get(headers=[BEARER])).status_code == 200
        assert api.received[0].values("authorization") == [BEARER[1]]


def test_shadow_is_the_minimal_configuration_and_what_its_header_says() -> None:
    """What is taken away to begin in earnest leaves the check of 01-minimal.yaml, but for what arrival removed."""
    shadow, minimal = (
        parse(config_of(name))["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        for name in (SHADOW, "01-minimal")
    )
    tried, enforced = (one["http_filters"][0]["typed_config"] for one in (shadow, minimal))
    assert tried.pop("shadow_mode") is True
    assert tried.pop("decoder_header_mutation_rules") == {"disallow_all": True}
    removed = [one for one in enforced.pop("allowed_headers")["patterns"] if "safe_regex" not in one]
    assert [*tried.pop("allowed_headers")["patterns"], {"exact": OPENED}] == removed
    assert tried == enforced


# 11-failure-modes.yaml

CLOSED_PATH, OPEN_PATH = "/v1/things", "/v1/public/things"


@pytest.mark.parametrize("state_of_ours", ["down", "hanging", "failing"])
async def test_without_an_answer_closed_is_closed_and_open_is_marked(state_of_ours: str) -> None:
    """Closed routes are 503; open ones pass, say so upstream, and hand on no credential and no claim."""
    is_hanging = state_of_ours == "hanging"
    async with deployed(FAILURE_MODES, never if is_hanging else fail, waits="0.5s" if is_hanging else "15s") as api:
        if state_of_ours == "down":
            await api.workers[0].stop(0)
        closed = await api.get(CLOSED_PATH, [BEARER])
        opened = await api.get(OPEN_PATH, [BEARER, ("x-api-key", STUB_TOKEN), ("x-tallygate-customer", "cus_9")])
        counted = await statistics(api, "http.gateway.ext_authz.")
        (received,) = api.received
    assert (closed.status_code, opened.status_code) == (503, 200)
    assert (closed.headers.get("content-type") == "application/problem+json") is (state_of_ours == "failing")
    assert received.values(OPENED) == ["true"]
    assert STUB_TOKEN not in repr(received)
    assert received.values("x-tallygate-customer") == []
    assert (counted["closed.error"], counted["open.error"], counted["open.failure_mode_allowed"]) == (1, 1, 1)


async def test_while_it_answers_open_routes_refuse_like_any_other() -> None:
    """A refusal is an answer, and what is allowed is not marked, whatever the caller claims; each is asked once."""
    async with deployed(FAILURE_MODES, in_turn(LIMITED, allow(), LIMITED, allow())) as api:
        for path in (CLOSED_PATH, OPEN_PATH):
            assert (await api.get(path, [BEARER])).status_code == 429
            assert (await api.get(path, [BEARER, (OPENED, "true")])).status_code == 200
        assert len(api.pipeline.asked) == 4
        assert [one.values(OPENED) for one in api.received] == [[], []]
        assert [one.values("x-tallygate-customer") for one in api.received] == [["cus_1"], ["cus_1"]]
        assert (await api.get("/v1/publicly", [BEARER])).status_code == 503  # nothing is decided any more


async def test_there_is_a_way_round_without_a_deploy() -> None:
    """The line in the file's comment, sent to Envoy, ends checks of closed routes; its undoing begins them again."""
    command = re.search(r"curl -X POST 'localhost:9901(/runtime_modify\?[^']*=)0'", config_of(FAILURE_MODES))
    assert command
    async with deployed(FAILURE_MODES, lambda _: LIMITED) as api, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(f"{api.admin_url}{command[1]}0")).status_code == 200
        passed = await api.get(CLOSED_PATH, [BEARER, ("x-tallygate-customer", "somebody-else")])
        assert (passed.status_code, api.pipeline.asked) == (200, [])
        assert STUB_TOKEN not in repr(api.received[0])
        assert api.received[0].values("x-tallygate-customer") == []
        assert (await http.post(f"{api.admin_url}{command[1]}100")).status_code == 200
        assert (await api.get(CLOSED_PATH, [BEARER])).status_code == 429


# 12-plan-statistics.yaml


async def rows_of(api: Gateway) -> list[str]:
    """Return the rows of Envoy's page for Prometheus that this configuration makes."""
    async with httpx.AsyncClient(trust_env=False) as http:
        page = (await http.get(f"{api.admin_url}/stats/prometheus")).text
    return [line for line in page.splitlines() if line.startswith("envoy_tallygate_")]


async def test_envoy_counts_by_plan_and_reason_itself() -> None:
    """The rows are those that the header names, of allowed, refused and unanswered requests, and hold no caller."""
    decisions = in_turn(
        allow(), allow(), deny(Reason.QUOTA_EXCEEDED, license_=license_of()), deny(Reason.CREDENTIAL_MISSING)
    )
    # So that nobody has to wait for Envoy's own five seconds.
    config = config_of(STATISTICS) + "\nstats_flush_interval: 0.1s\n"
    async with deployed(STATISTICS, decisions, config=config) as api, asyncio.timeout(20):
        for _ in range(4):
            await api.get(headers=[BEARER])
        await api.workers[0].stop(0)
        await api.get(headers=[BEARER])
        rows: list[str] = []
        while 'envoy_tallygate_duration_count{plan="pro@3"} 3' not in rows:
            rows = await rows_of(api)
    assert sorted(row for row in rows if row.startswith("envoy_tallygate_requests")) == [
        'envoy_tallygate_requests{plan="",reason="",status="503"} 1',
        'envoy_tallygate_requests{plan="",reason="credential_missing",status="401"} 1',
        'envoy_tallygate_requests{plan="pro@3",reason="ok",status="200"} 2',
        'envoy_tallygate_requests{plan="pro@3",reason="quota_exceeded",status="429"} 1',
    ]
    labelled = {(row.split("{")[0], name) for row in rows for name in re.findall(r'(\w+)="', row)}
    assert {name for _, name in labelled} == {"plan", "reason", "status", "le"}
    for name in ("sent_bytes", "received_bytes"):
        assert (f"envoy_tallygate_{name}", "plan") in labelled
