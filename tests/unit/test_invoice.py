"""An invoice adds up, says where each number is from, and charges what was agreed for as long as it was."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from support.billing import Account, Row, amounts, day, plans_of, traces_of, used, whys

from tallygate.billing.invoice import LineKind
from tallygate.billing.life import life
from tallygate.billing.period import WhichPeriod
from tallygate.billing.usage import LedgerState, Outcome

MINUTE = timedelta(minutes=1)
METERED = """
pro@1: {price: {amount: 49, currency: USD}, charges: {bytes: {model: per_unit, unit: '0.001'}}, \
limits: [{name: all, quota: 100, period: billing, on_exceed: overage}], \
overage: {requests: {model: per_unit, unit: '0.004'}}}
"""


def on(
    plans: str, starts: str = "2026-08-01", changes: tuple[tuple[datetime, str], ...] = (), ends: str | None = None
) -> Account:
    """Return an account on plans, billed from the first of a month."""
    return Account(
        plans_of(plans), day(starts), day("2026-01-01"), changes, None if ends is None else day(ends)
    )  # fmt: skip


def test_a_period_is_its_price_and_its_usage() -> None:
    """The fee, every unit of one meter, and of another those beyond the limit; the total is their sum."""
    account = on(METERED)
    made = account.bill(day("2026-08-20"), *used("pro@1", allowed=100, overage=7), *used("pro@1", "bytes", 2000, 345))
    assert amounts(made) == [
        ("Pro, a month", "49.00"),
        ("Pro, bytes", "2.34"),  # 2.345, half to even
        ("Pro, requests beyond the limits", "0.03"),
    ]
    assert (made.total, made.currency) == (Decimal("51.37"), "USD")
    assert (made.from_at, made.to_at, made.is_complete) == (day("2026-08-01"), day("2026-09-01"), False)
    assert [(line.kind, line.plan, line.meter, line.quantity) for line in made.lines] == [
        (LineKind.FEE, "pro@1", None, 1),
        (LineKind.USAGE, "pro@1", "bytes", 2345),
        (LineKind.OVERAGE, "pro@1", "requests", 7),
    ]


def test_each_quantity_is_traced_to_the_ledger() -> None:
    """A line names the rows it is the sum of, and the question that returns them."""
    account = on("pro@1: {price: {amount: 0, currency: USD}, charges: {bytes: {model: per_unit, unit: 1}}}")
    (line,) = account.bill(day("2026-08-20"), *used("pro@1", "bytes", 30, 12)).lines
    assert line.quantity == sum(trace.quantity for trace in line.usage) == 42
    allowed, overage = line.usage
    assert (allowed.outcome, allowed.quantity, allowed.rows) == (Outcome.ALLOWED, 30, 1)
    assert (overage.outcome, overage.quantity, overage.rows) == (Outcome.OVERAGE, 12, 1)
    assert (allowed.subscription, allowed.plan, allowed.meter) == ("sub_1", "pro@1", "bytes")
    assert allowed.query == (
        "/v1/usage?subscription=sub_1&plan=pro%401&meter=bytes&outcome=allowed"
        "&from=2026-08-01T00%3A00%3A00Z&to=2026-09-01T00%3A00%3A00Z&by=day"
    )


@pytest.mark.parametrize(("anchor", "by"), [("2026-01-01T07:00", "hour"), ("2026-01-01T07:31", "minute")])
def test_a_trace_asks_by_a_unit_that_cuts_nothing(anchor: str, by: str) -> None:
    """Where a period begins within a day or an hour, its usage is asked for by smaller ones."""
    plans = plans_of("pro@1: {price: {amount: 0, currency: USD}, charges: {bytes: {model: per_unit, unit: 1}}}")
    made = Account(plans, day("2026-08-01"), day(anchor)).bill(day("2026-08-20"), *used("pro@1", "bytes", 1))
    assert made.lines[0].usage[0].query.endswith(f"&by={by}")


def test_a_prorated_price_counts_by_days() -> None:
    """21 of 31 days at 40.00 are 27.10: from 27.0967…, rounded once (public example of proration)."""
    account = on("pro@1: {price: {amount: 40, currency: USD, prorate: true}}", starts="2026-08-11")
    assert amounts(account.bill(day("2026-08-20"))) == [("Pro, a month, 21 of 31 days", "27.10")]
    assert amounts(account.bill(day("2026-09-20"))) == [("Pro, a month", "40.00")]
    ended = replace(account, ends_at=day("2026-09-11"))
    assert amounts(ended.bill(day("2026-09-20"))) == [("Pro, a month, 10 of 30 days", "13.33")]


def test_a_price_that_is_not_prorated_is_due_whole() -> None:
    """Whoever comes late or leaves early pays the period, as the plan says nothing else."""
    account = on("pro@1: {price: {amount: 40, currency: USD}}", starts="2026-08-11", ends="2026-08-12")
    assert amounts(account.bill(day("2026-08-20"))) == [("Pro, a month", "40.00")]


CHANGES = """
pro@1: {price: {amount: 31, currency: USD, prorate: PRORATE}, charges: {requests: {model: per_unit, unit: 1}}}
pro@2: {price: {amount: 62, currency: USD, prorate: PRORATE}, charges: {requests: {model: per_unit, unit: 2}}}
"""


def test_each_version_of_a_period_has_its_days_and_its_usage() -> None:
    """A change in mid-period: ten days of one price, 21 of the other, and units by the version they were counted on."""
    account = on(CHANGES.replace("PRORATE", "true"), changes=((day("2026-08-11T15:00"), "pro@2"),))
    made = account.bill(day("2026-08-20"), *used("pro@1", allowed=5), *used("pro@2", allowed=3))
    assert amounts(made) == [
        ("Pro, a month, 10 of 31 days", "10.00"),
        ("Pro, requests", "5.00"),
        ("Pro, a month, 21 of 31 days", "42.00"),
        ("Pro, requests", "6.00"),
    ]
    assert [line.plan for line in made.lines] == ["pro@1", "pro@1", "pro@2", "pro@2"]
    assert made.lines[2].from_at == day("2026-08-11T15:00")


@pytest.mark.parametrize(("first", "second"), [(31, 62), (62, 31), (62, 62)])
def test_of_prices_that_are_not_prorated_the_dearest_is_due(first: int, second: int) -> None:
    """Nobody pays two whole months for one, and nobody halves a month by changing down on its last day."""
    prices = enumerate((first, second), 1)
    plans = "".join(f"pro@{at}: {{price: {{amount: {price}, currency: USD}}}}\n" for at, price in prices)
    made = on(plans, changes=((day("2026-08-30"), "pro@2"),)).bill(day("2026-08-20"))
    assert amounts(made) == [("Pro, a month", "62.00")]


def test_a_plan_without_a_price_costs_nothing() -> None:
    """Free until the eleventh, then prorated: the month's bill begins with the price."""
    account = on(
        "pro@1: {scopes: [a]}\npro@2: {price: {amount: 31, currency: USD, prorate: true}}",
        changes=((day("2026-08-11"), "pro@2"),),
    )
    free = account.bill(day("2026-08-05"), *used("pro@1", allowed=5))
    assert (free.lines, free.total, free.currency) == ((), Decimal(0), None)
    assert (free.from_at, free.to_at) == (day("2026-08-01"), day("2026-08-11"))
    made = account.bill(day("2026-08-20"))
    assert amounts(made) == [("Pro, a month, 21 of 31 days", "21.00")]
    assert (made.from_at, made.to_at) == (day("2026-08-11"), day("2026-09-01"))
    assert account.bill(day("2026-08-20"), which=WhichPeriod.PREVIOUS) == account.bill(day("2026-08-05"))


