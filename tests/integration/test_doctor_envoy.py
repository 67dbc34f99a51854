"""Doctor finds what is wrong with an Envoy that really starts, and nothing in those we ship."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.gateway import HARDENED, SHARED_LISTENER, WORKER_ENDPOINTS
from support.planted import PLANTS, Plant

from tallygate.core.errors import InputError
from tallygate.devservers.envoy import validate
from tallygate.devservers.envoy_config import with_endpoints
from tallygate.doctor import mistakes
from tallygate.doctor.examine import Diagnosis, examine
from tallygate.doctor.finding import Mistake
from tallygate.doctor.mistakes import MISTAKES

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "deploy" / "envoy").glob("*.yaml"))
MANIFESTS = sorted((ROOT / "deploy" / "k8s").rglob("*.yaml"))
NOT_ENVOYS = {mistakes.POLICY_WITHOUT_RULES, mistakes.UNKNOWN_PROVIDER}


def label(plant: Plant) -> str:
    """Return how a plant is listed."""
    return plant.mistake.name


def found(text: str, workers: int = 1, *, is_shared: bool = False) -> set[Mistake]:
    """Return the mistakes of a file."""
    return {one.mistake for one in examine(text.encode(), "envoy.yaml", workers=workers, is_shared=is_shared).findings}


def begins_block_of(lines: list[str], first: int, changed: int) -> bool:
    """Return whether the block that begins at one line reaches to another, that line itself or its end included."""
    indents = [len(line) - len(line.lstrip()) for line in lines]
    between = [indents[number] for number in range(first + 1, changed) if lines[number].strip()]
    return first <= changed and all(indent > indents[first] for indent in between)


@pytest.mark.parametrize("plant", PLANTS, ids=label)
async def test_a_planted_mistake_is_found_and_no_other(plant: Plant) -> None:
    """Envoy starts with each of these files without a word; doctor names what is wrong with it, and only that."""
    await validate(plant.planted)
    assert plant.mistake not in found(plant.text, plant.workers)
    assert found(plant.planted, plant.workers) - found(plant.text, plant.workers) == {plant.mistake}


@pytest.mark.parametrize("plant", PLANTS, ids=label)
def test_a_finding_stands_where_the_mistake_was_made(plant: Plant) -> None:
    """Its line is the one that was changed, or begins what it was changed in; its mend is YAML to paste."""
    lines = plant.planted.splitlines()
    pairs = enumerate(zip(lines, plant.text.splitlines(), strict=False))
    changed = next(number for number, (after, before) in pairs if after != before)
    findings = examine(plant.planted.encode(), "envoy.yaml", workers=plant.workers).findings
    assert findings
    for finding in findings:
        yaml.safe_load(finding.mend)
        first = finding.line - 1
        is_new = changed <= first <= changed + plant.new.count("\n")
        assert is_new or begins_block_of(lines, first, changed)


def test_every_mistake_of_envoys_is_planted() -> None:
    """No mistake is promised that no test has seen found."""
    assert {plant.mistake for plant in PLANTS} == set(MISTAKES.values()) - NOT_ENVOYS


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_the_files_we_ship(path: Path) -> None:
    """Who begins with one of them begins right; what is meant says so in a comment."""
    assert examine(path.read_bytes(), path.name).findings == ()


def test_nothing_is_wrong_with_our_manifests() -> None:
    """Nor with what an Istio or an Envoy Gateway is told; most manifests are no gateway's."""
    judged = {path.name: diagnosis for path in MANIFESTS if (diagnosis := diagnosis_of(path)) is not None}
    assert {name: diagnosis.findings for name, diagnosis in judged.items() if diagnosis.findings} == {}


def diagnosis_of(path: Path) -> Diagnosis | None:
    """Return what is found in a file, None when there is nothing in it to judge."""
    try:
        return examine(path.read_bytes(), path.name)
    except InputError as error:
        if "nothing that could ask" not in error.problem:
            raise
        return None


def test_the_files_for_several_workers_are_right_for_them() -> None:
    """An endpoint for each of four workers; or one endpoint, whose connections are many and move on."""
    assert found(WORKER_ENDPOINTS, 4) == set()
    assert found(SHARED_LISTENER, 4, is_shared=True) == set()
    assert found(HARDENED, 4, is_shared=True) == {mistakes.ONE_CONNECTION}
    assert found(WORKER_ENDPOINTS, 8) == {mistakes.ONE_CONNECTION}


def test_the_mend_for_several_workers_is_their_endpoints() -> None:
    """What doctor says to write is where the workers listen, port after port."""
    (finding,) = examine(HARDENED.encode(), "envoy.yaml", workers=3).findings
    addresses = [one["endpoint"]["address"]["socket_address"] for one in yaml.safe_load(finding.mend)["lb_endpoints"]]
    assert [address["port_value"] for address in addresses] == [50051, 50052, 50053]


async def test_sockets_get_one_each_too() -> None:
    """Workers on Unix sockets are counted as those on ports are."""
    sockets: list[tuple[str, int] | Path] = [Path(f"/run/tallygate.sock.{number}") for number in range(4)]
    text = with_endpoints(WORKER_ENDPOINTS, listeners={}, clusters={"tallygate": sockets})
    assert found(text, 4) == set()
    assert found(text, 5) == {mistakes.ONE_CONNECTION}


def test_what_dev_writes_is_clean(tmp_path: Path) -> None:
    """`tallygate dev` runs an Envoy that doctor has nothing to say about, read as the command line reads it."""
    path = tmp_path / "envoy.yaml"
    shipped = (ROOT / "deploy" / "envoy" / "05-access-log.yaml").read_text()
    clusters: dict[str, tuple[str, int] | Path | list[tuple[str, int] | Path]] = {
        "tallygate": [("127.0.0.1", 4001)],
        "tallygate-services": ("127.0.0.1", 4002),
        "upstream": ("127.0.0.1", 4003),
    }
    path.write_text(with_endpoints(shipped, listeners={"gateway": ("127.0.0.1", 8080)}, clusters=clusters))
    ran = subprocess.run(
        [sys.executable, "-m", "tallygate", "doctor", "--envoy", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, f"{path}: nothing found\n")


def test_every_mistake_has_its_section() -> None:
    """A finding's link leads to a heading of docs/doctor.md, and no heading is about nothing."""
    headings = re.findall(r"^### ([a-z0-9-]+)$", (ROOT / "docs" / "doctor.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(MISTAKES)


def test_a_file_that_asks_nobody_is_not_called_clean() -> None:
    """A file that is no gateway's is refused: nothing found in it would mean nothing."""
    with pytest.raises(InputError, match="nothing that could ask"):
        examine(b"kind: Deployment\nspec: {}\n", "deployment.yaml")
