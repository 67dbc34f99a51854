"""Route rules: which part of the API a request asks for, and what it costs there.

The first rule that matches decides. A template's segments are literal, `{name}` for exactly one segment,
or a final `**` for any number of them. A rule for GET also covers HEAD, and a trailing slash is the same
path, because upstreams commonly treat them so and a rule must not be walked around.

Owns also what a meter's policy is: what becomes of the units a request was charged once its outcome is known.
Who reads the outcome, and what is made of it, are elsewhere.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import quote, unquote_to_bytes

_LITERALS = "!$&'()*+,=:@{}"  # besides letters, digits, - . _ ~ and the slash: what is written undecoded
_PLAIN = re.compile(r"[A-Za-z0-9\-._~/" + re.escape(_LITERALS) + "]*")
_AMBIGUOUS = re.compile(
    r"//|[\\;#\x00-\x1f\x7f]"  # read in several ways, or cut away, when they stand as they are
    r"|%(?:2[fF]|5[cC]|3[bB]|25|[01][0-9a-fA-F]|7[fF])"  # the same encoded: / \ ; % and control characters
    r"|%(?![0-9a-fA-F]{2})"  # no encoding at all
    r"|(?:^|/)(?:\.|%2[eE]){1,2}(?:/|$)"  # dot segments
)
_MEMOISED_CHARS = 256
_LONGEST_PATH = 8192
DEFAULT_METER = "requests"
DEFAULT_WITHIN_S = 600
_NO_METERS: Mapping[str, str | None] = MappingProxyType({})


class ActualSource(StrEnum):
    """Where the true number of a meter's units is found once the request is over."""

    BYTES_SENT = "bytes_sent"
    BYTES_RECEIVED = "bytes_received"
    BYTES = "bytes"
    HEADER = "header"
    TRAILER = "trailer"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class MeterPolicy:
    """What becomes of a meter's units once the outcome of a request is known.

    A response whose status is in a range of `refund_on` (inclusive, ascending, apart) gives them back. Otherwise
    `actual` tells where their true number is; for a header or a trailer of the response `field_name` is its
    name, lower case. Requests that nobody settles within `within_s` seconds keep what they were charged; with
    `is_refunded_unsettled` they are given it back.
    """

    meter: str
    refund_on: tuple[tuple[int, int], ...] = ()
    actual: ActualSource | None = None
    field_name: str = ""
    within_s: int = DEFAULT_WITHIN_S
    is_refunded_unsettled: bool = False


@dataclass(frozen=True, slots=True)
class RouteRule:
    """Method (`*` for any) and path template, the units per meter, and what the caller needs.

    `costs` are (meter, units) pairs; units of 0 look without spending. `policies` are those of the meters it
    costs, in the order of their names; they come with the table in force, not with what an author wrote.
    """

    method: str
    template: str
    costs: tuple[tuple[str, int], ...] = ((DEFAULT_METER, 1),)
    scope: str | None = None
    feature: str | None = None
    policies: tuple[MeterPolicy, ...] = ()

    @property
    def text(self) -> str:
        """Return the rule as it is written: `GET /v1/reports/{id}`."""
        return f"{self.method} {self.template}"


def policies_of(costs: Iterable[tuple[str, int]], policies: Mapping[str, MeterPolicy]) -> tuple[MeterPolicy, ...]:
    """Return what a rule with these `costs` has of the `policies` (by meter), in the order of the meters' names."""
    return tuple(policies[meter] for meter, _ in sorted(costs) if meter in policies)


EVERYTHING = RouteRule("*", "/**")
"""The rule in force where no catalogue names routes: any request costs one."""


class RouteTable:
    """Compiled route rules; matching tries one regular expression per rule. Paths of usual length are remembered."""

    def __init__(self, rules: tuple[RouteRule, ...], meters: Mapping[str, str | None] = _NO_METERS) -> None:
        """Compile `rules`, none at all meaning `EVERYTHING`; `meters` has each declared meter's parent or None."""
        self.rules = rules or (EVERYTHING,)
        self.meters = meters
        self._compiled = tuple((rule, re.compile(_pattern(rule.template))) for rule in self.rules)
        self._remembered = lru_cache(maxsize=8192)(self._look_up)
        # Of two rules with one text the first decides, here as in matching.
        self._by_text = {rule.text: rule for rule in reversed(self.rules)}

    def by_text(self, text: str) -> RouteRule | None:
        """Return the rule that is written so (`GET /v1/reports/{id}`), None when the table has none such now."""
        return self._by_text.get(text)

    def look_up(self, method: str, target: str) -> tuple[str | None, RouteRule | None]:
        """Return the `normal_path` of a request target, None in doubt, and the first rule for it, None for none."""
        path = target.partition("?")[0]
        return (self._remembered if len(method) + len(path) <= _MEMOISED_CHARS else self._look_up)(method, path)

    def _look_up(self, method: str, path: str) -> tuple[str | None, RouteRule | None]:
        normal = normal_path(path)
        return normal, None if normal is None else self.match(method, normal)

    def match(self, method: str, path: str) -> RouteRule | None:
        """Return the first rule for this method and `normal_path`, None when no rule is."""
        # Upstreams exist that take `get` for GET: a rule must not depend on it.
        method = method.upper()
        method = "GET" if method == "HEAD" else method
        for rule, pattern in self._compiled:
            if rule.method in ("*", method) and pattern.fullmatch(path):
                return rule
        return None


def normal_path(target: str) -> str | None:
    """Return the path of a request target as rules see it, or None when its meaning is in doubt.

    The query is cut at the first `?` by hand, for URL libraries have been fooled here. What remains is
    brought to one spelling per octet (RFC 3986 §6.2.2): `%41` is `A`, `%2a` and `%2A` are `*`, a space is
    `%20`. Doubled slashes, dot segments, encoded slashes and backslashes, path parameters, fragments,
    control characters, encoded percent signs and octets that are not UTF-8 are refused: an upstream may
    read them as another path than the one a rule was matched on. So are paths of more than 8,192
    characters, which would hold up everybody else's requests.
    """
    path = target.partition("?")[0]
    if len(path) > _LONGEST_PATH or not path.startswith("/") or _AMBIGUOUS.search(path):
        return None
    if not _PLAIN.fullmatch(path):
        try:
            octets = unquote_to_bytes(path)
            octets.decode()
        except UnicodeError:
            return None
        path = quote(octets, safe="/" + _LITERALS)
    return path.rstrip("/") or "/"


def _pattern(template: str) -> str:
    segments = template.strip("/").split("/") if template.strip("/") else []
    pattern = ""
    for segment in segments:
        if segment == "**":
            pattern += "(?:/.*)?"
        elif segment.startswith("{"):
            pattern += "/[^/]+"
        else:
            pattern += "/" + re.escape(segment)
    return pattern or "/"
