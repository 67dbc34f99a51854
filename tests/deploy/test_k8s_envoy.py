"""What the manifests for Istio and Envoy Gateway put into Envoy's configuration does, in a real Envoy, what it says.

Owns a stand-in for what istiod makes of a gateway and an extension provider; istiod itself is not run. Fields of Envoy
Gateway's own kinds are read by Envoy Gateway alone, and are not tested here.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.decisions import TOKEN, allow
from support.gateway import ACCESS_LOG, HARDENED, MINIMAL, gateway
from support.manifests import K8S, NEEDS_KUBECTL, Document, of_kind, one

from tallygate.credentials.extract import Credential
from tallygate.decision.decision import CheckInput, Decision
from tallygate.devservers.envoy_config import parse

pytestmark = NEEDS_KUBECTL

BEARER = ("authorization", f"Bearer {TOKEN}")
MESH: Document = yaml.safe_load((K8S / "components" / "istio-mesh" / "mesh-config.yaml").read_text())["spec"][
    "meshConfig"
]
PROVIDERS: dict[str, Document] = {provider["name"]: provider for provider in MESH["extensionProviders"]}
CEL = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
FILE = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


def connection_manager(bootstrap: Document) -> Document:
    """Return the settings of the one HTTP connection manager."""
    found: Document = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def ext_authz(bootstrap: Document) -> Document:
    """Return the settings of the one ext_authz filter."""
    found: Document = connection_manager(bootstrap)["http_filters"][0]["typed_config"]
    return found


def merge(into: Document, patch: Document) -> None:
    """Merge as protobuf does: messages field by field, lists end to end."""
    for name, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        elif isinstance(value, list):
            into[name] = [*into.get(name, []), *value]
        else:
            into[name] = value


def as_istio_makes_it() -> Document:
    """Return a gateway with our extension provider, before any EnvoyFilter: as little as Istio says of itself."""
    bootstrap, provider = parse(MINIMAL), PROVIDERS["tallygate"]["envoyExtAuthzGrpc"]
    manager = connection_manager(bootstrap)
    assert MESH["pathNormalization"]["normalization"] == "MERGE_SLASHES"
    del manager["path_with_escaped_slashes_action"]
    manager["use_remote_address"] = True
    authz = ext_authz(bootstrap)
    del authz["allowed_headers"]
    authz["failure_mode_allow"] = provider["failOpen"]
    authz["grpc_service"]["timeout"] = provider["timeout"]
    authz["status_on_error"] = {"code": int(provider["statusOnError"])}
    return bootstrap


def with_filters() -> Document:
    """Return the same with every patch of our EnvoyFilter merged where it belongs."""
    bootstrap = as_istio_makes_it()
    (cluster,) = (found for found in bootstrap["static_resources"]["clusters"] if found["name"] == "tallygate")
    places = {"NETWORK_FILTER": {"typed_config": connection_manager(bootstrap)}}
    places |= {"HTTP_FILTER": {"typed_config": ext_authz(bootstrap)}, "CLUSTER": cluster}
    (envoy_filter,) = of_kind("overlays/istio", "EnvoyFilter")
    for patch in envoy_filter["spec"]["configPatches"]:
        assert patch["patch"]["operation"] == "MERGE"
        merge(places.pop(patch["applyTo"]), patch["patch"]["value"])
    assert not places
    return bootstrap


def decide(asked: CheckInput) -> Decision:
    """Allow; a request to /v1/receipt waits for its outcome."""
    allowed = allow(Credential(TOKEN, ("authorization",)))
    return allowed._replace(receipt="cus_1:r1") if asked.target == "/v1/receipt" else allowed


@pytest.mark.parametrize("made", [as_istio_makes_it, with_filters], ids=["provider", "provider-and-filter"])
async def test_istios_envoy_is_not_fooled(made: Any, tmp_path: Path) -> None:  # noqa: ANN401 - one of two functions
    """With the provider alone, and with the EnvoyFilter: a spoofed identity and the credential end at the gateway."""
    spoofed = [BEARER, ("x-tallygate-customer", "me"), ("x-tallygate-role", "admin")]
    async with gateway(yaml.safe_dump(made()), tmp_path / "envoy", decide) as api:
        assert (await api.get(headers=spoofed)).status_code == 200
        assert "eprecated" not in api.log_path.read_text()
    (received,) = api.received
    assert received.values("x-tallygate-customer") == ["cus_1"]
    assert received.values("x-tallygate-role") == []
    assert received.values("authorization") == []


async def test_the_filter_adds_what_hardened_has(tmp_path: Path) -> None:
    """Names with underscores and encoded slashes are refused before anybody is asked, and callers have an address."""
    async with gateway(yaml.safe_dump(with_filters()), tmp_path / "envoy", decide) as api:
        assert (await api.get(headers=[BEARER, ("x_tallygate_customer", "me")])).status_code == 400
        assert (await api.get("/v1%2Fthings", headers=[BEARER])).status_code == 400
        assert api.pipeline.asked == []
        await api.get(headers=[BEARER, ("x-envoy-external-address", "203.0.113.9"), ("x-more", "1")])
    assert api.pipeline.asked[0].client_address == "127.0.0.1"
    assert "x-more" not in api.pipeline.asked[0].headers


def test_the_filter_says_what_hardened_says() -> None:
    """What 02-hardened.yaml asks of ext_authz, the provider and the EnvoyFilter ask together."""
    assert ext_authz(with_filters()) == ext_authz(parse(HARDENED)) | {"status_on_error": {"code": 503}}


async def test_logs_tell_outcomes_and_no_credential(tmp_path: Path) -> None:
    """Only requests that Tallygate waits for are told to it; people have a line for each, without a secret."""
    (telemetry,) = of_kind("overlays/istio", "Telemetry")
    outcomes, lines = telemetry["spec"]["accessLogging"]
    told, log = tmp_path / "told", tmp_path / "log"
    labels = PROVIDERS[lines["providers"][0]["name"]]["envoyFileAccessLog"]["logFormat"]["labels"]
    bootstrap = as_istio_makes_it()
    extension = {"name": "cel", "typed_config": {"@type": CEL, "expression": outcomes["filter"]["expression"]}}
    connection_manager(bootstrap)["access_log"] = [
        {"name": "told", "filter": {"extension_filter": extension}, "typed_config": {"@type": FILE, "path": str(told)}},
        {"name": "log", "typed_config": {"@type": FILE, "path": str(log), "log_format": {"json_format": labels}}},
    ]
    async with gateway(yaml.safe_dump(bootstrap), tmp_path / "envoy", decide) as api:
        for path in ("/v1/things", f"/v1/receipt?api_key={TOKEN}", "/v1/receipt"):
            await api.get(path, headers=[BEARER])
    assert told.read_text().count("/v1/receipt ") == told.read_text().count("\n") == 1
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["path"] for line in written] == ["/v1/things", "/v1/receipt", "/v1/receipt"]
    assert {(line["customer"], line["reason"]) for line in written} == {("cus_1", "ok")}
    assert TOKEN not in log.read_text()


def test_all_control_planes_tell_the_same() -> None:
    """Waypoint, gateway and Envoy Gateway log under one condition, in one form, with the headers that 05 names."""
    (gateways,) = of_kind("overlays/istio", "Telemetry")
    (waypoints,) = of_kind("overlays/istio-ambient", "Telemetry")
    assert gateways["spec"]["accessLogging"] == waypoints["spec"]["accessLogging"]
    (proxy,) = of_kind("overlays/envoy-gateway", "EnvoyProxy")
    told, lines = proxy["spec"]["telemetry"]["accessLog"]["settings"]
    assert told["matches"] == [gateways["spec"]["accessLogging"][0]["filter"]["expression"]]
    assert lines["format"]["json"] == PROVIDERS["tallygate-json"]["envoyFileAccessLog"]["logFormat"]["labels"]
    shipped = connection_manager(parse(ACCESS_LOG))["access_log"][1]["typed_config"]
    istio, (sink,) = PROVIDERS["tallygate-outcomes"]["envoyHttpAls"], told["sinks"]
    assert istio["additionalResponseHeadersToLog"] == shipped["additional_response_headers_to_log"]
    assert istio["additionalResponseTrailersToLog"] == shipped["additional_response_trailers_to_log"]
    assert sink["als"]["http"]["responseHeaders"] == shipped["additional_response_headers_to_log"]
    assert istio["logName"] == sink["als"]["logName"] == shipped["common_config"]["log_name"]


@pytest.mark.parametrize("name", ["overlays/istio", "overlays/istio-ambient"])
def test_policies_name_a_provider_that_is_there(name: str) -> None:
    """Istio denies everything where a policy names a provider the mesh does not know."""
    (policy,) = of_kind(name, "AuthorizationPolicy")
    assert (policy["spec"]["action"], policy["spec"]["rules"]) == ("CUSTOM", [{}])
    assert policy["spec"]["provider"]["name"] in PROVIDERS
    (telemetry,) = of_kind(name, "Telemetry")
    named = {provider["name"] for log in telemetry["spec"]["accessLogging"] for provider in log["providers"]}
    assert named <= PROVIDERS.keys()


def test_everybody_asks_at_the_services_ports() -> None:
    """Provider, policies and log sinks name the Service that there is, and its ports; no answer is never a pass."""
    service = one("base", "Service", "tallygate")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    provider, log = PROVIDERS["tallygate"]["envoyExtAuthzGrpc"], PROVIDERS["tallygate-outcomes"]["envoyHttpAls"]
    assert (provider["service"], provider["port"], provider["failOpen"]) == (host, ports["grpc"], False)
    assert (log["service"], log["port"]) == (host, ports["grpc-services"])
    (security,) = of_kind("overlays/envoy-gateway", "SecurityPolicy")
    asked = security["spec"]["extAuth"]
    (backend,) = asked["grpc"]["backendRefs"]
    assert (backend["name"], backend["namespace"], backend["port"]) == ("tallygate", "tallygate", ports["grpc"])
    assert (asked["failOpen"], asked["statusOnError"], asked["timeout"]) == (False, 503, "200ms")
    told = [pattern["exact"] for pattern in ext_authz(parse(HARDENED))["allowed_headers"]["patterns"]]
    assert asked["headersToExtAuth"] == told
