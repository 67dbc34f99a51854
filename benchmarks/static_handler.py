"""A server that decides nothing: a transport of the data plane's, and always the same bytes in answer.

What `decisions` compares with, and `transport` compares. Usage: static_handler.py ADDRESS FILE [TRANSPORT], where FILE
holds the answer, and the transport is that of the settings if none is given.
"""

import asyncio
import sys
from pathlib import Path

import uvloop

from tallygate.envoy.check import SERVICE_PATH
from tallygate.lifecycle import stop_on_signals
from tallygate.settings import Settings
from tallygate.transport.adapters import AdapterName, adapter


async def serve(address: str, answer: bytes, name: AdapterName) -> None:
    """Answer until a signal comes."""

    async def handler(_request: bytes) -> bytes:
        return answer

    stop: asyncio.Event = stop_on_signals()
    transport = adapter(name)(address, {SERVICE_PATH: handler})
    await transport.start()
    await stop.wait()
    await transport.stop(0)


if __name__ == "__main__":
    chosen = Settings.model_validate({"transport": sys.argv[3]} if sys.argv[3:] else {})
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2]).read_bytes(), chosen.transport))
