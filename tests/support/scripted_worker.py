"""A worker process that behaves as its first argument says, in place of `tallygate serve`.

`ready` is a good one; `deaf` ignores SIGTERM; `hangs` stops answering once it was ready; `refuses` exits with 2 before
it has said anything; `dies` reports once and ends with 3. Each counts one `lives_total`.
"""

import asyncio
import os
import signal
import sys
import time

from tallygate.lifecycle import stop_on_signals
from tallygate.workers.line import WorkerLine
from tallygate.workers.seat import Seat

_EXPOSITION = b"# TYPE lives_total counter\nlives_total 1\n"


async def main(behaviour: str) -> None:
    """Live until told to stop, or as long as the behaviour lasts."""
    seat = Seat.take(os.environ)
    assert seat is not None
    seat.die_with_supervisor()
    stop = stop_on_signals()
    asked = asyncio.Event()

    def exposition() -> bytes:
        asked.set()
        return _EXPOSITION

    line = WorkerLine(seat.line(), exposition, list, stop.set)
    await line.start()
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour in {"hangs", "dies"}:
        await asked.wait()
        await asyncio.sleep(0)
    if behaviour == "hangs":
        time.sleep(3600)  # noqa: ASYNC251 - it is what hanging is
    if behaviour != "dies":
        await stop.wait()
    await line.stop()
    if behaviour == "dies":
        sys.exit(3)


if __name__ == "__main__":
    if sys.argv[1] == "refuses":
        sys.exit(2)
    asyncio.run(main(sys.argv[1]))