def test_another_length_of_period_or_currency_begins_a_bill_of_its_own() -> None:
    """A year begun in March has the days that are left of the anchor's year; what came before is a short month."""
    account = on(
        "pro@1: {price: {amount: 31, currency: USD, prorate: true}}\n"
        "pro@2: {price: {amount: 365, currency: USD, every: year, prorate: true}}\n"
        "pro@3: {price: {amount: 365, currency: EUR, every: year, prorate: true}}",
        starts="2026-03-01",
        changes=((day("2026-03-11"), "pro@2"), (day("2026-12-01"), "pro@3")),
    )
    assert amounts(account.bill(day("2026-03-05"))) == [("Pro, a month, 10 of 31 days", "10.00")]
    year = account.bill(day("2026-06-01"))
    assert (year.from_at, year.to_at, year.total) == (day("2026-03-11"), day("2026-12-01"), Decimal(265))
    assert account.bill(day("2026-06-01"), which=WhichPeriod.PREVIOUS) == account.bill(day("2026-03-05"))
    euros = account.bill(day("2026-12-24"))
    assert (euros.currency, euros.total, euros.to_at) == ("EUR", Decimal(31), day("2027-01-01"))


@pytest.mark.parametrize(
    ("is_prorated", "fees"),
    [("true", [("Pro, a month, 9 of 31 days", "9.00"), ("Pro, a month, 22 of 31 days", "22.00")]),
     ("false", [("Pro, a month", "31.00"), ("Pro, a month", "31.00")])],
)  # fmt: skip
def test_who_leaves_for_a_plan_without_a_price_and_comes_back_pays_for_each_time(
    is_prorated: str, fees: list[tuple[str, str]]
) -> None:
    """Within an hour of one day: days are paid once, a price that is not prorated is due for both periods."""
    plans = f"pro@1: {{price: {{amount: 31, currency: USD, prorate: {is_prorated}}}}}\nfree@1: {{scopes: []}}"
    changes = ((day("2026-08-10T10:00"), "free@1"), (day("2026-08-10T10:30"), "pro@1"))
    account = on(plans, changes=changes)
    bills = [account.bill(day(at)) for at in ("2026-08-05", "2026-08-10T10:15", "2026-08-20")]
    assert [fee for made in bills for fee in amounts(made)] == fees
    assert bills[0].to_at == bills[1].from_at < bills[1].to_at == bills[2].from_at


