"""Valkey as a child process: data kept, password asked, never evicting."""

from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tallygate.core.errors import InputError
from tallygate.devservers.process import ServerStartError
from tallygate.devservers.valkey import EmbeddedValkey, ExistingValkey, ValkeyServer


async def test_a_restart_keeps_data(data_dir: Path) -> None:
    """Counters outlive a stop of `tallygate dev`."""
    async with EmbeddedValkey(data_dir) as server, redis.asyncio.from_url(server.url) as client:
        await client.incrby("used", 41)
    async with EmbeddedValkey(data_dir) as server, redis.asyncio.from_url(server.url) as client:
        assert await client.incr("used") == 42


async def test_counters_are_never_evicted_nor_open_to_others(data_dir: Path) -> None:
    """A full memory refuses writes rather than forget usage; only loopback, with the password."""
    async with EmbeddedValkey(data_dir) as server:
        async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
            settings = await client.config_get("maxmemory-policy", "bind", "appendonly", "appendfsync", "save")
        with pytest.raises(redis.asyncio.AuthenticationError):
            async with redis.asyncio.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger:
                await stranger.ping()
        assert (data_dir / "valkey.conf").stat().st_mode & 0o777 == 0o600
    assert settings == {
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
    }


async def test_one_data_directory_has_one_server(data_dir: Path) -> None:
    """Two servers never append to one file."""
    async with EmbeddedValkey(data_dir):
        with pytest.raises(InputError, match="--data-dir: already in use by process"):
            await EmbeddedValkey(data_dir).__aenter__()


async def test_a_taken_port_that_was_asked_for_is_told(data_dir: Path, valkey_server: EmbeddedValkey) -> None:
    """The log is quoted, and kept."""
    server = EmbeddedValkey(data_dir, port=valkey_server.port)
    with pytest.raises(ServerStartError, match=r"Valkey ended with status 1(.|\n)*Address already in use"):
        await server.__aenter__()
    assert "Address already in use" in server.log_path.read_text()


async def test_a_running_server_is_used_through_the_same_interface(valkey_server: ValkeyServer) -> None:
    """`ExistingValkey` gives the URL and does not stop what it did not start."""
    async with ExistingValkey(valkey_server.url) as existing:
        same: ValkeyServer = existing
        assert same.url == valkey_server.url
    async with redis.asyncio.from_url(existing.url) as client:
        assert await client.ping()
