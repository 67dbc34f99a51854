"""The Valkeys of the overlay redis-cluster: a real one takes their configuration and is a node of a cluster by it."""

import subprocess
from pathlib import Path

from support.manifests import NEEDS_KUBECTL, Document, container, one

from tallygate.devservers.binaries import valkey_binary
from tallygate.devservers.ports import LOOPBACK, free_port

pytestmark = NEEDS_KUBECTL
OVERLAY = "overlays/redis-cluster"


def replaced(text: str, places: dict[str, str]) -> str:
    """Return the text with each place in place of the container's, which must be there."""
    for theirs, ours in places.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


def stateful_set() -> Document:
    """Return what makes the nodes."""
    return one(OVERLAY, "StatefulSet", "valkey")


def configuration() -> str:
    """Return the file that the nodes are given."""
    volumes = stateful_set()["spec"]["template"]["spec"]["volumes"]
    (name,) = (volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    return str(one(OVERLAY, "ConfigMap", name)["data"]["valkey.conf"])


def test_a_node_starts_as_its_container_starts_it(tmp_path: Path) -> None:
    """The very script of the container, with directories of the test's own: a cluster node that evicts nothing."""
    (tmp_path / "valkey.conf").write_text(configuration().replace("/data", str(tmp_path)))
    (tmp_path / "password").write_text("secret")
    script = replaced(
        container(stateful_set())["args"][0],
        {
            "/run/secrets/valkey/password": str(tmp_path / "password"),
            "/etc/valkey/valkey.conf": str(tmp_path / "valkey.conf"),
            "/data/valkey.conf": str(tmp_path / "made.conf"),
            "exec valkey-server": f"exec {valkey_binary()}",
        },
    )
    port = free_port()
    options = f" --port {port} --bind {LOOPBACK} --cluster-port {free_port()}"
    with subprocess.Popen(
        ["sh", "-euc", script.rstrip() + options],
        env={"POD_IP": LOOPBACK, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdout
        lines = []
        for line in node.stdout:
            lines.append(line)
            if "Ready to accept connections" in line:
                break
        node.terminate()
        node.communicate(timeout=20)
    assert "Ready to accept connections" in lines[-1], "".join(lines)
    assert "myself" in (tmp_path / "nodes.conf").read_text()
    assert "secret" not in "".join(lines)


def test_counters_are_never_evicted_and_are_kept() -> None:
    """Whoever edits the file finds out that these two lines are what limits stand on; the memory fits the Pod."""
    lines = configuration().splitlines()
    assert {"maxmemory-policy noeviction", "appendonly yes", "maxmemory 1gb"} <= set(lines)
    assert container(stateful_set())["resources"]["limits"]["memory"] == "2Gi"
