"""The upstream's own voice: it reports usage that no request paid for, and asks what a token may do.

Owns the calls of `tallygate.v1.UsageService`. One call is made with a wrong key, as a service does that was forgotten
when keys were changed. Does not own the requests that go through Envoy.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import grpc
from demo.accounts import Account
from google.protobuf.message import Message

from tallygate._proto.v1 import usage_pb2 as wire

_DEADLINE_S, _EVERY_S = 5.0, 1.0


async def report(address: str, key: str, account: Account, is_over: Callable[[], bool]) -> None:
    """Report some tokens of an account every second, and ask about it, until the play is over."""
    number = 0
    async with grpc.aio.insecure_channel(address) as channel:
        await _call(channel, "Introspect", "a key of last year", wire.IntrospectRequest(token=account.secret))
        while not is_over():
            number += 1
            usage = wire.UsageReport(
                idempotency_key=f"demo-{number}",
                holder=wire.UsageReport.Holder(subscription=account.subscription, family=account.family),
                units={"output_tokens": 20},
            )
            await _call(channel, "Report", key, wire.ReportRequest(reports=[usage]))
            asked = wire.IntrospectRequest(token=account.secret, method="GET", path="/v1/things")
            await _call(channel, "Introspect", key, asked)
            await asyncio.sleep(_EVERY_S)


async def _call(channel: grpc.aio.Channel, method: str, key: str, asked: Message) -> None:
    """Call; a refusal, or no answer while a worker is gone, is for the metrics to tell."""
    unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/tallygate.v1.UsageService/{method}")
    with suppress(grpc.aio.AioRpcError):
        await unary(asked.SerializeToString(), metadata=[("authorization", f"Bearer {key}")], timeout=_DEADLINE_S)
