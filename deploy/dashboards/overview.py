"""The board to look at first: is it up, what is asked, what is decided, how fast, and is the promise kept."""

from deploy.dashboards.frame import choices, framed
from deploy.dashboards.panels import (
    BAD,
    CALM,
    DECISIONS,
    REASONS,
    WARN,
    Ask,
    Look,
    Section,
    bars,
    lines,
    number,
    runbook,
)
from deploy.dashboards.series import HERE, PLAN, grown, of, rate, share

_CHECKS = "tallygate_checks_total"
_DENIED, _KNOWN = 'decision="deny"', 'plan!=""'
_FIRING = f'ALERTS{{alertname=~"Tallygate.*", alertstate="firing", {HERE}}}'
_BURN = Look("none", decimals=2, steps=[(1, WARN), (14.4, BAD)])
_LEFT = Look("percentunit", decimals=1, minimum=None, maximum=1, base=BAD, steps=[(0, WARN), (0.25, "green")])
_DURATION = Look("s", steps=[(0.01, BAD)])


def board() -> str:
    """Return the board's JSON."""
    return framed(
        "overview",
        "Overview",
        "Traffic, decisions, latency and error budget of the whole installation.",
        [choices("plan", "Plan", of(_CHECKS, _KNOWN))],
        [
            ("Now", _now()),
            ("Traffic and decisions", _decisions()),
            ("The promise", _promise()),
            ("Refusals", _refusals()),
            ("Plans", _plans()),
        ],
    )


def _left(budget: str, spent: str, whole: str) -> str:
    """Return what is left of a budget of 30 days."""
    spent, whole = (f"avg_over_time({of(f'tallygate:{name}:rate5m')}[30d])" for name in (spent, whole))
    return f"min(1 - {spent} / ({whole} > 0) / scalar(tallygate:{budget}:budget))"


def _burn(budget: str, window: str) -> Ask:
    return Ask(f"max({of(f'tallygate:{budget}:ratio{window}')}) / scalar(tallygate:{budget}:budget)", f"over {window}")


def _now() -> Section:
    return [
        number(
            "Checks per second",
            "Requests that Envoy asked about, on all plans. Zero while there is traffic at Envoy: it does not reach "
            "us." + runbook("processes-away"),
            Look("reqps", base=CALM),
            Ask(rate(_CHECKS)),
        ),
        number(
            "Refused",
            "Share of checks that a token, a contract or a limit refused. A few percent are usual; a jump is told by "
            "reason below.",
            Look("percentunit", decimals=1, steps=[(0.1, WARN), (0.5, BAD)], nothing="no traffic"),
            Ask(share(rate(_CHECKS, _DENIED), rate(_CHECKS))),
        ),
        number(
            "Latency, p99",
            "Of 100 checks, 99 are decided within this time, in Tallygate itself. Usual: 1 to 3 ms; the promise is "
            "10 ms." + runbook("latency-budget"),
            Look("s", steps=[(0.005, WARN), (0.01, BAD)], nothing="no traffic"),
            Ask(f"max({of('tallygate:check_duration_seconds:p99')})"),
        ),
        number(
            "Error budget left",
            "Of 30 days. One check in a thousand may fail through us: 100% is a month without a failure, below 0 the "
            "promise is broken." + runbook("error-budget"),
            _LEFT,
            Ask(_left("errors", "errors", "checks")),
            is_now=True,
        ),
        number(
            "Latency budget left",
            "Of 30 days. One check in a hundred may take longer than 10 ms; below 0 the promise is broken."
            + runbook("latency-budget"),
            _LEFT,
            Ask(_left("slow", "slow", "timed")),
            is_now=True,
        ),
        number(
            "Alerts firing",
            "Alerts of Tallygate that fire now; each leads to its runbook. Usual: none. They are the red marks on "
            "all graphs.",
            Look("none", decimals=0, steps=[(1, BAD)]),
            # Prometheus has no series of an alert that does not fire: none is 0.
            Ask(f"count({_FIRING}) or vector(0)"),
        ),
    ]


