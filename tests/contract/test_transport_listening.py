"""Where the transport listens, held against every adapter: ports, Unix sockets and sockets of others."""

import asyncio
import socket
from pathlib import Path

import grpc
import pytest
from support.raw_grpc import framed, raw_caller
from support.transports import ANYWHERE, DEADLINE_S, ECHO, GRACE_S, STUCK, Serve, Things, call, grpcio_cannot

from tallygate.core.errors import InputError
from tallygate.transport.adapters import Adapter
from tallygate.transport.listening import ListenAddress, bind, is_for_one_process

OWN = (("grpc.use_local_subchannel_pool", 1),)
"""Else a second channel to an address takes over the connection of the first, which its server is closing."""


async def test_port_zero_is_a_free_port_that_is_told(serve: Serve) -> None:
    """Whoever asks for any port learns which one it is."""
    async with serve() as one, serve() as other:
        assert one.port != other.port
        assert one.address == f"127.0.0.1:{one.port}"


async def test_a_unix_socket_serves_like_a_port(serve: Serve, tmp_path: Path) -> None:
    """`unix:/path` works, again after a stop, and has no port."""
    listen = f"unix:{tmp_path / 'check.sock'}"
    for _ in range(2):
        async with serve(listen) as transport, grpc.aio.insecure_channel(transport.address, OWN) as channel:
            assert (transport.address, transport.port) == (listen, 0)
            assert await call(channel, ECHO, b"through a file") == b"through a file"


@pytest.mark.parametrize("on", ["port", "socket"])
async def test_an_address_in_use_stops_the_start(serve: Serve, tmp_path: Path, on: str) -> None:
    """Two servers never share an address in silence; the error names the setting, and the first serves on."""
    listen = ANYWHERE if on == "port" else f"unix:{tmp_path / 'check.sock'}"
    async with serve(listen) as first:
        with pytest.raises(InputError, match=r"TALLYGATE_LISTEN.*cannot listen"):
            async with serve(first.address):
                pass
        async with grpc.aio.insecure_channel(first.address, OWN) as channel:
            assert await call(channel, ECHO, b"unharmed") == b"unharmed"


@pytest.mark.parametrize(
    "listen", ["", "50051", "localhost", ":50051", "localhost:65536", "unix:relative", "http://a:1"]
)
async def test_what_is_no_address_is_refused(make: Adapter, listen: str) -> None:
    """A typing error in the setting is told by its name, before anything starts."""
    with pytest.raises(InputError, match="TALLYGATE_LISTEN"):
        make(listen, {})


def test_listen_addresses_are_read_and_written_back() -> None:
    """Every form of address that the setting documents is understood."""
    assert ListenAddress.parse("0.0.0.0:50051") == ListenAddress(host="0.0.0.0", port=50051)  # noqa: S104 - an example
    assert ListenAddress.parse("[::]:0").at(7) == "[::]:7"
    assert ListenAddress.parse("unix:/run/t.sock").at(0) == "unix:/run/t.sock"
    assert ListenAddress.parse("localhost:0").at(7) == "localhost:7"


async def test_a_socket_that_a_dead_process_left_is_replaced(serve: Serve, tmp_path: Path) -> None:
    """A crash does not keep the next process from its Unix socket."""
    path = tmp_path / "check.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with serve(f"unix:{path}") as transport, grpc.aio.insecure_channel(transport.address, OWN) as channel:
        assert await call(channel, ECHO, b"risen") == b"risen"


async def test_a_file_in_the_way_of_a_socket_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    """A typing error in the setting deletes nobody's file."""
    path = tmp_path / "precious"
    path.write_text("keep me")
    with pytest.raises(InputError, match=r"TALLYGATE_LISTEN.*no socket"):
        async with serve(f"unix:{path}"):
            pass
    assert path.read_text() == "keep me"


async def test_a_directory_that_is_not_there_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    """A Unix socket that cannot be made is an error that names the setting."""
    with pytest.raises(InputError, match=r"TALLYGATE_LISTEN.*cannot listen"):
        async with serve(f"unix:{tmp_path}/missing/check.sock"):
            pass


async def test_a_host_of_another_machine_stops_the_start(serve: Serve) -> None:
    """An address that is not of this machine is an error that names the setting."""
    with pytest.raises(InputError, match=r"TALLYGATE_LISTEN.*cannot listen"):
        async with serve("192.0.2.1:0"):
            pass


