"""What is wrong with a limit or a charge is told, with what would be right."""

import pytest
from support.plan_files import in_limit, in_plan, problems


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("rate: 50", '.rate: "50" has no window (write 50/s)'),
        ("rate: 50/", '.rate: "50/" has no window (write 50/s)'),
        ("rate: fast", '.rate: "fast" does not begin with a whole number (write 50/s)'),
        ("rate: 1.5/s", '.rate: "1.5/s" does not begin with a whole number (write 50/s)'),
        ("rate: -5/s", '.rate: "-5/s" does not begin with a whole number (write 50/s)'),
        (
            "rate: 50/month",
            (
                '.rate: "month" is not a window (write 50/s; windows are s, min, h, d and multiples '
                "such as 10s; for more use quota and period)"
            ),
        ),
        ("rate: 1/367d", '.rate: "367d" is longer than 366d (use quota and period)'),
        ("rate: 0/s", ".rate: a rate of 0 is out of bounds (from 1 to 9007199254740991; quota: 0 grants none of it)"),
        ("rate: 5/s, burst: 0", ".burst: 0 is out of bounds (from 1 to 9007199254740991)"),
        (
            "rate: 200_000/d",
            (
                ".rate: a burst of 200000 in this window cannot be counted exactly "
                "(write a burst of at most 104249, or quota: 200000 with a period)"
            ),
        ),
        (
            "rate: 1/d, burst: 104250",
            (
                ".burst: a burst of 104250 in this window cannot be counted exactly "
                "(write a burst of at most 104249, or quota: 1 with a period)"
            ),
        ),
        ("rate: 5/s, period: day", ".period: period belongs to quota, not to rate (remove it)"),
        ("credits: 5, burst: 5", ".burst: burst belongs to rate, not to credits (remove it)"),
        ("quota: 5", ": has no period (write period: minute, hour, day, week, month, year, billing)"),
        ("quota: 1.5, period: day", '.quota: "1.5" is not a whole number (write digits, such as 1000 or 1_000_000)'),
        ("quota: true, period: day", '.quota: "true" is not a whole number (write digits, such as 1000 or 1_000_000)'),
        ("quota: 0x10, period: day", '.quota: "0x10" is not a whole number (write digits, such as 1000 or 1_000_000)'),
        ("quota: 010, period: day", '.quota: "010" is not a whole number (write digits, such as 1000 or 1_000_000)'),
        ("quota: -1, period: day", '.quota: "-1" is not a whole number (write digits, such as 1000 or 1_000_000)'),
        (
            "quota: 9007199254740992, period: day",
            ".quota: 9007199254740992 is out of bounds (from 0 to 9007199254740991)",
        ),
        (
            "credits: " + "9" * 5000,
            '.credits: "' + "9" * 57 + '..." is not a whole number (write digits, such as 1000 or 1_000_000)',
        ),
        (
            "meter: requests",
            (": has no amount (write one of rate: 50/s, quota: 1000 with a period, credits: 1000, or concurrency: 10)"),
        ),
        ("concurrency: 0", ".concurrency: 0 is out of bounds (from 1 to 9007199254740991)"),
        ("concurrency: 4, hold: 30", '.hold: "30" is not from 1s to 24h (write 30s, 5m or 1h)'),
        ("concurrency: 4, hold: 0s", '.hold: "0s" is not from 1s to 24h (write 30s, 5m or 1h)'),
        ("concurrency: 4, hold: 25h", '.hold: "25h" is not from 1s to 24h (write 30s, 5m or 1h)'),
        ("quota: 4, period: day, hold: 30s", ".hold: hold belongs to concurrency, not to quota (remove it)"),
        (
            "concurrency: 4, on_exceed: overage",
            (".on_exceed: concurrency has no overage: what is too much at once is refused (allow more at once)"),
        ),
        ("credits: 4, refill: 5", ".refill: is not a mapping (write key: value)"),
        ("credits: 4, refill: {every: day}", ".refill: has no amount (write amount: 1000)"),
        (
            "credits: 4, refill: {amount: 5}",
            ".refill: has no every (write every: day, week, month, year, billing)",
        ),
        (
            "credits: 4, refill: {amount: 0, every: day}",
            ".refill.amount: 0 is out of bounds (from 1 to 9007199254740991)",
        ),
        (
            "credits: 4, refill: {amount: 5, every: hour}",
            '.refill.every: "hour" is not known (one of day, week, month, year, billing)',
        ),
        (
            "quota: 4, period: day, refill: {amount: 5, every: day}",
            ".refill: refill belongs to credits, not to quota (remove it)",
        ),
        ("rate: 5/s, credits: 5", ": has rate and credits (make each a limit of its own)"),
        (
            "quota: 4, period: billing, per: customer",
            (
                ".period: each of a customer's subscriptions has a billing period of its own "
                "(write per: subscription, or a calendar period such as month)"
            ),
        ),
        (
            "credits: 4, per: customer, refill: {amount: 5, every: billing}",
            (
                ".refill.every: each of a customer's subscriptions has a billing period of its own "
                "(write per: subscription, or a calendar period such as month)"
            ),
        ),
        ("rate: 5/s, per: user", '.per: "user" is not known (one of customer, subscription, token)'),
        ("rate: 5/s, mode: off", '.mode: "off" is not known (one of enforce, shadow)'),
        ("rate: 5/s, fail: maybe", '.fail: "maybe" is not known (one of open, closed, local)'),
        (
            "rate: 5/s, on_exceed: overage",
            (".on_exceed: a rate has no overage: what is too fast is refused (write a larger burst, or a quota)"),
        ),
        (
            "credits: 5, allow_until: 3x",
            ".allow_until: there is no overage to end (add on_exceed: overage or remove it)",
        ),
        (
            "credits: 5, on_exceed: overage, allow_until: 3",
            '.allow_until: "3" is not understood (write 3x, 1.5x or "4500 units")',
        ),
        (
            "credits: 5, on_exceed: overage, allow_until: 0.9x",
            ('.allow_until: "0.9x" ends the overage at 4 (from 5 (the limit itself) to 9007199254740991)'),
        ),
        (
            "credits: 9007199254740991, on_exceed: overage, allow_until: 2x",
            (
                '.allow_until: "2x" ends the overage at '
                "18014398509481982 (from 9007199254740991 (the limit itself) to 9007199254740991)"
            ),
        ),
    ],
)
def test_a_limit_that_could_not_be_enforced_as_written_is_refused(body: str, expected: str) -> None:
    """Each mistake in a limit is told with what would be right."""
    assert in_limit(body) == [expected]


