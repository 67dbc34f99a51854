"""The board of one customer: what they use, how near their limits are, what is refused and why.

Its series are there only with `TALLYGATE_METRICS_CUSTOMERS`; who is beyond that number is in "other".
"""

from deploy.dashboards.frame import choice, framed
from deploy.dashboards.panels import BAD, CALM, DECISIONS, REASONS, WARN, Ask, Look, Section, bars, lines, number, rows
from deploy.dashboards.series import grown, of, rate, share

_CHECKS, _UNITS = "tallygate_customer_checks_total", "tallygate_customer_units_total"
_WHO = 'customer="$customer"'
_DENIED = 'decision="deny"'
_OVERAGE = 'outcome="overage"'
_LIMIT = Look("percentunit", decimals=0, maximum=1, steps=[(0.8, WARN), (1, BAD)])
_OFF = "set TALLYGATE_METRICS_CUSTOMERS"


def board() -> str:
    """Return the board's JSON."""
    return framed(
        "customer",
        "Customer",
        "One customer: use, limits and refusals. Wants TALLYGATE_METRICS_CUSTOMERS in the data plane.",
        [choice("customer", "Customer", of(_CHECKS))],
        [("Now", _now()), ("Use", _use()), ("Limits and refusals", _limits()), ("All customers", _everybody())],
        shown="24h",
    )


def _most_used() -> str:
    """Return the share used of each limit: of workers that each saw a part, the newest knows most."""
    return f"max by (plan, limit) ({of('tallygate_customer_limit_used_ratio', _WHO)})"


def _now() -> Section:
    return [
        number(
            "Checks per second",
            "Requests of this customer, allowed or not.",
            Look("reqps", base=CALM, nothing=_OFF),
            Ask(rate(_CHECKS, _WHO)),
            width=6,
        ),
        number(
            "Refused",
            "Share of their requests that was refused, for any reason.",
            Look("percentunit", decimals=1, steps=[(0.05, WARN), (0.25, BAD)], nothing="no traffic"),
            Ask(share(rate(_CHECKS, _WHO, _DENIED), rate(_CHECKS, _WHO))),
            width=6,
        ),
        number(
            "Nearest to its end",
            "Their limit of which most is used. From 80% on it is time to talk; at 100% they are refused, or pay "
            "overage.",
            _LIMIT,
            Ask(f"max({of('tallygate_customer_limit_used_ratio', _WHO)})"),
            width=6,
        ),
        number(
            "Overage in the time shown",
            "Units beyond an amount that were admitted, for their price. 0 is no overage.",
            Look("short", decimals=0, base=CALM),
            # A series begins with the first unit of overage: before, 0.
            Ask(f"{grown(_UNITS, _WHO, _OVERAGE)} or vector(0)"),
            width=6,
            is_now=True,
        ),
    ]


def _use() -> Section:
    return [
        lines(
            "Checks by decision",
            "What they were answered. A steady share of `deny` is a client that does not heed Retry-After.",
            Look("reqps", colours=DECISIONS),
            Ask(rate(_CHECKS, _WHO, by="decision"), "{{decision}}"),
            width=12,
            is_stacked=True,
        ),
        lines(
            "Units per second",
            "What was admitted, by meter, within the amount (`allowed`) and beyond it (`overage`).",
            Look("short"),
            Ask(rate(_UNITS, _WHO, by="meter, outcome"), "{{meter}} · {{outcome}}"),
            width=12,
            is_stacked=True,
        ),
    ]


def _limits() -> Section:
    return [
        bars(
            "Limits: how much is used",
            "Of each quota and balance, as the last request saw it; rates are another one before anybody looks. One "
            "that nothing was asked of since its period began is not shown.",
            _LIMIT,
            Ask(_most_used(), "{{plan}} · {{limit}}"),
        ),
        lines(
            "Limits over time",
            "A quota climbs until its period ends; one that will be at 100% long before needs a larger plan, or an "
            "override.",
            Look("percentunit", steps=[(0.8, WARN), (1, BAD)]),
            Ask(_most_used(), "{{plan}} · {{limit}}"),
        ),
        lines(
            "Refusals by reason",
            "Why they were refused; docs/failure-modes.md explains each. `tallygate explain --token T GET /path` "
            "shows one request step by step.",
            Look("reqps", colours=REASONS, nothing="none refused"),
            Ask(rate(_CHECKS, _WHO, _DENIED, by="reason"), "{{reason}}"),
            is_stacked=True,
        ),
    ]


def _everybody() -> Section:
    return [
        rows(
            "Who uses most",
            "The twenty customers with most checks in the time shown; `other` is all that have no series of their own.",
            Look("short", decimals=0),
            Ask(f"topk(20, {grown(_CHECKS, by='customer, plan')} > 0)", "Checks"),
            labels={"customer": "Customer", "plan": "Plan"},
            links={"Customer": "/d/tallygate-customer?var-customer=${__value.text}&${__url_time_range}"},
            width=12,
        ),
        bars(
            "Who is near a limit",
            "Customers with the most used limits now, the ten nearest to their end: to call before they call.",
            _LIMIT,
            Ask(
                f"topk(10, max by (customer, limit) ({of('tallygate_customer_limit_used_ratio')}))",
                "{{customer}} · {{limit}}",
            ),
            width=12,
        ),
    ]
