"""The image and the compose file say only what is there, and what they run does what they say.

Owns what can be held without a container engine. `.ci/container.py` carries out the Dockerfile itself.
"""

import asyncio
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import asyncpg
import pytest
import yaml
from pydantic import SecretStr
from support.servers import with_login

from tallygate import __version__
from tallygate.devservers.envoy import validate
from tallygate.devservers.envoy_config import parse
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.upstream import SampleUpstream
from tallygate.probes import host_and_port
from tallygate.settings import PREFIX, Settings, load
from tallygate.storage.migrate import migrate
from tallygate.storage.redis_url import parse_redis_url

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRET_FIELDS = {name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)}
METRICS_PORT = host_and_port(Settings.model_fields["metrics_listen"].default, "metrics_listen")[1]


def is_ours(service: dict[str, Any]) -> bool:
    """Say whether this runs our image's own command."""
    return str(service["image"]).startswith("tallygate:") and "entrypoint" not in service


def arguments(instruction: str) -> list[str]:
    """Return what follows each instruction of this name, continued lines joined."""
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def pins(lock: Path) -> dict[str, str]:
    """Return the version that a lock has of each package."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", lock.read_text(), re.MULTILINE))


def secret_of(name: str) -> str:
    """Return where a service finds a secret."""
    return f"/run/secrets/{name}"


def test_the_image_is_not_root_and_asks_its_own_health() -> None:
    """The last word on the user is a number that is not 0, and the health check asks where metrics are."""
    assert [int(part) for part in arguments("USER")[-1].split(":")] == [65532, 65532]
    (check,) = arguments("HEALTHCHECK")
    assert f"http://127.0.0.1:{METRICS_PORT}/healthz" in check
    assert json.loads(check.partition(" CMD ")[2])[0] == "python3"
    assert DOCKERFILE.rindex("\nUSER ") > DOCKERFILE.rindex("\nFROM ")


def test_the_image_exposes_what_it_listens_on() -> None:
    """The four ports are the defaults of the settings."""
    fields = ("listen", "services_listen", "metrics_listen", "admin_listen")
    ports = {host_and_port(Settings.model_fields[field].default, field)[1] for field in fields}
    assert {int(port) for port in arguments("EXPOSE")[0].split()} == ports


def test_what_is_copied_is_there_and_is_sent() -> None:
    """Each source of a COPY exists, and the ignore file lets it through."""
    sent = re.findall(r"^!(\S+)$", (CONTAINER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    for copied in arguments("COPY"):
        if copied.startswith("--from"):
            continue
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(Path(source).match(pattern) for pattern in sent), source


def test_locks_pin_what_the_tests_ran_with() -> None:
    """The image has the very versions of requirements.lock, every one with a hash, and every dependency."""
    everything, runtime = pins(ROOT / "requirements.lock"), pins(CONTAINER / "runtime.lock")
    build = pins(CONTAINER / "build.lock")
    assert (runtime | build).items() <= everything.items(), "run make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert wanted <= runtime.keys()
    assert "hatchling" in build
    for lock in ("runtime.lock", "build.lock"):
        entries = re.split(r"^(?=\S)", (CONTAINER / lock).read_text(), flags=re.MULTILINE)
        assert [entry for entry in entries if entry and "--hash=sha256:" not in entry] == []


def test_every_image_has_a_tag() -> None:
    """No image is whatever is newest today; ours is of this version."""
    images = {str(service["image"]) for service in SERVICES.values()} | set(
        re.findall(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.MULTILINE)
    )
    assert not [image for image in images if ":" not in image or image.endswith(":latest")]
    assert {image for image in images if image.startswith("tallygate:")} == {f"tallygate:{__version__}"}


def test_compose_names_settings_that_exist() -> None:
    """Every TALLYGATE_ variable is a setting with a value it takes; secrets are files of secrets the service has."""
    for service in SERVICES.values():
        given = {key: value for key, value in service.get("environment", {}).items() if key.startswith(PREFIX)}
        files = {key.removesuffix("_FILE"): value for key, value in given.items() if key.endswith("_FILE")}
        assert {key.removeprefix(PREFIX).lower() for key in files} <= SECRET_FIELDS
        assert set(files.values()) <= {secret_of(name) for name in service.get("secrets", ())}
        plain = {key: value for key, value in given.items() if not key.endswith("_FILE")}
        assert {key.removeprefix(PREFIX).lower() for key in plain} <= Settings.model_fields.keys() - SECRET_FIELDS
        load(plain | dict.fromkeys(files, "s" * 32))


def test_compose_refers_to_what_is_there() -> None:
    """Services, secrets, volumes and mounted files that are named exist."""
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (CONTAINER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source


def test_ours_have_no_privilege_in_compose() -> None:
    """The containers of our image run as they do in Kubernetes."""
    for service in filter(is_ours, SERVICES.values()):
        assert service["read_only"]
        assert service["user"] == "65532:65532"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_secrets_are_written_once_and_can_be_used(tmp_path: Path) -> None:
    """The script makes every secret compose names, none twice, each good enough for the settings."""
    shutil.copy2(CONTAINER / "secrets.sh", tmp_path)
    subprocess.run([tmp_path / "secrets.sh"], check=True, timeout=20)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() == COMPOSE["secrets"].keys()
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    values = load({f"{PREFIX}{field.upper()}": made[field] for field in ("pepper", "services_key", "redis_url")}).values
    assert values.pepper != values.services_key
    assert parse_redis_url(made["redis_url"]).nodes == (("valkey", 6379),)
    assert made["data_plane_dsn"].split(":")[2].partition("@")[0] == made["data_plane_password"]
    subprocess.run([tmp_path / "secrets.sh"], check=True, timeout=20)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


async def test_each_plane_has_a_login_with_its_rights(data_dir: Path) -> None:
    """What Postgres's container runs when it is new leaves two logins, which after a migration can do their own."""
    script = (CONTAINER / "postgres-logins.sh").read_text()
    statements = script.partition("<<'SQL'\n")[2].partition("SQL\n")[0]
    for login in ("data_plane", "control_plane"):
        statements = statements.replace(f":'{login}'", "'secret'")
    async with EmbeddedPostgres(data_dir / "postgres", is_durable=False) as server:
        owner = await asyncpg.connect(server.dsn())
        await owner.execute(statements)
        await owner.close()
        await migrate(server.dsn())
        data_plane = await asyncpg.connect(with_login(server.dsn(), "data_plane", "secret"))
        assert await data_plane.fetchval("SELECT current_generation_v1()") is not None
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await data_plane.fetchval("SELECT count(*) FROM customers")
        await data_plane.close()
        control_plane = await asyncpg.connect(with_login(server.dsn(), "control_plane", "secret"))
        assert await control_plane.fetchval("SELECT count(*) FROM customers") == 0
        await control_plane.close()


