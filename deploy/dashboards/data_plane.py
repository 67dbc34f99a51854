"""The board of whoever runs it: what processes lean on, what they wait for, whether usage reaches the ledger.

Its last three rows are in `bookkeeping`.
"""

from deploy.dashboards.bookkeeping import RESULTS, exported, ledger, outcomes
from deploy.dashboards.frame import choices, framed
from deploy.dashboards.panels import BAD, CALM, GOOD, WARN, Ask, Look, Section, bars, lines, number, runbook
from deploy.dashboards.series import JOB, grown, of, quantile, rate

_UP = {"1": ("up", GOOD), "0": ("down", BAD)}
_ONE = Look("none", decimals=0, base=BAD, steps=[(1, GOOD)], words=_UP)
_STATES = {"ready": GOOD, "alone": GOOD, "starting": CALM, "draining": WARN, "waiting": BAD}
_SECONDS = Look("s")


def board() -> str:
    """Return the board's JSON."""
    return framed(
        "data-plane",
        "Data plane",
        "Cache, counters, dependencies, processes, ledger, outcomes and exports.",
        # Every process has CPU and memory: all jobs are all of ours.
        [choices("job", "Job", of("tallygate_build_info"), everything=None)],
        [
            ("Now", _now()),
            ("Licenses and counters", _counters()),
            ("Without the counters", _degraded()),
            ("Processes", _processes()),
            ("Ledger", ledger()),
            ("Outcomes and traces", outcomes()),
            ("Exports", exported()),
        ],
    )


def _quantiles(histogram: str, *, has_exemplars: bool = False) -> list[Ask]:
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return [Ask(quantile(part, histogram, JOB), name, has_exemplars) for name, part in shares.items()]


def _dependency(name: str) -> Ask:
    up = of("tallygate_dependency_up", JOB, f'dependency="{name}"')
    return Ask(f"min({up})")


def _now() -> Section:
    stale = of("tallygate_license_staleness_seconds", JOB)
    return [
        number(
            "Redis",
            "Down while at least one process gets no answer of it. Limits then do what their `fail` says."
            + runbook("dependency-down"),
            _ONE,
            _dependency("redis"),
        ),
        number(
            "Postgres",
            "Down while at least one process gets no answer of it. Known tokens work on for an hour; nothing can be "
            "changed." + runbook("dependency-down"),
            _ONE,
            _dependency("postgres"),
        ),
        number(
            "Degraded decisions",
            "Decided without the counters. Usual: 0." + runbook("degraded-decisions"),
            Look("reqps", decimals=1, steps=[(0.001, BAD)]),
            Ask(rate("tallygate_degraded_decisions_total", JOB)),
        ),
        number(
            "License staleness",
            "The stalest process: so long a revoked token may still be accepted. Usual: 0 to 5 s."
            + runbook("revocations-late", "licenses-stale"),
            Look("s", steps=[(10, WARN), (30, BAD)]),
            Ask(f"max({stale})"),
        ),
        number(
            "Ledger lag",
            "Usage older than this is in Postgres. Usual: about 70 s, for a minute is moved when it is over."
            + runbook("ledger-lag"),
            Look("s", steps=[(150, WARN), (300, BAD)]),
            Ask(f"max({of('tallygate_usage_ledger_lag_seconds', JOB)})"),
        ),
        number(
            "Processes that decide",
            "Of `tallygate serve`, as Prometheus sees them; and how many workers lead: it should be one."
            + runbook("processes-away", "leader"),
            Look("none", decimals=0, base=BAD, steps=[(1, CALM)]),
            Ask(f"count({stale})", "serve"),
            Ask(f"sum({of('tallygate_worker_leads', JOB)})", "leaders"),
        ),
    ]


def _counters() -> Section:
    cache = "tallygate_license_cache_total"
    batch = "tallygate_limiter_batch_size"
    return [
        lines(
            "Time of a check",
            "In Tallygate, of the chosen jobs. Points are single checks, with the id of their decision, where "
            "Prometheus keeps exemplars." + runbook("latency-budget"),
            Look("s", steps=[(0.01, BAD)]),
            *_quantiles("tallygate_check_duration_seconds", has_exemplars=True),
        ),
        lines(
            "Time of a call to the counters",
            "Redis and the way there: usually most of a check's time. It rises: Redis is busy, is writing a "
            "snapshot, or is far." + runbook("latency-budget"),
            _SECONDS,
            *_quantiles("tallygate_limiter_duration_seconds"),
        ),
        lines(
            "Calls that share one write",
            "Checks of one moment go to Redis together. More under load is as it should be: it saves its CPU.",
            Look("short", decimals=1),
            Ask(f"{rate(f'{batch}_sum', JOB)} / ({rate(f'{batch}_count', JOB)} > 0)", "mean"),
            Ask(quantile(0.99, batch, JOB), "p99"),
        ),
        lines(
            "License cache by result",
            "A miss reads Postgres. Right after a start there are many; then few, unless the cache is too small "
            "(TALLYGATE_LICENSE_CACHE_MIB) or tokens are invented." + runbook("latency-budget", "unknown-tokens"),
            Look("reqps", colours={"hit": GOOD, "miss": WARN}),
            Ask(rate(cache, JOB, by="result"), "{{result}}"),
            is_stacked=True,
        ),
        lines(
            "License staleness by process",
            "Since when a process has not known of every change. Usual: 0 to 5 s; from 30 s on somebody is woken."
            + runbook("revocations-late"),
            Look("s", steps=[(30, BAD)]),
            Ask(of("tallygate_license_staleness_seconds", JOB), "{{instance}}"),
        ),
        lines(
            "Leased requests by result",
            "Of limits with `exactness: leased`: paid for ahead of need (`granted`), used (`spent`), given back "
            "(`returned`), or lost with a process that was killed. All 0: nothing is leased.",
            Look("reqps", colours=RESULTS),
            Ask(rate("tallygate_leased_requests_total", JOB, by="result"), "{{result}}"),
        ),
    ]


