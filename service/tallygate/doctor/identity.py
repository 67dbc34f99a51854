"""Mistakes about who the caller is: spoofed headers, a credential that stays, identity that never arrives.

Pure. Stands on what Tallygate does of itself: it overwrites its own headers on every allowed request and removes other
names with its prefix, but can remove only what it is told of, and only where Envoy lets it.
"""

from collections.abc import Iterator

from tallygate.doctor import mistakes
from tallygate.doctor.finding import Finding
from tallygate.doctor.names import (
    CLAIM,
    CLIENT_ADDRESS,
    CREDENTIALS,
    FAILURE_MODE,
    IDENTITY,
    UNDERSCORED,
    is_told,
    matches,
    may_change,
)
from tallygate.doctor.place import Place
from tallygate.doctor.scene import ENVOY, ENVOY_GATEWAY, Asker, Scene, is_of_type

_PREFIX = "x-tallygate-"
_ACTION = "headers_with_underscores_action"
_REFUSED = {"REJECT_REQUEST", "DROP_HEADER"}
_EARLY = """\
early_header_mutation_extensions:
  - name: envoy.http.early_header_mutation.header_mutation
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
      mutations:
        - remove_on_match: {key_matcher: {prefix: x-tallygate-, ignore_case: true}}
        - remove_on_match: {key_matcher: {exact: x-envoy-auth-failure-mode-allowed, ignore_case: true}}"""
_UNDERSCORES = f"common_http_protocol_options:\n  {_ACTION}: REJECT_REQUEST"
_RULES = """\
decoder_header_mutation_rules:
  disallow_all: true
  allow_expression: {regex: "x-tallygate-.*|authorization|x-api-key"}
  disallow_is_error: true"""
_TOLD = """\
allowed_headers:
  patterns:
    - {exact: authorization}
    - {exact: x-api-key}
    - {exact: dpop}
    - {exact: cookie}
    - {exact: content-type}"""


def judge(scene: Scene) -> Iterator[Finding]:
    """Return what is found."""
    for asker in scene.of(ENVOY):
        yield from _spoofable(asker)
        if asker.manager is not None and not scene.is_partial(asker.manager):
            yield from _address(asker, asker.manager)
        yield from _withheld(asker)
        yield from _blocked(asker)
    for asker in scene.of(ENVOY_GATEWAY):
        yield from _gateway(asker, scene)
    for manager in scene.managers:
        yield from _unchecked(manager)
        yield from _redirected(manager)
    for place in scene.everything:
        yield from _removed(place)
    if not any(asker.place.is_true("clear_route_cache") for asker in scene.of(ENVOY)):
        yield from _by_claim(scene)


def _spoofable(asker: Asker) -> Iterator[Finding]:
    check, manager = asker.place, asker.manager
    early, underscores = "early_header_mutation_extensions", ("common_http_protocol_options", _ACTION)
    told_line = check.line_of("allowed_headers")
    line = told_line if manager is None else manager.line_of(early)
    if not is_told(check, CLAIM) and not _removes_early(manager, CLAIM):
        problem = "x-tallygate-* of a caller is neither removed on arrival nor shown to Tallygate"
        yield Finding(mistakes.IDENTITY_SPOOFABLE, line, problem, _EARLY)
    refused = manager is not None and manager.text(*underscores) in _REFUSED
    if not is_told(check, UNDERSCORED) and not refused and not _removes_early(manager, UNDERSCORED):
        problem = "names with underscores are neither refused nor shown to Tallygate"
        where = told_line if manager is None else manager.line_of(*underscores)
        yield Finding(mistakes.IDENTITY_UNDERSCORES, where, problem, _UNDERSCORES)
    if not is_told(check, FAILURE_MODE) and not _removes_early(manager, FAILURE_MODE):
        problem = f"{FAILURE_MODE} of a caller is neither removed on arrival nor shown to Tallygate"
        yield Finding(mistakes.FAILURE_MODE_HEADER, line, problem, _EARLY)


def _removes_early(manager: Place | None, name: str) -> bool:
    """Return whether the connection manager removes a caller's header of this name before any filter runs."""
    if manager is None:
        return False
    mutations = [
        mutation
        for extension in manager.items_at("early_header_mutation_extensions")
        for mutation in extension.items_at("typed_config", "mutations")
    ]
    matchers = (mutation.at("remove_on_match", "key_matcher") for mutation in mutations)
    by_name = any(mutation.text("remove").lower() == name for mutation in mutations)
    return by_name or any(matcher is not None and matches(matcher, name) for matcher in matchers)


def _address(asker: Asker, manager: Place) -> Iterator[Finding]:
    if manager.is_true("use_remote_address") or not is_told(asker.place, CLIENT_ADDRESS):
        return
    problem = f"Tallygate is shown {CLIENT_ADDRESS}, which is the caller's to write without use_remote_address"
    line = manager.line_of("use_remote_address")
    yield Finding(mistakes.CLIENT_ADDRESS, line, problem, "use_remote_address: true")


