"""`tallygate serve` and `tallygate worker` by a clock that runs sixty times as fast, so that a drill sees many minutes.

    python benchmarks/drill_process.py serve|worker CONFIG START_US

Only the line that reads Redis's clock differs, as in the tests. Started by `ledger_drill`.
"""

import asyncio
import sys
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from tallygate.app.background import worker
from tallygate.app.data_plane import data_plane
from tallygate.lifecycle import stop_on_signals
from tallygate.limits.script import Scripts
from tallygate.settings import Settings, load
from tallygate.usage.redis import UsageScripts

FASTER = 60
_TIME_LINE = "local time = redis.call('TIME')\n"
_FAST = """\
local time = redis.call('TIME')
do
  local us = time[1] * 1000000 + time[2]
  us = START + (us - START) * FASTER
  time = { string.format('%.0f', (us - us % 1000000) / 1000000), string.format('%.0f', us % 1000000) }
end
"""
_Texts = TypeVar("_Texts", Scripts, UsageScripts)


def fast(scripts: _Texts, start_us: int) -> _Texts:
    """Return scripts by the fast clock, which was right at `start_us`."""
    line = _FAST.replace("START", str(start_us)).replace("FASTER", str(FASTER))
    return type(scripts)(**{
        each.name: str(getattr(scripts, each.name)).replace(_TIME_LINE, line) for each in fields(scripts)
    })  # fmt: skip


async def serve(values: Settings, start_us: int) -> None:
    """Run a data plane."""
    plane = await data_plane(values, scripts=fast(Scripts(), start_us))
    await plane.life.run(plane.probes, stop_on_signals())


if __name__ == "__main__":
    _, role, config, start = sys.argv
    settings = load({}, Path(config)).values
    if role == "serve":
        asyncio.run(serve(settings, int(start)))
    else:
        asyncio.run(worker(settings, fast(UsageScripts(), int(start))))
