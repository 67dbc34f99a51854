"""Mistakes about how Envoy reaches Tallygate: protocol, endpoints, how requests are spread over workers.

Pure. Each of Envoy's threads opens one HTTP/2 connection to each endpoint, so of several workers that share an endpoint
few are asked. How many there are is told by whoever asks for the diagnosis.
"""

import json
from collections.abc import Iterator

from tallygate.doctor import mistakes
from tallygate.doctor.availability import nested
from tallygate.doctor.finding import Finding
from tallygate.doctor.place import Place
from tallygate.doctor.scene import ENVOY, ENVOY_GATEWAY, OURS, Scene, endpoints

_PROTOCOL = ("typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
_HTTP2 = ("explicit_http_config", "http2_protocol_options")
_BY_LOAD = {"leastrequest", "leastconn"}  # of Istio's the second is the first's old name
_MEND_HTTP2 = """\
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http2_protocol_options: {}}"""
_MEND_SHARED = """\
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 16}}
    common_http_protocol_options: {max_connection_duration: 60s}"""
_MEND_HEALTH = """\
health_checks:
  - grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}
    timeout: 0.5s
    interval: 1s
    no_traffic_interval: 1s
    unhealthy_threshold: 1
    healthy_threshold: 1"""


def judge(scene: Scene) -> Iterator[Finding]:
    """Return what is found in the clusters that are asked, and in what control planes make them from."""
    asked = {id(cluster): cluster for asker in scene.of(ENVOY) if (cluster := scene.cluster(asker)) is not None}
    for cluster in asked.values():
        yield from _protocol(cluster)
        yield from _spread(cluster, scene)
        yield from _several(cluster)
    for asker in scene.of(ENVOY_GATEWAY):
        yield from _chosen(asker.place, ("grpc", "backendSettings", "loadBalancer", "type"), "RoundRobin")
    for rule in scene.resources.get("DestinationRule", ()):
        if OURS in rule.text("spec", "host"):
            yield from _chosen(rule, ("spec", "trafficPolicy", "loadBalancer", "simple"), "ROUND_ROBIN")


def _chosen(place: Place, names: tuple[str, ...], better: str) -> Iterator[Finding]:
    """Return what a control plane is told of how to choose an endpoint."""
    written = place.text(*names)
    if written.replace("_", "").lower() in _BY_LOAD:
        problem = f"{names[-2]}.{names[-1]} is {written}"
        yield Finding(mistakes.LEAST_REQUEST, place.line_of(*names), problem, nested(names[-2:], better))


def _protocol(cluster: Place) -> Iterator[Finding]:
    options = cluster.at(*_PROTOCOL)
    if options is not None and (options.at(*_HTTP2) is not None or options.at("auto_config") is not None):
        return
    if cluster.at("http2_protocol_options") is None:
        problem = f"the cluster {cluster.text('name')} speaks HTTP/1.1"
        yield Finding(mistakes.NOT_HTTP2, cluster.line_of("typed_extension_protocol_options"), problem, _MEND_HTTP2)


def _spread(cluster: Place, scene: Scene) -> Iterator[Finding]:
    found = endpoints(cluster)
    if not found:
        return
    line = cluster.line_of("load_assignment")
    if cluster.text("type") == "LOGICAL_DNS":
        problem = "LOGICAL_DNS uses one address of all that the name has"
        yield Finding(mistakes.ONE_CONNECTION, cluster.line_of("type"), problem, "type: STRICT_DNS")
    elif scene.is_shared:
        yield from _shared(cluster)
    elif len(set(map(_written, found))) < len(found):
        problem = "two endpoints are the same address: a worker needs one of its own"
        yield Finding(mistakes.ONE_CONNECTION, line, problem, _one_each(found[0], len(found)))
    elif len(found) < scene.workers and not _balanced(found[0], scene):
        problem = f"there are {scene.workers} workers, and {len(found)} endpoint{'s' if len(found) > 1 else ''}"
        yield Finding(mistakes.ONE_CONNECTION, line, problem, _one_each(found[0], scene.workers))
    for address in found:
        yield from _virtual(address, scene)


def _shared(cluster: Place) -> Iterator[Finding]:
    options = cluster.at(*_PROTOCOL) or cluster
    bound, moves = (*_HTTP2, "max_concurrent_streams"), ("common_http_protocol_options", "max_connection_duration")
    if options.at(*bound) is None or options.at(*moves) is None:
        problem = "workers share an endpoint, and its connections are not bounded in streams and in age"
        yield Finding(mistakes.ONE_CONNECTION, options.line, problem, _MEND_SHARED)


def _virtual(address: Place, scene: Scene) -> Iterator[Finding]:
    """Return a Kubernetes Service in the same file that hides its pods behind one address."""
    service = _service(address, scene)
    if service is not None and service.text("spec", "clusterIP") != "None":
        problem = f"the Service {service.text('metadata', 'name')} has one address for all its pods"
        mend = "# of the Service\nspec:\n  clusterIP: None"
        yield Finding(mistakes.ONE_CONNECTION, address.line_of("socket_address", "address"), problem, mend)


def _balanced(address: Place, scene: Scene) -> bool:
    """Return whether the address is a headless Service, of which nobody knows how many pods it has."""
    service = _service(address, scene)
    return service is not None and service.text("spec", "clusterIP") == "None"


def _service(address: Place, scene: Scene) -> Place | None:
    name = address.text("socket_address", "address").split(".")[0]
    services = scene.resources.get("Service", ())
    return next((service for service in services if service.text("metadata", "name") == name), None)


def _several(cluster: Place) -> Iterator[Finding]:
    if len(endpoints(cluster)) < 2:  # noqa: PLR2004 - several
        return
    if cluster.text("lb_policy") == "LEAST_REQUEST":
        problem = "lb_policy is LEAST_REQUEST"
        yield Finding(mistakes.LEAST_REQUEST, cluster.line_of("lb_policy"), problem, "lb_policy: ROUND_ROBIN")
    if not any(check.at("grpc_health_check") for check in cluster.items_at("health_checks")):
        problem = f"the cluster {cluster.text('name')} has several endpoints, and no grpc_health_check"
        yield Finding(mistakes.NO_HEALTH_CHECK, cluster.line, problem, _MEND_HEALTH)


def _one_each(first: Place, count: int) -> str:
    """Return endpoints as the workers have them: port after port, or socket after socket."""
    path = first.text("pipe", "path")
    host, port = first.text("socket_address", "address"), first.text("socket_address", "port_value")
    lines = ["lb_endpoints:"]
    for number in range(count):
        if path:
            address = f"{{pipe: {{path: {path.removesuffix('.0')}.{number}}}}}"
        else:
            next_port = int(port) + number if port.isdecimal() else 50051 + number
            address = f"{{socket_address: {{address: {json.dumps(host)}, port_value: {next_port}}}}}"
        lines.append(f"  - endpoint: {{address: {address}}}")
    return "\n".join(lines)


def _written(address: Place) -> tuple[str, str, str]:
    socket = ("socket_address", "address"), ("socket_address", "port_value"), ("pipe", "path")
    first, second, third = (address.text(*names) for names in socket)
    return first, second, third
