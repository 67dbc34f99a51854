"""TLS of the transport, held against every adapter: who is let in, and with which files a server does not start."""

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from support.certificates import Authority, Pair
from support.transports import ANYWHERE, CHECK_HEALTH, ECHO, Serve, call

from tallygate.core.errors import InputError
from tallygate.transport.adapters import Adapter
from tallygate.transport.tls import TlsFiles


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who signs this test's server."""
    return Authority(tmp_path, "authority")


@pytest.fixture
def server(authority: Authority) -> Pair:
    """Return the server's certificate and key."""
    return authority.sign("server")


def credentials(authority: Authority, client: Pair | None = None) -> grpc.ChannelCredentials:
    """Return what a client trusts and shows."""
    trusted = authority.certificate.read_bytes()
    if client is None:
        return grpc.ssl_channel_credentials(trusted)
    return grpc.ssl_channel_credentials(trusted, client.key.read_bytes(), client.certificate.read_bytes())


async def test_tls_serves_whoever_trusts_the_certificate(serve: Serve, authority: Authority, server: Pair) -> None:
    """With certificate and key the server speaks TLS, and asks clients for nothing."""
    tls = TlsFiles(server.certificate, server.key)
    async with (
        serve(tls=tls) as transport,
        grpc.aio.secure_channel(transport.address, credentials(authority)) as channel,
    ):
        assert await call(channel, ECHO, b"in secret") == b"in secret"
        assert await call(channel, CHECK_HEALTH).code() is grpc.StatusCode.OK


async def test_with_tls_nothing_is_served_in_the_clear(serve: Serve, server: Pair) -> None:
    """Who comes without TLS is not answered."""
    async with (
        serve(tls=TlsFiles(server.certificate, server.key)) as transport,
        grpc.aio.insecure_channel(transport.address) as channel,
    ):
        assert await call(channel, ECHO, timeout_s=2.0).code() in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_http2_is_agreed_on(serve: Serve, authority: Authority, server: Pair, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3 are spoken, and ALPN settles on h2, without which Envoy would speak HTTP/1."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.minimum_version = context.maximum_version = version
    async with serve(tls=TlsFiles(server.certificate, server.key)) as transport:
        assert await _agreed_protocol(transport.port, context) == "h2"


async def test_with_a_client_ca_only_its_clients_are_served(
    serve: Serve, authority: Authority, server: Pair, tmp_path: Path
) -> None:
    """mTLS: a certificate that the authority signed is let in; one of another, or none, is not."""
    stranger = Authority(tmp_path, "other").sign("stranger")
    async with serve(tls=TlsFiles(server.certificate, server.key, authority.certificate)) as transport:
        friend = credentials(authority, authority.sign("client"))
        async with grpc.aio.secure_channel(transport.address, friend) as channel:
            assert await call(channel, ECHO, b"known") == b"known"
        for unknown in (credentials(authority), credentials(authority, stranger)):
            async with grpc.aio.secure_channel(transport.address, unknown) as channel:
                assert await call(channel, ECHO).code() is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.secure_channel(transport.address, friend) as channel:
            assert await call(channel, ECHO, b"still known") == b"still known"


@pytest.mark.parametrize(
    "broken",
    [
        ("certificate", "TALLYGATE_TLS_CERT_FILE"),
        ("key", "TALLYGATE_TLS_KEY_FILE"),
        ("client_ca", "TALLYGATE_TLS_CLIENT_CA_FILE"),
    ],
    ids=["certificate", "key", "client authority"],
)
@pytest.mark.parametrize("content", [None, b"", b"not PEM", "directory"], ids=["missing", "empty", "no PEM", "no file"])
async def test_a_file_that_cannot_be_used_stops_the_start(
    serve: Serve, authority: Authority, server: Pair, broken: tuple[str, str], content: bytes | str | None
) -> None:
    """A missing, empty, wrong or unreadable file is named, with its setting, before anything is served."""
    files = {"certificate": server.certificate, "key": server.key, "client_ca": authority.certificate}
    name, setting = broken
    files[name].unlink()
    if isinstance(content, bytes):
        files[name].write_bytes(content)
    elif content is not None:
        files[name].mkdir()
    with pytest.raises(InputError, match=f"{setting}: .*{files[name].name}"):
        async with serve(tls=TlsFiles(**files)):
            pass


async def test_a_key_of_another_certificate_stops_the_start(serve: Serve, authority: Authority, server: Pair) -> None:
    """A certificate and a key that do not fit together are told apart from files that cannot be read."""
    other = authority.sign("other")
    with pytest.raises(InputError, match=r"TALLYGATE_TLS_KEY_FILE: .*other\.key is not the key"):
        async with serve(tls=TlsFiles(server.certificate, other.key)):
            pass


async def test_a_key_with_a_passphrase_stops_the_start(serve: Serve, server: Pair) -> None:
    """Nobody is there to type one: the start ends with an error and does not ask."""
    key = serialization.load_pem_private_key(server.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    server.key.write_bytes(key.private_bytes(pem, pkcs8, locked))
    with pytest.raises(InputError, match=r"TALLYGATE_TLS_KEY_FILE.*without passphrase"):
        async with serve(tls=TlsFiles(server.certificate, server.key)):
            pass


def test_a_unix_socket_has_no_tls(make: Adapter, server: Pair) -> None:
    """The two settings contradict each other, and it is said, not guessed."""
    with pytest.raises(InputError, match=r"TALLYGATE_TLS_CERT_FILE.*Unix socket"):
        make("unix:/run/check.sock", {}, TlsFiles(server.certificate, server.key))


def test_files_are_set_together_or_not_at_all(authority: Authority, server: Pair) -> None:
    """A certificate without key, or a client authority without both, would be a server in the clear."""
    assert TlsFiles.of(None, None, None) is None
    assert TlsFiles.of(server.certificate, server.key, None) == TlsFiles(server.certificate, server.key)
    with pytest.raises(InputError, match="TALLYGATE_TLS_KEY_FILE: is not set"):
        TlsFiles.of(server.certificate, None, None)
    with pytest.raises(InputError, match="TALLYGATE_TLS_CERT_FILE: is not set"):
        TlsFiles.of(None, None, authority.certificate)
    with pytest.raises(InputError, match="TALLYGATE_TLS_CERT_FILE: is not set"):
        TlsFiles.of(None, server.key, None)


async def _agreed_protocol(port: int, context: ssl.SSLContext) -> str | None:

    host = ANYWHERE.partition(":")[0]
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    finally:
        writer.close()
    assert agreed is None or isinstance(agreed, str)
    return agreed
