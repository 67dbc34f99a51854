"""The terms a contract has of its own: every mistake named at once, and the same document back."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from support.offers import offers

from tallygate.limits.limit import EXACT_INTEGER, Limit, OnExceed, unenforceable
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract, LimitOverride, Overrides
from tallygate.plans.overrides import (
    InvalidOverridesError,
    Known,
    known_of,
    overrides_from_document,
    overrides_to_document,
    parse_overrides,
)
from tallygate.plans.parse import parse

PLANS = {plan.key: plan for plan in offers().plans}
KNOWN = known_of([PLANS["pro"]], ["audit_trail"])
GOOD = {
    "limits": {
        "monthly": {"amount": 5_000_000, "on_exceed": "overage", "ceiling": 6_000_000},
        "burst": {"burst": 0, "amount": 200},
    },
    "features": {"reports": False, "seats": 25, "tier": "platinum", "beta": True, "audit_trail": "weekly"},
    "scopes": {"add": ["reports.read"], "remove": ["things.write"]},
}


def parsed(document: object, known: Known = KNOWN) -> Overrides:
    """Return what a document says."""
    return parse_overrides(json.dumps(document), "test", known)


def wrong(document: object) -> dict[str, str]:
    """Return what is wrong with a document, by field."""
    with pytest.raises(InvalidOverridesError) as refused:
        parsed(document)
    return {problem.field: f"{problem.problem} ({problem.mend})" for problem in refused.value.problems}


def test_everything_that_may_be_overridden_is_read() -> None:
    """Amount, burst, overage and its end, features of every type, scopes more and fewer."""
    assert parsed(GOOD) == Overrides(
        limits={
            "monthly": LimitOverride(5_000_000, on_exceed=OnExceed.OVERAGE, ceiling=6_000_000),
            "burst": LimitOverride(200, burst=0),
        },
        features={"reports": False, "seats": 25, "tier": "platinum", "beta": True, "audit_trail": "weekly"},
        add_scopes=frozenset({"reports.read"}),
        remove_scopes=frozenset({"things.write"}),
    )


def test_what_was_written_is_read_again() -> None:
    """The stored document means what was typed; what is not said is not in it."""
    documents: list[dict[str, Any]] = [GOOD, {}, {"limits": {}}, {"features": {"seats": 1}}]
    for document in documents:
        overrides = parsed(document)
        stored = json.loads(json.dumps(overrides_to_document(overrides)))
        assert overrides_from_document(stored) == overrides
    assert overrides_to_document(parsed({"limits": {}, "scopes": {"add": []}})) == {}


def test_yaml_is_read_as_well() -> None:
    """A file may be written as plan files are, with a line for each mistake."""
    assert parse_overrides("limits:\n  monthly: {amount: 5_000_000}\n", "terms.yaml", KNOWN).limits == {
        "monthly": LimitOverride(5_000_000)
    }
    with pytest.raises(InvalidOverridesError, match=r"terms.yaml:2: limits.monthly.amount"):
        parse_overrides("limits:\n  monthly: {amount: many}\n", "terms.yaml", KNOWN)


def test_every_mistake_is_told_at_once() -> None:
    """One run names all that is wrong, each by its field and with its mend."""
    found = wrong(
        {
            "limits": {"montly": {"amount": 1}, "burst": {"amount": "5", "ceiling": 5}, "monthly": {}},
            "features": {"seats": "many", "sso": True, "reports": 1, "tier": True, "beta": 0.5},
            "scopes": {"add": ["two words"], "remove": ["things.delete"], "replace": []},
            "price": 1,
        }
    )
    assert set(found) == {
        "",
        "limits.montly",
        "limits.burst.amount",
        "limits.burst.ceiling",
        "limits.monthly",
        "features.seats",
        "features.sso",
        "features.reports",
        "features.tier",
        "features.beta",
        "scopes",
        "scopes.add[0]",
        "scopes.remove[0]",
    }
    assert "did you mean monthly?" in found["limits.montly"]
    assert "write true or false" in found["features.reports"]
    assert "write a number" in found["features.seats"]


def test_whose_use_is_counted_in_which_period_stays_the_plan_s() -> None:
    """A contract cannot put a billing period of its own on what all of a customer's subscriptions share."""
    for own in ({"per": "customer"}, {"period": "billing"}, {"refill": {"amount": 1, "every": "billing"}}):
        assert "unknown key" in wrong({"limits": {"monthly": {"amount": 5, **own}}})["limits.monthly"]


