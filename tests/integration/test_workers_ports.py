"""Ports of workers, kept while nobody listens on them."""

import socket

import pytest

from tallygate.core.errors import InputError
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.transport.listening import ListenAddress, bind
from tallygate.workers.ports import reserve


async def test_a_kept_port_is_nobody_elses_and_refuses_at_once() -> None:
    """No other socket gets the port, and who connects is refused, so that Envoy asks another worker."""
    port = free_port()
    kept = await reserve(f"{LOOPBACK}:{port}")
    assert kept is not None
    with kept, socket.socket() as other, socket.socket() as caller:
        with pytest.raises(OSError, match="in use"):
            other.bind((LOOPBACK, port))
        with pytest.raises(ConnectionRefusedError):
            caller.connect((LOOPBACK, port))


async def test_a_kept_port_is_kept_from_servers_too() -> None:
    """A server that may bind beside us, as servers do to be restarted at once, cannot listen, nor keep the port too."""
    kept = await reserve(f"{LOOPBACK}:0")
    assert kept is not None
    with kept:
        port = kept.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            socket.create_server((LOOPBACK, port))
        with pytest.raises(InputError, match=f"A_SETTING: cannot listen on {LOOPBACK}:{port}"):
            await reserve(f"{LOOPBACK}:{port}", "A_SETTING")


async def test_connections_that_ended_just_now_do_not_keep_a_port_from_us() -> None:
    """A service is restarted with more workers at once, though the system still remembers its last connections."""
    with socket.create_server((LOOPBACK, 0)) as before:
        port = before.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)) as caller:
            before.accept()[0].close()
            assert caller.recv(1) == b""
    kept = await reserve(f"{LOOPBACK}:{port}")
    assert kept is not None
    with kept, await bind(ListenAddress(LOOPBACK, port), may_share=True) as worker:
        worker.listen()


async def test_a_worker_takes_a_kept_port_again_and_again() -> None:
    """Each process binds the port anew; when it is gone, connections are refused, not left waiting."""
    port = free_port()
    kept = await reserve(f"{LOOPBACK}:{port}")
    assert kept is not None
    with kept:
        for _ in range(2):
            with await bind(ListenAddress(LOOPBACK, port), may_share=True) as worker:
                worker.listen()
                socket.create_connection((LOOPBACK, port), timeout=10).close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((LOOPBACK, port), timeout=10)


async def test_two_supervisors_do_not_keep_one_port() -> None:
    """A port on which a worker of another service listens is refused, though workers share theirs with a supervisor."""
    port = free_port()
    with await bind(ListenAddress(LOOPBACK, port), may_share=True) as worker:
        worker.listen()
        with pytest.raises(InputError, match=f"TALLYGATE_LISTEN: cannot listen on {LOOPBACK}:{port}"):
            await reserve(f"{LOOPBACK}:{port}")


async def test_a_path_needs_no_keeping() -> None:
    """The system gives no Unix path to anybody unasked."""
    assert await reserve("unix:/run/tallygate.sock") is None