def _decisions() -> Section:
    return [
        lines(
            "Checks by decision",
            "What was answered. `error` is a check that failed inside Tallygate: there should be none."
            + runbook("internal-errors"),
            Look("reqps", colours=DECISIONS),
            Ask(rate(_CHECKS, PLAN, by="decision"), "{{decision}}"),
            width=12,
            is_stacked=True,
        ),
        lines(
            "Decisions by reason",
            "Why. `ok`, `overage` and `shadow` were allowed; red ones are our own failures; docs/failure-modes.md "
            "explains each." + runbook("error-budget"),
            Look("reqps", colours=REASONS),
            Ask(rate(_CHECKS, PLAN, by="reason"), "{{reason}}"),
            width=12,
            is_stacked=True,
        ),
    ]


def _promise() -> Section:
    times = [
        Ask(f"max({of(f'tallygate:check_duration_seconds:{name}')})", title)
        for name, title in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
    ]
    return [
        lines(
            "Latency of a check",
            "From a decoded request to its encoded answer, over five minutes. Usual: p50 below 1 ms. The line is the "
            "promise of p99, 10 ms; Envoy gives up after 200 ms." + runbook("latency-budget"),
            _DURATION,
            *times,
        ),
        lines(
            "Error budget: how fast it burns",
            "At 1 the budget of 30 days lasts 30 days; from 14.4 on, over an hour, somebody is woken. Usual: 0."
            + runbook("error-budget"),
            _BURN,
            *(_burn("errors", window) for window in ("5m", "1h", "6h", "3d")),
        ),
        lines(
            "Latency budget: how fast it burns",
            "At 1 the budget of 30 days lasts 30 days; from 14.4 on, over an hour, somebody is woken. Usual: well "
            "below 1." + runbook("latency-budget"),
            _BURN,
            *(_burn("slow", window) for window in ("5m", "1h", "6h")),
        ),
    ]


def _refusals() -> Section:
    return [
        bars(
            "Refusals by reason",
            "How many in the time shown. Many `token_unknown` or `token_malformed`: somebody guesses, or a client is "
            "broken." + runbook("unknown-tokens"),
            Look("short", decimals=0, base=WARN, nothing="none refused"),
            Ask(f"topk(12, {grown(_CHECKS, _DENIED, PLAN, by='reason')} > 0)", "{{reason}}"),
        ),
        lines(
            "Share refused, by plan",
            "Of each plan's checks. A plan that stands out has a limit that no longer fits, or a customer in a loop.",
            Look("percentunit", maximum=1),
            Ask(
                share(rate(_CHECKS, _DENIED, _KNOWN, PLAN, by="plan"), rate(_CHECKS, _KNOWN, PLAN, by="plan")),
                "{{plan}}",
            ),
        ),
        lines(
            "Quota or credits used up, by plan",
            "Share of a plan's checks of the last hour that were refused for a quota or balance that is used up. "
            "Above 5% on a plan that costs money, somebody is told." + runbook("paying-plan-refused"),
            Look("percentunit", steps=[(0.05, WARN)]),
            Ask(f"max by (plan) ({of('tallygate:plan_used_up:ratio1h', PLAN)})", "{{plan}}"),
        ),
    ]


def _plans() -> Section:
    return [
        bars(
            "Top plans by checks",
            "How many checks each plan brought in the time shown, the ten largest.",
            Look("short", decimals=0, base=CALM),
            Ask(f"topk(10, {grown(_CHECKS, _KNOWN, PLAN, by='plan')} > 0)", "{{plan}}"),
        ),
        lines(
            "Checks per second by plan",
            "Where the traffic comes from. Nothing here is of a plan where no license was found.",
            Look("reqps"),
            Ask(rate(_CHECKS, _KNOWN, PLAN, by="plan"), "{{plan}}"),
        ),
        lines(
            "Units per second by plan",
            "What was admitted, in the units of each meter: a costly route counts as several requests.",
            Look("short"),
            Ask(rate("tallygate_units_total", PLAN, by="plan, meter"), "{{plan}} · {{meter}}"),
        ),
    ]
