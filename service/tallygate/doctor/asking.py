"""Mistakes about whether Tallygate is asked: at all, in its own protocol, about every request, to any effect.

Pure. Owns what of Istio's AuthorizationPolicy is judged.
"""

from collections.abc import Iterator

from tallygate.doctor import mistakes
from tallygate.doctor.availability import nested
from tallygate.doctor.finding import Finding
from tallygate.doctor.place import Place
from tallygate.doctor.scene import ENVOY, Asker, Scene

_FILTER = """\
http_filters:
  - name: envoy.filters.http.ext_authz
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
      transport_api_version: V3
      grpc_service:
        envoy_grpc: {cluster_name: tallygate}
        timeout: 0.2s
      failure_mode_allow: false
      status_on_error: {code: ServiceUnavailable}"""
_GRPC = "grpc_service:\n  envoy_grpc: {cluster_name: tallygate}\n  timeout: 0.2s"
_PER_HUNDRED = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


def judge(scene: Scene) -> Iterator[Finding]:
    """Return what is found."""
    whole = [manager for manager in scene.managers if not scene.is_partial(manager)]
    if whole and not scene.askers:
        problem = "no connection manager has an ext_authz filter"
        yield Finding(mistakes.NOTHING_ASKS, whole[0].line, problem, _FILTER)
    for asker in scene.askers:
        yield from _protocol(asker)
        yield from _body(asker)
    for asker in scene.of(ENVOY):
        yield from _partly(asker.place)
    for policy in scene.resources.get("AuthorizationPolicy", ()):
        if policy.text("spec", "action") == "CUSTOM":
            yield from _policy(policy, scene)


def _protocol(asker: Asker) -> Iterator[Finding]:
    place = asker.place
    if asker.is_http:
        yield Finding(mistakes.NOT_GRPC, place.line, "Istio asks in HTTP: envoyExtAuthzHttp", "envoyExtAuthzGrpc:")
        return
    for field in ("http_service", "http"):
        if place.at(field) is not None:
            problem = f"{asker.dialect.name} asks in HTTP: {field}"
            mend = _GRPC if asker.dialect is ENVOY else "grpc:"
            yield Finding(mistakes.NOT_GRPC, place.line_of(field), problem, mend)
            return
    if place.at("grpc_service", "google_grpc") is not None:
        line = place.line_of("grpc_service", "google_grpc")
        yield Finding(mistakes.GOOGLE_GRPC, line, "the check goes through google_grpc", _GRPC)


def _body(asker: Asker) -> Iterator[Finding]:
    field = asker.dialect.body
    if asker.place.at(field) is not None:
        problem, mend = f"{field} is set", f"# remove {field}"
        yield Finding(mistakes.REQUEST_BODY, asker.place.line_of(field), problem, mend)


def _partly(check: Place) -> Iterator[Finding]:
    if check.is_true("shadow_mode"):
        yield Finding(mistakes.SHADOW_MODE, check.line_of("shadow_mode"), "shadow_mode is true", "shadow_mode: false")
    share = check.at("filter_enabled", "default_value")
    if share is not None:
        whole = _PER_HUNDRED.get(share.text("denominator") or "HUNDRED", 100)
        numerator = share.text("numerator") or "0"
        if numerator.isdecimal() and int(numerator) < whole:
            problem = f"filter_enabled asks about {numerator} of {whole} requests"
            mend = "filter_enabled:\n  default_value: {numerator: 100, denominator: HUNDRED}"
            yield Finding(mistakes.NOT_EVERY_REQUEST, share.line, problem, mend)
    if check.at("filter_enabled_metadata") is not None:
        line = check.line_of("filter_enabled_metadata")
        problem, mend = "filter_enabled_metadata leaves requests out", "# remove filter_enabled_metadata"
        yield Finding(mistakes.NOT_EVERY_REQUEST, line, problem, mend)


def _policy(policy: Place, scene: Scene) -> Iterator[Finding]:
    if not policy.items_at("spec", "rules"):
        line = policy.line_of("spec", "rules")
        yield Finding(mistakes.POLICY_WITHOUT_RULES, line, "an AuthorizationPolicy has no rules", "rules:\n  - {}")
    known = {place.text("name") for place in scene.everything if place.at("envoyExtAuthzGrpc") is not None}
    named = policy.text("spec", "provider", "name")
    if known and named not in known:
        problem = f"no extension provider of this file is named {named!r}: there are {', '.join(sorted(known))}"
        mend = nested(("provider", "name"), min(known))
        yield Finding(mistakes.UNKNOWN_PROVIDER, policy.line_of("spec", "provider", "name"), problem, mend)
