"""A program that starts Postgres, Valkey and Envoy, says so in one line of JSON, and waits to be stopped.

Arguments: the data directory. Uses no driver, so that any interpreter that reads the sources may run it.
"""

import asyncio
import json
import sys
from pathlib import Path

from support.envoy_text import PLAIN_PROXY

from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import with_endpoints
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.valkey import EmbeddedValkey


async def main(data_dir: Path) -> None:
    """Start all three and wait for ever."""
    config = with_endpoints(PLAIN_PROXY, listeners={"gateway": ("127.0.0.1", 0)}, clusters={})
    async with (
        EmbeddedPostgres(data_dir / "postgres") as postgres,
        EmbeddedValkey(data_dir / "valkey") as valkey,
        EmbeddedEnvoy(config, run_dir=data_dir / "envoy") as envoy,
    ):
        sys.stdout.write(
            json.dumps({"dsn": postgres.dsn(), "redis": valkey.url, "gateway": envoy.url("gateway")}) + "\n"
        )
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
