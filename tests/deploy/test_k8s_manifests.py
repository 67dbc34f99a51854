"""What the manifests say of Tallygate is true of Tallygate, and of each other."""

import json
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from support.manifests import (
    BUILT,
    K8S,
    NEEDS_KUBECTL,
    Document,
    built,
    container,
    environment,
    labels,
    of_kind,
    one,
    ours,
    pod,
    port_names,
    probes,
    selected,
    with_pods,
)
from typer.testing import CliRunner

from tallygate import __version__
from tallygate.cli.main import app
from tallygate.probes import host_and_port, probes_app
from tallygate.settings import PREFIX, Settings, load

pytestmark = [NEEDS_KUBECTL, pytest.mark.parametrize("name", BUILT)]

_SECRETS = {name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)}
_PLACES = {  # which settings say where a part listens
    "data-plane": ("listen", "services_listen", "metrics_listen"),
    "worker": ("metrics_listen",),
    "admin": ("admin_listen",),
    "migrate": (),
}


def component(made: Document) -> str:
    """Return which part of Tallygate this is."""
    return str(made["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"])


def settings(name: str, made: Document) -> Settings:
    """Return the settings as this part will read them; secrets are made up."""
    given = {
        variable.removesuffix("_FILE") if variable.endswith("_FILE") else variable: value
        for variable, value in environment(name, made).items()
    }
    made_up = {PREFIX + secret.upper(): "s" * 32 for secret in _SECRETS}
    return load({key: made_up.get(key, value) for key, value in given.items()}).values


def test_every_setting_exists_and_is_valid(name: str) -> None:
    """No manifest names a setting that Tallygate does not have, or gives one a value it refuses."""
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    known |= {PREFIX + secret.upper() + "_FILE" for secret in _SECRETS}
    for made in ours(name):
        assert {key for key in environment(name, made) if key.startswith("TALLYGATE")} <= known
        settings(name, made)


def test_every_secret_comes_as_a_file(name: str) -> None:
    """No secret is in an environment or a manifest, and each file named is one that is mounted, read-only."""
    assert of_kind(name, "Secret") == []
    for made in ours(name):
        variables = environment(name, made)
        assert not {PREFIX + secret.upper() for secret in _SECRETS} & variables.keys()
        (mount,) = (each for each in container(made)["volumeMounts"] if each["name"] != "tmp")
        assert mount["readOnly"]
        files = {key: value for key, value in variables.items() if key.endswith("_FILE")}
        assert f"{PREFIX}POSTGRES_DSN_FILE" in files
        assert all(value.startswith(mount["mountPath"] + "/") for value in files.values())
        (volume,) = (one for one in pod(made)["volumes"] if one["name"] == mount["name"])
        assert volume["secret"]["defaultMode"] == 0o440


def test_every_part_has_what_it_needs_to_start(name: str) -> None:
    """Whoever serves has a database, counters and the pepper; the migration has the database alone."""
    needed = {"postgres_dsn", "redis_url", "pepper"}
    for made in ours(name):
        given = {field for field in needed if getattr(settings(name, made), field) is not None}
        assert given == ({"postgres_dsn"} if component(made) == "migrate" else needed)


def test_ports_are_those_it_listens_on(name: str) -> None:
    """A port of a container is one that its settings open, on every address, and none is missing."""
    for made in ours(name):
        values = settings(name, made)
        places = [host_and_port(getattr(values, field), field) for field in _PLACES[component(made)]]
        assert {host for host, _ in places} <= {"0.0.0.0"}  # noqa: S104 - a Pod's own
        assert sorted(port_names(made).values()) == sorted(port for _, port in places)


def test_probes_ask_what_answers(name: str) -> None:
    """Each probe asks a port of the container for a page that is there."""
    pages = {getattr(route, "path", "") for route in probes_app(CollectorRegistry(), list).routes}
    for made in ours(name):
        if component(made) == "migrate":
            continue
        assert len(list(probes(made))) == 3
        for probe in probes(made):
            assert probe["httpGet"]["port"] in port_names(made)
            assert probe["httpGet"]["path"] in ({"/healthz"} if component(made) == "admin" else pages)


def test_commands_exist(name: str) -> None:
    """What a container is told to do, the command line knows."""
    for made in ours(name):
        ran = CliRunner().invoke(app, [*container(made)["args"], "--help"])
        assert ran.exit_code == 0, ran.output


def test_nothing_has_a_privilege(name: str) -> None:
    """Every container runs as nobody in particular, can become nobody else, and writes to no image."""
    for made in with_pods(name):
        whole, alone = pod(made)["securityContext"], container(made)["securityContext"]
        assert whole["runAsNonRoot"]
        assert whole["runAsUser"] >= 10_000
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not alone["allowPrivilegeEscalation"]
        assert alone["readOnlyRootFilesystem"]
        assert alone["capabilities"] == {"drop": ["ALL"]}
        assert not pod(made)["automountServiceAccountToken"]
        assert not pod(made)["enableServiceLinks"], "TALLYGATE_ADMIN_PORT would come from the Service"
        assert "memory" in container(made)["resources"]["limits"]


