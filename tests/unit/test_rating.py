"""Rating comes to what public billing documentation comes to, model by model, step by step."""

from decimal import Decimal
from fractions import Fraction

import pytest

from tallygate.billing.rating import Rated, Step, rate
from tallygate.plans.charge import Charge, ChargeModel, Package, Percentage, PerUnit, Tier, Tiered
from tallygate.plans.parse import parse


def charge(text: str) -> Charge:
    """Return a charge as it is written in a plan file."""
    file = f"plans: [{{key: p, price: {{amount: 0, currency: USD}}, charges: {{m: {text}}}}}]"
    return parse(file, "f").plans[0].charges["m"]


def amount(text: str, units: int, events: int = 0) -> Decimal:
    """Return what units come to."""
    rated = rate(charge(text), units, events)
    assert rated.amount == sum(step.amount for step in rated.steps)
    assert all(step.amount == step.quantity * step.price for step in rated.steps)
    return rated.amount


FONTS = "[{up_to: 5, unit: 7}, {up_to: 10, unit: '6.5'}, {unit: 6}]"
"""The tiers of Stripe's page on tiered pricing."""
CALLS = [(0, "0"), (1, "1"), (100, "100"), (101, "100.5"), (200, "150"), (250, "155"), (1000, "230")]
PACKAGES = [(0, "0"), (100, "0"), (101, "5"), (200, "5"), (201, "10"), (300, "10")]


@pytest.mark.parametrize(("units", "expected"), CALLS)
def test_graduated_prices_each_unit_by_its_own_tier(units: int, expected: str) -> None:
    """100 at 1.00, the next 100 at 0.50, the rest at 0.10: 250 are 155.00 (Lago, charge models: graduated)."""
    tiers = "[{up_to: 100, unit: 1}, {up_to: 200, unit: '0.50'}, {unit: '0.10'}]"
    assert amount(f"{{model: graduated, tiers: {tiers}}}", units) == Decimal(expected)


@pytest.mark.parametrize(("units", "expected"), [(1, "7"), (5, "35"), (6, "41.5"), (20, "127.5"), (25, "157.5")])
def test_graduated_is_stripe_s_example(units: int, expected: str) -> None:
    """7.00 for each of the first five, 6.50 for the next five, 6.00 beyond (Stripe, tiered pricing: graduated)."""
    assert amount(f"{{model: graduated, tiers: {FONTS}}}", units) == Decimal(expected)


@pytest.mark.parametrize(("units", "expected"), [(1, "7"), (5, "35"), (6, "39"), (20, "120"), (25, "150")])
def test_volume_is_stripe_s_example(units: int, expected: str) -> None:
    """The same tiers, the one that is reached pricing all (Stripe, tiered pricing: volume-based)."""
    assert amount(f"{{model: volume, tiers: {FONTS}}}", units) == Decimal(expected)


@pytest.mark.parametrize(
    ("model", "tiers", "expected"),
    [
        ("graduated", "[{up_to: 1000, unit: '0.10'}, {up_to: 10000, unit: '0.05'}, {unit: '0.01'}]", "600"),
        ("volume", "[{up_to: 1000, unit: '0.10'}, {up_to: 10000, unit: '0.05'}, {unit: '0.01'}]", "150"),
        ("graduated", "[{up_to: 1000, unit: '0.01'}, {up_to: 10000, unit: '0.008'}, {unit: '0.005'}]", "107"),
    ],
)
def test_fifteen_thousand_calls_are_what_others_say(model: str, tiers: str, expected: str) -> None:
    """100 + 450 + 50, or all at 0.01 (Zuplo on OpenMeter, pricing models); 10 + 72 + 25 (Autumn, graduated)."""
    assert amount(f"{{model: {model}, tiers: {tiers}}}", 15_000) == Decimal(expected)


@pytest.mark.parametrize(("units", "expected"), [(0, "0"), (1, "17"), (5, "45"), (6, "61"), (11, "110")])
def test_a_flat_fee_is_due_when_its_tier_is_reached(units: int, expected: str) -> None:
    """It is for the entire tier, once, beside the prices of units (Lago, charge models: graduated)."""
    tiers = "[{up_to: 5, unit: 7, flat: 10}, {up_to: 10, unit: 6, flat: 10}, {unit: 5, flat: 20}]"
    assert amount(f"{{model: graduated, tiers: {tiers}}}", units) == Decimal(expected)


def test_volume_adds_the_flat_fee_of_the_tier_reached() -> None:
    """65,000 calls at 0.0006 and a fixed 10.00 are 49.00 (Lago, charge models: volume)."""
    tiers = (
        "[{up_to: 10000, unit: '0.0010', flat: 10}, {up_to: 50000, unit: '0.0008', flat: 10}, "
        "{up_to: 100000, unit: '0.0006', flat: 10}, {unit: '0.0004', flat: 10}]"
    )
    assert amount(f"{{model: volume, tiers: {tiers}}}", 65_000) == Decimal(49)


