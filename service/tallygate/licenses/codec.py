"""Licenses and terms as JSON, the form in which Postgres keeps them; routes are in `codec_routes`.

Readers are lenient about what they do not know (a newer Tallygate may have written it) and strict about
what they do: a wrong type, a value outside an enumeration or an instant without an offset is a ValueError.
Instants are written in RFC 3339, sets sorted, so the same terms are always the same text.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_network
from sys import intern
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from tallygate.licenses.license import (
    CustomerStatus,
    Feature,
    FirstUseTrial,
    Grant,
    License,
    Phase,
    Standing,
    Terms,
)
from tallygate.limits.limit import Limit

_T = TypeVar("_T")
_NULL = msgspec.Raw(b"null")
_SHARED = 4096
"""Grants, and parts of grants, whose texts are remembered, to be shared by all licenses that have them."""
_SHARED_PHASES = 256
"""The same of phases; fewer, for nearly all but those before a subscription begins are its own."""


class _StoredLicense(msgspec.Struct):
    """What `find_license_v1` returns; the terms stay text, so that equal ones need be read only once."""

    customer: str
    customer_status: CustomerStatus
    subscription: str
    family: str
    token: str
    terms: msgspec.Raw
    generation: int
    scopes: frozenset[str] | None = None
    networks: tuple[str, ...] = ()
    not_before_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    disabled_at: datetime | None = None
    first_used_at: datetime | None = None


class _StoredGrant(msgspec.Struct):
    """A grant; what many have in common stays text, to be read once and shared."""

    plan: str
    plan_key: str
    scopes: msgspec.Raw
    features: msgspec.Raw
    limits: tuple[msgspec.Raw, ...]
    upgrade_url: str | None = None


class _StoredPhase(msgspec.Struct):
    """A phase, its grants still text."""

    starts_at: datetime
    standing: Standing
    grant: msgspec.Raw
    is_unpaid: bool = False
    counters: str = ""
    shadow: msgspec.Raw = _NULL


class _StoredTrial(msgspec.Struct):
    """A trial that begins with the first use."""

    lasts_s: int
    then: tuple[msgspec.Raw, ...]
    until_at: datetime | None = None


class _StoredTerms(msgspec.Struct):
    """Terms; their phases stay text, for many subscriptions have the same one before they begin."""

    phases: tuple[msgspec.Raw, ...]
    first_use: _StoredTrial | None = None


_terms = msgspec.json.Decoder(_StoredTerms)
_stored_phase = msgspec.json.Decoder(_StoredPhase)
_stored_grant = msgspec.json.Decoder(_StoredGrant)
_limit = msgspec.json.Decoder(Limit)
_scopes = msgspec.json.Decoder(frozenset[str])
_features = msgspec.json.Decoder(dict[str, Feature])
_license = msgspec.json.Decoder(_StoredLicense)


def encode_terms(terms: Terms) -> dict[str, Any]:
    """Return `terms` as JSON-able values, for the column `licenses.terms`."""
    document: dict[str, Any] = plain(terms)
    return document


def decode_terms(text: bytes) -> Terms:
    """Return the terms in the JSON `text`; raise ValueError when they cannot be read."""
    stored, trial = read(_terms, text), None
    if stored.first_use is not None:
        then = _phases(stored.first_use.then)
        trial = FirstUseTrial(stored.first_use.lasts_s, then, stored.first_use.until_at)
    terms = Terms(_phases(stored.phases), trial)
    if not terms.phases or (terms.first_use and not terms.first_use.then):
        message = "terms without a phase"
        raise ValueError(message)
    grants = [grant for phase in terms.every_phase for grant in (phase.grant, phase.shadow) if grant is not None]
    limits = [limit for grant in grants for limit in grant.limits]
    anchors = [limit.calendar.anchor_at for limit in limits if limit.calendar is not None]
    until_at = terms.first_use.until_at if terms.first_use else None
    _require_offsets(*(phase.starts_at for phase in terms.every_phase), *anchors, until_at)
    return terms


class SharedTerms:
    """Reads terms; as long as any license has them, equal texts give the same object.

    Known by content, not by id and generation: a restored database may give those again.
    """

    def __init__(self) -> None:
        """Know none."""
        self._known: WeakValueDictionary[bytes, Terms] = WeakValueDictionary()

    def __call__(self, text: bytes) -> Terms:
        """Return the terms in the JSON `text`; raise ValueError when they cannot be read."""
        key = blake2b(text, digest_size=16).digest()
        terms = self._known.get(key)
        if terms is None:
            terms = self._known[key] = decode_terms(text)
        return terms


def encode_license(entry: License) -> dict[str, Any]:
    """Return a license as JSON-able values, in the shape `find_license_v1` has."""
    own = {name: getattr(entry, name) for name in _StoredLicense.__struct_fields__}
    document: dict[str, Any] = plain(own | {"networks": [str(network) for network in entry.networks]})
    return document


def decode_license(text: str | bytes, terms_of: Callable[[bytes], Terms] = decode_terms) -> License:
    """Return the license in the JSON `text`; raise ValueError when it cannot be read.

    `terms_of` reads the terms: pass a `SharedTerms` and the tokens of a subscription share one object.
    """
    stored = read(_license, text)
    own = (stored.not_before_at, stored.expires_at, stored.revoked_at, stored.disabled_at, stored.first_used_at)
    _require_offsets(*own)
    return License(
        customer=intern(stored.customer),  # one text for all tokens of an owner: a million are held
        customer_status=stored.customer_status,
        subscription=intern(stored.subscription),
        family=stored.family,
        token=stored.token,
        terms=terms_of(bytes(stored.terms)),
        generation=stored.generation,
        scopes=stored.scopes,
        networks=tuple(ip_network(network) for network in stored.networks),
        not_before_at=stored.not_before_at,
        expires_at=stored.expires_at,
        revoked_at=stored.revoked_at,
        disabled_at=stored.disabled_at,
        first_used_at=stored.first_used_at,
    )


def _phases(stored: tuple[msgspec.Raw, ...]) -> tuple[Phase, ...]:
    return tuple([_phase(bytes(phase)) for phase in stored])  # of a list, for else it is larger than it needs to be


@lru_cache(_SHARED_PHASES)
def _phase(text: bytes) -> Phase:
    stored = read(_stored_phase, text)
    return Phase(
        starts_at=stored.starts_at,
        standing=stored.standing,
        grant=_grant(bytes(stored.grant)),
        is_unpaid=stored.is_unpaid,
        counters=stored.counters,
        shadow=None if bytes(stored.shadow) == b"null" else _grant(bytes(stored.shadow)),
    )


@lru_cache(_SHARED)
def _grant(text: bytes) -> Grant:
    """Return a grant; equal texts give the same object, and so do equal parts of them: most customers' are equal."""
    stored = read(_stored_grant, text)
    return Grant(
        plan=intern(stored.plan),
        plan_key=intern(stored.plan_key),
        scopes=_part(_scopes, bytes(stored.scopes)),
        features=_part(_features, bytes(stored.features)),
        limits=tuple(_part(_limit, bytes(limit)) for limit in stored.limits),
        upgrade_url=None if stored.upgrade_url is None else intern(stored.upgrade_url),
    )


@lru_cache(_SHARED)
def _part(decoder: msgspec.json.Decoder[_T], text: bytes) -> _T:
    return read(decoder, text)


def plain(value: object) -> Any:  # noqa: ANN401 - JSON may be any of its types
    """Return a value as JSON-able ones, keys of mappings sorted."""
    # By way of text: what is compared with what Postgres gives back has lists, not tuples.
    return msgspec.json.decode(msgspec.json.encode(value, order="deterministic"))


def read(decoder: msgspec.json.Decoder[_T], text: str | bytes) -> _T:
    """Return what `decoder` makes of the JSON `text`; raise ValueError when it cannot."""
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        message = f"stored in a form this version cannot read: {error}"
        raise ValueError(message) from None


def _require_offsets(*instants: datetime | None) -> None:
    for at in instants:
        if at is not None and at.tzinfo is None:
            message = f"{at.isoformat()} has no offset from UTC"
            raise ValueError(message)
