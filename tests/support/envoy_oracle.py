"""Envoy's own messages as somebody else compiled them: `envoy-data-plane`, in pure Python.

An independent reading of what Tallygate writes, and an independent writing of what it reads. Messages are
built here, not in tests: their classes look names up where they are first used.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta

with warnings.catch_warnings():
    # Its classes use a form of validator that pydantic has deprecated; that is not ours to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    from envoy_data_plane.envoy.config.core.v3 import (
        Address,
        HeaderMap,
        HeaderValue,
        HeaderValueOption,
        HeaderValueOptionHeaderAppendAction,
        Metadata,
        QueryParameter,
        SocketAddress,
    )
    from envoy_data_plane.envoy.data.accesslog.v3 import (
        AccessLogCommon,
        AccessLogType,
        HttpAccessLogEntry,
        HttpRequestProperties,
        HttpResponseProperties,
    )
    from envoy_data_plane.envoy.service.accesslog.v3 import (
        StreamAccessLogsMessage,
        StreamAccessLogsMessageHttpAccessLogEntries,
        StreamAccessLogsMessageIdentifier,
        StreamAccessLogsResponse,
    )
    from envoy_data_plane.envoy.service.auth.v3 import (
        AttributeContext,
        AttributeContextHttpRequest,
        AttributeContextPeer,
        AttributeContextRequest,
        CheckRequest,
        CheckResponse,
        DeniedHttpResponse,
        OkHttpResponse,
    )
    from envoy_data_plane.envoy.type.v3 import HttpStatus
    from envoy_data_plane.google.protobuf import Struct
    from envoy_data_plane.google.rpc import Status

__all__ = [
    "MESSAGES",
    "CheckResponse",
    "check_request",
    "headers_of",
    "log_entry",
    "log_message",
    "parse_response",
    "wire_fields",
]

MESSAGES: dict[str, type] = {
    "SocketAddress": SocketAddress,
    "Address": Address,
    "HeaderValue": HeaderValue,
    "HeaderMap": HeaderMap,
    "AttributeContext": AttributeContext,
    "AttributeContext.Peer": AttributeContextPeer,
    "AttributeContext.Request": AttributeContextRequest,
    "AttributeContext.HttpRequest": AttributeContextHttpRequest,
    "CheckRequest": CheckRequest,
    "Status": Status,
    "HttpStatus": HttpStatus,
    "HeaderValueOption": HeaderValueOption,
    "QueryParameter": QueryParameter,
    "DeniedHttpResponse": DeniedHttpResponse,
    "OkHttpResponse": OkHttpResponse,
    "CheckResponse": CheckResponse,
    "Metadata": Metadata,
    "AccessLogCommon": AccessLogCommon,
    "HTTPRequestProperties": HttpRequestProperties,
    "HTTPResponseProperties": HttpResponseProperties,
    "HTTPAccessLogEntry": HttpAccessLogEntry,
    "StreamAccessLogsMessage": StreamAccessLogsMessage,
    "StreamAccessLogsMessage.HTTPAccessLogEntries": StreamAccessLogsMessageHttpAccessLogEntries,
    "StreamAccessLogsResponse": StreamAccessLogsResponse,
}
"""Envoy's messages by the names we give ours."""
_EXT_AUTHZ = "envoy.filters.http.ext_authz"
_LENGTH_DELIMITED = {"string", "bytes", "message", "map"}


def check_request(
    *,
    http_id: str = "17",
    method: str = "GET",
    path: str = "/v1/things?a=b",
    headers: Mapping[str, str] | None = None,
    raw_headers: Sequence[tuple[str, bytes]] | None = None,
    source: str = "192.0.2.7",
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes Envoy would send; `raw_headers` stand in `header_map`, as with `encode_raw_headers`."""
    header_map = None
    if raw_headers is not None:
        header_map = HeaderMap(headers=[HeaderValue(key=name, raw_value=value) for name, value in raw_headers])
    http = AttributeContextHttpRequest(
        id=http_id,
        method=method,
        path=path,
        headers=dict(headers or {}),
        header_map=header_map,
        host="api.example.com",
        scheme="https",
        size=-1,
        protocol="HTTP/1.1",
    )
    peer = AttributeContextPeer(address=Address(socket_address=SocketAddress(address=source, port_value=40000)))
    destination = AttributeContextPeer(address=Address(socket_address=SocketAddress(address="192.0.2.1")))
    request = AttributeContextRequest(http=http)
    told = dict(extensions or {})
    context = AttributeContext(source=peer, destination=destination, request=request, context_extensions=told)
    return bytes(CheckRequest(attributes=context))


def parse_response(answer: bytes) -> CheckResponse:
    """Read the bytes Tallygate would send; there must be no field that Envoy does not know."""
    with warnings.catch_warnings():
        # `append` is deprecated, and on purpose sent: older Envoys obey nothing else.
        warnings.simplefilter("ignore", DeprecationWarning)
        response = CheckResponse.parse(answer)
    assert not response._unknown_fields
    return response


def headers_of(options: Sequence[HeaderValueOption]) -> dict[str, str]:
    """Return headers by name; each must replace what is there, in every version of Envoy."""
    for option in options:
        assert option.append is False
        assert option.append_action is HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    named = [option.header for option in options if option.header is not None]
    assert len({header.key for header in named}) == len(options)
    return {header.key: header.value for header in named}


def wire_fields(message: type) -> dict[str, tuple[int, bool]]:
    """Return each field's number, and whether it is length-delimited on the wire rather than a varint."""
    found = {field.name: field.metadata["betterproto"] for field in dataclasses.fields(message)}
    return {name: (meta.number, meta.proto_type in _LENGTH_DELIMITED) for name, meta in found.items()}


def log_entry(
    noted: Mapping[str, str] | None,
    *,
    status: int | None = 200,
    body_bytes: tuple[int, int] = (0, 0),
    headers: Mapping[str, str] | None = None,
    trailers: Mapping[str, str] | None = None,
    moment: str = "DownstreamEnd",
) -> HttpAccessLogEntry:
    """Return what Envoy logs of a request of which ext_authz noted so much; `body_bytes` are received and sent."""
    received, sent = body_bytes
    structs = {} if noted is None else {_EXT_AUTHZ: Struct.from_dict(dict(noted))}
    return HttpAccessLogEntry(
        common_properties=AccessLogCommon(
            metadata=Metadata(filter_metadata=structs),
            duration=timedelta(seconds=1.5),
            upstream_cluster="upstream",
            access_log_type=AccessLogType[moment],
        ),
        request=HttpRequestProperties(path="/v1/things", request_body_bytes=received),
        response=HttpResponseProperties(
            response_code=status,
            response_body_bytes=sent,
            response_headers=dict(headers or {}),
            response_trailers=dict(trailers or {}),
        ),
    )


def log_message(*entries: HttpAccessLogEntry) -> bytes:
    """Return the bytes of a message of Envoy's access log service."""
    return bytes(
        StreamAccessLogsMessage(
            identifier=StreamAccessLogsMessageIdentifier(log_name="tallygate"),
            http_logs=StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(entries)),
        )
    )
