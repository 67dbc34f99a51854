"""A server that decides nothing: the same transport as the data plane's, and always the same bytes in answer.

What `decisions` compares with. Usage: static_handler.py ADDRESS FILE, where FILE holds the answer.
"""

import asyncio
import sys
from pathlib import Path

import uvloop

from tallygate.envoy.check import SERVICE_PATH
from tallygate.lifecycle import stop_on_signals
from tallygate.transport.grpcio import GrpcioTransport


async def serve(address: str, answer: bytes) -> None:
    """Answer until a signal comes."""

    async def handler(_request: bytes) -> bytes:
        return answer

    stop: asyncio.Event = stop_on_signals()
    transport = GrpcioTransport(address, {SERVICE_PATH: handler})
    await transport.start()
    await stop.wait()
    await transport.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2]).read_bytes()))
