"""Mistakes that show while Tallygate does not answer: failure mode, timeout, status, retries.

Pure. Failure mode, timeout and status are judged in every dialect, retries where they can be written: not in Istio.
"""

from collections.abc import Iterator
from http import HTTPStatus

from tallygate.doctor import mistakes
from tallygate.doctor.finding import Finding
from tallygate.doctor.place import Place, seconds
from tallygate.doctor.scene import ENVOY, ENVOY_GATEWAY, Asker, Scene, endpoints

_LONGEST_TIMEOUT_S = 1.0
_DEFAULT_TIMEOUT_S = 0.2
_DEFAULT_BACK_OFF_S = 1.0
_INTERVALS_PER_BASE = 10  # max_interval, where it is left out
_ENOUGH_RETRIES = 256
_DEFAULT_RETRIES = 3
_ENVOYS_5XX = {status.phrase.replace(" ", "") for status in HTTPStatus if status >= HTTPStatus.INTERNAL_SERVER_ERROR}
_UNAVAILABLE = {"Envoy": "ServiceUnavailable", "Istio": '"503"', "Envoy Gateway": "503"}
_RETRY = """\
grpc_service:
  retry_policy:
    retry_on: "unavailable,connect-failure,refused-stream,reset"
    num_retries: 2
    retry_back_off: {base_interval: 0.005s, max_interval: 0.2s}
    retry_host_predicate:
      - name: envoy.retry_host_predicates.previous_hosts
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
    host_selection_retry_max_attempts: 3"""


def judge(scene: Scene) -> Iterator[Finding]:
    """Return what is found, in the order of the askers."""
    for asker in scene.askers:
        yield from _failure_mode(asker)
        yield from _timeout(asker)
        yield from _status(asker)
    for asker in scene.of(ENVOY):
        yield from _retry(asker, scene.cluster(asker))
    for asker in scene.of(ENVOY_GATEWAY):
        yield from _gateways_retry(asker.place)


def nested(names: tuple[str, ...], value: str) -> str:
    """Return YAML that has `value` under these field names, one in the other."""
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(names)]
    return "\n".join(lines) + f" {value}"


def _failure_mode(asker: Asker) -> Iterator[Finding]:
    field = asker.dialect.fail_open
    if asker.place.is_true(field):
        problem = f"{field} is true"
        yield Finding(mistakes.FAILURE_MODE_ALLOW, asker.place.line_of(field), problem, f"{field}: false")


def _timeout(asker: Asker) -> Iterator[Finding]:
    names = asker.dialect.timeout
    written, line = asker.place.text(*names), asker.place.line_of(*names)
    if not written and (asker.is_partial or asker.place.at(*names[:-1]) is None):
        return  # it may stand elsewhere; or the filter asks in another protocol, which is a mistake of its own
    mend = nested(names, "200ms" if asker.dialect.name == "Envoy Gateway" else "0.2s")
    if not written:
        problem = f"{asker.dialect.name}'s check has no timeout of its own"
        yield Finding(mistakes.TIMEOUT_MISSING, line, problem, mend)
        return
    timeout_s = seconds(written)
    if timeout_s is not None and not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
        meaning = "no timeout at all" if timeout_s == 0 else f"longer than {_LONGEST_TIMEOUT_S:g} s"
        yield Finding(mistakes.TIMEOUT_TOO_LONG, line, f"the check's timeout is {written}: {meaning}", mend)


def _status(asker: Asker) -> Iterator[Finding]:
    names = asker.dialect.status
    written = asker.place.text(*names)
    if not written and asker.is_partial:
        return
    if written in _ENVOYS_5XX or (written.isdecimal() and int(written) >= HTTPStatus.INTERNAL_SERVER_ERROR):
        return
    problem = f"{names[0]} is {written}" if written else f"{names[0]} is not set, so it is 403"
    mend = nested(names, _UNAVAILABLE[asker.dialect.name])
    yield Finding(mistakes.STATUS_ON_ERROR, asker.place.line_of(*names), problem, mend)