def test_a_limit_s_name_is_its_own() -> None:
    """Counters are kept by name: two limits of one name would share one, even if one is wrong otherwise."""
    told = in_plan("limits: [{name: a, rate: x}, {name: a, rate: 1/s}, {rate: 1/s}, {name: A b, rate: 1/s}]")
    assert told[1:] == [
        '.limits[1].name: a second limit named "a" (a limit\'s name is its own within the plan)',
        ".limits[2]: has no name (write name: monthly)",
        '.limits[3].name: "A b" is not allowed (begin with a-z, then a-z, 0-9, _ and -, at most 63 characters)',
    ]


def test_a_limit_counts_something() -> None:
    """A limit on a meter that no route costs would never be reached."""
    text = """\
routes:
  - {match: GET /a, cost: {tokens: 1, bytes: 0}}
plans:
  - key: p
    limits:
      - {name: a, credits: 1, meter: tokens}
      - {name: b, credits: 1, meter: token}
      - {name: c, credits: 1}
      - {name: d, credits: 1, meter: bytes}
"""
    assert problems(text) == [
        (
            'plans.yaml:7: plans[0].limits[1].meter: no route costs any "token", so this limit would never count '
            "(did you mean tokens?)"
        ),
        (
            'plans.yaml:8: plans[0].limits[2]: no route costs any "requests", so this limit would never count '
            "(known here: tokens)"
        ),
        (
            'plans.yaml:9: plans[0].limits[3].meter: no route costs any "bytes", so this limit would never count '
            "(known here: tokens)"
        ),
    ]


