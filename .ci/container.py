"""Carry out deploy/container/Dockerfile where no container engine runs: `sudo -E .venv/bin/python .ci/container.py`.

Every RUN is run, as it stands, by chroot in a fresh Debian (debootstrap: bookworm, its own Python 3.11), and every
COPY copied. What comes of it serves as the image's user, on a read-only file system, in front of a real Postgres and
Valkey, until it is told to stop. Not proven by it: the base image that FROM names, an engine, layers.
Needs root, debootstrap, and DEBIAN_MIRROR in the environment. Failure: the command that failed with its output, or
what does not hold.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.valkey import EmbeddedValkey

_ROOT = Path(__file__).parents[1]
_DOCKERFILE = _ROOT / "deploy" / "container" / "Dockerfile"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_SECRETS = "/run/secrets/tallygate"
_METRICS = f"http://{LOOPBACK}:9464"
_READY_WITHIN_S, _ENDED_WITHIN_S = 60.0, 30.0


class Stage:
    """One stage of the Dockerfile: a root directory, and what has been said of it so far."""

    def __init__(self, root: Path) -> None:
        """Begin in `root`, a Debian with nothing else in it."""
        self.root = root
        self.directory = "/"
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.user = "0:0"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.healthcheck: list[str] = []

    def carry_out(self, instruction: str, argument: str, stages: dict[str, Path]) -> None:
        """Do what one line says; raise ValueError for an instruction that this does not know."""
        match instruction:
            case "ENV":
                words = (word.partition("=") for word in shlex.split(argument))
                self.environment |= {name: self._expanded(value) for name, _, value in words}
            case "WORKDIR":
                self.directory = argument
                self._inside(argument).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(shlex.split(argument), stages)
            case "RUN":
                print("RUN", argument, flush=True)
                self.run(["sh", "-c", f"cd {self.directory} && {argument}"])
            case "USER":
                self.user = argument
            case "ENTRYPOINT":
                self.entrypoint = json.loads(argument)
            case "CMD":
                self.command = json.loads(argument)
            case "HEALTHCHECK":
                self.healthcheck = json.loads(argument.partition(" CMD ")[2])
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                raise ValueError(f"{instruction}: this script does not know it")

    def run(self, command: list[str]) -> None:
        """Run a command inside as root, as a build does."""
        subprocess.run(["chroot", str(self.root), *command], env=self.environment, check=True)

    def serving(self, command: list[str], settings: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Run a command inside as the image's user, who can gain no privilege, with nothing to write to."""
        script = (
            f"mount --bind {self.root} {self.root} && mount -o remount,ro,bind {self.root}"
            f" && mount --rbind /dev {self.root}/dev && mount -t proc proc {self.root}/proc && cd /"
            f' && exec setpriv --no-new-privs chroot --userspec={self.user} {self.root} "$@"'
        )
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", *command], env=self.environment | settings
        )

    def _copy(self, words: list[str], stages: dict[str, Path]) -> None:
        origin = _ROOT
        if words[0].startswith("--from="):
            origin = stages[words.pop(0).removeprefix("--from=")]
        *sources, target = words
        for source in sources:
            found = origin / source.lstrip("/")
            place = self._inside(target)
            if found.is_dir():
                shutil.copytree(found, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place = place / found.name if target.endswith("/") else place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place)

    def _inside(self, path: str) -> Path:
        return self.root / os.path.normpath(f"{self.directory}/{path}" if path[0] != "/" else path).lstrip("/")

    def _expanded(self, value: str) -> str:
        return re.sub(r"\$(\w+)", lambda found: self.environment.get(found[1], ""), value)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction with its argument, continued lines joined."""
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    for line in filter(None, (line.strip() for line in lines)):
        instruction, _, argument = line.partition(" ")
        yield instruction, re.sub(r"\s+", " ", argument).strip()


def build(base: Path, directory: Path) -> Stage:
    """Carry out the Dockerfile; return its last stage."""
    stages: dict[str, Path] = {}
    stage = Stage(base)
    for instruction, argument in instructions(_DOCKERFILE.read_text()):
        if instruction == "FROM":
            name = argument.partition(" AS ")[2] or "image"
            stages[name] = directory / name
            subprocess.run(["cp", "-a", str(base), str(stages[name])], check=True)
            stage = Stage(stages[name])
        elif instruction != "ARG":
            stage.carry_out(instruction, argument, stages)
    return stage


def debian(directory: Path) -> Path:
    """Return a minimal Debian that has Python, the resolver and the certificates of this machine, and no compiler."""
    root = directory / "debian"
    packages = "--include=python3,python3-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", packages, "bookworm", str(root), os.environ["DEBIAN_MIRROR"]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.copy2("/etc/resolv.conf", root / "etc" / "resolv.conf")
    shutil.copyfile(_CERTIFICATES, root / _CERTIFICATES.lstrip("/"))
    return root


async def prove(image: Stage, directory: Path) -> None:
    """Have every part serve from the image, one after the other, and see that none has written to it."""
    async with EmbeddedPostgres(directory / "postgres") as postgres, EmbeddedValkey(directory / "valkey") as valkey:
        secrets = {"POSTGRES_DSN": postgres.dsn(), "REDIS_URL": valkey.url, "PEPPER": "p" * 32}
        _mount_secrets(image.root / _SECRETS.lstrip("/"), secrets)
        admin = f"{LOOPBACK}:{free_port()}"
        listening = {"SERVICES": f"{LOOPBACK}:{free_port()}", "ADMIN": admin, "": f"{LOOPBACK}:{free_port()}"}
        settings = {f"TALLYGATE_{name}_FILE": f"{_SECRETS}/{name}" for name in secrets}
        settings |= {f"TALLYGATE_{name}_LISTEN".replace("__", "_"): place for name, place in listening.items()}
        settings["TALLYGATE_DRAIN_S"] = "0.5"
        _must(image.serving([*image.entrypoint, "db", "migrate"], settings).wait() == 0, "the migration fails")
        before = _files(image.root)
        for command in (image.command, ["worker"]):
            await _served(image, command, settings, f"{_METRICS}/readyz", is_healthy=True)
        await _served(image, ["admin", "--no-worker"], settings, f"http://{admin}/healthz", is_healthy=False)
        _must(_files(image.root) == before, "something was written to the image")


async def _served(image: Stage, command: list[str], settings: dict[str, str], url: str, *, is_healthy: bool) -> None:
    """Run a part until it answers, as the image's user; see that its health check says so, and that it ends with 0."""
    process = image.serving([*image.entrypoint, *command], settings)
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            while not await asyncio.to_thread(_answers, url):
                _must(process.poll() is None, f"{command} has ended")
                await asyncio.sleep(0.2)
        _must(_user_of(process.pid) == image.user.partition(":")[0], f"{command} runs as somebody else")
        if is_healthy:
            _must(image.serving(image.healthcheck, {}).wait() == 0, f"the health check of {command} fails")
    finally:
        process.terminate()
        ended = process.wait(_ENDED_WITHIN_S)
    _must(ended == 0, f"{command} ended with {ended}")
    print("SERVED", shlex.join(command), "as", image.user, "on a read-only root", flush=True)


def _mount_secrets(directory: Path, secrets: Mapping[str, str]) -> None:
    directory.mkdir(parents=True)
    for name, text in secrets.items():
        (directory / name).write_text(text)


def _user_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[0]


def _must(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - it is what is claimed
    if not holds:
        raise SystemExit(otherwise)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False


def _files(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*") if path.parts[len(root.parts)] not in {"dev", "proc"}}


def main() -> None:
    """Build and prove, in a directory that is removed."""
    with tempfile.TemporaryDirectory(prefix="tallygate-container-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        image = build(debian(directory), directory)
        compilers = [path for path in ("cc", "gcc", "c++") if (image.root / "usr/bin" / path).exists()]
        _must(not compilers, f"the image has {compilers}")
        asyncio.run(prove(image, directory))
    print("the image is built and serves")


if __name__ == "__main__":
    main()
