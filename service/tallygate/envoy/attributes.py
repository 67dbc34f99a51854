"""Read Envoy's CheckRequest into a CheckInput.

Owns which of Envoy's attributes are believed: `http.id` is Envoy's own, `x-request-id` is the client's to
choose; `source` is always the direct peer, so the client behind a proxy is `x-envoy-external-address`, which
an edge Envoy sets itself (`use_remote_address`) and which must not reach us where it does not. Context extensions come
from Envoy's configuration alone, so a route rule that they name is believed.
Raises UnreadableRequestError, and nothing else.
"""

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from tallygate._proto.envoy.v3.base_pb2 import HeaderValue
from tallygate._proto.envoy.v3.external_auth_pb2 import AttributeContext, CheckRequest
from tallygate.core.errors import TallygateError
from tallygate.decision.decision import CheckInput

CLIENT_ADDRESS_HEADER = "x-envoy-external-address"
ROUTE_EXTENSION = "tallygate.route"
_OURS = "tallygate."


class UnreadableRequestError(TallygateError):
    """The bytes are no CheckRequest of an HTTP request."""


def read(request: bytes) -> CheckInput:
    """Return what Envoy tells of a request.

    Its headers are Envoy's map itself, which a request needs two or three names of: to be asked by `get` and `in`.
    Raises UnreadableRequestError when the bytes cannot be decoded or describe no HTTP request.
    """
    try:
        attributes = CheckRequest.FromString(request).attributes
    except DecodeError:
        raise UnreadableRequestError("the bytes are no CheckRequest") from None
    http = attributes.request.http
    method = http.method
    if not method:
        raise UnreadableRequestError("the CheckRequest describes no HTTP request")
    headers = _headers(http)
    extensions = attributes.context_extensions
    return CheckInput(
        method,
        http.path,
        headers,
        headers.get(CLIENT_ADDRESS_HEADER) or attributes.source.address.socket_address.address,
        http.id or None,
        _named_rule(extensions) if extensions else None,
    )


def _named_rule(extensions: Mapping[str, str]) -> str | None:
    """Return the route rule that the gateway names, None when it says nothing to us.

    An extension that has our prefix and no meaning, such as a typing error, is taken for the name: it is no rule's
    text, so the request is refused rather than decided as if nothing had been said.
    """
    unknown = next((key for key in extensions if key.startswith(_OURS) and key != ROUTE_EXTENSION), None)
    return extensions.get(ROUTE_EXTENSION) if unknown is None else unknown


def _headers(http: AttributeContext.HttpRequest) -> Mapping[str, str]:
    if http.HasField("header_map"):
        return _join(http.header_map.headers)
    # Names are in lower case here: Envoy knows no other (`HttpRequest.headers` in Envoy's own proto says so).
    return http.headers


def _join(headers: Iterable[HeaderValue]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for header in headers:
        name, text = header.key.lower(), _text(header)
        if name in joined:
            # Cookies alone are joined by a semicolon (RFC 9113 §8.2.3).
            text = joined[name] + ("; " if name == "cookie" else ",") + text
        joined[name] = text
    return joined


def _text(header: HeaderValue) -> str:
    if not header.raw_value:
        return header.value
    try:
        return header.raw_value.decode()
    except UnicodeDecodeError:
        # Every byte has a meaning in Latin-1: strange bytes become a strange token, not a failure.
        return header.raw_value.decode("latin-1")
