"""Doctor reads what Istio and Envoy Gateway make Envoy's configuration from."""

import textwrap

import pytest

from tallygate.core.errors import InputError
from tallygate.doctor.examine import examine

CLEAN = """\
apiVersion: v1
kind: ConfigMap
data:
  mesh: |
    extensionProviders:
      - name: tallygate
        envoyExtAuthzGrpc:
          service: tallygate.tallygate.svc.cluster.local
          port: 50051
          timeout: 0.2s
          failOpen: false
          statusOnError: "503"
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
spec:
  action: CUSTOM
  provider: {name: tallygate}
  rules: [{}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
spec:
  extAuth:
    timeout: 200ms
    failOpen: false
    statusOnError: 503
    grpc: {backendRefs: [{name: tallygate, port: 50051}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
spec:
  path: {escapedSlashesAction: RejectRequest}
"""
SLOW_RETRY = "backendSettings: {retry: {perRetry: {backOff: {baseInterval: 1s}}}}"
FEW_RETRIES = "backendSettings: {retry: {}, circuitBreaker: {maxParallelRetries: 3}}"
BY_LOAD = "backendSettings: {loadBalancer: {type: LeastRequest}}"
FILTER = """\
kind: EnvoyFilter
spec:
  configPatches:
    - applyTo: HTTP_FILTER
      patch:
        operation: INSERT_BEFORE
        value:
          name: tallygate
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
            grpc_service: {envoy_grpc: {cluster_name: "outbound|50051||tallygate"}, timeout: 0.2s}
            status_on_error: {code: ServiceUnavailable}
"""


def found(text: str) -> list[tuple[str, int]]:
    """Return names and lines of what is found."""
    return [(one.mistake.name, one.line) for one in examine(text.encode(), "f.yaml").findings]


def test_nothing_is_found_where_all_is_well() -> None:
    """The resources every test below spoils are right as they are."""
    assert found(CLEAN) == []
    assert found(FILTER) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("          timeout: 0.2s\n", "", ("timeout-missing", 7)),
        ("timeout: 0.2s", "timeout: 600s", ("timeout-too-long", 10)),
        ("          failOpen: false", "          failOpen: true", ("failure-mode-allow", 11)),
        ('          statusOnError: "503"\n', "", ("status-on-error", 7)),
        ('statusOnError: "503"', 'statusOnError: "403"', ("status-on-error", 12)),
        ('statusOnError: "503"', 'statusOnError: "503"\n          includeRequestBodyInCheck: {}', ("request-body", 13)),
        ("envoyExtAuthzGrpc:", "envoyExtAuthzHttp:", ("not-grpc", 7)),
        (
            "extensionProviders:",
            "pathNormalization: {normalization: NONE}\n    extensionProviders:",
            ("path-normalisation", 5),
        ),
        ("provider: {name: tallygate}", "provider: {name: tallygatte}", ("unknown-provider", 18)),
        ("  rules: [{}]\n", "", ("policy-without-rules", 16)),
        ("    timeout: 200ms\n", "", ("timeout-missing", 24)),
        ("timeout: 200ms", "timeout: 10s", ("timeout-too-long", 25)),
        ("    failOpen: false\n    status", "    failOpen: true\n    status", ("failure-mode-allow", 26)),
        ("    statusOnError: 503\n", "", ("status-on-error", 24)),
        ("    grpc: {", "    headersToExtAuth: [authorization]\n    grpc: {", ("identity-spoofable", 28)),
        ("    grpc: {", "    bodyToExtAuth: {maxRequestBytes: 1}\n    grpc: {", ("request-body", 28)),
        ("port: 50051}]}", f"port: 50051}}], {SLOW_RETRY}}}", ("retry-too-late", 28)),
        ("port: 50051}]}", f"port: 50051}}], {BY_LOAD}}}", ("least-request", 28)),
        ("port: 50051}]}", f"port: 50051}}], {FEW_RETRIES}}}", ("retries-bounded", 28)),
        (
            "extensionProviders:",
            "pathNormalization: {normalization: BASE}\n    extensionProviders:",
            ("path-slashes", 5),
        ),
        ("RejectRequest", "KeepUnchanged", ("path-slashes", 33)),
        ("escapedSlashesAction: RejectRequest", "disableMergeSlashes: true", ("path-slashes", 33)),
    ],
)
def test_a_mistake_is_found_where_it_is_made(old: str, new: str, expected: tuple[str, int]) -> None:
    """Each resource is judged in its own words, and the line is the file's."""
    assert CLEAN.count(old) == 1
    spoilt = CLEAN.replace(old, new)
    if "Http:" in new:
        spoilt = spoilt.replace("provider: {name: tallygate}", "provider: {name: other}")
    assert expected in found(spoilt)


def test_how_istio_chooses_a_pod_is_judged_for_our_service() -> None:
    """A DestinationRule is read where it speaks of Tallygate, and left alone where it speaks of another service."""
    rule = "kind: DestinationRule\nspec:\n  host: {host}\n  trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}\n"
    for host, simple, is_wrong in (
        ("tallygate.tallygate.svc", "LEAST_REQUEST", True),
        ("tallygate.tallygate.svc", "ROUND_ROBIN", False),
        ("things.api.svc", "LEAST_REQUEST", False),
    ):
        names = [name for name, _ in found(f"{CLEAN}---\n{rule.format(host=host, simple=simple)}")]
        assert names == ["least-request"] * is_wrong


