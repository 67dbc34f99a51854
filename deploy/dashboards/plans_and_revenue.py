"""The board of whoever sells: who is on which plan, what they use of what is included, and what it brings.

Customers, contracts and money are told by the worker that leads, from the database, once a minute or so; traffic by
the data plane. Invoices are made from the ledger: amounts here are for looking, not for booking.
"""

from deploy.dashboards.frame import choices, framed
from deploy.dashboards.panels import BAD, CALM, WARN, Ask, Look, Section, bars, lines, number, rows, runbook
from deploy.dashboards.series import PLAN, grown, of, rate, told_once

_STATUS = {
    "active": "green",
    "trialing": CALM,
    "grace": WARN,
    "suspended": BAD,
    "scheduled": "light-blue",
}
_COUNT = Look("short", decimals=0, base=CALM)
_MONEY = Look("locale", decimals=2, base=CALM)


def board() -> str:
    """Return the board's JSON."""
    return framed(
        "plans-and-revenue",
        "Plans and revenue",
        "Customers, contracts, use and money by plan.",
        [choices("plan", "Plan", of("tallygate_customers"))],
        [
            ("Now", _now()),
            ("Customers and contracts", _customers()),
            ("Use against what is included", _use()),
            ("Overage and money", _money()),
        ],
        shown="7d",
    )


def _customers_by(by: str = "") -> str:
    return told_once("tallygate_customers", "plan", PLAN, by=by)


def _subscriptions(*matchers: str, by: str = "") -> str:
    return told_once("tallygate_subscriptions", "plan, status", PLAN, *matchers, by=by)


def _used(by: str = "plan, meter") -> str:
    return told_once("tallygate_used_units", "plan, meter", PLAN, by=by)


def _included(by: str = "plan, meter") -> str:
    return told_once("tallygate_included_units", "plan, meter", PLAN, by=by)


def _amount(name: str, by: str) -> str:
    return told_once(f"tallygate_{name}_amount", "plan, currency", PLAN, by=by)


def _now() -> Section:
    return [
        number(
            "Customers", "Customers who are served: trialing, active, or in their grace.", _COUNT, Ask(_customers_by())
        ),
        number(
            "Active subscriptions",
            "Contracts that are in force and paid. The others are below, by status.",
            _COUNT,
            Ask(_subscriptions('status="active"')),
        ),
        number(
            "Recurring, a month",
            "Fixed prices of customers who are served, by currency; a year counts as twelve months. Trials bring "
            "nothing yet.",
            _MONEY,
            Ask(_amount("recurring", "currency"), "{{currency}}"),
        ),
        number(
            "Usage charges so far",
            "What usage and overage come to in the billing periods under way, by currency: on top of the recurring "
            "amount.",
            _MONEY,
            Ask(_amount("overage", "currency"), "{{currency}}"),
        ),
        number(
            "Included: most used",
            "The plan and meter that has used most of what its customers have included in their periods. Above 100% "
            "they pay overage, or are refused: time to offer more.",
            Look("percentunit", decimals=0, steps=[(0.8, WARN), (1, BAD)]),
            Ask(f"max({_used()} / ({_included()} > 0))"),
        ),
        number(
            "Overage units per second",
            "Units admitted beyond an amount just now: what is being sold on top. 0 where no plan has overage.",
            Look("short", decimals=1, base=CALM),
            # A series begins with the first unit of overage: before, 0.
            Ask(f"{rate('tallygate_overage_units_total', PLAN)} or vector(0)"),
        ),
    ]


