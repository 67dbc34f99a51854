"""Our Kubernetes manifests as an API server would get them: built by kubectl's kustomize, offline."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Document: TypeAlias = dict[str, Any]

K8S = Path(__file__).parents[2] / "deploy" / "k8s"
BUILT = ("base", *sorted(f"overlays/{path.name}" for path in (K8S / "overlays").iterdir()))
NEEDS_KUBECTL = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
_WITH_PODS = ("Deployment", "StatefulSet", "Job")


@cache
def built(name: str) -> tuple[Document, ...]:
    """Return what `kubectl apply -k deploy/k8s/<name>` would apply."""
    ran = subprocess.run(
        ["kubectl", "kustomize", str(K8S / name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return tuple(yaml.safe_load_all(ran.stdout))


def every_file() -> list[Document]:
    """Return each object of each file, as it was written; rules of Prometheus are no objects."""
    return [
        found
        for path in sorted(K8S.rglob("*.yaml"))
        for found in yaml.safe_load_all(path.read_text())
        if "kind" in (found or ())
    ]


def of_kind(name: str, *kinds: str) -> list[Document]:
    """Return the documents of these kinds."""
    return [document for document in built(name) if document["kind"] in kinds]


def one(name: str, kind: str, called: str) -> Document:
    """Return the one document of this kind and name."""
    (found,) = (document for document in of_kind(name, kind) if document["metadata"]["name"] == called)
    return found


def with_pods(name: str) -> list[Document]:
    """Return whatever makes Pods."""
    return of_kind(name, *_WITH_PODS)


def ours(name: str) -> list[Document]:
    """Return whatever makes Pods of Tallygate."""
    return [made for made in with_pods(name) if labels(made)["app.kubernetes.io/name"] == "tallygate"]


def labels(made: Document) -> Mapping[str, str]:
    """Return the labels of its Pods."""
    found: Mapping[str, str] = made["spec"]["template"]["metadata"]["labels"]
    return found


def pod(made: Document) -> Document:
    """Return the specification of its Pods."""
    found: Document = made["spec"]["template"]["spec"]
    return found


def container(made: Document) -> Document:
    """Return its Pods' one container."""
    (found,) = pod(made)["containers"]
    return dict(found)


def selected(name: str, selector: Mapping[str, str]) -> list[Document]:
    """Return whatever makes Pods that this selects; there is something."""
    found = [made for made in with_pods(name) if selector.items() <= labels(made).items()]
    assert found, f"nothing has the labels {selector}"
    return found


def port_names(made: Document) -> dict[str, int]:
    """Return the ports that its container names."""
    return {port["name"]: port["containerPort"] for port in container(made).get("ports", ())}


def environment(name: str, made: Document) -> dict[str, str]:
    """Return the environment of its container, ConfigMaps read."""
    variables: dict[str, str] = {}
    for source in container(made).get("envFrom", ()):
        variables |= one(name, "ConfigMap", source["configMapRef"]["name"])["data"]
    return variables | {given["name"]: given["value"] for given in container(made).get("env", ()) if "value" in given}


def probes(made: Document) -> Iterator[Document]:
    """Yield the probes of its container."""
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        if kind in container(made):
            yield container(made)[kind]
