"""Series of single customers: bounded, dropped whole, and gone when a limit's window is over."""

from prometheus_client import CollectorRegistry

from tallygate.metrics import CustomerMetrics


class Page:
    """Series of customers, and a clock that the test moves."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.registry, self.now_s = CollectorRegistry(), 100.0
        self.series = CustomerMetrics(self.registry, lambda: self.now_s)

    def used(self, customer: str = "acme", limit: str = "daily") -> float | None:
        """Return how far a limit is used, as a scrape would show it."""
        labels = {"customer": customer, "plan": "pro", "limit": limit}
        return self.registry.get_sample_value("tallygate_customer_limit_used_ratio", labels)

    def checks(self, customer: str) -> float | None:
        """Return the checks of a customer."""
        labels = {"customer": customer, "plan": "pro", "decision": "allow", "reason": "ok"}
        return self.registry.get_sample_value("tallygate_customer_checks_total", labels)


def test_what_a_customer_used_of_a_limit_is_gone_with_its_window() -> None:
    """A day that is over does not alarm anybody the next morning."""
    page = Page()
    page.series.limit_used.set(0.9, 130, "sub_1", "acme", "pro", "daily")
    page.now_s += 29.9
    assert page.used() == 0.9
    page.now_s += 0.1
    assert page.used() is None


def test_the_fullest_counter_is_shown() -> None:
    """Of two subscriptions under one limit the one nearer its end; a newer value takes the place of an older."""
    page = Page()
    for ratio, ends_at_s, counter in [(0.2, 160, "sub_1"), (0.7, 130, "sub_2"), (0.4, 160, "sub_1")]:
        page.series.limit_used.set(ratio, ends_at_s, counter, "acme", "pro", "daily")
    assert page.used() == 0.7
    page.now_s += 30
    assert page.used() == 0.4


def test_a_customer_with_many_tokens_does_not_fill_the_memory() -> None:
    """Of a limit that counts each token those used last are known, twenty of them."""
    page = Page()
    for number in range(100):
        page.series.limit_used.set(number / 100, 160, f"fam_{number}", "acme", "pro", "daily")
        page.series.limit_used.set(0.995, 160, "fam_used_all_along", "acme", "pro", "daily")
    assert page.used() == 0.995
    assert [len(counters) for counters in page.series.limit_used._known.values()] == [20]


def test_who_is_named_no_more_has_no_series() -> None:
    """All of the customer's series go, those of others and of `other` stay, and a return begins at zero."""
    page = Page()
    for customer in ("acme", "globex", "other"):
        page.series.checks.count(customer, "pro", "allow", "ok")
        page.series.units.add(5, customer, "pro", "requests", "allowed")
        page.series.limit_used.set(0.5, 160, "sub", customer, "pro", "daily")
    page.series.keep({"globex"})
    assert [page.checks(each) for each in ("acme", "globex", "other")] == [None, 1, 1]
    assert [page.used(each) for each in ("acme", "globex", "other")] == [None, 0.5, 0.5]
    assert list(page.series.units._numbers) == [(each, "pro", "requests", "allowed") for each in ("globex", "other")]
    page.series.checks.count("acme", "pro", "allow", "ok")
    assert page.checks("acme") == 1