def test_envoy_starts_with_what_compose_makes_of_its_configuration(tmp_path: Path) -> None:
    """The shipped file, with compose's addresses and key: the services of those names, and a real Envoy takes it."""
    (script,) = SERVICES["envoy"]["command"]
    (tmp_path / "key").write_text("k" * 64)
    made = tmp_path / "envoy.yaml"
    for ours, theirs in {
        "$$": "$",
        secret_of("services_key"): str(tmp_path / "key"),
        "/etc/tallygate/envoy.yaml": str(ROOT / "deploy" / "envoy" / "05-access-log.yaml"),
        "/tmp/envoy.yaml": str(made),  # noqa: S108 - in a container of its own
        "exec envoy": "true",
    }.items():
        assert ours in script
        script = script.replace(ours, theirs)
    subprocess.run(["sh", "-euc", script], check=True, timeout=20)
    text = made.read_text()
    asyncio.run(validate(text))
    assert "CHANGE-THIS-KEY" not in text
    assert "Bearer " + "k" * 64 in text
    places = {cluster["name"]: _place(cluster) for cluster in parse(text)["static_resources"]["clusters"]}
    assert places["tallygate"] == ("tallygate", 50051)
    assert places["tallygate-services"] == ("tallygate", 50052)
    assert places["upstream"] == ("127.0.0.1", SampleUpstream(8000).port)
    assert SERVICES["upstream"]["network_mode"] == "service:envoy"
    assert "SampleUpstream(8000)" in SERVICES["upstream"]["command"][0]


def test_prometheus_and_grafana_find_each_other() -> None:
    """What is scraped is a service that has metrics; what Grafana asks is that Prometheus."""
    scraped = yaml.safe_load((CONTAINER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [target for job in scraped for config in job["static_configs"] for target in config["targets"]]
    assert targets == [f"tallygate:{METRICS_PORT}", f"worker:{METRICS_PORT}"]
    (source,) = yaml.safe_load((CONTAINER / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def _place(cluster: dict[str, Any]) -> tuple[str, int]:
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    return address["address"], address["port_value"]
