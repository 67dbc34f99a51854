"""Where calls go: to the one server, to the master that sentinels name, or to the primary that has the slot.

Owns which link a call takes, and in a cluster what is known of its slots. Does not own connections
(`redis_link`). redis-py asks sentinels and clusters where things are; no call goes through it.

A cluster moves slots and fails over while we ask. `MOVED` and `ASK` say that nothing ran, so the call goes on
to where they point. What is known of the slots is read again, in the background, after a `MOVED` and when a
node does not answer, at most every `_REFRESH_S`. While a slot moves the old way, key by key, a customer whose
keys are partly there is told `TRYAGAIN` until all are: an error, for nothing ran and nothing can.

Concurrency: one event loop. Failure: as `redis_link`.
"""

import asyncio
import ssl
from binascii import crc_hqx
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tallygate.core.errors import DependencyError, InputError, LimiterUnavailableError
from tallygate.storage.redis import common_options, sentinels_of
from tallygate.storage.redis_link import Address, LinkTerms, RedisLink
from tallygate.storage.redis_pipeline import Answer, ReplyError
from tallygate.storage.redis_url import FIELD, RedisAddress, RedisForm, parse_redis_url

_SLOTS = 16_384
_REDIRECTIONS = 5
_REFRESH_S = 0.25
_WATCH_S = 1.0


class RedisLinks(Protocol):
    """Servers that share the keys among them."""

    deadline_s: float

    def ask(self, command: bytes, ends_s: float, tag: str) -> Awaitable[Answer]:
        """Send a finished command to who has the keys with the hash tag `{tag}`.

        What it comes to is returned, errors too, at `ends_s` of `time.monotonic`; OverloadedError and
        LimiterUnavailableError are raised when nothing was sent.
        """
        ...

    async def close(self) -> None:
        """Give calls in flight the deadline to end, then cut them off."""
        ...


def link(url: str, terms: LinkTerms | None = None) -> RedisLinks:
    """Return links to what `url` names; nothing is sent yet. Raise InputError for a URL that cannot be used.

    Login, database and TLS are the URL's.
    """
    address = parse_redis_url(url)
    terms = replace(
        terms or LinkTerms(),
        username=address.username,
        password=address.password,
        database=address.database,
        tls=_tls(address) if address.is_tls else None,
    )
    match address.form:
        case RedisForm.CLUSTER:
            return _Cluster(address, terms)
        case RedisForm.SENTINEL:
            return _Master(address, terms)
        case RedisForm.SINGLE:
            return _One(RedisLink(_at(address.nodes[0]), terms), terms.deadline_s)


