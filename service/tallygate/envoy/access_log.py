"""Read Envoy's access log entries: how the requests ended that Tallygate let pass.

Owns which entries tell of an end, and where in them Tallygate's own metadata stand. Does not own what follows from an
outcome (`decision/outcomes`). Pure. Failure: UnreadableLogError for bytes that are no message of this service.
"""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from tallygate._proto.envoy.v3.accesslog_pb2 import HTTPAccessLogEntry, StreamAccessLogsMessage
from tallygate.core.errors import InputError
from tallygate.decision.outcomes import Outcome, read_receipt

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
STREAM_PATH = f"/{SERVICE}/StreamAccessLogs"
_FILTER = "envoy.filters.http.ext_authz"
# Envoy's AccessLogType: not told by older ones, or the end of a request. Others tell of a request that goes on.
_ENDS = frozenset({0, 6})


class UnreadableLogError(InputError):
    """The bytes are no message of the access log service."""


def read(message: bytes) -> Iterator[Outcome | None]:
    """Yield for each entry of a StreamAccessLogsMessage how its request ended, None where it left no receipt.

    Raises UnreadableLogError when the bytes cannot be decoded, before anything is yielded.
    """
    try:
        entries = StreamAccessLogsMessage.FromString(message).http_logs.log_entry
    except DecodeError:
        raise UnreadableLogError("message", "the bytes are no StreamAccessLogsMessage") from None
    return map(_outcome, entries)


def _outcome(entry: HTTPAccessLogEntry) -> Outcome | None:
    common, response = entry.common_properties, entry.response
    noted = common.metadata.filter_metadata
    if common.access_log_type not in _ENDS or _FILTER not in noted:
        return None
    fields = noted[_FILTER].fields
    receipt = read_receipt(f"{fields['customer'].string_value}:{fields['receipt'].string_value}")
    if receipt is None:
        return None
    customer, receipt_id = receipt
    return Outcome(
        customer=customer,
        receipt=receipt_id,
        route=fields["route"].string_value,
        status=response.response_code.value,
        bytes_sent=response.response_body_bytes,
        bytes_received=entry.request.request_body_bytes,
        headers=dict(response.response_headers),
        trailers=dict(response.response_trailers),
        duration_s=common.duration.seconds + common.duration.nanos / 1e9,
    )
