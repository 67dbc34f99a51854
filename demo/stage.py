"""Everything that runs in the demo: `tallygate dev` with several workers, a receiver of exports, a real Prometheus.

Owns a temporary directory and what is told to each part. Does not own who calls. All of it stops when the block ends.
"""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from demo.accounts import catalogue
from demo.gateway import envoy_config

from tallygate.cli.system import System, running_system
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.devservers.prometheus import EmbeddedPrometheus, scrape_config
from tallygate.devservers.upstream import SampleUpstream

_RULES = Path(__file__).parents[1] / "deploy" / "k8s" / "base" / "rules"
_WORKERS = 2
_NO_MORE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stage:
    """The running parts."""

    system: System
    prometheus: EmbeddedPrometheus

    @property
    def ready_url(self) -> str:
        """Return where the data plane names its workers."""
        return self.system.metrics_url.replace("/metrics", "/readyz")


@asynccontextmanager
async def running_stage(port: int = 0, settings: Mapping[str, str] = _NO_MORE) -> AsyncIterator[Stage]:
    """Run everything while the block runs; Prometheus listens on `port` (0: any free one).

    `settings` go to the data plane beside those of the demo.
    """
    async with AsyncExitStack() as started:
        directory = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-demo-")))
        directory.chmod(0o711)  # so that a Postgres that had to become `nobody` reaches its part
        receiver = await started.enter_async_context(SampleUpstream())
        told = {
            "WORKERS": str(_WORKERS),
            "LISTEN": f"{LOOPBACK}:{free_ports(_WORKERS)}",
            "METRICS_CUSTOMERS": "50",
            "USAGE_ROUND_S": "2",
            "EXPORTS_FILE": str(_exports(directory, f"http://{receiver.host}:{receiver.port}/usage")),
            **settings,
        }
        system = await started.enter_async_context(
            running_system(directory / "system", catalogue(), settings=told, envoy_config=envoy_config())
        )
        jobs = {"tallygate": system.metrics_url, "tallygate-worker": system.environment["WORKER_METRICS_URL"]}
        config = scrape_config(jobs, rule_files=sorted(_RULES.glob("*.yaml")))
        prometheus = EmbeddedPrometheus(config, data_dir=directory / "prometheus", port=port)
        yield Stage(system, await started.enter_async_context(prometheus))


def _exports(directory: Path, url: str) -> Path:
    """Write who is told of usage: a receiver of CloudEvents, and files."""
    path = directory / "exports.toml"
    path.write_text(
        f'[exports.billing]\nkind = "cloudevents"\nurl = "{url}"\n\n'
        f'[exports.archive]\nkind = "files"\ndirectory = "{directory / "usage"}"\n'
    )
    return path
