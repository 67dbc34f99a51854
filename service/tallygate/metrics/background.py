"""The series of the process that does the work in the background."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from tallygate.metrics.kinds import Tally
from tallygate.metrics.shared import LEDGER_LAG


class WorkerMetrics:
    """The series of the process that does the work in the background."""

    def __init__(self, version: str) -> None:
        """Register every series; `version` is Tallygate's own."""
        self.registry = CollectorRegistry()
        self._process = ProcessCollector(registry=self.registry), GCCollector(registry=self.registry)
        tally, gauge = partial(Tally, registry=self.registry), partial(Gauge, registry=self.registry)
        self.leads = gauge("tallygate_worker_leads", "1 in the worker that does the work, 0 in those that stand by.")
        self.usage_ledger_lag = gauge(*LEDGER_LAG)
        self.usage_backlog = gauge(
            "tallygate_usage_backlog_buckets",
            "Buckets of minutes that are over, still to be moved when the last round had ended.",
        )
        self.usage_entries = tally("tallygate_usage_entries", "Entries that were added to the ledger.", [])
        self.usage_unmoved = tally(
            "tallygate_usage_unmoved_buckets",
            "Buckets the ledger did not get as they were: kept_aside in Redis to be looked at, or expired, and lost.",
            ["reason"],
        )
        self.reconciliation_difference = gauge(
            "tallygate_usage_reconciliation_difference_units",
            "The most units by which a quota's counter and the ledger differed when last compared; 0 is right.",
        )
        self.reconciliation_checked = tally(
            "tallygate_usage_reconciliation_checked", "Counters that were compared with the ledger.", []
        )
        self.reconciliation_skipped = tally(
            "tallygate_usage_reconciliation_skipped", "Counters that could not be compared just then.", []
        )
        self.receipts_given_back = tally(
            "tallygate_receipts_given_back", "Requests charged ahead that nobody settled in time: refunded.", []
        )
        self._of_exports(tally, gauge)
        self._of_contracts(gauge)
        self.dependency_up = gauge(
            "tallygate_dependency_up", "1 while the dependency answers, 0 while it does not.", ["dependency"]
        )
        self.build_info = Info("tallygate_build", "The version that runs.", registry=self.registry)
        self.build_info.info({"version": version})

    def _of_exports(self, tally: Callable[..., Tally], gauge: Callable[..., Gauge]) -> None:
        self.export_lag = gauge(
            "tallygate_export_lag_seconds", "Age of the oldest entry of the ledger that is not exported.", ["export"]
        )
        self.exported_rows = tally(
            "tallygate_exported_rows",
            "Entries of the ledger by what became of them (sent, repeated, aside, skipped).",
            ["export", "result"],
        )
        self.export_aside = gauge(
            "tallygate_export_aside_rows", "Entries that are put aside, for somebody to look at.", ["export"]
        )
        self.usage_kept_for_export = gauge(
            "tallygate_usage_kept_for_export_seconds",
            "By how much the oldest entry an export has not sent is older than entries are to be kept; none as usual.",
            ["export"],
        )
        self.usage_dropped_unsent = tally(
            "tallygate_usage_dropped_unsent_months",
            "Months of entries that were dropped, after 30 days of waiting, before an export had sent them.",
            [],
        )

    def _of_contracts(self, gauge: Callable[..., Gauge]) -> None:
        self.tokens = gauge("tallygate_tokens", "Tokens, by state.", ["state"])
        self.subscriptions = gauge(
            "tallygate_subscriptions",
            "Subscriptions that are not over, by status (scheduled, trialing, active, grace, suspended).",
            ["plan", "status"],
        )
        self.customers = gauge(
            "tallygate_customers", "Customers who are served: trialing, active, or in their grace.", ["plan"]
        )
        self.included_units = gauge(
            "tallygate_included_units", "Units that quotas of customers who are served include now.", ["plan", "meter"]
        )
        self.used_units = gauge(
            "tallygate_used_units", "Units used in the same periods so far, as the ledger has them.", ["plan", "meter"]
        )
        self.overage_amount = gauge(
            "tallygate_overage_amount",
            "Price of what was used so far in the billing periods that run: every line of their bills but the fee.",
            ["plan", "currency"],
        )
        self.recurring_amount = gauge(
            "tallygate_recurring_amount",
            "Fixed prices of customers who are served, a month of each; none is due in a trial.",
            ["plan", "currency"],
        )
