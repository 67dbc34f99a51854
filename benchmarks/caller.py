"""Who asks: Envoy's side of ext_authz, as plain as it can be.

Owns one connection to one data plane. The request is what Envoy 1.40 sends for a small GET; the answer is returned
as the caller of the API would see it.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

import grpc

from tallygate._proto.envoy.v3.external_auth_pb2 import AttributeContext, CheckRequest, CheckResponse
from tallygate.envoy.check import SERVICE_PATH

DEADLINE_S = 10.0
_HEADERS = {
    ":authority": "api.example.com",
    ":method": "GET",
    ":scheme": "https",
    "accept": "*/*",
    "user-agent": "benchmark/1",
    "x-forwarded-proto": "https",
    "x-request-id": "5e1f8a0c-7d7b-4c0e-9a35-2f4f2a1b9c11",
}
_SOME_ID = "17446744073709551615"  # Envoy's are 64 bits in decimal
_ids = count()
Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


OK = "ok"


@dataclass(frozen=True, slots=True)
class Answer:
    """The reason told to the caller of the API; `ok` when the request may pass, and then the plan (`pro@3`)."""

    reason: str
    plan: str = ""


class Question:
    """`GET /v1/things` with a bearer, as a CheckRequest; each has its own id, or it would be taken for a repeat."""

    def __init__(self, secret: str, path: str = "/v1/things") -> None:
        """Ask whether the holder of `secret` may."""
        request = _request(secret, path, _SOME_ID)
        self.around_id: tuple[bytes, bytes] = tuple(request.split(_SOME_ID.encode()))  # type: ignore[assignment]  # two
        self.without_id = _request(secret, path, "")

    def next(self) -> bytes:
        """Return the next request."""
        before, after = self.around_id
        # Of the same length as the one it replaces, so that the lengths written before it stay right.
        return b"%b%020d%b" % (before, next(_ids), after)


def _request(secret: str, path: str, request_id: str) -> bytes:
    headers = {**_HEADERS, ":path": path, "authorization": f"Bearer {secret}"}
    http = AttributeContext.HttpRequest(id=request_id, method="GET", path=path, headers=headers)
    attributes = AttributeContext(request=AttributeContext.Request(http=http))
    attributes.source.address.socket_address.address = "192.0.2.1"
    return CheckRequest(attributes=attributes).SerializeToString(deterministic=True)


def read(answer: bytes) -> Answer:
    """Return what a CheckResponse says."""
    response = CheckResponse.FromString(answer)
    if response.status.code:
        body = response.error_response.body or response.denied_response.body
        return Answer(json.loads(body)["reason"])
    headers = {option.header.key: option.header.value for option in response.ok_response.headers}
    return Answer(OK, headers["x-tallygate-plan"])


class Caller:
    """A connection to one data plane."""

    def __init__(self, call: Call) -> None:
        """Ask by `call`."""
        self._call = call

    async def raw(self, question: bytes) -> bytes:
        """Return the bytes that answer the bytes of a request; raise AioRpcError after `DEADLINE_S`."""
        return await self._call(question, timeout=DEADLINE_S)

    async def ask(self, question: Question) -> Answer:
        """Return how the next request of this kind is decided."""
        return read(await self.raw(question.next()))


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Caller]:
    """Connect to a data plane."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Caller(channel.unary_unary(SERVICE_PATH))