async def test_ipv6_serves_like_ipv4(serve: Serve) -> None:
    """`[::1]:0` listens on IPv6, and the address is written as one would call it."""
    async with serve("[::1]:0") as transport, grpc.aio.insecure_channel(transport.address, OWN) as channel:
        assert transport.address == f"[::1]:{transport.port}"
        assert await call(channel, ECHO, b"six") == b"six"


async def test_all_addresses_of_ipv6_are_those_of_ipv4_too(serve: Serve) -> None:
    """`[::]:0` is every address of the machine, of either family."""
    async with serve("[::]:0") as transport:
        for host in ("127.0.0.1", "::1"):
            async with raw_caller(transport.port, host) as caller:
                assert (await caller.call(ECHO, framed(b"either"))).body == framed(b"either")


async def test_a_name_is_an_address(serve: Serve) -> None:
    """`localhost:0` listens where the name points."""
    async with serve("localhost:0") as transport, grpc.aio.insecure_channel(transport.address, OWN) as channel:
        assert await call(channel, ECHO, b"by name") == b"by name"


async def test_processes_share_a_port_by_sockets_of_their_own(serve: Serve) -> None:
    """Two servers on sockets with SO_REUSEPORT serve one port; when one stops, the other takes every new caller."""
    one_socket = await bind(ListenAddress.parse(ANYWHERE), may_share=True)
    port = one_socket.getsockname()[1]
    other_socket = await bind(ListenAddress("127.0.0.1", port), may_share=True)
    with one_socket, other_socket:
        assert is_for_one_process(one_socket)
        async with serve(one_socket) as one, serve(other_socket) as other:
            assert one.address == other.address == f"127.0.0.1:{port}"
            await one.stop(0)
            for _ in range(20):
                async with raw_caller(port) as caller:
                    assert (await caller.call(ECHO, framed(b"the other"))).body == framed(b"the other")


@grpcio_cannot("gRPC takes no socket: it listens on one of its own, beside the first by SO_REUSEPORT")
async def test_processes_share_one_listening_socket(serve: Serve) -> None:
    """Two servers accept from one socket; when one stops the socket stays, and the other takes every new caller."""
    shared = await bind(ListenAddress.parse(ANYWHERE))
    with shared:
        async with serve(shared) as one, serve(shared) as other:
            assert one.address == other.address
            await one.stop(0)
            for _ in range(20):
                async with raw_caller(other.port) as caller:
                    assert (await caller.call(ECHO, framed(b"the other"))).body == framed(b"the other")
        assert shared.getsockname()[1] == other.port, "the socket is its owner's to close"


async def test_grpcio_refuses_a_socket_it_would_shadow() -> None:
    """Where sharing is not possible the start says so, and what to do."""
    from tallygate.transport.grpcio import GrpcioTransport  # noqa: PLC0415

    with await bind(ListenAddress.parse(ANYWHERE)) as sock, pytest.raises(InputError, match="SO_REUSEPORT"):
        GrpcioTransport(sock, {})


async def test_only_a_bound_tcp_socket_is_taken_over(make: Adapter) -> None:
    """A socket that is none to serve on is refused before anything starts."""
    with socket.socket() as unbound, pytest.raises(InputError, match="TALLYGATE_LISTEN"):
        make(unbound, {})
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="TALLYGATE_LISTEN"):
            make(datagrams, {})


async def test_a_stopped_server_gives_its_address_back(serve: Serve, things: Things) -> None:
    """From the moment a drain begins another process can have the port, while calls under way go on."""
    async with serve() as first, raw_caller(first.port) as caller:
        stream = caller.begin(STUCK, framed(b"begun"))
        await asyncio.wait_for(things.started.wait(), DEADLINE_S)
        stopping = asyncio.create_task(first.stop(GRACE_S))
        await caller.until(lambda: bool(caller.goaways))
        async with serve(first.address) as second, raw_caller(second.port) as other:
            assert (await other.call(ECHO, framed(b"new"))).body == framed(b"new")
            things.release.set()
            assert (await caller.end_of(stream)).body == framed(b"begun")
            await caller.until_closed()
        await asyncio.wait_for(stopping, GRACE_S / 2)
