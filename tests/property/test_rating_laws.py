"""Laws of rating, for every charge: exact, monotone, continuous, bounded."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from tallygate.billing.rating import rate
from tallygate.core.money import minor_unit, rounded
from tallygate.plans.charge import Charge, ChargeModel, Package, Percentage, PerUnit, Pricing, Tier, Tiered
from tallygate.plans.codec_charges import charge_from, charge_to_document

prices = st.decimals(0, 10**6, places=6)
units = st.integers(0, 2**53)
few = st.integers(0, 300)


@st.composite
def tiers(draw: st.DrawFn, flats: st.SearchStrategy[Decimal] = prices) -> tuple[Tier, ...]:
    """Return tiers, lowest first."""
    ends = sorted(draw(st.sets(st.integers(1, 250), max_size=4)))
    return tuple(Tier(draw(prices), end, draw(flats)) for end in (*ends, None))


graduated = st.builds(Tiered, st.just(ChargeModel.GRADUATED), tiers())
percentages = st.builds(
    Percentage,
    rate=st.decimals(0, 100, places=4),
    worth=prices,
    fee=prices,
    events=st.just("requests"),
    free_events=few,
    free_amount=prices,
)
growing: st.SearchStrategy[Pricing] = st.one_of(
    st.builds(PerUnit, prices), graduated, st.builds(Package, st.integers(1, 1000), prices), percentages
)
pricings = growing | st.builds(Tiered, st.just(ChargeModel.VOLUME), tiers())


@st.composite
def charges(draw: st.DrawFn, of: st.SearchStrategy[Pricing] = pricings) -> Charge:
    """Return a charge with or without bounds."""
    minimum = draw(prices)
    maximum = draw(st.none() | prices.map(lambda more: minimum + more))
    return Charge(draw(of), draw(few), minimum, maximum)


@given(charges(), units, few)
def test_an_amount_is_the_sum_of_its_steps(charge: Charge, used: int, events: int) -> None:
    """No step is lost and none is rounded, and no float is anywhere."""
    rated = rate(charge, used, events)
    assert Fraction(rated.amount) == sum((Fraction(step.amount) for step in rated.steps), Fraction(0))
    for step in rated.steps:
        assert Fraction(step.amount) == step.quantity * Fraction(step.price)
        assert isinstance(step.amount, Decimal)
        assert isinstance(step.price, Decimal)


@given(charges(), units, few)
def test_a_total_is_within_its_bounds(charge: Charge, used: int, events: int) -> None:
    """Never below the minimum, never above the maximum, and between them as if there were none."""
    total = rate(charge, used, events).amount
    free = rate(replace(charge, minimum=Decimal(0), maximum=None), used, events).amount
    assert total >= charge.minimum
    assert charge.maximum is None or total <= charge.maximum
    assert total in (free, charge.minimum, charge.maximum)


@given(charges(growing), units, units, few, few)
def test_more_units_never_cost_less(charge: Charge, used: int, more: int, events: int, more_events: int) -> None:
    """But for volume, where a tier may make all units cheaper."""
    assert rate(charge, used + more, events + more_events).amount >= rate(charge, used, events).amount


@given(charges(), few, few)
def test_included_units_cost_nothing(charge: Charge, used: int, events: int) -> None:
    """They are as if they had not been used, whatever the model makes of the rest."""
    bare = replace(charge, included=0)
    if isinstance(charge.pricing, Percentage):
        return
    assert rate(charge, used + charge.included, events).amount == rate(bare, used, events).amount


@given(tiers(st.just(Decimal(0))), few)
def test_graduated_goes_up_by_the_price_of_each_unit(of: tuple[Tier, ...], used: int) -> None:
    """Without flat fees it is continuous: one unit more costs what its tier says, at every border too."""
    charge = Charge(Tiered(ChargeModel.GRADUATED, of))
    tier = next(tier for tier in of if tier.up_to is None or used + 1 <= tier.up_to)
    assert rate(charge, used + 1).amount - rate(charge, used).amount == tier.unit


@given(tiers(), few)
def test_volume_is_one_tier_for_all(of: tuple[Tier, ...], used: int) -> None:
    """All units by the tier that the last falls into, and its flat fee."""
    tier = next(tier for tier in of if tier.up_to is None or used <= tier.up_to)
    expected = used * tier.unit + tier.flat if used else Decimal(0)
    assert rate(Charge(Tiered(ChargeModel.VOLUME, of)), used).amount == expected


@given(st.integers(1, 1000), prices, st.integers(0, 10**6))
def test_packages_are_counted_up(size: int, price: Decimal, used: int) -> None:
    """One that is begun is whole."""
    assert rate(Charge(Package(size, price)), used).amount == ceil(Fraction(used, size)) * price


@given(prices, st.lists(units, max_size=5))
def test_a_price_per_unit_is_the_same_in_parts(price: Decimal, parts: list[int]) -> None:
    """However a period is split, the parts add up to the whole."""
    charge = Charge(PerUnit(price))
    assert sum(Fraction(rate(charge, part).amount) for part in parts) == Fraction(rate(charge, sum(parts)).amount)


@given(charges())
def test_a_charge_is_kept_as_it_is(charge: Charge) -> None:
    """What was published is what is billed: a charge comes back from its document the same."""
    assert charge_from(charge_to_document(charge)) == charge


@given(st.fractions(min_value=-(10**9), max_value=10**9), st.sampled_from(["USD", "JPY", "KWD"]))
def test_rounding_is_to_the_nearest_coin_and_half_to_even(amount: Fraction, currency: str) -> None:
    """Never off by more than half a coin; a half goes to the even one; what is whole stays."""
    unit = Fraction(minor_unit(currency))
    got = Fraction(rounded(amount, currency))
    assert (got / unit).denominator == 1
    assert abs(got - amount) <= unit / 2
    assert abs(got - amount) < unit / 2 or (got / unit) % 2 == 0
    assert rounded(got, currency) == rounded(amount, currency)