@pytest.mark.parametrize(("units", "expected"), PACKAGES)
def test_a_package_that_was_begun_is_paid(units: int, expected: str) -> None:
    """100 free, then 5.00 for each 100: 201 units are 10.00 (Lago, charge models: package)."""
    assert amount("{model: package, size: 100, price: 5, included: 100}", units) == Decimal(expected)


def test_a_unit_may_cost_less_than_the_smallest_coin() -> None:
    """12,345 units at 0.0004 are 4.938; 1,000 calls at 0.05 are 50.00 (Lago, charge models: standard)."""
    assert amount("{model: per_unit, unit: '0.05'}", 1000) == Decimal(50)
    assert amount("{model: per_unit, unit: '0.0004'}", 12_345) == Decimal("4.938")
    assert amount("{model: per_unit, unit: '0.0004', included: 10_000}", 12_345) == Decimal("0.938")


@pytest.mark.parametrize(
    ("terms", "units", "events", "expected"),
    [
        ("rate: 1.5%", 100_000, 0, "15"),
        ("rate: 1.2%, fee: '0.10'", 100_000, 5, "12.5"),
        ("rate: 1.2%, fee: '0.10', free_events: 3", 100_000, 5, "12.2"),
        ("rate: 1.2%, fee: '0.10', free_events: 3", 100_000, 2, "12"),
        ("rate: 1.2%, free_amount: 500", 100_000, 0, "6"),
        ("rate: 1.2%, free_amount: 500", 40_000, 0, "0"),
        ("rate: 1.2%, fee: '0.10', free_amount: 500", 40_000, 4, "0.4"),
        ("rate: 1.2%, fee: '0.10', free_events: 3, free_amount: 400", 45_000, 4, "0.7"),
        ("rate: 2%, worth: 1", 250, 0, "5"),
    ],
)
def test_a_percentage_is_of_the_money_that_units_stand_for(terms: str, units: int, events: int, expected: str) -> None:
    """1.2 % and 0.10 for each payment, some of them or some of the money free (Lago, charge models: percentage).

    Of payments of 200, 100, 100 and 50 Lago charges 0.70 where three are free. It can also end both kinds of freedom
    when the first of them is used up; that takes each payment's own amount, and the ledger has sums.
    """
    assert amount(f"{{model: percentage, {terms}}}", units, events) == Decimal(expected)


def test_a_period_costs_at_least_its_minimum_and_at_most_its_maximum() -> None:
    """What is used beyond the cap is free, and what is missing is paid (OpenMeter, spend commitments)."""
    bounded = "{model: per_unit, unit: 1, minimum: 20, maximum: 100}"
    assert [amount(bounded, units) for units in (0, 19, 20, 100, 101)] == [20, 20, 20, 100, 100]


def test_each_step_says_what_it_is() -> None:
    """Whoever reads a bill can add it up by hand."""
    tiers = Tiered(ChargeModel.GRADUATED, (Tier(Decimal(1), 100, Decimal(5)), Tier(Decimal("0.5"))))
    assert rate(Charge(tiers, included=10, maximum=Decimal(100)), 140) == Rated(
        Decimal(100),
        (
            Step("included", 10, Decimal(0), Decimal(0)),
            Step("tier units 1 to 100", 100, Decimal(1), Decimal(100)),
            Step("flat fee of the tier units 1 to 100", 1, Decimal(5), Decimal(5)),
            Step("tier from unit 101", 30, Decimal("0.5"), Decimal("15.0")),
            Step("down to the maximum", 1, Decimal("-20.0"), Decimal("-20.0")),
        ),
    )


def test_nothing_is_rounded_however_large() -> None:
    """2^53 units at a price of 24 digits are all of their 40 digits, where decimals usually have 28."""
    price = Decimal("123456789012.123456789012")
    units = 2**53 - 1
    assert Fraction(rate(Charge(PerUnit(price)), units).amount) == units * Fraction(price)
    assert rate(Charge(Package(1, price)), units).amount == rate(Charge(PerUnit(price)), units).amount


def test_more_taken_back_than_was_used_is_no_credit() -> None:
    """A sum that corrections brought below zero is rated as none."""
    assert rate(Charge(PerUnit(Decimal(1))), -5) == Rated(Decimal(0), ())
    shared = Percentage(Decimal(1), Decimal(1), Decimal(1), "events")
    assert rate(Charge(shared), -5, -5) == Rated(Decimal(0), ())
