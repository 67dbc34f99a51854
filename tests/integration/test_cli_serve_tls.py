"""`tallygate serve` with TLS, over each transport: it serves by the files it is given, or says which it cannot use."""

import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from support.certificates import Authority
from support.commands import Shell
from support.servers import Database

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running
from tallygate.envoy.check import SERVICE

PEPPER = "a pepper of tests, long enough to be one"


@pytest.mark.parametrize("command", [("serve",), ("config", "check")], ids=" ".join)
def test_files_that_cannot_be_used_are_refused(shell: Shell, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A missing file, or half of a pair, ends the start with 2 and names the setting; so does the check beforehand."""
    pair = Authority(tmp_path, "authority").sign("server")
    settings = {"LISTEN": f"{LOOPBACK}:0", "METRICS_LISTEN": f"{LOOPBACK}:0"}
    missing = shell(*command, **settings, TLS_CERT_FILE=str(tmp_path / "gone.pem"), TLS_KEY_FILE=str(pair.key))
    assert "TALLYGATE_TLS_CERT_FILE" in missing.refused()
    assert "gone.pem" in missing.refused()
    assert (
        "TALLYGATE_TLS_KEY_FILE: is not set"
        in shell(*command, **settings, TLS_CERT_FILE=str(pair.certificate)).refused()
    )


@pytest.mark.parametrize("transport", ["h2corn", "grpcio"])
async def test_it_serves_clients_that_show_a_certificate(
    tmp_path: Path, database: Database, redis_url: str, transport: str
) -> None:
    """The three settings make a server with mTLS, ready for Envoy, that stops when asked."""
    authority = Authority(tmp_path, "authority")
    server, client = authority.sign("server"), authority.sign("envoy")
    address = f"{LOOPBACK}:{free_port()}"
    settings = {
        "POSTGRES_DSN": database.data_plane_dsn,
        "REDIS_URL": redis_url,
        "PEPPER": PEPPER,
        "LISTEN": address,
        "METRICS_LISTEN": f"{LOOPBACK}:0",
        "SERVICES_LISTEN": "off",
        "TRANSPORT": transport,
        "TLS_CERT_FILE": str(server.certificate),
        "TLS_KEY_FILE": str(server.key),
        "TLS_CLIENT_CA_FILE": str(authority.certificate),
    }
    config = tmp_path / "serve.toml"
    config.write_text("".join(f"{name.lower()} = {value!r}\n" for name, value in settings.items()))
    command = (sys.executable, "-m", "tallygate", "--config", str(config), "serve")
    program = Program("tallygate serve", command, tmp_path, tmp_path / "serve.log")
    shown = [path.read_bytes() for path in (authority.certificate, client.key, client.certificate)]

    async def is_ready(_child: Child) -> bool:
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*shown)) as channel:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                answer = await ask(HealthCheckRequest(service=SERVICE).SerializeToString(), timeout=10)
            except grpc.aio.AioRpcError:
                return False
            return HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING

    async with (
        running(program, is_ready, start_deadline_s=60, stop_deadline_s=30),
        grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(shown[0])) as stranger,
    ):
        refused: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = stranger.unary_unary("/any/Thing")
        assert await refused(b"", timeout=20).code() is grpc.StatusCode.UNAVAILABLE
