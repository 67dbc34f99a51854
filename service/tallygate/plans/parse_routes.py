"""Reading route rules.

Owns which templates are allowed: those that can match a path as `licenses.routes.normal_path` leaves it.
A rule that cannot be read is noted and left out.
"""

import re

from tallygate.licenses.routes import DEFAULT_METER, RouteRule, normal_path
from tallygate.limits.limit import EXACT_INTEGER
from tallygate.plans.fields import NAME, NAME_MEND, Field, Record
from tallygate.plans.parse_features import FEATURE_KEY, FEATURE_MEND
from tallygate.plans.parse_meters import KnownMeters
from tallygate.plans.parse_plan import SCOPE, SCOPE_MEND
from tallygate.plans.problems import shown

ReadRoute = tuple[Record, RouteRule]

MAXIMUM_ROUTES = 1000
METHOD = re.compile(r"\*|[A-Z][A-Z0-9_-]{0,31}")
_VARIABLE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-F]{2})*")
_MAXIMUM_LENGTH = 1024
_NOT_NORMAL = "no doubled slash, no dot segment, none of ; # and backslash, and no %2F, %5C, %25"
_MATCH_MEND = 'write "GET /v1/things/{id}"'


def read_routes(field: Field, meters: KnownMeters) -> list[ReadRoute | None]:
    """Return each rule with its place in the file, None for one that cannot be read."""
    items = field.items()
    if len(items) > MAXIMUM_ROUTES:
        field.wrong(f"has {len(items)} rules", f"at most {MAXIMUM_ROUTES}: a new path is compared with each in turn")
    routes: list[ReadRoute | None] = []
    above: list[RouteRule] = []
    for item in items[:MAXIMUM_ROUTES]:
        read = _read_rule(item, meters)
        if read is not None:
            hiding = next((rule for rule in above if covers(rule, read[1])), None)
            if hiding:
                item.wrong(f"is never reached: {shown(hiding.text)} above matches all of it", "move it up")
            above.append(read[1])
        routes.append(read if read and read[1].costs else None)
    return routes


def covers(earlier: RouteRule, later: RouteRule) -> bool:
    """Tell whether `earlier` matches every request that `later` does."""
    if earlier.method not in ("*", later.method):
        return False
    wide, narrow = _segments(earlier.template), _segments(later.template)
    for index, segment in enumerate(wide):
        if segment == "**":
            return True
        if index >= len(narrow) or narrow[index] == "**":
            return False
        if not segment.startswith("{") and segment != narrow[index]:
            return False
    return len(wide) == len(narrow)


def overlap(one: RouteRule, other: RouteRule) -> bool:
    """Tell whether some request matches both rules."""
    if "*" not in (one.method, other.method) and one.method != other.method:
        return False
    first, second = _segments(one.template), _segments(other.template)
    for left, right in zip(first, second, strict=False):
        if "**" in (left, right):
            return True
        if left != right and not left.startswith("{") and not right.startswith("{"):
            return False
    longer = (first if len(first) > len(second) else second)[min(len(first), len(second)) :]
    return not longer or longer[0] == "**"


def _read_rule(field: Field, meters: KnownMeters) -> ReadRoute | None:
    """Return a rule whose match can be read; one whose cost cannot has no costs."""
    record = field.record(("match", "cost", "scope", "feature"))
    match_field = record.need("match", _MATCH_MEND)
    matched = _read_match(match_field) if match_field else None
    cost_field = record.get("cost")
    costs = _read_costs(cost_field, meters) if cost_field else ((DEFAULT_METER, 1),)
    scope_field, feature_field = record.get("scope"), record.get("feature")
    scope = scope_field.matching(SCOPE, SCOPE_MEND) if scope_field else None
    feature = feature_field.matching(FEATURE_KEY, FEATURE_MEND) if feature_field else None
    if matched is None:
        return None
    return record, RouteRule(*matched, costs=costs or (), scope=scope, feature=feature)


def _read_match(field: Field) -> tuple[str, str] | None:
    text = field.text()
    if text is None:
        return None
    method, _, template = text.partition(" ")
    template = template.strip()
    if not template.startswith("/"):
        field.wrong(f"{shown(text)} is not a method, a space and a path", _MATCH_MEND)
        return None
    if not METHOD.fullmatch(method):
        field.wrong(
            f"{shown(method)} is not a method", f"write {method.upper()}" if method.isalpha() else "or * for any"
        )
        return None
    if method == "HEAD":
        field.wrong("a HEAD request is matched as GET", "write GET")
        return None
    wrong = _wrong_with(template)
    if wrong:
        field.wrong(*wrong)
        return None
    return method, template


def _wrong_with(template: str) -> tuple[str, str] | None:
    """Return what keeps a template from ever matching, and the mend; None when nothing does."""
    if len(template) > _MAXIMUM_LENGTH:
        return "the path is too long", f"at most {_MAXIMUM_LENGTH} characters"
    if "?" in template:
        return "a rule looks at the path, not at the query", f"write {template.partition('?')[0]}"
    normal = normal_path(template)
    if normal != template:
        return f"{shown(template)} is not a path in normal form", f"write {normal}" if normal else _NOT_NORMAL
    segments = _segments(template)
    for index, segment in enumerate(segments):
        if segment == "**" and index < len(segments) - 1:
            return "** stands for the rest of a path", "write it last, or {name} for one segment"
        if segment != "**" and not _VARIABLE.fullmatch(segment) and not _LITERAL.fullmatch(segment):
            return f"the segment {shown(segment)} is not allowed", "write text, {name} for one segment, or a last **"
    return None


def _segments(template: str) -> list[str]:
    return template[1:].split("/") if template != "/" else []


def _read_costs(field: Field, meters: KnownMeters) -> tuple[tuple[str, int], ...] | None:
    """Return the units by meter, in the order of the meters' names so that equal costs are equal values."""
    costs: list[tuple[str, int]] = []
    named = field.named()
    if not named:
        field.wrong("names no meter", "write {requests: 1}; {requests: 0} looks without spending")
    for meter, item in named.items():
        if not NAME.fullmatch(meter):
            item.wrong(f"{shown(meter)} is not a meter", NAME_MEND)
            continue
        meters.check_declared(meter, item)
        units = item.whole(0, EXACT_INTEGER)
        if units is not None:
            costs.append((meter, units))
    return tuple(sorted(costs)) if costs else None