def _retry(asker: Asker, cluster: Place | None) -> Iterator[Finding]:
    service = asker.place.at("grpc_service")
    if service is None:
        return
    ignored = service.at("envoy_grpc", "retry_policy")
    if ignored is not None:
        yield Finding(mistakes.RETRY_IGNORED, ignored.line, "retry_policy stands inside envoy_grpc", _RETRY)
    policy = service.at("retry_policy")
    several = cluster is not None and len(endpoints(cluster)) > 1
    if policy is None:
        if several and ignored is None:
            problem = "there are several endpoints, and no retry_policy"
            yield Finding(mistakes.RETRY_MISSING, service.line, problem, _RETRY)
        return
    yield from _back_off(policy, seconds(service.text("timeout")) or _DEFAULT_TIMEOUT_S)
    if several and not _avoids_previous(policy):
        problem = "there are several endpoints, and retry_policy may choose the same again"
        yield Finding(mistakes.RETRY_SAME_ENDPOINT, policy.line, problem, _RETRY)
    if cluster is not None:
        yield from _bound(cluster)


def _back_off(policy: Place, timeout_s: float) -> Iterator[Finding]:
    base_text = policy.text("retry_back_off", "base_interval")
    base_s = seconds(base_text) or _DEFAULT_BACK_OFF_S
    line = policy.line_of("retry_back_off", "base_interval")
    mend = f"retry_back_off: {{base_interval: 0.005s, max_interval: {timeout_s:g}s}}"
    if base_s >= timeout_s:
        said = base_text or f"not set, so {_DEFAULT_BACK_OFF_S:g} s"
        problem = f"the base interval of retries is {said}; the timeout is {timeout_s:g} s"
        yield Finding(mistakes.RETRY_TOO_LATE, line, problem, mend)
        return
    longest_s = seconds(policy.text("retry_back_off", "max_interval")) or base_s * _INTERVALS_PER_BASE
    if longest_s < timeout_s:
        problem = f"max_interval is {longest_s:g} s; the timeout is {timeout_s:g} s"
        yield Finding(mistakes.RETRY_CUT_SHORT, policy.line_of("retry_back_off", "max_interval"), problem, mend)


def _gateways_retry(asked: Place) -> Iterator[Finding]:
    names = ("grpc", "backendSettings", "retry", "perRetry", "backOff", "baseInterval")
    base_s, timeout_s = seconds(asked.text(*names)), seconds(asked.text("timeout"))
    if base_s is not None and timeout_s is not None and base_s >= timeout_s:
        problem = f"the base interval of retries is {asked.text(*names)}; the timeout is {asked.text('timeout')}"
        yield Finding(mistakes.RETRY_TOO_LATE, asked.line_of(*names), problem, nested(names[4:], "5ms"))
    bound = ("grpc", "backendSettings", "circuitBreaker", "maxParallelRetries")
    written = asked.text(*bound)
    if written.isdecimal() and int(written) < _ENOUGH_RETRIES and asked.at(*names[:3]) is not None:
        problem = f"at most {written} checks may be asked again at a time"
        yield Finding(mistakes.RETRIES_BOUNDED, asked.line_of(*bound), problem, nested(bound[2:], "1000"))


def _avoids_previous(policy: Place) -> bool:
    predicates = policy.items_at("retry_host_predicate")
    return any("previous_hosts" in predicate.text("name") for predicate in predicates)


def _bound(cluster: Place) -> Iterator[Finding]:
    thresholds = cluster.items_at("circuit_breakers", "thresholds")
    default = next((one for one in thresholds if one.text("priority") in {"", "DEFAULT"}), None)
    written = default.text("max_retries") if default else ""
    if default is not None and default.at("retry_budget"):
        return
    if not written or (written.isdecimal() and int(written) < _ENOUGH_RETRIES):
        line = cluster.line if default is None else default.line_of("max_retries")
        problem = f"at most {written or _DEFAULT_RETRIES} checks may be asked again at a time"
        mend = "circuit_breakers:\n  thresholds:\n    - {max_requests: 8192, max_retries: 1000}"
        yield Finding(mistakes.RETRIES_BOUNDED, line, problem, mend)
