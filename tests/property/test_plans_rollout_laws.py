"""Laws of percentage roll-outs."""

from decimal import Decimal
from math import sqrt

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tallygate.plans.document import Rollout
from tallygate.plans.rollout import features_of, is_in_rollout

CUSTOMERS = [f"cus_{number:026d}" for number in range(2000)]
SIGMAS = 6
percents = st.integers(0, 10_000).map(lambda hundredths: Decimal(hundredths) / 100)
customers = st.text(max_size=30)
features = st.from_regex(r"[a-z][a-z0-9_.*-]{0,20}", fullmatch=True)


def has(feature: str, percent: Decimal) -> set[str]:
    """Return the customers whom a roll-out has reached."""
    return {customer for customer in CUSTOMERS if is_in_rollout(customer, feature, percent)}


def near(found: int, expected: float, of: int = len(CUSTOMERS)) -> bool:
    """Tell whether a count is what chance would make of an expected share."""
    return abs(found - of * expected) <= SIGMAS * sqrt(of * expected * (1 - expected)) + 1


@given(customers, features, percents, percents)
def test_raising_the_percentage_takes_nobody_out(customer: str, feature: str, one: Decimal, other: Decimal) -> None:
    """Whoever has a feature keeps it while it is rolled out to more."""
    less, more = sorted((one, other))
    assert is_in_rollout(customer, feature, less) <= is_in_rollout(customer, feature, more)


@given(customers, features)
def test_nothing_reaches_nobody_and_all_reaches_everybody(customer: str, feature: str) -> None:
    """The ends of a roll-out are no matter of chance."""
    assert not is_in_rollout(customer, feature, Decimal(0))
    assert is_in_rollout(customer, feature, Decimal(100))


def test_the_first_to_have_a_feature_are_not_there_before_it_begins() -> None:
    """The smallest roll-out reaches somebody, whom one of 0 percent does not."""
    first = next(str(number) for number in range(10**6) if is_in_rollout(str(number), "beta", Decimal("0.01")))
    assert not is_in_rollout(first, "beta", Decimal(0))


@given(features, percents)
@settings(deadline=None, max_examples=30)
def test_as_many_are_reached_as_was_asked(feature: str, percent: Decimal) -> None:
    """Ten percent of the customers are about ten percent, whatever the feature is called."""
    assert near(len(has(feature, percent)), float(percent) / 100)


@given(features, features, percents, percents)
@settings(deadline=None, max_examples=30)
def test_features_choose_independently(one: str, other: str, share: Decimal, other_share: Decimal) -> None:
    """Not always the same customers come first: having one feature says nothing about another."""
    assume(one != other)
    both = has(one, share) & has(other, other_share)
    assert near(len(both), float(share * other_share) / 10_000)


def test_who_is_chosen_never_changes() -> None:
    """Another hash would take a feature from customers who have it: these were chosen by the first release."""
    chosen = [number for number in range(40) if is_in_rollout(f"customer-{number}", "beta_search", Decimal(25))]
    assert chosen == [2, 9, 11, 24, 30, 34]


@given(customers, st.dictionaries(features, st.booleans() | st.integers() | st.text() | percents.map(Rollout)))
def test_a_customer_s_features_are_plain_values(customer: str, written: dict[str, bool | int | str | Rollout]) -> None:
    """A roll-out is true or false for each customer, and everything else is as it is written."""
    found = features_of(written, customer)
    assert list(found) == list(written)
    for key, value in written.items():
        if isinstance(value, Rollout):
            assert found[key] is is_in_rollout(customer, key, value.percent)
        else:
            assert found[key] is value
