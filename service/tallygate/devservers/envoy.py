"""Envoy for development: ours, from a wheel, or one that is already running.

Owns the process and a run directory (its configuration as given, the address of its admin interface, its
log). Does not own the configuration: see `envoy_config`. Several run side by side. Failure:
ServerStartError with the end of Envoy's log; InputError for a configuration Envoy refuses in `validate`.
"""

import asyncio
import http.client
import json
import signal
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from tallygate.core.errors import InputError
from tallygate.devservers import envoy_config
from tallygate.devservers.binaries import envoy_binary
from tallygate.devservers.directory import exclusive
from tallygate.devservers.process import Program, run_to_end, running

_START_DEADLINE_S = 30
_STOP_DEADLINE_S = 10
_VALIDATE_DEADLINE_S = 30
_ANSWER_DEADLINE_S = 2


class EnvoyServer(Protocol):
    """An Envoy whose listeners are known by name."""

    @property
    def admin_url(self) -> str:
        """Return the URL of its admin interface."""
        ...

    def url(self, listener: str) -> str:
        """Return `http://host:port` of a listener; raise InputError when there is none of that name."""
        ...

    def port(self, listener: str) -> int:
        """Return the port of a listener; raise InputError when there is none of that name."""
        ...


class ExistingEnvoy:
    """An Envoy that is already running; entering and leaving do nothing."""

    def __init__(self, urls: Mapping[str, str], *, admin_url: str) -> None:
        """Take the URL of each listener by name, and of the admin interface."""
        self._urls = dict(urls)
        self._admin_url = admin_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the server as it is."""

    @property
    def admin_url(self) -> str:
        """Return the URL of its admin interface."""
        return self._admin_url

    def url(self, listener: str) -> str:
        """Return the URL of a listener; raise InputError when there is none of that name."""
        if listener not in self._urls:
            raise _no_listener(listener, self._urls)
        return self._urls[listener]

    def port(self, listener: str) -> int:
        """Return the port of a listener; raise InputError when there is none of that name."""
        parts = urlsplit(self.url(listener))
        return parts.port or (443 if parts.scheme == "https" else 80)


class EmbeddedEnvoy:
    """An Envoy of our own; its configuration needs an `admin` address, and any port in it may be 0."""

    def __init__(self, config_text: str, *, run_dir: Path, concurrency: int = 2) -> None:
        """Take a bootstrap in YAML and where to keep it; `concurrency` is Envoy's number of workers."""
        self._config_text = config_text
        self._run_dir = run_dir.absolute()
        self._concurrency = concurrency
        self._admin_path = self._run_dir / "admin-address"
        self._admin_address = ""
        self._addresses: dict[str, tuple[str, int]] = {}
        self.log_path = self._run_dir / "envoy.log"
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if "admin" not in envoy_config.parse(self._config_text):
            raise InputError("admin", "the configuration has no admin address", "readiness is asked there")
        async with AsyncExitStack() as resources:
            resources.enter_context(exclusive(self._run_dir))
            self._admin_path.unlink(missing_ok=True)
            server = running(
                self._program(),
                lambda _: self._is_ready(),
                start_deadline_s=_START_DEADLINE_S,
                stop_deadline_s=_STOP_DEADLINE_S,
            )
            await resources.enter_async_context(server)
            self._addresses = await self._ask_addresses()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    @property
    def admin_url(self) -> str:
        """Return the URL of its admin interface."""
        return f"http://{self._admin_address}"

    def url(self, listener: str) -> str:
        """Return the URL of a listener; raise InputError when there is none of that name."""
        if listener not in self._addresses:
            raise _no_listener(listener, self._addresses)
        host, port = self._addresses[listener]
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, not bound

    def port(self, listener: str) -> int:
        """Return the port of a listener; raise InputError when there is none of that name."""
        if listener not in self._addresses:
            raise _no_listener(listener, self._addresses)
        return self._addresses[listener][1]

    def _program(self) -> Program:
        config_path = self._run_dir / "envoy.yaml"
        config_path.write_text(self._config_text)
        command = [
            *(str(envoy_binary()), "--config-path", str(config_path)),
            *("--admin-address-path", str(self._admin_path)),
            *("--concurrency", str(self._concurrency), "--log-level", "warning"),
            "--disable-hot-restart",  # or a second Envoy of this machine dies of the first's shared memory
        ]
        return Program(
            name="Envoy",
            command=tuple(command),
            directory=self._run_dir,
            log_path=self.log_path,
            death_signal=signal.SIGKILL,  # it has nothing to save, and nobody would be left to insist
        )

    async def _is_ready(self) -> bool:
        try:
            self._admin_address = self._admin_path.read_text().strip()
        except FileNotFoundError:
            return False
        return bool(self._admin_address) and (await _get(self._admin_address, "/ready"))[0] == http.client.OK

    async def _ask_addresses(self) -> dict[str, tuple[str, int]]:
        _, body = await _get(self._admin_address, "/listeners?format=json")
        statuses = json.loads(body).get("listener_statuses", [])
        sockets = {one["name"]: one["local_address"].get("socket_address") for one in statuses}
        return {name: (socket["address"], socket["port_value"]) for name, socket in sockets.items() if socket}


async def validate(config_text: str) -> None:
    """Have Envoy itself judge a configuration; raise InputError with Envoy's own words."""
    with tempfile.TemporaryDirectory(prefix="tallygate-envoy-") as name:
        directory = Path(name)
        config_path = directory / "envoy.yaml"
        config_path.write_text(config_text)
        program = Program(
            name="Envoy",
            command=(str(envoy_binary()), "--mode", "validate", "-l", "error", "--config-path", str(config_path)),
            directory=directory,
            log_path=directory / "envoy.log",
            death_signal=signal.SIGKILL,
        )
        status, output = await run_to_end(program, _VALIDATE_DEADLINE_S)
    if status != 0:
        # Before Envoy's words stand a time stamp and the name of a file that is gone already.
        raise InputError("envoy configuration", output.rpartition(f"'{config_path}': ")[2])


async def _get(address: str, path: str) -> tuple[int, bytes]:
    """Return status and body, or (0, b"") when there is no answer."""
    return await asyncio.to_thread(_get_blocking, address, path)


def _get_blocking(address: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=_ANSWER_DEADLINE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _no_listener(name: str, there: Mapping[str, object]) -> InputError:
    return InputError("listener", f"nothing is named {name!r}", f"there are: {', '.join(there) or 'none'}")
