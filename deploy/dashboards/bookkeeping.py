"""Three rows of the data plane's board: from counters to the ledger, and from the ledger to whoever bills."""

from deploy.dashboards.panels import BAD, CALM, GOOD, WARN, Ask, Look, Section, bars, lines, runbook
from deploy.dashboards.series import JOB, grown, of, rate

RESULTS = {"spent": GOOD, "granted": CALM, "lost": BAD, "dropped": BAD, "told": GOOD, "sent": GOOD, "aside": WARN}
"""Colours of what becomes of requests and entries."""


def ledger() -> Section:
    """Return whether usage reaches the ledger, and agrees with the counters."""
    return [
        lines(
            "Ledger lag by job",
            "Usage older than this is in Postgres. A saw between 60 and 130 s is usual; a line that climbs at one "
            "second a second means that nobody moves it." + runbook("ledger-lag", "leader"),
            Look("s", steps=[(300, BAD)]),
            Ask(f"max by (job) ({of('tallygate_usage_ledger_lag_seconds', JOB)})", "{{job}}"),
        ),
        lines(
            "Entries and backlog",
            "Entries that reach the ledger each second, and buckets left after a round. A backlog that stays is a "
            "Postgres that is slow." + runbook("ledger-lag"),
            Look("short", colours={"backlog": WARN}),
            Ask(rate("tallygate_usage_entries_total", JOB), "entries per second"),
            Ask(f"max({of('tallygate_usage_backlog_buckets', JOB)})", "backlog"),
        ),
        bars(
            "Not in the ledger",
            "Buckets of the time shown that were kept aside, for they cannot be read, or that expired unmoved: lost. "
            "Usual: 0." + runbook("usage-kept-aside", "usage-lost"),
            Look("none", decimals=0, steps=[(1, BAD)]),
            Ask(grown("tallygate_usage_unmoved_buckets_total", JOB, by="reason"), "{{reason}}"),
        ),
        lines(
            "Counters against the ledger",
            "The most units by which a quota's counter and the ledger differed when last compared. Right is 0."
            + runbook("reconciliation-difference"),
            Look("short", decimals=0, steps=[(1, BAD)]),
            Ask(f"max({of('tallygate_usage_reconciliation_difference_units', JOB)})", "difference, units"),
        ),
        lines(
            "Comparisons a minute",
            "Counters compared with the ledger, and those that moved just then and will be next time. None: nobody "
            "leads." + runbook("leader"),
            Look("short", decimals=0),
            Ask(f"60 * {rate('tallygate_usage_reconciliation_checked_total', JOB)}", "compared"),
            Ask(f"60 * {rate('tallygate_usage_reconciliation_skipped_total', JOB)}", "skipped"),
        ),
        bars(
            "Tokens by state",
            "All that were ever issued. A jump in `active` that you did not order: look at the audit log.",
            Look("short", decimals=0, base=CALM),
            Ask(f"max by (state) ({of('tallygate_tokens', JOB)})", "{{state}}"),
        ),
    ]


def outcomes() -> Section:
    """Return what becomes of requests once they are answered."""
    return [
        lines(
            "Outcomes by result",
            "What access logs told of requests: `none` had nothing to settle. `unknown` grows where logs come from "
            "an Envoy that another Tallygate serves; `dropped` stay charged as estimated."
            + runbook("outcomes-dropped"),
            Look("reqps", colours={**RESULTS, "settled": GOOD, "refunded": CALM}),
            Ask(rate("tallygate_outcomes_total", JOB, by="result"), "{{result}}"),
            is_stacked=True,
            width=6,
        ),
        lines(
            "Calls to the services by status",
            "Access logs, reports and settlements by gRPC status; an access-log stream counts when it ends. Nothing: "
            "nobody calls them." + runbook("services-fail"),
            Look("reqps", nothing="no calls"),
            Ask(rate("tallygate_services_calls_total", JOB, by="method, code"), "{{method}} · {{code}}"),
            width=6,
        ),
        lines(
            "Given back",
            "Requests charged ahead whose outcome nobody told in time. Many: access logs do not reach us."
            + runbook("outcomes-dropped"),
            Look("reqps"),
            Ask(rate("tallygate_receipts_given_back_total", JOB), "given back"),
            width=6,
        ),
        lines(
            "Spans of traces by result",
            "Where TALLYGATE_TRACES_ENDPOINT is set. `dropped` had no room or no time, `failed` the collector did "
            "not take; checks wait for neither. All 0: traces are off.",
            Look("short", colours={"sent": GOOD, "failed": WARN, "dropped": BAD}),
            Ask(rate("tallygate_trace_spans_total", JOB, by="result"), "{{result}}"),
            width=6,
        ),
    ]


def exported() -> Section:
    """Return how entries get to whoever bills elsewhere, and what is kept or dropped meanwhile."""
    return [
        lines(
            "Export lag",
            "Age of the oldest entry that an export has not sent. Files are written once a day."
            + runbook("export-lag"),
            Look("s", nothing="no exports"),
            Ask(f"max by (export) ({of('tallygate_export_lag_seconds', JOB)})", "{{export}}"),
        ),
        lines(
            "Exported entries by result",
            "`repeated` were known to the receiver already, `skipped` are not for it, `aside` were refused."
            + runbook("export-lag"),
            Look("short", nothing="no exports"),
            Ask(rate("tallygate_exported_rows_total", JOB, by="export, result"), "{{export}} · {{result}}"),
        ),
        bars(
            "Put aside by exports",
            "Entries that a receiver refuses and somebody must look at. Usual: 0." + runbook("export-rows-aside"),
            Look("short", decimals=0, steps=[(1, WARN)], nothing="no exports"),
            Ask(f"max by (export) ({of('tallygate_export_aside_rows', JOB)})", "{{export}}"),
        ),
        lines(
            "Kept longer for an export",
            "By how much the oldest entry that an export has not sent is older than entries are to be kept; after 30 "
            "days of it whole months are dropped. Usual: 0." + runbook("usage-kept-for-an-export"),
            Look("s", steps=[(1, WARN)]),
            # The series is there only while something is kept so: else 0.
            Ask(f"max({of('tallygate_usage_kept_for_export_seconds', JOB)}) or vector(0)", "oldest"),
            width=12,
        ),
        bars(
            "Dropped before it was exported",
            "Months of entries that were dropped in the time shown before an export had sent them. Usual: 0."
            + runbook("usage-kept-for-an-export"),
            Look("none", decimals=0, steps=[(1, BAD)]),
            Ask(grown("tallygate_usage_dropped_unsent_months_total", JOB), "months"),
            width=12,
        ),
    ]