@pytest.mark.parametrize(
    ("charge", "expected"),
    [
        ("{unit: 1}", ": has no model (write model: per_unit, graduated, volume, package, percentage)"),
        ("{model: tiered}", '.model: "tiered" is not known (one of per_unit, graduated, volume, package, percentage)'),
        ("{model: per_unit}", ': has no unit (write unit: "0.01")'),
        ("{model: per_unit, unit: 1, size: 5}", ".size: size says nothing for per_unit (it takes unit, included)"),
        ("{model: package, size: 0, price: 1}", ".size: 0 is out of bounds (from 1 to 9007199254740991)"),
        ("{model: volume, tiers: []}", ".tiers: has 0 tiers (from 1 to 50)"),
        (
            "{model: volume, tiers: [{unit: 1, up_to: 5}]}",
            (".tiers[0].up_to: the last tier ends, and what lies above has no price (add a last tier without up_to)"),
        ),
        (
            "{model: volume, tiers: [{unit: 1}, {unit: 2}]}",
            ".tiers[0]: has no up_to (only the last tier goes on without end)",
        ),
        (
            "{model: volume, tiers: [{up_to: 5, unit: 1}, {up_to: 5, unit: 1}, {unit: 2}]}",
            ".tiers[1].up_to: 5 is not above the tier before (5) (write tiers from the lowest up)",
        ),
        ("{model: percentage}", ': has no rate (write rate: "1.5%")'),
        (
            "{model: percentage, rate: 1.5}",
            '.rate: "1.5" is not allowed (write a percentage such as "1.5%", at most 100%)',
        ),
        (
            "{model: percentage, rate: 101%}",
            '.rate: "101%" is not allowed (write a percentage such as "1.5%", at most 100%)',
        ),
        (
            "{model: percentage, rate: 1%, included: 5}",
            (
                ".included: included says nothing for percentage "
                "(it takes rate, worth, free_amount, fee, events, free_events)"
            ),
        ),
        (
            "{model: percentage, rate: 1%, worth: 0}",
            ".worth: a unit that is worth nothing has no share (write what a unit stands for)",
        ),
        (
            "{model: percentage, rate: 1%, free_events: 3}",
            '.free_events: free_events says nothing without a fee (add fee: "0.10", or remove it)',
        ),
        (
            "{model: per_unit, unit: 1, minimum: 5, maximum: '4.99'}",
            ".maximum: 4.99 is below the minimum, 5 (write the minimum or more)",
        ),
    ],
)
def test_a_charge_that_prices_nothing_or_not_all_is_refused(charge: str, expected: str) -> None:
    """Tiers leave no unit without a price, and a charge has exactly what its model takes."""
    told = in_plan(
        "price: {amount: 0, currency: USD}, limits: [{name: a, credits: 1, on_exceed: overage}], "
        f"overage: {{requests: {charge}}}"
    )
    assert told == [".overage.requests" + expected]


def test_a_charge_needs_an_overage_and_a_currency() -> None:
    """A charge that would never apply, or in no currency, is a mistake."""
    told = in_plan(
        "limits: [{name: a, credits: 1, on_exceed: overage}], overage: {request: {model: per_unit, unit: 1}}"
    )
    assert told == [
        (
            '.overage.request: no limit on "request" goes into overage, so this would never be charged '
            "(did you mean requests?)"
        ),
        '.overage: has no currency (add price: {amount: "0", currency: USD}; its currency is theirs)',
    ]
    (alone,) = in_plan("charges: {requests: {model: per_unit, unit: 1}}")
    assert alone.startswith(".charges: has no currency")
