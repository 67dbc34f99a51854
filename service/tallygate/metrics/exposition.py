"""Series as a scraper reads them: OpenMetrics, which alone has exemplars, for who asks for it; else plain text."""

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

_OPENMETRICS = "application/openmetrics-text"


def exposed(series: Collector, accept: str = "") -> tuple[bytes, str]:
    """Return the page and its media type, given what the `Accept` header says."""
    if any(each.partition(";")[0].strip() == _OPENMETRICS for each in accept.split(",")):
        return openmetrics(series), CONTENT_TYPE_LATEST
    return generate_latest(series), CONTENT_TYPE_PLAIN_0_0_4


def openmetrics(series: Collector) -> bytes:
    """Return everything there is to tell, exemplars too."""
    page: bytes = generate_openmetrics(series)  # type: ignore[no-untyped-call]  # it has no types
    return page
