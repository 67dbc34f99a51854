"""Calls to receivers: POST with a deadline, and what an answer means.

Owns the connections of one receiver, kept until `close`. No redirect is followed, for it would carry the key elsewhere,
and of an answer no more is read than somebody would read. What cannot be said of every receiver alike is the adapters'.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from tallygate.billing.exports.receiver import Answer, Fate
from tallygate.core.redaction import HIDDEN, hide_secrets

_READ_BYTES, _TOLD_CHARS = 16_384, 300
logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each address, in which some have a key
_REFUSALS = frozenset({
    HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY,
})  # fmt: skip
"""What is said of an event itself; any other 4xx is said of the key, the address or the moment."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `status` 0 when there was none. `body` is its beginning, `text` what to tell people of it."""

    status: int
    fate: Fate
    text: str
    body: bytes = b""
    retry_after_s: float = 0

    @property
    def answer(self) -> Answer:
        """Return what it means for what was sent."""
        return Answer(self.fate, "" if self.fate is Fate.SENT else self.text, self.retry_after_s)


class Poster:
    """Posts to one address."""

    def __init__(self, url: str, *, key: str = "", deadline_s: float = 10.0) -> None:
        """Post to `url`, showing `key` as a bearer token; each call must be over within `deadline_s`."""
        self._url = url
        self._key = key
        self._deadline_s = deadline_s
        self._client: httpx.AsyncClient | None = None
        self._trust: ssl.SSLContext | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post, and return what was answered; nothing is raised for what the other side does."""
        client = self._connected()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._post(client, body, headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Reply(0, Fate.UNHEARD, self._told(f"cannot connect: {error}"))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return Reply(0, Fate.UNKNOWN, self._told(f"no answer: {str(error) or type(error).__name__}"))

    async def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, client: httpx.AsyncClient, body: bytes, headers: Mapping[str, str]) -> Reply:
        async with client.stream("POST", self._url, content=body, headers=dict(headers)) as response:
            begun = b""
            async for chunk in response.aiter_bytes():
                begun += chunk[: _READ_BYTES - len(begun)]
                if len(begun) >= _READ_BYTES:
                    break
        text = self._told(f"{response.status_code} {begun.decode(errors='replace')}")
        return Reply(response.status_code, fate_of(response.status_code), text, begun, _retry_after_s(response))

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            self._trust = self._trust or ssl.create_default_context()
            headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
            self._client = httpx.AsyncClient(
                headers=headers, verify=self._trust, timeout=self._deadline_s, follow_redirects=False
            )
        return self._client

    def _told(self, text: str) -> str:
        """Return a line for people, without the key that some echo."""
        shown = hide_secrets(text.replace(self._key, HIDDEN) if self._key else text)
        return "".join(letter if letter.isprintable() else " " for letter in shown)[:_TOLD_CHARS].strip()


def fate_of(status: int) -> Fate:
    """Return what a status says of what was sent."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Fate.SENT
    if status in _REFUSALS:
        return Fate.REFUSED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Fate.UNKNOWN
    return Fate.UNHEARD


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
