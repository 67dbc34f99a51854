"""What values look like in bodies and parameters: instants, texts, ids, durations.

Each says in its schema what it takes, and takes no more: a client that keeps to the OpenAPI document is
never refused for a value's form.
"""

import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal

from fastapi import Body as FromBody
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    StrictBool,
    StrictInt,
    TypeAdapter,
    ValidationError,
)

from tallygate.limits.limit import EXACT_INTEGER

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_DAY_S = 86_400

# No control characters. What else cannot be printed is replaced: people paste it without seeing it.
_LINE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_FILLED_LINE = r"^[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
_REPLACED = "A character that cannot be printed is replaced."

_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"({_BYTE}\.){{3}}{_BYTE}(/(3[0-2]|[12]?[0-9]))?"
_GROUP = "[0-9A-Fa-f]{1,4}"
_SHORTENED = "|".join(f"({_GROUP}:){{1,{7 - tail}}}(:{_GROUP}){{1,{tail}}}" for tail in range(1, 7))
_IPV6 = f"(({_GROUP}:){{7}}{_GROUP}|({_GROUP}:){{1,7}}:|:((:{_GROUP}){{1,7}}|:)|{_SHORTENED})"
_NETWORK = f"^({_IPV4}|{_IPV6}(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$"
_ZONE = "^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"


def _instant_text(value: object) -> object:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("write an instant as RFC 3339 has it, such as 2027-01-31T12:00:00Z")
    return value.upper()


def _utc(value: datetime) -> datetime:
    # Compared before it is moved to UTC: at either end of the calendar there is no such instant.
    if value.replace(tzinfo=UTC) <= _FIRST or value.replace(tzinfo=UTC) >= _LAST:
        raise ValueError("lies outside the calendar")
    return value.astimezone(UTC)


def _when(value: object) -> object:
    if value in ("now", "period-end"):
        return value
    try:
        return _INSTANT.validate_python(value)
    except ValidationError:
        raise ValueError("write now, period-end, or an instant such as 2027-01-31T12:00:00Z") from None


def _printable(value: str) -> str:
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in value)


def _network(value: str) -> str:
    return str(ip_network(value, strict=False))


def _whole(value: object) -> object:
    """Return a whole number written as 7.0 as 7: to JSON they are the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _address(value: str) -> str:
    return str(ip_address(value))


Instant = Annotated[datetime, BeforeValidator(_instant_text), AfterValidator(_utc)]
_INSTANT = TypeAdapter[datetime](Instant)
When = Annotated[
    datetime | Literal["now", "period-end"],
    # Of one piece: of a union each member would be a mistake of its own, and in its name in the pointer.
    PlainValidator(_when, json_schema_input_type=Instant | Literal["now", "period-end"]),
    Field(description="An instant, `now`, or the end of the billing period under way."),
]
Flag = StrictBool
Text = Annotated[str, Field(max_length=200, pattern=_LINE, description=_REPLACED), AfterValidator(_printable)]
Name = Annotated[str, Field(max_length=200, pattern=_FILLED_LINE, description=_REPLACED), AfterValidator(_printable)]
Reason = Annotated[
    str,
    Field(max_length=500, pattern=_LINE, description=f"Why; kept in the audit log. {_REPLACED}"),
    AfterValidator(_printable),
]
Ref = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
PlanRef = Annotated[
    str, Field(max_length=80, pattern="^[a-z][a-z0-9_-]{0,62}(@[1-9][0-9]{0,8})?$", description="pro, or pro@3")
]
VersionRef = Annotated[
    str, Field(max_length=80, pattern="^[a-z][a-z0-9_-]{0,62}@[1-9][0-9]{0,8}$", description="pro@3")
]
PlanKey = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,62}$")]
VersionNumber = Annotated[int, Field(ge=1, le=999_999_999)]
BodyVersionNumber = Annotated[StrictInt, Field(ge=1, le=999_999_999), BeforeValidator(_whole)]
SubscriptionId = Annotated[str, Field(pattern="^sub_[0-9a-z]{26}$")]
TokenId = Annotated[str, Field(pattern="^tok_[0-9a-z]{26}$")]
FamilyId = Annotated[str, Field(pattern="^fam_[0-9a-z]{26}$")]
Scopes = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=200)]
Network = Annotated[str, Field(pattern=_NETWORK, examples=["203.0.113.0/24"]), AfterValidator(_network)]
Networks = Annotated[list[Network], Field(max_length=200)]
Timezone = Annotated[str, Field(pattern=_ZONE, description="An IANA name, such as Europe/Berlin.")]
BatchSize = Annotated[StrictInt, Field(ge=1, le=10_000, description="Tokens at most."), BeforeValidator(_whole)]
Whole = Annotated[StrictInt, BeforeValidator(_whole)]
Amount = Annotated[StrictInt, Field(ge=1, lt=EXACT_INTEGER), BeforeValidator(_whole)]
Seconds = Annotated[StrictInt, Field(ge=0, le=366 * _DAY_S, description="Seconds."), BeforeValidator(_whole)]
Address = Annotated[
    str, Field(json_schema_extra={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}), AfterValidator(_address)
]
JsonObject = dict[str, Any]


class Body(BaseModel):
    """A body: a JSON object with these members and no others."""

    model_config = ConfigDict(extra="forbid")


def one_of(**members: dict[str, JsonValue]) -> ConfigDict:
    """Return the configuration of a body that has at least one of these members, not null, each of this schema."""
    choices: list[JsonValue] = [{"required": [name], "properties": {name: schema}} for name, schema in members.items()]
    return ConfigDict(json_schema_extra={"anyOf": choices})


class Act(Body):
    """What every act takes: why it is done."""

    reason: Reason = ""


def seconds(count: int) -> timedelta:
    """Return a duration."""
    return timedelta(seconds=count)


Why = Annotated[Act, FromBody(default_factory=Act)]
