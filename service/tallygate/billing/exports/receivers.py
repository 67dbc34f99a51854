"""Makes of a configured export what sends it."""

from collections.abc import Sequence
from datetime import timedelta

from tallygate.billing.exports import lago, stripe
from tallygate.billing.exports.archive import Archive
from tallygate.billing.exports.cloudevents import CloudEvents, secret_bytes
from tallygate.billing.exports.config import (
    CloudEventsExport,
    Export,
    FilesExport,
    LagoExport,
    OpenMeterExport,
    StripeExport,
)
from tallygate.billing.exports.http import Poster
from tallygate.billing.exports.postgres import PostgresExports
from tallygate.billing.exports.receiver import Receiver
from tallygate.billing.exports.sender import Sender
from tallygate.core.clock import Clock

OPENMETER_PATH = "/api/v1/events"
Exporter = Sender | Archive


def exporters(configured: Sequence[Export], exports: PostgresExports, clock: Clock) -> list[Exporter]:
    """Return what sends each of these exports."""
    return [_exporter(export, exports, clock) for export in configured]


def forgets_after(export: Export) -> timedelta | None:
    """Return after what time what is sent again would count again; None: never."""
    return stripe.Stripe.remembers if isinstance(export, StripeExport) else None


def _exporter(export: Export, exports: PostgresExports, clock: Clock) -> Exporter:
    if isinstance(export, FilesExport):
        return Archive(
            export.name, export.told(), export.directory, exports, clock, kind=export.format, shape=export.columns
        )
    return Sender(export.name, export.told(), _receiver(export, clock), exports, clock)


def _receiver(export: StripeExport | LagoExport | OpenMeterExport | CloudEventsExport, clock: Clock) -> Receiver:
    paths = {StripeExport: stripe.PATH, LagoExport: lago.PATH, OpenMeterExport: OPENMETER_PATH, CloudEventsExport: ""}
    address = export.url.rstrip("/") + paths[type(export)] if paths[type(export)] else export.url
    poster = Poster(address, key=export.key.get_secret_value(), deadline_s=export.deadline_s)
    match export:
        case StripeExport():
            return stripe.Stripe(poster)
        case LagoExport():
            return lago.Lago(poster)
        case OpenMeterExport():
            return CloudEvents(poster, clock, source=export.source)
        case CloudEventsExport():
            secret = export.secret.get_secret_value()
            return CloudEvents(poster, clock, source=export.source, secret=secret_bytes(secret) if secret else b"")