TRIAL = """
pro@1: {price: {amount: 31, currency: USD, prorate: true}, trial: {days: 10, BILLED}, \
charges: {requests: {model: per_unit, unit: 1, minimum: 3.1}}}
"""


@pytest.mark.parametrize(("is_billed", "quantity", "from_at"), [("false", 7, "2026-08-11"), ("true", 12, "2026-08-01")])
def test_a_trial_covers_the_price_and_its_usage_unless_the_plan_says(
    is_billed: str, quantity: int, from_at: str
) -> None:
    """The price begins when the trial is over; what was used in it counts only with `bill_usage`."""
    account = on(TRIAL.replace("BILLED", f"bill_usage: {is_billed}"))
    made = account.bill(day("2026-08-20"), *used("pro@1", allowed=5, at=day("2026-08-10")), *used("pro@1", allowed=7))
    fee, usage = made.lines
    assert (fee.amount, fee.description) == (Decimal("21.00"), "Pro, a month, 21 of 31 days")
    assert (usage.quantity, usage.usage[0].from_at) == (quantity, day(from_at))
    assert sum(trace.quantity for trace in traces_of(made)) == 12
    assert whys(made) == ([] if is_billed == "true" else [("trial", "pro@1", "requests", 5)])


def test_the_trace_of_what_is_charged_leaves_out_a_trial_within_its_period() -> None:
    """Who comes in the middle of a period, and tries: the question to the ledger is about what came after."""
    account = on(TRIAL.replace("BILLED", "bill_usage: false"), starts="2026-08-05")
    counted = [row for at in ("02", "10", "20") for row in used("pro@1", allowed=7, at=day(f"2026-08-{at}"))]
    made = account.bill(day("2026-08-20"), *counted)
    (charged,), (tried,) = made.lines[1].usage, [each.usage for each in made.unbilled]
    assert (charged.from_at, charged.to_at, charged.rows) == (day("2026-08-15"), day("2026-09-01"), 1)
    assert (tried.from_at, tried.to_at, tried.rows) == (day("2026-08-01"), day("2026-08-15"), 2)


def test_a_trial_that_is_not_over_has_no_price_and_no_minimum() -> None:
    """Nothing is due of a period that is all trial: neither of one with an end, nor of one never used."""
    counted = used("pro@1", allowed=5, at=day("2026-07-30"))
    trying = on(TRIAL.replace("BILLED", "bill_usage: false"), starts="2026-07-25")
    assert trying.bill(day("2026-07-26"), *counted).lines == ()
    unused = on(TRIAL.replace("BILLED", "basis: first_use"))
    assert unused.bill(day("2026-12-05"), *used("pro@1", allowed=5)).lines == ()
    begun = replace(unused, first_used_at=day("2026-08-05"))
    assert amounts(begun.bill(day("2026-08-20"))) == [
        ("Pro, a month, 17 of 31 days", "17.00"),
        ("Pro, requests", "1.70"),
    ]


def test_a_trial_falls_back_or_ends() -> None:
    """After a downgrade the other plan is billed; after a suspension nothing is, until the plan is chosen again."""
    free = "free@1: {price: {amount: 3.1, currency: USD, prorate: true}}"
    plans = TRIAL.replace("BILLED", "at_end: downgrade, to: free") + free
    assert amounts(on(plans).bill(day("2026-08-20"))) == [("Free, a month, 21 of 31 days", "2.10")]
    ended = on(TRIAL.replace("BILLED", "at_end: suspend"))
    assert ended.bill(day("2026-08-20")).lines == ()
    resumed = replace(ended, changes=((day("2026-08-21"), "pro@1"),))
    assert resumed.bill(day("2026-08-20")).lines[0].description == "Pro, a month, 11 of 31 days"


BOUNDED = """
pro@1: {price: {amount: 0, currency: USD, prorate: PRORATE}, \
charges: {requests: {model: per_unit, unit: 1, included: 10, minimum: 31, maximum: 62}}}
"""


