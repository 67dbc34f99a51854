"""Prometheus for development and tests: it scrapes what it is told to, on the loopback, and answers queries.

Owns a data directory (its configuration, its samples, its log) and the process; also the calls of `promtool`, which
judges metrics, rules and configurations as Prometheus itself would. Does not own what is scraped, nor rules. Several
run side by side. Failure: ServerStartError with the log's end, DependencyError for a query that is refused or not
answered, InputError for a directory in use or a program that cannot be had.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx

from tallygate.core.errors import DependencyError
from tallygate.devservers.binaries import prometheus_binaries
from tallygate.devservers.directory import exclusive
from tallygate.devservers.ports import LOOPBACK, on_port
from tallygate.devservers.process import Program, running

_START_DEADLINE_S, _STOP_DEADLINE_S = 60, 20
_ANSWER_DEADLINE_S = 10.0
_TOOL_DEADLINE_S = 60.0
_POLL_S = 0.05


class PrometheusError(DependencyError):
    """Prometheus refused a query, or did not answer."""

    dependency = "prometheus"


class Sample(NamedTuple):
    """One series of an answer: its labels, the metric's name as `__name__`, and its value."""

    labels: Mapping[str, str]
    value: float


def scrape_config(
    jobs: Mapping[str, str],
    *,
    interval_s: int = 1,
    rule_files: Iterable[Path] = (),
    labels: Mapping[str, str] | None = None,
) -> str:
    """Return a configuration that scrapes the URL of each job's metrics, and evaluates these rules, so often.

    `labels` are put on every series that is scraped.
    """
    scrapes = []
    for job, url in jobs.items():
        parts = urlsplit(url)
        targets = [{"targets": [parts.netloc], "labels": dict(labels or {})}]
        scrapes.append({"job_name": job, "metrics_path": parts.path or "/metrics", "static_configs": targets})
    every = f"{interval_s}s"
    whole = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path.absolute()) for path in rule_files],
        "scrape_configs": scrapes,
    }
    return json.dumps(whole, indent=2)  # JSON is YAML


async def ask(http: httpx.AsyncClient, path: str, parameters: Mapping[str, str | float]) -> Any:  # noqa: ANN401 - what Prometheus answers with
    """Return the data of an answer of any Prometheus's API; raise PrometheusError when there is none."""
    try:
        answer = (await http.get(path, params=dict(parameters))).json()
    except (httpx.TransportError, ValueError) as error:
        raise PrometheusError(f"{path}: {error}") from None
    if answer["status"] != "success":
        raise PrometheusError(f"{answer['error']} in {parameters}")
    return answer["data"]


class EmbeddedPrometheus:
    """A Prometheus of our own in `data_dir`; `port` 0 means any free one."""

    def __init__(self, config_text: str, *, data_dir: Path, port: int = 0) -> None:
        """Take a configuration (`scrape_config`) and where to keep everything; nothing is started or made yet."""
        self._config_text = config_text
        self._data_dir = data_dir.absolute()
        self._asked_port = port
        self.log_path = self._data_dir / "prometheus.log"
        self.port = port
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        prometheus, _ = await asyncio.to_thread(prometheus_binaries)
        async with AsyncExitStack() as resources:
            resources.enter_context(exclusive(self._data_dir))
            (self._data_dir / "prometheus.yml").write_text(self._config_text)
            self.port = await on_port(self._asked_port, lambda port: self._start(prometheus, port, resources))
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    @property
    def url(self) -> str:
        """Return the URL of its API."""
        return f"http://{LOOPBACK}:{self.port}"

    async def query(self, expression: str) -> list[Sample]:
        """Return what an expression is now, a sample for each series; raise PrometheusError if it is no vector."""
        found = await self._ask("/api/v1/query", query=expression)
        if found["resultType"] != "vector":
            raise PrometheusError(f"{expression} is no vector but a {found['resultType']}")
        return [Sample(one["metric"], float(one["value"][1])) for one in found["result"]]

    async def until(self, expression: str, deadline_s: float = 30) -> list[Sample]:
        """Ask until there is an answer with samples, and return that; raise PrometheusError when time is up."""
        try:
            async with asyncio.timeout(deadline_s):
                while not (found := await self.query(expression)):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise PrometheusError(f"{expression} had no samples within {deadline_s:g} s") from None
        return found

    async def exemplars(self, selector: str, *, from_s: float, to_s: float) -> list[Sample]:
        """Return the exemplars of series between two instants, in seconds since 1970: labels of both, and the value."""
        found = await self._ask("/api/v1/query_exemplars", query=selector, start=str(from_s), end=str(to_s))
        return [
            Sample({**series["seriesLabels"], **one["labels"]}, float(one["value"]))
            for series in found
            for one in series["exemplars"]
        ]

    async def targets(self) -> dict[str, str]:
        """Return of each job `up`, `unknown` before its first scrape, or else what went wrong with the last."""
        found = await self._ask("/api/v1/targets")
        return {one["labels"]["job"]: one["lastError"] or one["health"] for one in found["activeTargets"]}

    async def _ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - what Prometheus answers with
        async with httpx.AsyncClient(base_url=self.url, timeout=_ANSWER_DEADLINE_S, trust_env=False) as http:
            return await ask(http, path, parameters)

    async def _start(self, prometheus: Path, port: int, resources: AsyncExitStack) -> int:
        command = [
            *(str(prometheus), f"--config.file={self._data_dir / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={self._data_dir / 'samples'}", f"--web.listen-address={LOOPBACK}:{port}"),
            *("--enable-feature=exemplar-storage", "--log.level=warn"),
        ]
        server = running(
            Program(name="Prometheus", command=tuple(command), directory=self._data_dir, log_path=self.log_path),
            lambda _: _is_ready(port),
            start_deadline_s=_START_DEADLINE_S,
            stop_deadline_s=_STOP_DEADLINE_S,
        )
        await resources.enter_async_context(server)
        return port


async def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Run `promtool` with these arguments and `given` on its standard input; return its exit status and all it said."""
    _, program = await asyncio.to_thread(prometheus_binaries)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(program), *arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_TOOL_DEADLINE_S):
            said, _ = await process.communicate(given.encode())
    except TimeoutError:
        raise PrometheusError(f"promtool {arguments[0]} took longer than {_TOOL_DEADLINE_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode().strip()


async def _is_ready(port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_DEADLINE_S, trust_env=False) as http:
            return (await http.get(f"http://{LOOPBACK}:{port}/-/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
