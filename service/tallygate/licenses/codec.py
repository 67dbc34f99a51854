"""Licenses, terms and routes as JSON, the form in which Postgres keeps them.

Readers are lenient about what they do not know (a newer Tallygate may have written it) and strict about
what they do: a wrong type, a value outside an enumeration or an instant without an offset is a ValueError.
Instants are written in RFC 3339, sets sorted, so the same terms are always the same text.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import ip_network
from typing import Any, TypeVar

import msgspec

from tallygate.licenses.license import CustomerStatus, License, Terms
from tallygate.licenses.routes import DEFAULT_METER, RouteRule

_T = TypeVar("_T")


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


class _StoredRule(msgspec.Struct):
    """A route rule as a plan file has it; `counts` is its cost with children counted in their parent meters."""

    match: str
    cost: dict[str, int] = msgspec.field(default_factory=lambda: {DEFAULT_METER: 1})
    scope: str | None = None
    feature: str | None = None
    counts: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


_terms = msgspec.json.Decoder(Terms)
_license = msgspec.json.Decoder(_StoredLicense)
_rules = msgspec.json.Decoder(list[_StoredRule])


def encode_terms(terms: Terms) -> dict[str, Any]:
    """Return `terms` as JSON-able values, for the column `licenses.terms`."""
    plain: dict[str, Any] = _plain(terms)
    return plain


def decode_terms(text: bytes) -> Terms:
    """Return the terms in the JSON `text`; raise ValueError when they cannot be read."""
    terms = _decode(_terms, text)
    if not terms.phases or (terms.first_use and not terms.first_use.then):
        message = "terms without a phase"
        raise ValueError(message)
    grants = [grant for phase in terms.every_phase for grant in (phase.grant, phase.shadow) if grant is not None]
    limits = [limit for grant in grants for limit in grant.limits]
    anchors = [limit.calendar.anchor_at for limit in limits if limit.calendar is not None]
    until_at = terms.first_use.until_at if terms.first_use else None
    _require_offsets(*(phase.starts_at for phase in terms.every_phase), *anchors, until_at)
    return terms


def encode_license(entry: License) -> dict[str, Any]:
    """Return a license as JSON-able values, in the shape `find_license_v1` has."""
    own = {name: getattr(entry, name) for name in _StoredLicense.__struct_fields__}
    plain: dict[str, Any] = _plain(own | {"networks": [str(network) for network in entry.networks]})
    return plain


def decode_license(text: str | bytes, terms_of: Callable[[bytes], Terms] = decode_terms) -> License:
    """Return the license in the JSON `text`; raise ValueError when it cannot be read.

    `terms_of` reads the terms: pass a memoised `decode_terms` and the tokens of a subscription share one
    Terms object.
    """
    stored = _decode(_license, text)
    own = (stored.not_before_at, stored.expires_at, stored.revoked_at, stored.disabled_at, stored.first_used_at)
    _require_offsets(*own)
    return License(
        customer=stored.customer,
        customer_status=stored.customer_status,
        subscription=stored.subscription,
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


def encode_routes(rules: Sequence[RouteRule]) -> list[dict[str, Any]]:
    """Return `rules` as the `routes` list of a plan file, for the column `route_tables.document`."""
    stored = [_StoredRule(rule.text, dict(rule.costs), rule.scope, rule.feature) for rule in rules]
    plain: list[dict[str, Any]] = _plain(stored)
    return plain


def decode_routes(text: str | bytes) -> tuple[RouteRule, ...]:
    """Return the rules in the JSON `text`, each one's costs by meter; raise ValueError when they cannot be read."""
    return tuple(_rule(stored) for stored in _decode(_rules, text))


def _rule(stored: _StoredRule) -> RouteRule:
    method, _, template = stored.match.partition(" ")
    if not method or not template.startswith("/"):
        message = f"{stored.match!r} is no method and path"
        raise ValueError(message)
    costs = stored.cost if stored.counts is msgspec.UNSET else stored.counts
    return RouteRule(method, template, tuple(sorted(costs.items())), stored.scope, stored.feature)


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON may be any of its types
    # By way of text: what is compared with what Postgres gives back has lists, not tuples.
    return msgspec.json.decode(msgspec.json.encode(value, order="deterministic"))


def _decode(decoder: msgspec.json.Decoder[_T], text: str | bytes) -> _T:
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
