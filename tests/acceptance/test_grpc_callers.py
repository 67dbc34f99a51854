"""What a gRPC client of the API is told, through the real Envoy."""

import grpc
from support.world import World

Refusal = tuple[grpc.StatusCode, str | None]


async def call(world: World, secret: str | None, method: str = "Get") -> Refusal:
    """Call through Envoy as a gRPC client; return code and message of how that ends.

    The sample upstream is no gRPC server: a call that reaches it ends as UNKNOWN.
    """
    metadata = [] if secret is None else [("authorization", f"Bearer {secret}")]
    async with grpc.aio.insecure_channel(world.system.gateway_url.removeprefix("http://")) as channel:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/things.Things/{method}")
        try:
            await unary(b"", timeout=20, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details()
    raise AssertionError("the sample upstream does not speak gRPC")


async def test_a_used_up_limit_is_resource_exhausted(world: World) -> None:
    """A gRPC client is told RESOURCE_EXHAUSTED and which limit, not UNAVAILABLE, which it would retry."""
    account = await world.account("rated")
    reached = [await call(world, account.secret) for _ in range(3)]
    assert {code for code, _ in reached} == {grpc.StatusCode.UNKNOWN}
    refused = await call(world, account.secret)
    assert refused == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests: hourly.")


async def test_used_up_credits_are_resource_exhausted_too(world: World) -> None:
    """An HTTP status of 402 does not reach a gRPC client as UNKNOWN."""
    account = await world.account("prepaid")
    codes = [(await call(world, account.secret))[0] for _ in range(8)]
    assert codes == [grpc.StatusCode.UNKNOWN] * 7 + [grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_identity_and_rights_have_their_own_codes(world: World) -> None:
    """No token is UNAUTHENTICATED, a missing scope PERMISSION_DENIED."""
    account = await world.account("plain")
    assert await call(world, None) == (grpc.StatusCode.UNAUTHENTICATED, "The request carries no API token.")
    code, message = await call(world, account.secret, "Delete")
    assert (code, message) == (grpc.StatusCode.PERMISSION_DENIED, "The token lacks the scope things.delete.")
