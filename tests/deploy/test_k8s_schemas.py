"""Everything in deploy/k8s builds, and says only what its kinds know.

Not held by it, for no package ships them for Python: the kinds of Envoy Gateway and of the Gateway API, and Istio's
mesh configuration. docs/kubernetes.md says against what those were read once.
"""

from importlib import import_module

import kubernetes_validate
import pytest
from support.manifests import BUILT, NEEDS_KUBECTL, Document, built, every_file

pytestmark = NEEDS_KUBECTL

VERSIONS = ("1.30", "1.37")
"""The oldest Kubernetes that is promised, and the newest there is a schema of."""

MODELS = {
    "monitoring.coreos.com/v1": "prometheus_operator.v1",
    "networking.istio.io/v1": "istio.networking.v1",
    "networking.istio.io/v1alpha3": "istio.networking.v1alpha3",
    "security.istio.io/v1": "istio.security.v1",
    "telemetry.istio.io/v1": "istio.telemetry.v1",
}
NOT_VALIDATED = {"gateway.envoyproxy.io", "gateway.networking.k8s.io"}


def group(document: Document) -> str:
    """Return the API group of a document, "" for the core."""
    return str(document["apiVersion"]).rpartition("/")[0]


def is_of_kubernetes(document: Document) -> bool:
    """Say whether Kubernetes itself knows the kind."""
    return "." not in group(document) or (group(document).endswith(".k8s.io") and group(document) not in NOT_VALIDATED)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", BUILT)
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    """No API server drops a field of ours, or refuses one."""
    documents = [document for document in built(name) if is_of_kubernetes(document)]
    assert len(documents) > 10
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", BUILT)
def test_operators_know_every_field(name: str) -> None:
    """Istio and the Prometheus Operator read every field we write for them."""
    documents = [document for document in built(name) if document["apiVersion"] in MODELS]
    assert documents
    for document in documents:
        module = import_module(f"cloudcoil.models.{MODELS[document['apiVersion']]}")
        getattr(module, document["kind"]).model_validate(document, extra="forbid")


@pytest.mark.parametrize("name", BUILT)
def test_no_kind_is_left_out_by_mistake(name: str) -> None:
    """A new kind of object is validated, or is named here among those that cannot be."""
    groups = {
        group(document)
        for document in built(name)
        if not is_of_kubernetes(document) and document["apiVersion"] not in MODELS
    }
    assert groups <= NOT_VALIDATED


def test_a_misspelt_field_would_be_found() -> None:
    """The tests above can fail, for either sort of kind."""
    (deployment,) = (
        one for one in built("base") if one["metadata"]["name"] == "tallygate" and one["kind"] == "Deployment"
    )
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            deployment | {"spec": deployment["spec"] | {"replica": 1}}, VERSIONS[-1], strict=True
        )
    (monitor,) = (one for one in built("base") if one["kind"] == "ServiceMonitor")
    model = import_module("cloudcoil.models.prometheus_operator.v1").ServiceMonitor
    with pytest.raises(ValueError, match="endpoint"):
        model.model_validate(monitor | {"spec": monitor["spec"] | {"endpoint": []}}, extra="forbid")


def test_every_file_is_built_into_something() -> None:
    """No manifest lies about that nothing applies; patches, kustomizations and the mesh's own configuration aside."""
    aside = {"Kustomization", "Component", "IstioOperator"}
    applied = {(one["kind"], one["metadata"]["name"]) for name in BUILT for one in built(name)}
    written = {(one["kind"], one["metadata"]["name"]) for one in every_file() if one["kind"] not in aside}
    assert written <= applied
