"""The PromQL that all boards share, so that an expression says what it asks and little else.

Every selector keeps to the installation that is chosen (`namespace`; "All" also matches targets without that label).
Rates are over `$__rate_interval`, which Grafana makes long enough for the scrape interval.
"""

HERE = 'namespace=~"$namespace"'
PLAN = 'plan=~"$plan"'
JOB = 'job=~"$job"'


def of(name: str, *matchers: str) -> str:
    """Return the series of this name here, narrowed by matchers such as `decision="deny"`."""
    return f"{name}{{{', '.join((HERE, *matchers))}}}"


def rate(name: str, *matchers: str, by: str = "") -> str:
    """Return how much a counter grows each second, over all processes, apart by these labels."""
    return f"sum{_by(by)} (rate({of(name, *matchers)}[$__rate_interval]))"


def grown(name: str, *matchers: str, by: str = "") -> str:
    """Return how much a counter has grown in the time that the board shows."""
    return f"sum{_by(by)} (increase({of(name, *matchers)}[$__range]))"


def quantile(share: float, histogram: str, *matchers: str) -> str:
    """Return what this share of a histogram's observations does not exceed."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', *matchers, by='le')})"


def told_once(name: str, labels: str, *matchers: str, by: str = "") -> str:
    """Return the sum of what the leading worker tells of the whole installation.

    Once, also where two tell it for a moment. `labels` are all that the series has, `by` those to keep.
    """
    return f"sum{_by(by)} (max by (namespace, {labels}) ({of(name, *matchers)}))"


def share(part: str, whole: str) -> str:
    """Return `part` as a share of `whole`: 0 where nothing counts in `part` yet, nothing where `whole` is 0."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
