"""Other addresses for a shipped Envoy configuration, so that what development and tests run is that very file.

Pure. Owns where the addresses stand in a static bootstrap; knows nothing else of it. Failure: InputError
when the text is no bootstrap, or has no listener or cluster of the name.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tallygate.core.errors import InputError

SocketAddress: TypeAlias = tuple[str, int]
Address: TypeAlias = SocketAddress | Path
"""A host and a port (0: any free one), or the path of a Unix socket."""

_NAMES_RESOLVED = {"STRICT_DNS", "LOGICAL_DNS"}


def with_endpoints(
    config_text: str,
    *,
    listeners: Mapping[str, Address],
    clusters: Mapping[str, Address | list[Address]],
    admin: SocketAddress = ("127.0.0.1", 0),
) -> str:
    """Return the configuration with these addresses in place of its own and nothing else changed.

    A cluster given several addresses gets one endpoint for each, in the likeness of its first.
    """
    bootstrap = parse(config_text)
    bootstrap.setdefault("admin", {})["address"] = _written(admin)
    for name, address in listeners.items():
        _named(bootstrap, "listeners", name)["address"] = _written(address)
    for name, addresses in clusters.items():
        several = addresses if isinstance(addresses, list) else [addresses]
        _point(_named(bootstrap, "clusters", name), several)
    return yaml.safe_dump(bootstrap, sort_keys=False, allow_unicode=True)


def parse(config_text: str) -> dict[str, Any]:
    """Return the bootstrap as plain values; raise InputError when it is not a mapping in YAML."""
    try:
        bootstrap = yaml.safe_load(config_text)
    except yaml.YAMLError as error:
        raise InputError("envoy configuration", str(error), "write YAML") from None
    if not isinstance(bootstrap, dict):
        raise InputError("envoy configuration", "it is not a mapping", "write a bootstrap with static_resources")
    return bootstrap


def _named(bootstrap: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    those_there: list[dict[str, Any]] = bootstrap.get("static_resources", {}).get(kind, [])
    for one in those_there:
        if one.get("name") == name:
            return one
    names = ", ".join(str(one.get("name")) for one in those_there) or "none"
    raise InputError(f"static_resources.{kind}", f"nothing is named {name!r}", f"there are: {names}")


def _point(cluster: dict[str, Any], addresses: list[Address]) -> None:
    locality = cluster["load_assignment"]["endpoints"][0]
    pattern = locality["lb_endpoints"][0]
    locality["lb_endpoints"] = [deepcopy(pattern) for _ in addresses]
    for one, address in zip(locality["lb_endpoints"], addresses, strict=True):
        one["endpoint"]["address"] = _written(address)
    cluster["load_assignment"]["endpoints"] = [locality]
    if cluster.get("type") in _NAMES_RESOLVED and any(isinstance(address, Path) for address in addresses):
        cluster["type"] = "STATIC"  # a path is no name that could be resolved; Envoy refuses it as one


def _written(address: Address) -> dict[str, Any]:
    if isinstance(address, Path):
        return {"pipe": {"path": str(address)}}
    host, port = address
    return {"socket_address": {"address": host, "port_value": port}}