@pytest.mark.parametrize(
    ("prorate", "units", "expected"),
    [("true", 0, "21.00"), ("true", 30, "23.00"), ("true", 99, "42.00"), ("false", 0, "31.00"), ("false", 99, "62.00")],
)
def test_what_bounds_a_period_is_prorated_with_its_price(prorate: str, units: int, expected: str) -> None:
    """21 of 31 days include 7 of 10 units (rounded up), and cost from 21.00 to 42.00 instead of from 31.00 to 62.00."""
    account = on(BOUNDED.replace("PRORATE", prorate), starts="2026-08-11")
    counted = used("pro@1", allowed=units)
    assert [str(line.amount) for line in account.bill(day("2026-08-20"), *counted).lines] == [expected]


def test_a_minimum_is_not_due_twice() -> None:
    """Of two versions that are not prorated only the one whose price is due has its minimum."""
    plans = BOUNDED.replace("PRORATE", "false") + BOUNDED.replace("PRORATE", "false").replace("pro@1", "pro@2")
    account = on(plans, changes=((day("2026-08-11"), "pro@2"),))
    made = account.bill(day("2026-08-20"), *used("pro@2", allowed=11))
    assert [(line.plan, str(line.amount)) for line in made.lines] == [("pro@1", "31.00"), ("pro@2", "1.00")]


def test_the_fee_of_a_percentage_counts_the_events_of_its_own_meter() -> None:
    """Both meters are in the trace: the money and the payments."""
    account = on(
        "pro@1: {price: {amount: 0, currency: USD}, "
        "charges: {cents: {model: percentage, rate: 1.5%, fee: '0.10', events: payments}}}"
    )
    counted = (*used("pro@1", "cents", 100_000), *used("pro@1", "payments", 4), *used("pro@1", "requests", 9))
    (line,) = account.bill(day("2026-08-20"), *counted).lines
    assert (line.amount, line.quantity) == (Decimal("15.40"), 100_000)
    assert {trace.meter: trace.quantity for trace in line.usage} == {"cents": 100_000, "payments": 4}


def test_a_bill_is_complete_when_the_ledger_is() -> None:
    """Not at the end of the period, but when all outcomes and late units that are waited for have been moved."""
    account = on("pro@1: {price: {amount: 1, currency: USD}}")
    complete_at = day("2026-09-03T01:00")
    for moved_to, is_complete in ((None, False), (complete_at - MINUTE, False), (complete_at, True)):
        made = replace(account, ledger=LedgerState(moved_to, 7)).bill(day("2026-08-20"))
        assert (made.is_complete, made.ledger.last_id) == (is_complete, 7)
        assert (made.complete_at, made.changed_at) == (complete_at, None)


def test_a_bill_tells_when_it_changed_after_it_was_complete() -> None:
    """A correction of a month that was billed is in its bill, and the bill says that something came, and when."""
    account = on("pro@1: {price: {amount: 1, currency: USD}, charges: {requests: {model: per_unit, unit: 1}}}")
    counted = Row("pro@1", "requests", Outcome.ALLOWED, 5, day("2026-08-20"), day("2026-08-20"))
    corrected = replace(counted, quantity=-2, recorded_at=day("2026-10-05"))
    before, after = (account.bill(day("2026-08-20"), *rows) for rows in ([counted], [counted, corrected]))
    assert (before.lines[1].quantity, before.changed_at) == (5, day("2026-08-20"))
    assert (after.lines[1].quantity, after.changed_at) == (3, day("2026-10-05"))


def test_a_version_of_an_hour_has_a_day_of_its_maximum() -> None:
    """Its price has no days, but what was used on it is not free: the cap of a day is 2.00."""
    plans = BOUNDED.replace("PRORATE", "true") + BOUNDED.replace("PRORATE", "true").replace("pro@1", "pro@2")
    hour = (day("2026-08-11T12:00"), day("2026-08-11T13:00"))
    account = on(plans, changes=((hour[0], "pro@2"), (hour[1], "pro@1")))
    made = account.bill(day("2026-08-20"), *used("pro@2", allowed=99))
    assert [(line.plan, str(line.amount)) for line in made.lines] == [("pro@1", "31.00"), ("pro@2", "2.00")]


def test_suspended_and_unpaid_time_is_not_taken_off() -> None:
    """The contract runs on: a bill does not depend on a state whose history nobody keeps."""
    contract = replace(on(METERED).contract, trial_to=None)
    plans, since = plans_of(METERED), day("2026-08-11")
    served = life(contract, plans, None)
    assert life(replace(contract, suspended_at=since), plans, None) == served
    assert life(replace(contract, past_due_at=since), plans, None) == served
