"""What in a configuration asks Tallygate, and what stands around it.

Pure. Owns how an asker is recognised: an ext_authz filter of Envoy's (in a bootstrap, a listener, an EnvoyFilter, a
dump), an extension provider of Istio's, the extAuth of an Envoy Gateway SecurityPolicy. Where some name Tallygate, the
others are somebody else's and are left alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tallygate.doctor.place import Place

OURS = "tallygate"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a control plane writes what all of them have."""

    name: str
    timeout: tuple[str, ...]
    fail_open: str
    body: str
    status: tuple[str, ...]


ENVOY = Dialect(
    "Envoy", ("grpc_service", "timeout"), "failure_mode_allow", "with_request_body", ("status_on_error", "code")
)
ISTIO = Dialect("Istio", ("timeout",), "failOpen", "includeRequestBodyInCheck", ("statusOnError",))
ENVOY_GATEWAY = Dialect("Envoy Gateway", ("timeout",), "failOpen", "bodyToExtAuth", ("statusOnError",))


@dataclass(frozen=True, slots=True)
class Asker:
    """Something that asks Tallygate: its configuration, and the connection manager around it where there is one.

    Partial is what an EnvoyFilter merges into configuration that stands elsewhere: what it lacks may be there.
    A provider of Istio's says by its kind, not by a field, that it asks in HTTP.
    """

    place: Place
    dialect: Dialect
    manager: Place | None = None
    name: str = ""
    is_partial: bool = False
    is_http: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """All that mistakes are looked for in; `workers` processes of Tallygate answer, on one endpoint if `is_shared`."""

    askers: tuple[Asker, ...]
    managers: tuple[Place, ...]
    clusters: Mapping[str, Place]
    resources: Mapping[str, tuple[Place, ...]]
    everything: tuple[Place, ...]
    workers: int
    is_shared: bool
    partial: frozenset[int]

    def is_partial(self, place: Place) -> bool:
        """Return whether a place is merged into what stands elsewhere."""
        return id(place) in self.partial

    def of(self, dialect: Dialect) -> tuple[Asker, ...]:
        """Return the askers of a dialect."""
        return tuple(asker for asker in self.askers if asker.dialect is dialect)

    def cluster(self, asker: Asker) -> Place | None:
        """Return the cluster an Envoy filter asks, None when it is not in the file."""
        return self.clusters.get(asker.place.text("grpc_service", "envoy_grpc", "cluster_name"))


def scene_of(documents: Iterable[Place], *, workers: int = 1, is_shared: bool = False) -> Scene:
    """Look through the documents of a file."""
    everything = tuple(place for document in documents for place in document.walk())
    managers = tuple(place for place in everything if is_of_type(place, "HttpConnectionManager"))
    merged = (place.at("value") for place in everything if place.text("operation") == "MERGE")
    partial = frozenset(id(inner) for value in merged if value is not None for inner in value.walk())
    return Scene(
        askers=_ours([*_filters(everything, managers, partial), *_providers(everything), *_policies(everything)]),
        managers=managers,
        clusters={place.text("name"): place for place in everything if _is_cluster(place)},
        resources=_resources(everything),
        everything=everything,
        workers=workers,
        is_shared=is_shared,
        partial=partial,
    )


def is_of_type(place: Place, name: str) -> bool:
    """Return whether a message of Envoy's is of the type of this name, in any version."""
    return place.text("@type").endswith(f".{name}")


def endpoints(cluster: Place) -> tuple[Place, ...]:
    """Return the addresses of a cluster's endpoints."""
    localities = cluster.items_at("load_assignment", "endpoints")
    members = (member for locality in localities for member in locality.items_at("lb_endpoints"))
    addresses = (member.at("endpoint", "address") for member in members)
    return tuple(address for address in addresses if address is not None)


def _filters(everything: Iterable[Place], managers: Iterable[Place], partial: frozenset[int]) -> Iterable[Asker]:
    around = {id(inner): manager for manager in managers for inner in manager.walk()}
    for place in everything:
        if place.text("kind") == "EnvoyFilter":
            _add_neighbours(around, place)
    for place in everything:
        if is_of_type(place, "ExtAuthz"):
            name = place.text("grpc_service", "envoy_grpc", "cluster_name")
            yield Asker(place, ENVOY, around.get(id(place)), name, id(place) in partial)


def _add_neighbours(around: dict[int, Place], envoy_filter: Place) -> None:
    """Let what an EnvoyFilter says of the connection manager count as around the filters it speaks of."""
    inside = tuple(envoy_filter.walk())
    manager = next((place for place in inside if is_of_type(place, "HttpConnectionManager")), None)
    if manager is not None:
        for place in inside:
            around.setdefault(id(place), manager)


def _providers(everything: Iterable[Place]) -> Iterable[Asker]:
    for place in everything:
        for kind in ("envoyExtAuthzGrpc", "envoyExtAuthzHttp"):
            provider = place.at(kind)
            if provider is not None:
                name = f"{place.text('name')} {provider.text('service')}"
                yield Asker(provider, ISTIO, name=name, is_http=kind.endswith("Http"))


def _policies(everything: Iterable[Place]) -> Iterable[Asker]:
    for place in everything:
        asked = place.at("spec", "extAuth") if place.text("kind") == "SecurityPolicy" else None
        if asked is not None:
            references = (*asked.items_at("grpc", "backendRefs"), *asked.items_at("http", "backendRefs"))
            yield Asker(asked, ENVOY_GATEWAY, name=" ".join(reference.text("name") for reference in references))


def _ours(askers: list[Asker]) -> tuple[Asker, ...]:
    named = [asker for asker in askers if OURS in asker.name]
    return tuple(named or askers)


def _is_cluster(place: Place) -> bool:
    return bool(place.text("name")) and any(place.at(field) for field in ("load_assignment", "connect_timeout"))


def _resources(everything: Iterable[Place]) -> Mapping[str, tuple[Place, ...]]:
    found: dict[str, tuple[Place, ...]] = {}
    for place in everything:
        kind = place.text("kind")
        if kind and place.at("spec") is not None:
            found[kind] = (*found.get(kind, ()), place)
    return found