def _degraded() -> Section:
    return [
        lines(
            "Dependencies",
            "Each is 1 while it answers every process of a job, 0 while it does not." + runbook("dependency-down"),
            Look("none", decimals=0, maximum=1),
            Ask(f"min by (job, dependency) ({of('tallygate_dependency_up', JOB)})", "{{job}} · {{dependency}}"),
        ),
        lines(
            "Degraded decisions by policy",
            "`local` counts in each process alone, `open` lets pass, `closed` refuses. Usual: none."
            + runbook("degraded-decisions"),
            Look("reqps", colours={"closed": BAD, "open": WARN, "local": "yellow"}),
            Ask(rate("tallygate_degraded_decisions_total", JOB, by="policy"), "{{policy}}"),
            is_stacked=True,
        ),
        lines(
            "Requests admitted without the counters",
            "What became of their usage: `told` to the ledger once Redis was back, `lost`, or `unclear`. `lost` is "
            "not billed." + runbook("usage-lost"),
            Look("reqps", colours={**RESULTS, "unclear": WARN}),
            Ask(rate("tallygate_degraded_requests_total", JOB, by="result"), "{{result}}"),
            is_stacked=True,
        ),
    ]


def _processes() -> Section:
    serving, workers = of("tallygate_license_staleness_seconds", JOB), of("tallygate_workers", JOB)
    alone = f'label_replace(count({serving} unless on (job, instance) {workers}), "state", "alone", "", "")'
    return [
        lines(
            "Workers by state",
            "Of `serve` with several workers; all should be `ready`. `alone` are processes that are their own only "
            "worker." + runbook("worker-restarts"),
            Look("none", decimals=0, colours=_STATES),
            Ask(f"sum by (state) ({workers}) or {alone}", "{{state}}"),
            is_stacked=True,
        ),
        lines(
            "Event-loop lag",
            "How late the loop wakes: every request waits beside it. Usual: below 5 ms; more is too little CPU, "
            "often a CPU limit." + runbook("latency-budget"),
            _SECONDS,
            *_quantiles("tallygate_event_loop_lag_seconds"),
        ),
        bars(
            "Restarts in the time shown",
            "Workers that ended unasked and were started again, and processes that began anew (a container that was "
            "restarted). Usual: 0, but for deployments." + runbook("worker-restarts"),
            Look("none", decimals=0, steps=[(1, WARN), (4, BAD)]),
            # One process alone has no supervisor, and so no such series: none were started again.
            Ask(f"{grown('tallygate_worker_restarts_total', JOB)} or vector(0)", "workers"),
            Ask(f"sum by (job) (changes({of('process_start_time_seconds', JOB)}[$__range]))", "{{job}}"),
        ),
        lines(
            "CPU",
            "CPUs that each process uses; with several workers, all of them. One worker at 1 can do no more: add "
            "replicas or workers.",
            Look("none", decimals=2),
            Ask(f"rate({of('process_cpu_seconds_total', JOB)}[$__rate_interval])", "{{job}} · {{instance}}"),
        ),
        lines(
            "Memory",
            "Of each process and its workers. It grows with the license cache, up to TALLYGATE_LICENSE_CACHE_MIB a "
            "worker, then stays.",
            Look("bytes"),
            Ask(of("process_resident_memory_bytes", JOB), "{{job}} · {{instance}}"),
        ),
        lines(
            "Open files",
            "Share of what the system allows, of the process nearest to it. Connections of Envoy are most of it. "
            "Usual: below 10%.",
            Look("percentunit", decimals=1, maximum=1, steps=[(0.8, BAD)]),
            Ask(f"{of('process_open_fds', JOB)} / {of('process_max_fds', JOB)}", "{{job}} · {{instance}}"),
        ),
    ]
