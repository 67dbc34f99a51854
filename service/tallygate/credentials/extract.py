"""Find the one credential of a request.

Places: `Authorization: Bearer`, `Authorization: DPoP`, `X-API-Key` and, when configured, one query
parameter or cookie. The same token in two places is one credential; two different ones, or one header
given twice (Envoy joins them with a comma), are ambiguous (RFC 6750 §2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

_SCHEMES = ("bearer", "dpop")
_HEADER_KEY = "x-api-key"
_MOST_PIECES = 256
_REMEMBERED, _REMEMBERED_CHARS = 16_384, 256
_USUAL = ("Bearer ", "bearer ", "DPoP ", "dpop ")


@dataclass(frozen=True, slots=True)
class CredentialPlaces:
    """The optional places; None where not configured. Names are case-sensitive, as Envoy removes them."""

    query_parameter: str | None = None
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """The token's text as given, and everything the upstream must not see of it.

    `remove_headers` are lower-case names, `remove_query` parameter names; `set_cookie_header` is the
    `cookie` header without the credential, None when it needs no change, empty when nothing is left.
    """

    text: str
    remove_headers: tuple[str, ...] = ()
    remove_query: tuple[str, ...] = ()
    set_cookie_header: str | None = None

    def __repr__(self) -> str:
        """Say where it was found, without the secret."""
        return f"Credential(text='…', remove_headers={self.remove_headers}, remove_query={self.remove_query})"


@dataclass(frozen=True, slots=True)
class NoCredential:
    """The request carries none."""


@dataclass(frozen=True, slots=True)
class AmbiguousCredential:
    """The request carries more than one; `problem` says where."""

    problem: str


Found = Credential | NoCredential | AmbiguousCredential


class Places:
    """Where credentials are looked for; what our own schemes' headers of usual length said is remembered for a while.

    So this process holds the last of them in memory, as any server does that is sent them, and writes them nowhere.
    What a header of another scheme holds is not ours to keep.
    """

    def __init__(self, places: CredentialPlaces) -> None:
        """Take the places that are configured."""
        self._places = places
        self._remembered = lru_cache(_REMEMBERED)(self._of_headers)

    def extract(self, headers: Mapping[str, str], target: str) -> Found:
        """Return the credential of a request with these headers (lower-case names) and target."""
        authorization, key = headers.get("authorization"), headers.get(_HEADER_KEY)
        has_others = (self._places.query_parameter is not None and "?" in target) or (
            self._places.cookie is not None and "cookie" in headers
        )
        is_ours = authorization is None or authorization.startswith(_USUAL)
        if has_others or not is_ours or len(authorization or "") + len(key or "") > _REMEMBERED_CHARS:
            return extract(headers, target, self._places)
        return self._remembered(authorization, key)

    def _of_headers(self, authorization: str | None, key: str | None) -> Found:
        given = {"authorization": authorization, _HEADER_KEY: key}
        return extract({name: value for name, value in given.items() if value is not None}, "", self._places)


def extract(headers: Mapping[str, str], target: str, places: CredentialPlaces) -> Found:
    """Return the credential of a request with these headers (lower-case names) and target."""
    found: list[tuple[str, str]] = []
    for place, values in (
        ("authorization", _authorization(headers.get("authorization"))),
        (_HEADER_KEY, _api_key(headers.get(_HEADER_KEY))),
        ("query", _query(target, places.query_parameter)),
        ("cookie", _cookies(headers.get("cookie"), places.cookie)),
    ):
        if len(values) > 1:
            return AmbiguousCredential(f"more than one credential in {place}")
        found += [(place, value) for value in values]
    if not found:
        return NoCredential()
    if len({text for _, text in found}) > 1:
        return AmbiguousCredential("different credentials in " + " and ".join(place for place, _ in found))
    return _credential(found[0][1], {place for place, _ in found}, headers, places)


def _credential(text: str, where: set[str], headers: Mapping[str, str], places: CredentialPlaces) -> Credential:
    return Credential(
        text=text,
        remove_headers=tuple(name for name in ("authorization", _HEADER_KEY) if name in where),
        remove_query=(places.query_parameter,) if "query" in where and places.query_parameter else (),
        set_cookie_header=_without(headers["cookie"], places.cookie) if "cookie" in where else None,
    )


def _authorization(value: str | None) -> list[str]:
    if value is None:
        return []
    # No scheme's token68 holds a comma: a comma means Envoy joined two headers.
    parts = _pieces(value, ",")
    tokens = []
    for part in parts:
        scheme, *rest = part.split(maxsplit=1) or [""]
        if scheme.lower() in _SCHEMES:
            tokens.append("".join(rest))
    if (tokens and len(parts) > 1) or len(parts) > _MOST_PIECES:
        return parts
    return tokens


def _api_key(value: str | None) -> list[str]:
    return [] if value is None else _pieces(value, ",")


def _query(target: str, name: str | None) -> list[str]:
    if name is None:
        return []
    query = target.partition("?")[2]
    pieces = _pieces(query, "&")
    if len(pieces) > _MOST_PIECES:
        return pieces
    return [value for key, _, value in (piece.partition("=") for piece in pieces) if key == name]


def _cookies(value: str | None, name: str | None) -> list[str]:
    if value is None or name is None:
        return []
    pieces = _pieces(value, ";")
    if len(pieces) > _MOST_PIECES:
        return pieces
    return [text.strip('"') for key, _, text in (piece.partition("=") for piece in pieces) if key == name]


def _pieces(text: str, separator: str) -> list[str]:
    """Return the pieces of `text`; more than `_MOST_PIECES` of them mean it was cut, and is as good as ambiguous.

    A header of 60 KB that is all separators must not hold up everybody else's requests.
    """
    return [piece.strip() for piece in text.split(separator, _MOST_PIECES)]


def _without(cookies: str, name: str | None) -> str:
    kept = [pair.strip() for pair in cookies.split(";") if pair.strip().partition("=")[0] != name]
    return "; ".join(kept)
