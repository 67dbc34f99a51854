"""Mistakes planted into the Envoy configurations we ship: each edits a clean file in one place.

Owns the plants. Envoy accepts each of them: it is the running system that would suffer.
"""

from dataclasses import dataclass

from support.gateway import ACCESS_LOG, HARDENED, MINIMAL, WORKER_ENDPOINTS

from tallygate.doctor import mistakes
from tallygate.doctor.finding import Mistake

_HTTP2 = "http2_protocol_options: {}"
_EARLY = HARDENED[HARDENED.index("                early_header_mutation_extensions:") :].partition("\n\n")[0]
_RETRY = WORKER_ENDPOINTS[WORKER_ENDPOINTS.index("                        retry_policy:") :].partition(
    "                      # No answer"
)[0]
_PREDICATE = _RETRY[_RETRY.index("                          retry_host_predicate:") :]
_HEALTH = WORKER_ENDPOINTS[WORKER_ENDPOINTS.index("      health_checks:") :].partition("      # max_retries low")[0]
_GRPC_HEALTH = "grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}"
_ROUTE = "route: {cluster: upstream, timeout: 30s}"
_ENDPOINT = "              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 50052}}}\n"
_FILTERS = HARDENED[HARDENED.index("                  - name: envoy.filters.http.ext_authz\n") :].partition(
    "                  - name: envoy.filters.http.router"
)[0]
_PER_ROUTE = (
    "route: {cluster: upstream}\n"
    "                          typed_per_filter_config:\n"
    "                            envoy.filters.http.ext_authz:\n"
    '                              "@type": '
    "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n"
    "                              disabled: true"
)
_ANY_FILTER = ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "envoy.config.route.v3.FilterConfig")
_FAIL_CLOSED = "failure_mode_allow: false"
_IN_CHECK = "\n                      "
_IN_SERVICE = _IN_CHECK + "  "


@dataclass(frozen=True, slots=True)
class Plant:
    """A mistake and how it is made: `old` in `text` becomes `new`."""

    mistake: Mistake
    text: str
    old: str
    new: str = ""
    workers: int = 1

    @property
    def planted(self) -> str:
        """Return the file with the mistake."""
        assert self.text.count(self.old) == 1, f"{self.old!r} is there {self.text.count(self.old)} times"
        return self.text.replace(self.old, self.new)