class _One:
    """The one server."""

    def __init__(self, to: RedisLink, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._ask = to.ask
        self._close = to.close

    def ask(self, command: bytes, ends_s: float, tag: str) -> Awaitable[Answer]:
        """Ask it, whatever the tag."""
        del tag
        return self._ask(command, ends_s)

    async def close(self) -> None:
        """End its connection."""
        await self._close()


class _Master(_One):
    """The master that sentinels name. They are asked at each new connection, and now and then meanwhile.

    For a master that was replaced may go on taking writes until somebody tells it, and they would be lost.
    """

    def __init__(self, address: RedisAddress, terms: LinkTerms) -> None:
        self._sentinels = sentinels_of(address, terms.deadline_s)
        self._name = address.master
        self._master: Address | None = None
        self._watching: asyncio.Task[None] | None = None
        self._link = RedisLink(self._find, terms)
        super().__init__(self._link, terms.deadline_s)

    async def close(self) -> None:
        """End the connection, and look no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        await super().close()

    async def _find(self) -> Address:
        self._master = await self._named()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return self._master

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            with suppress(DependencyError):
                if await self._named() != self._master:
                    self._link.hang_up()

    async def _named(self) -> Address:
        try:
            host, port = await self._sentinels.discover_master(self._name)
        except RedisError as error:
            raise LimiterUnavailableError(str(error)) from error
        finally:
            await self._hang_up()
        return str(host), int(port)

    async def _hang_up(self) -> None:
        """Keep no connections to sentinels: there may be many of us."""
        for sentinel in self._sentinels.sentinels:
            await sentinel.connection_pool.disconnect()


class _Cluster:
    """The primaries of a cluster, each behind a link of its own."""

    def __init__(self, address: RedisAddress, terms: LinkTerms) -> None:
        self.deadline_s = terms.deadline_s
        self._address = address
        self._terms = terms
        self._links: dict[Address, RedisLink] = {}
        self._owners: list[Address | None] = [None] * _SLOTS
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at_s = -_REFRESH_S

    async def ask(self, command: bytes, ends_s: float, tag: str) -> Answer:
        """Ask the primary of the tag's slot, and go on to where it points."""
        slot = crc_hqx(tag.encode(), 0) % _SLOTS
        to, is_asking = self._owners[slot] or await self._learn(slot), False
        answer: Answer = None
        for _ in range(_REDIRECTIONS):
            try:
                answer = await self._link(to).ask(command, ends_s, is_asking=is_asking)
            except DependencyError:
                self._refresh_soon()
                raise
            if not isinstance(answer, Exception):
                return answer
            if not isinstance(answer, ReplyError):
                self._refresh_soon()
                return answer
            kind, _, where = str(answer).partition(" ")
            if kind not in {"MOVED", "ASK"}:
                return answer
            to, is_asking = _pointed(where, to), kind == "ASK"
            if not is_asking:
                self._owners[slot] = to
                self._refresh_soon()
        return answer

    async def close(self) -> None:
        """End all connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await asyncio.gather(*(each.close() for each in self._links.values()))

    def _link(self, to: Address) -> RedisLink:
        if to not in self._links:
            self._links[to] = RedisLink(_at(to), self._terms)
        return self._links[to]

    async def _learn(self, slot: int) -> Address:
        """Return who has a slot nobody is known for: at the start, or where the cluster has a hole."""
        refreshing = self._refresh_soon()
        if refreshing is not None:
            await asyncio.wait({refreshing}, timeout=self.deadline_s)
        owner = self._owners[slot]
        if owner is None:
            raise LimiterUnavailableError("redis does not answer: no node of the cluster is known for this customer")
        return owner

    def _refresh_soon(self) -> asyncio.Task[None] | None:
        if self._refreshing is None and monotonic() - self._refreshed_at_s >= _REFRESH_S:
            self._refreshing = asyncio.create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        """Learn the slots from the first node that knows; keep what is known when none does."""
        try:
            for host, port in dict.fromkeys((*self._links, *self._address.nodes)):
                try:
                    self._owners = await self._read_owners(host, port)
                except (RedisError, OSError):
                    continue
                await self._drop_strangers()
                break
        finally:
            self._refreshing, self._refreshed_at_s = None, monotonic()

    async def _read_owners(self, host: str, port: int) -> list[Address | None]:
        client = Redis(host=host, port=port, ssl=self._address.is_tls, **common_options(self._address, self.deadline_s))
        async with client:
            reply = await client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]  # redis-py has no hints here
        owners: list[Address | None] = [None] * _SLOTS
        for first, last, primary, *_ in reply:
            at = (primary[0] or b"").decode() or host, int(primary[1])
            owners[first : last + 1] = [at] * (last + 1 - first)
        return owners

    async def _drop_strangers(self) -> None:
        """Close the links to nodes that have no slot any more."""
        known = set(self._owners)
        for address in [address for address in self._links if address not in known]:
            await self._links.pop(address).close()


def _at(address: Address) -> "_Fixed":
    return _Fixed(address)


class _Fixed:
    """An address that is known."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def __call__(self) -> Address:
        """Return it."""
        return self._address


def _pointed(where: str, by: Address) -> Address:
    """Return the address in `12182 host:port`; without a host it is that of the node which says so."""
    host, _, port = where.rpartition(" ")[2].rpartition(":")
    return (host or by[0]), int(port)


def _tls(address: RedisAddress) -> ssl.SSLContext:
    files = dict(address.tls_files)
    try:
        context = ssl.create_default_context(cafile=files.get("ssl_ca_certs"))
        if "ssl_certfile" in files:
            context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"))
    except OSError as error:  # an SSLError is one too
        names = ", ".join(sorted(files)) or "the system's certificates"
        raise InputError(FIELD, f"{names}: {error}", "name readable PEM files") from error
    return context