def test_headers_that_a_gateway_removes_need_not_be_shown() -> None:
    """A ClientTrafficPolicy that removes what a caller claims makes a short list of headers harmless."""
    short = CLEAN.replace("    grpc: {", "    headersToExtAuth: [authorization]\n    grpc: {")
    early = "  headers: {earlyRequestHeaders: {removeOnMatch: [{type: Prefix, value: x-tallygate-}]}}\n"
    assert found(short + early) == []
    allowed = early.replace("earlyRequest", "withUnderscoresAction: Allow, earlyRequest")
    assert found(short + allowed) == [("identity-underscores", len((short + allowed).splitlines()))]


def test_what_others_ask_is_left_alone() -> None:
    """A provider of somebody else's is not judged, where ours is known by its name."""
    other = "      - name: opa\n        envoyExtAuthzGrpc: {service: opa, port: 1, failOpen: true}\n"
    ours = '          statusOnError: "503"\n'
    assert found(CLEAN.replace(ours, ours + other)) == []


def test_a_patch_of_envoys_own_words_is_judged() -> None:
    """An EnvoyFilter that inserts the filter is read like any other configuration of Envoy's."""
    spoilt = FILTER.replace("status_on_error", "failure_mode_allow: true\n            status_on_error")
    assert found(spoilt) == [("failure-mode-allow", 12)]
    for share, names in (("numerator: 100", []), ("numerator: 100, denominator: MILLION", ["not-every-request"])):
        enabled = f"            filter_enabled: {{default_value: {{{share}}}}}\n"
        assert [name for name, _ in found(FILTER + enabled)] == names
    withheld = FILTER + "            allowed_headers: {patterns: [{exact: authorization}]}\n"
    assert ("identity-spoofable", 13) in found(withheld)


MERGED = """\
kind: EnvoyFilter
spec:
  configPatches:
    - applyTo: NETWORK_FILTER
      patch:
        operation: MERGE
        value:
          typed_config:
            "@type": type/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}
            early_header_mutation_extensions:
              - typed_config:
                  mutations: [{remove_on_match: {key_matcher: {prefix: x-}}}]
    - applyTo: HTTP_FILTER
      patch:
        operation: MERGE
        value:
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
            grpc_service: {retry_policy: {retry_back_off: {base_interval: 0.01s, max_interval: 0.2s}}}
            allowed_headers: {patterns: [{exact: authorization}, {exact: content-type}]}
"""


def test_what_is_merged_is_judged_by_what_it_says() -> None:
    """What a patch lacks may stand elsewhere; what it says of the connection manager holds for the filter."""
    assert found(MERGED) == []
    assert found(MERGED.replace("0.01s", "1s")) == [("retry-too-late", 20)]
    assert [name for name, _ in found(MERGED.replace("prefix: x-}", "prefix: y-}"))] == [
        "failure-mode-header",
        "identity-spoofable",
    ]


def test_a_service_with_one_address_hides_its_pods() -> None:
    """A cluster that resolves a Service which is not headless has one connection for all its pods."""
    text = textwrap.dedent(
        """\
        "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
        grpc_service: {envoy_grpc: {cluster_name: tallygate}, timeout: 0.2s}
        status_on_error: {code: ServiceUnavailable}
        ---
        name: tallygate
        type: STRICT_DNS
        http2_protocol_options: {}
        load_assignment:
          endpoints:
            - lb_endpoints:
                - endpoint: {address: {socket_address: {address: tallygate.ns.svc, port_value: 50051}}}
        ---
        kind: Service
        metadata: {name: tallygate}
        spec: {clusterIP: None}
        """
    )
    assert found(text) == []
    assert found(text.replace("clusterIP: None", "type: ClusterIP")) == [("one-connection", 11)]


def test_a_comment_says_that_it_is_meant() -> None:
    """What is accepted is told apart, holds for its own line only, and is nothing without a reason."""
    meant = "# doctor: accepts failure-mode-allow because it is free while we are down"
    spoilt = CLEAN.replace("          failOpen: false", f"          {meant}\n          failOpen: true")
    diagnosis = examine(spoilt.encode(), "f.yaml")
    assert diagnosis.findings == ()
    assert [one.mistake.name for one in diagnosis.accepted] == ["failure-mode-allow"]
    beside = CLEAN.replace("          failOpen: false", f"          failOpen: true  {meant}")
    assert found(beside) == []
    elsewhere = f"{meant}\n" + CLEAN.replace("          failOpen: false", "          failOpen: true")
    assert found(elsewhere) == [("failure-mode-allow", 12)]


@pytest.mark.parametrize(
    "said", ["accepts failure-mode because why not", "accepts failure-mode-allow", "accept failure-mode-allow"]
)
def test_a_comment_that_accepts_nothing_is_an_error(said: str) -> None:
    """A typing error does not leave a finding unexplained, nor a reason unsaid."""
    with pytest.raises(InputError, match=r"f\.yaml:1: "):
        examine(f"# doctor: {said}\n{CLEAN}".encode(), "f.yaml")