def _withheld(asker: Asker) -> Iterator[Finding]:
    check = asker.place
    line = check.line_of("allowed_headers")
    if not any(is_told(check, name) for name in CREDENTIALS):
        problem = f"Tallygate is shown neither {' nor '.join(CREDENTIALS)}"
        yield Finding(mistakes.CREDENTIAL_WITHHELD, line, problem, _TOLD)
    if not is_told(check, "content-type"):
        yield Finding(mistakes.CONTENT_TYPE_WITHHELD, line, "Tallygate is not shown content-type", _TOLD)


def _blocked(asker: Asker) -> Iterator[Finding]:
    rules = asker.place.at("decoder_header_mutation_rules")
    line = asker.place.line_of("decoder_header_mutation_rules")
    kept = [name for name in CREDENTIALS if is_told(asker.place, name) and not may_change(rules, name)]
    if kept:
        problem = f"decoder_header_mutation_rules do not let Tallygate remove {' and '.join(kept)}"
        yield Finding(mistakes.CREDENTIAL_KEPT, line, problem, _RULES)
    if not may_change(rules, IDENTITY):
        problem = "decoder_header_mutation_rules do not let Tallygate set x-tallygate-*"
        yield Finding(mistakes.IDENTITY_BLOCKED, line, problem, _RULES)


def _unchecked(manager: Place) -> Iterator[Finding]:
    """Return routes without a check, where what a caller claims is not removed on arrival."""
    if _removes_early(manager, CLAIM):
        return
    for place in manager.walk():
        routes_own = place.at("typed_per_filter_config")
        for name, config in routes_own.fields.items() if routes_own else ():
            is_check = is_of_type(config, "ExtAuthzPerRoute") or "ext_authz" in name
            if is_check and config.is_true("disabled"):
                problem = "no check is made here, and x-tallygate-* of a caller is not removed on arrival"
                yield Finding(mistakes.IDENTITY_SPOOFABLE, config.line_of("disabled"), problem, _EARLY)


def _redirected(manager: Place) -> Iterator[Finding]:
    for place in manager.walk():
        policy = place.at("internal_redirect_policy")
        if policy is not None:
            problem = "responses with a redirect are followed inside Envoy"
            mend = "# remove internal_redirect_policy, and let the caller follow the redirect"
            yield Finding(mistakes.INTERNAL_REDIRECT, policy.line, problem, mend)


def _removed(place: Place) -> Iterator[Finding]:
    for name in place.items_at("request_headers_to_remove"):
        if name.text().lower().startswith(_PREFIX):
            problem = f"request_headers_to_remove has {name.text()}"
            yield Finding(mistakes.IDENTITY_REMOVED, name.line, problem, _EARLY)


def _by_claim(scene: Scene) -> Iterator[Finding]:
    for manager in scene.managers:
        for place in manager.walk():
            for matcher in place.items_at("match", "headers"):
                if matcher.text("name").lower().startswith(_PREFIX):
                    problem = f"a route is matched by {matcher.text('name')}, and the filter lacks clear_route_cache"
                    yield Finding(mistakes.ROUTE_BY_CLAIM, matcher.line_of("name"), problem, "clear_route_cache: true")


def _gateway(asker: Asker, scene: Scene) -> Iterator[Finding]:
    told = asker.place.at("headersToExtAuth")
    if told is None:
        return
    names = {name.text().lower() for name in told.items}
    if not names & set(CREDENTIALS):
        problem = f"Tallygate is shown neither {' nor '.join(CREDENTIALS)}"
        yield Finding(mistakes.CREDENTIAL_WITHHELD, told.line, problem, "# remove headersToExtAuth: all are shown then")
    policies = scene.resources.get("ClientTrafficPolicy", ())
    removed = (policy.at("spec", "headers", "earlyRequestHeaders") for policy in policies)
    if not any(_PREFIX in inner.text() for early in removed if early is not None for inner in early.walk()):
        problem = "headersToExtAuth names single headers: x-tallygate-* of a caller is not shown to Tallygate"
        mend = "# remove headersToExtAuth: Tallygate is shown all headers then, and removes those"
        yield Finding(mistakes.IDENTITY_SPOOFABLE, told.line, problem, mend)
    underscores = ("spec", "headers", "withUnderscoresAction")
    for policy in policies:
        if policy.text(*underscores) == "Allow":
            problem = "names with underscores are neither refused nor shown to Tallygate"
            mend = "headers:\n  withUnderscoresAction: RejectRequest"
            yield Finding(mistakes.IDENTITY_UNDERSCORES, policy.line_of(*underscores), problem, mend)