def test_a_pod_is_given_time_to_drain(name: str) -> None:
    """Kubernetes kills no Pod that is still answering: after the drain, 15 s are left for what is under way."""
    deployment = one(name, "Deployment", "tallygate")
    assert pod(deployment)["terminationGracePeriodSeconds"] >= settings(name, deployment).drain_s + 15


def test_a_pod_has_memory_for_its_licenses(name: str) -> None:
    """The cache fills to its bound without the Pod's being killed."""
    deployment = one(name, "Deployment", "tallygate")
    units = {"Mi": 1, "Gi": 1024}
    limit = container(deployment)["resources"]["limits"]["memory"]
    assert int(limit[:-2]) * units[limit[-2:]] >= settings(name, deployment).license_cache_mib + 256


def test_envoy_sees_every_pod(name: str) -> None:
    """One worker a Pod behind a headless Service: an endpoint for each worker, as docs/workers.md asks."""
    assert settings(name, one(name, "Deployment", "tallygate")).workers == 1
    assert one(name, "Service", "tallygate")["spec"]["clusterIP"] == "None"


def test_the_autoscaler_alone_says_how_many(name: str) -> None:
    """Applying the manifests again does not take back what the autoscaler has added."""
    (scaler,) = of_kind(name, "HorizontalPodAutoscaler")
    target = one(name, scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]
    assert "cpu" in container(target)["resources"]["requests"]


def test_selectors_select_and_ports_exist(name: str) -> None:
    """Each Service, policy, budget and monitor means Pods that are there, and ports that these name."""
    for service in of_kind(name, "Service"):
        for made in selected(name, service["spec"]["selector"]):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= port_names(made).keys()
    for policy in of_kind(name, "NetworkPolicy"):
        selecting = selected(name, policy["spec"]["podSelector"]["matchLabels"])
        named = {port["port"] for rule in policy["spec"].get("ingress", ()) for port in rule["ports"]}
        assert named <= {port for made in selecting for port in port_names(made)}
    for budget in of_kind(name, "PodDisruptionBudget"):
        selected(name, budget["spec"]["selector"]["matchLabels"])
    for monitor in of_kind(name, "PodMonitor"):
        for made in selected(name, monitor["spec"]["selector"]["matchLabels"]):
            assert {end["port"] for end in monitor["spec"]["podMetricsEndpoints"]} <= port_names(made).keys()
    for monitor in of_kind(name, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = (one for one in of_kind(name, "Service") if wanted <= one["metadata"]["labels"].items())
        assert {end["port"] for end in monitor["spec"]["endpoints"]} <= {
            port["name"] for port in service["spec"]["ports"]
        }


def test_stores_of_its_own_may_be_reached(name: str) -> None:
    """What an overlay brings to keep counters in is let out to by a rule of its own, whatever else is forbidden."""
    rules = [rule for policy in of_kind(name, "NetworkPolicy") for rule in policy["spec"].get("egress", ())]
    places = [
        to["podSelector"]["matchLabels"] for rule in rules for to in rule.get("to", ()) if to.keys() == {"podSelector"}
    ]
    for made in of_kind(name, "StatefulSet"):
        assert any(place.items() <= labels(made).items() for place in places if place)


def test_accounts_are_there_and_have_no_token(name: str) -> None:
    """Every part has an account of its own, which can do nothing."""
    accounts = {one["metadata"]["name"]: one for one in of_kind(name, "ServiceAccount")}
    assert {pod(made)["serviceAccountName"] for made in ours(name)} == accounts.keys()
    assert not any(account["automountServiceAccountToken"] for account in accounts.values())
    assert of_kind(name, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") == []


def test_the_image_is_of_this_version(name: str) -> None:
    """Manifests and code are released together."""
    assert {container(made)["image"].rpartition(":")[2] for made in ours(name)} == {__version__}


def test_every_object_is_in_a_namespace(name: str) -> None:
    """Nothing lands in whichever namespace happens to be the current one."""
    assert [
        one["metadata"]["name"]
        for one in built(name)
        if one["kind"] != "Namespace" and "namespace" not in one["metadata"]
    ] == []


def test_every_dashboard_is_shipped(name: str) -> None:
    """Each dashboard is in a ConfigMap that Grafana's sidecar takes, and is JSON."""
    shipped = {
        file: text
        for one in of_kind(name, "ConfigMap")
        if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for file, text in one["data"].items()
    }
    assert shipped.keys() == {path.name for path in (K8S / "base" / "dashboards").glob("*.json")}
    for text in shipped.values():
        json.loads(text)
