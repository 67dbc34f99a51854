"""Build Envoy's messages, with the traps of its header mutation closed in one place.

Every header is sent with both `append=false` and OVERWRITE_IF_EXISTS_OR_ADD: versions of Envoy differ in
which of the two they obey, and either one's default appends, which lets a spoofed header live on. Values
hold no control character: a line break makes Envoy fail the whole request.
"""

from collections.abc import Mapping

from google.protobuf.struct_pb2 import Struct

from tallygate._proto.envoy.v3.base_pb2 import HeaderValue
from tallygate._proto.envoy.v3.external_auth_pb2 import DeniedHttpResponse, HeaderValueOption, HttpStatus

_LOWEST_STATUS, _HIGHEST_STATUS = 400, 599
_INTERNAL_SERVER_ERROR = 500


def header(name: str, value: str) -> HeaderValueOption:
    """Return a header that replaces every one of its name."""
    option = HeaderValueOption(
        header=HeaderValue(key=name, value=printable(value)),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    option.append.value = False
    return option


def headers(values: Mapping[str, str]) -> list[HeaderValueOption]:
    """Return a header for each value that is not empty."""
    return [header(name, value) for name, value in values.items() if value]


def denied_response(http_status: int, values: Mapping[str, str], body: str) -> DeniedHttpResponse:
    """Return a refusal; Envoy sends any status it is given, so what is no 4xx or 5xx becomes 500."""
    is_refusal = _LOWEST_STATUS <= http_status <= _HIGHEST_STATUS
    return DeniedHttpResponse(
        status=HttpStatus(code=http_status if is_refusal else _INTERNAL_SERVER_ERROR),
        headers=headers(values),
        body=well_formed(body),
    )


def struct(texts: Mapping[str, str], **numbers: Mapping[str, int]) -> Struct:
    """Return metadata of texts (empty ones left out) and of named groups of numbers."""
    made = Struct()
    for name, text in texts.items():
        if text:
            made.fields[name].string_value = well_formed(text)
    for group, members in numbers.items():
        inner = made.fields[group].struct_value
        for name, number in members.items():
            inner.fields[name].number_value = number
    return made


def printable(text: str) -> str:
    """Return `text` with everything but printable ASCII replaced by a question mark."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)


def well_formed(text: str) -> str:
    """Return `text` with lone surrogates replaced, which no protobuf string may hold."""
    return text.encode("utf-8", "replace").decode()