@pytest.mark.parametrize(
    ("own", "field"),
    [
        ({"monthly": {"burst": 5}}, "limits.monthly.burst"),
        ({"monthly": {"amount": -1}}, "limits.monthly.amount"),
        ({"monthly": {"amount": 1.5}}, "limits.monthly.amount"),
        ({"monthly": {"amount": True}}, "limits.monthly.amount"),
        ({"monthly": {"amount": None}}, "limits.monthly.amount"),
        ({"monthly": {"amount": EXACT_INTEGER}}, "limits.monthly.amount"),
        ({"monthly": {"on_exceed": "explode"}}, "limits.monthly.on_exceed"),
        ({"monthly": {"ceiling": 5000}}, "limits.monthly.ceiling"),
        ({"monthly": {"on_exceed": "overage", "ceiling": 999}}, "limits.monthly.ceiling"),
        ({"burst": {"amount": 0}}, "limits.burst.amount"),
        ({"burst": {"burst": 10**10}}, "limits.burst.burst"),
        ({"burst": {"on_exceed": "overage"}}, "limits.burst.on_exceed"),
        ({"monthly": [1]}, "limits.monthly"),
        ([], "limits"),
    ],
)
def test_a_limit_that_could_not_be_enforced_is_refused(own: Any, field: str) -> None:  # noqa: ANN401 - any JSON
    """What is accepted can be counted exactly, and means something for that kind of limit."""
    assert set(wrong({"limits": own})) == {field}


@pytest.mark.parametrize("document", [[], 1, None, "text", {"limits": 1, "features": [], "scopes": "all"}])
def test_what_is_no_document_is_refused(document: object) -> None:
    """Whatever JSON is sent, the answer names what is wrong with it."""
    assert wrong(document)


def test_a_limit_of_a_plan_to_come_may_be_overridden() -> None:
    """The contract's present and future plans are all known; where two differ the first counts."""
    both = known_of([PLANS["trial"], PLANS["pro"]])
    assert parsed({"limits": {"monthly": {"amount": 1}, "burst": {"amount": 2}}}, both).limits.keys() == {
        "monthly",
        "burst",
    }
    assert both.limits["monthly"] == PLANS["trial"].limits[0]


_NAMESAKES = """
plans:
  - key: first
    limits:
      - {name: units, quota: 100, period: month, on_exceed: overage, allow_until: 300 units}
      - {name: times, quota: 100, period: month, on_exceed: overage, allow_until: 3x}
      - {name: kind, quota: 5, period: month}
      - {name: window, rate: 50/s}
  - key: second
    limits:
      - {name: units, quota: 10000, period: month, on_exceed: overage, allow_until: 3x}
      - {name: times, quota: 100, period: month}
      - {name: kind, rate: 5/s}
      - {name: window, rate: 50/366d}
"""


def under_terms_of_its_own(plan: str, own: dict[str, Any]) -> dict[str, Limit]:
    """Return the limits of a contract on `plan` with overrides that were written on the first plan."""
    plans = {plan.key: plan for plan in parse(_NAMESAKES, "test.yaml").plans}
    overrides = parsed({"limits": own}, known_of([plans["first"]]))
    start = datetime(2026, 6, 15, tzinfo=UTC)
    contract = Contract("cus_1", f"{plan}@1", start, "UTC", start, overrides=overrides)
    grant = compile_terms(contract, {f"{plan}@1": plans[plan]}).phase_at(start).grant
    return {limit.name: limit for limit in grant.limits}


def test_nobody_is_refused_within_the_amount_of_a_contract() -> None:
    """A larger amount moves the hard end of its overage, whichever of the two the plan or the contract wrote."""
    amount = under_terms_of_its_own("first", {"units": {"amount": 5000}})["units"]
    assert (amount.amount, amount.ceiling) == (5000, 5000)
    later = under_terms_of_its_own("second", {"units": {"ceiling": 200}})["units"]
    assert (later.amount, later.ceiling) == (10_000, 10_000)
    assert under_terms_of_its_own("first", {"units": {"ceiling": 200}})["units"].ceiling == 200


@pytest.mark.parametrize("plan", ["first", "second"])
@pytest.mark.parametrize(
    "own",
    [
        {"times": {"amount": EXACT_INTEGER - 1}},
        {"kind": {"amount": 0}},
        {"kind": {"on_exceed": "overage", "ceiling": 9}},
        {"window": {"burst": 1000}},
        {"window": {"amount": EXACT_INTEGER - 1}},
    ],
)
def test_terms_of_a_contract_can_be_counted_on_every_plan(plan: str, own: dict[str, Any]) -> None:
    """What was written for one plan meets limits of the same name on another: still nothing breaks a decision."""
    limits = under_terms_of_its_own(plan, own)
    assert {unenforceable(limit) for limit in limits.values()} == {None}
    assert all(limit.on_exceed is OnExceed.DENY for limit in limits.values() if limit.window_us)


def test_a_contract_s_word_for_a_rate_is_not_taken_for_more_than_it_says() -> None:
    """A burst is given to rates only, an overage to what can be billed."""
    kind = under_terms_of_its_own("second", {"kind": {"amount": 7, "on_exceed": "overage"}})["kind"]
    assert (kind.amount, kind.on_exceed, kind.ceiling) == (7, OnExceed.DENY, None)