def _customers() -> Section:
    return [
        rows(
            "Customers and subscriptions by plan",
            "Customers who are served, and subscriptions of every status that is not over. A plan nobody is on is "
            "not here.",
            Look("short", decimals=0),
            Ask(_customers_by("plan"), "Customers"),
            Ask(_subscriptions(by="plan"), "Subscriptions"),
            labels={"plan": "Plan"},
            width=8,
        ),
        bars(
            "Subscriptions by plan and status",
            "`grace` is served and did not pay; `suspended` is refused: somebody should talk to them.",
            _COUNT,
            Ask(f"{_subscriptions(by='plan, status')} > 0", "{{plan}} · {{status}}"),
        ),
        rows(
            "Money by plan",
            "Recurring amounts, and what usage has come to so far in the billing periods under way. Bills are made "
            "from the ledger.",
            Look("locale", decimals=2),
            Ask(_amount("recurring", "plan, currency"), "Recurring, a month"),
            Ask(_amount("overage", "plan, currency"), "Usage charges so far"),
            labels={"plan": "Plan", "currency": "Currency"},
            width=8,
        ),
        lines(
            "Customers by plan",
            "A step down on one plan and up on another is a change of plan.",
            _COUNT,
            Ask(_customers_by("plan"), "{{plan}}"),
            width=12,
            is_stacked=True,
        ),
        lines(
            "Subscriptions by status",
            "A growing `grace` is a payment provider that fails, or cards that expire; it ends in `suspended`.",
            Look("short", decimals=0, colours=_STATUS),
            Ask(_subscriptions(by="status"), "{{status}}"),
            width=12,
            is_stacked=True,
        ),
    ]


def _use() -> Section:
    return [
        bars(
            "Used of what is included",
            "Of all units that customers of a plan have included in their running periods, how much is used, from "
            "the ledger (a minute or so behind). Above 100% it is overage.",
            Look("percentunit", decimals=0, maximum=1, steps=[(0.8, WARN), (1, BAD)]),
            Ask(f"{_used()} / ({_included()} > 0)", "{{plan}} · {{meter}}"),
        ),
        rows(
            "Included and used",
            "The same in units. They begin anew with each customer's period.",
            Look("locale", decimals=0),
            Ask(_included(), "Included"),
            Ask(_used(), "Used"),
            labels={"plan": "Plan", "meter": "Meter"},
            width=8,
        ),
        lines(
            "Units per second by plan",
            "What is admitted, by plan and meter. Billing goes by the ledger, which also knows what is refunded or "
            "settled later." + runbook("ledger-lag"),
            Look("short"),
            Ask(rate("tallygate_units_total", PLAN, by="plan, meter"), "{{plan}} · {{meter}}"),
        ),
    ]


def _money() -> Section:
    return [
        lines(
            "Overage units per second, by plan",
            "Units beyond an amount that were admitted, for their price.",
            Look("short", nothing="no overage yet"),
            Ask(rate("tallygate_overage_units_total", PLAN, by="plan, meter"), "{{plan}} · {{meter}}"),
        ),
        lines(
            "Usage charges so far, by plan",
            "What usage and overage come to in the billing periods under way. It falls when periods end: then it is "
            "on invoices.",
            _MONEY,
            Ask(_amount("overage", "plan, currency"), "{{plan}} · {{currency}}"),
        ),
        lines(
            "Recurring amount a month, by plan",
            "Fixed prices of live subscriptions. A step is a customer gained or lost, or a trial that was converted.",
            _MONEY,
            Ask(_amount("recurring", "plan, currency"), "{{plan}} · {{currency}}"),
            is_stacked=True,
        ),
        bars(
            "Seen in shadow",
            "What versions and limits in shadow would have said of requests that were allowed, in the time shown. "
            "Many refusals: publishing it as it is would be felt.",
            Look("short", decimals=0, base=CALM, nothing="nothing is in shadow"),
            Ask(
                f"topk(12, {grown('tallygate_shadow_decisions_total', PLAN, by='plan, shadow, reason')} > 0)",
                "{{shadow}} · {{reason}}",
            ),
            width=12,
        ),
        bars(
            "Units by plan and outcome",
            "Units admitted in the time shown, within the amount (`allowed`) and beyond it (`overage`).",
            Look("short", decimals=0, base=CALM),
            Ask(
                f"topk(16, {grown('tallygate_units_total', PLAN, by='plan, meter, outcome')} > 0)",
                "{{plan}} · {{meter}} · {{outcome}}",
            ),
            width=12,
        ),
    ]