PLANTS = (
    Plant(mistakes.FAILURE_MODE_ALLOW, HARDENED, "failure_mode_allow: false", "failure_mode_allow: true"),
    Plant(mistakes.TIMEOUT_MISSING, MINIMAL, "                        timeout: 0.2s\n"),
    Plant(mistakes.TIMEOUT_TOO_LONG, MINIMAL, "timeout: 0.2s", "timeout: 30s"),
    Plant(mistakes.TIMEOUT_TOO_LONG, MINIMAL, "timeout: 0.2s", "timeout: 0s"),
    Plant(mistakes.STATUS_ON_ERROR, HARDENED, "status_on_error: {code: ServiceUnavailable}\n", "\n"),
    Plant(
        mistakes.STATUS_ON_ERROR,
        HARDENED,
        "status_on_error: {code: ServiceUnavailable}",
        "status_on_error: {code: 403}",
    ),
    Plant(mistakes.RETRY_TOO_LATE, HARDENED, "base_interval: 0.005s, max_interval: 0.2s", "base_interval: 1s"),
    Plant(mistakes.RETRY_TOO_LATE, HARDENED, "retry_back_off: {base_interval: 0.005s, max_interval: 0.2s}\n", "\n"),
    Plant(mistakes.RETRY_CUT_SHORT, HARDENED, "max_interval: 0.2s", "max_interval: 0.05s"),
    Plant(
        mistakes.RETRY_IGNORED,
        MINIMAL,
        "envoy_grpc: {cluster_name: tallygate}",
        "envoy_grpc: {cluster_name: tallygate, retry_policy: {num_retries: 2}}",
    ),
    Plant(mistakes.RETRY_MISSING, WORKER_ENDPOINTS, _RETRY),
    Plant(mistakes.RETRY_SAME_ENDPOINT, WORKER_ENDPOINTS, _PREDICATE),
    Plant(mistakes.RETRIES_BOUNDED, WORKER_ENDPOINTS, ", max_retries: 1000", ", max_retries: 16"),
    Plant(mistakes.RETRIES_BOUNDED, WORKER_ENDPOINTS, ", max_retries: 1000"),
    Plant(
        mistakes.IDENTITY_SPOOFABLE,
        MINIMAL,
        '                          - {safe_regex: {regex: "x[-_]tallygate[-_].*"}}\n',
        '                          - {safe_regex: {regex: "x_tallygate_.*"}}\n',
    ),
    Plant(
        mistakes.IDENTITY_SPOOFABLE,
        HARDENED,
        "                        - remove_on_match: {key_matcher: {prefix: x-tallygate-, ignore_case: true}}\n",
    ),
    Plant(mistakes.IDENTITY_SPOOFABLE, MINIMAL, "route: {cluster: upstream}", _PER_ROUTE),
    Plant(mistakes.IDENTITY_SPOOFABLE, MINIMAL, "route: {cluster: upstream}", _PER_ROUTE.replace(*_ANY_FILTER)),
    Plant(
        mistakes.IDENTITY_UNDERSCORES,
        HARDENED,
        "headers_with_underscores_action: REJECT_REQUEST",
        "headers_with_underscores_action: ALLOW",
    ),
    Plant(
        mistakes.IDENTITY_REMOVED,
        HARDENED,
        _ROUTE,
        _ROUTE + "\n                          request_headers_to_remove: [x-tallygate-customer]",
    ),
    Plant(mistakes.IDENTITY_BLOCKED, HARDENED, '"x-tallygate-.*|authorization|x-api-key"', '"authorization|x-api-key"'),
    Plant(mistakes.CREDENTIAL_KEPT, HARDENED, '"x-tallygate-.*|authorization|x-api-key"', '"x-tallygate-.*"'),
    Plant(
        mistakes.CREDENTIAL_KEPT,
        MINIMAL,
        _FAIL_CLOSED,
        _FAIL_CLOSED + _IN_CHECK + "decoder_header_mutation_rules: {disallow_expression: {regex: authorization}}",
    ),
    Plant(
        mistakes.CREDENTIAL_WITHHELD,
        HARDENED,
        "                          - {exact: authorization}\n                          - {exact: x-api-key}\n",
    ),
    Plant(mistakes.CONTENT_TYPE_WITHHELD, HARDENED, "                          - {exact: content-type}\n"),
    Plant(
        mistakes.FAILURE_MODE_HEADER,
        MINIMAL,
        "                          - {exact: x-envoy-auth-failure-mode-allowed}\n",
    ),
    Plant(mistakes.CLIENT_ADDRESS, HARDENED, "use_remote_address: true", "use_remote_address: false"),
    Plant(
        mistakes.ROUTE_BY_CLAIM,
        HARDENED,
        'match: {prefix: "/"}',
        'match: {prefix: "/", headers: [{name: x-tallygate-plan, present_match: true}]}',
    ),
    Plant(
        mistakes.INTERNAL_REDIRECT,
        HARDENED,
        _ROUTE,
        "route: {cluster: upstream, timeout: 30s, internal_redirect_policy: {max_internal_redirects: 1}}",
    ),
    Plant(mistakes.PATH_NORMALISATION, HARDENED, "normalize_path: true\n", "\n"),
    Plant(mistakes.PATH_SLASHES, HARDENED, "merge_slashes: true\n", "\n"),
    Plant(
        mistakes.PATH_SLASHES,
        HARDENED,
        "path_with_escaped_slashes_action: REJECT_REQUEST",
        "path_with_escaped_slashes_action: KEEP_UNCHANGED",
    ),
    Plant(mistakes.ONE_CONNECTION, WORKER_ENDPOINTS, _ENDPOINT, workers=4),
    Plant(mistakes.ONE_CONNECTION, WORKER_ENDPOINTS, "port_value: 50052", "port_value: 50051", workers=4),
    Plant(
        mistakes.ONE_CONNECTION,
        HARDENED,
        "    - name: tallygate\n      type: STRICT_DNS",
        "    - name: tallygate\n      type: LOGICAL_DNS",
    ),
    Plant(mistakes.LEAST_REQUEST, WORKER_ENDPOINTS, "lb_policy: ROUND_ROBIN", "lb_policy: LEAST_REQUEST", workers=4),
    Plant(mistakes.NO_HEALTH_CHECK, WORKER_ENDPOINTS, _HEALTH, workers=4),
    Plant(mistakes.NO_HEALTH_CHECK, WORKER_ENDPOINTS, _GRPC_HEALTH, "tcp_health_check: {}", workers=4),
    Plant(mistakes.NOT_HTTP2, MINIMAL, _HTTP2, "http_protocol_options: {}"),
    Plant(mistakes.NOTHING_ASKS, HARDENED, _FILTERS),
    Plant(
        mistakes.NOT_GRPC,
        MINIMAL,
        f"grpc_service:{_IN_SERVICE}envoy_grpc: {{cluster_name: tallygate}}{_IN_SERVICE}timeout: 0.2s",
        f"http_service:{_IN_SERVICE}server_uri: {{uri: http://127.0.0.1, cluster: tallygate, timeout: 0.2s}}",
    ),
    Plant(
        mistakes.GOOGLE_GRPC,
        MINIMAL,
        "envoy_grpc: {cluster_name: tallygate}",
        "google_grpc: {target_uri: 127.0.0.1:50051, stat_prefix: tallygate}",
    ),
    Plant(
        mistakes.SHADOW_MODE,
        MINIMAL,
        _FAIL_CLOSED,
        _FAIL_CLOSED + _IN_CHECK + "shadow_mode: true",
    ),
    Plant(
        mistakes.NOT_EVERY_REQUEST,
        MINIMAL,
        _FAIL_CLOSED,
        _FAIL_CLOSED + _IN_CHECK + "filter_enabled: {default_value: {numerator: 50}}",
    ),
    Plant(
        mistakes.REQUEST_BODY,
        MINIMAL,
        _FAIL_CLOSED,
        _FAIL_CLOSED + _IN_CHECK + "with_request_body: {max_request_bytes: 1024}",
    ),
    Plant(mistakes.CREDENTIAL_LOGGED, HARDENED, '"%REQ(X-REQUEST-ID)%"', '"%REQ(X-API-KEY?AUTHORIZATION)%"'),
    Plant(
        mistakes.CREDENTIAL_LOGGED,
        ACCESS_LOG,
        "additional_response_headers_to_log: [",
        "additional_request_headers_to_log: [authorization]" + _IN_CHECK + "additional_response_headers_to_log: [",
    ),
    Plant(mistakes.QUERY_LOGGED, HARDENED, "%PATH(NQ:ORIG_OR_PATH)%", "%REQ(:PATH)%"),
)
