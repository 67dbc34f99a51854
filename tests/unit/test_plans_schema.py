"""The JSON Schema of the plan file marks typical mistakes, and nothing that is shipped."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tallygate.plans.overrides import InvalidOverridesError, known_of, parse_overrides
from tallygate.plans.parse import InvalidCatalogueError, parse
from tallygate.plans.schema import overrides_schema, plan_file_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
VALIDATOR = Draft202012Validator(plan_file_schema())


def is_valid(text: str) -> bool:
    """Tell whether an editor with the schema would leave the file unmarked."""
    return bool(VALIDATOR.is_valid(yaml.safe_load(text)))


def test_the_schema_is_one() -> None:
    """Editors take it: it keeps to draft 2020-12 and leaves no reference open."""
    schema = plan_file_schema()
    Draft202012Validator.check_schema(schema)
    referred = {text.partition("#/$defs/")[2] for text in _references(schema)}
    assert referred == set(schema["$defs"])


def _references(schema: object) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [found for value in schema.values() for found in _references(value)]
    return [found for value in schema for found in _references(value)] if isinstance(schema, list) else []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    """Who begins with an example sees no mark in it, and it can be applied."""
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(path.read_text()))] == []
    assert parse(path.read_bytes(), path.name).plans


def test_numbers_may_be_grouped_whichever_yaml_reads_them() -> None:
    """An editor of YAML 1.2 takes 1_000 for text; it must not be marked."""
    assert is_valid('plans: [{key: p, limits: [{name: a, quota: "1_000", period: day}]}]')


PLANS = [
    "keys: p",
    "key: Pro",
    "key: p, limit: []",
    "key: p, price: {amount: 49}",
    "key: p, price: {amount: -1, currency: USD}",
    "key: p, price: {amount: '49,00', currency: USD}",
    "key: p, price: {amount: 49, currency: usd}",
    "key: p, price: {amount: 49, currency: USD, every: hour}",
    "key: p, scopes: [a, a]",
    "key: p, scopes: ['a b']",
    "key: p, features: {A: true}",
    "key: p, features: {a: [1]}",
    "key: p, features: {a: {rollout: 101}}",
    "key: p, features: {a: {rollout: ten}}",
    "key: p, features: {a: {percent: 10}}",
    "key: p, upgrade_url: pricing",
    "key: p, trial: {at_end: convert}",
    "key: p, trial: {days: 0}",
    "key: p, trial: {days: 14, at_end: downgrade}",
    "key: p, trial: {days: 14, to: free}",
    "key: p, trial: {days: 14, at_end: cancel, to: free}",
    "key: p, grace: {days: 7, share: 10%}",
    "key: p, grace: {days: 7, limits: reduced, share: 10}",
    "key: p, overage: {requests: {model: per_unit, unit: 1}}",
    "key: p, charges: {requests: {model: per_unit, unit: 1}}",
    "key: p, price: {amount: 49, currency: USD, prorate: days}",
    "key: p, trial: {days: 14, bill_usage: 1}",
]
LIMITS = [
    "rate: 5/s",
    "name: A, rate: 5/s",
    "name: a",
    "name: a, rate: 50",
    "name: a, rate: 5/month",
    "name: a, rate: 5/s, period: day",
    "name: a, rate: 5/s, quota: 5, period: day",
    "name: a, quota: 5",
    "name: a, quota: 1.5, period: day",
    "name: a, quota: -1, period: day",
    "name: a, quota: 5, period: fortnight",
    "name: a, quota: 5, period: day, burst: 5",
    "name: a, credits: ten",
    "name: a, credits: 5, hold: 30s",
    "name: a, credits: 5, refill: {amount: 5, every: hour}",
    "name: a, credits: 5, refill: {every: day}",
    "name: a, concurrency: 0",
    "name: a, concurrency: 4, exactness: leased",
    "name: a, credits: 5, exactness: sloppy",
    "name: a, concurrency: 4, hold: 30",
    "name: a, concurrency: 4, on_exceed: overage",
    "name: a, rate: 5/s, on_exceed: overage",
    "name: a, credits: 5, allow_until: 3x",
    "name: a, credits: 5, on_exceed: overage, allow_until: 3",
    "name: a, credits: 5, mode: off",
    "name: a, credits: 5, fail: maybe",
    "name: a, credits: 5, per: user",
    "name: a, quota: 5, period: billing, per: customer",
    "name: a, credits: 5, per: customer, refill: {amount: 5, every: billing}",
]
CHARGES = [
    "{unit: 1}",
    "{model: tiered}",
    "{model: per_unit}",
    "{model: per_unit, unit: 1, size: 5}",
    "{model: package, size: 0, price: 1}",
    "{model: volume, tiers: []}",
    "{model: graduated, tiers: [{up_to: 5}]}",
    "{model: percentage, rate: 1.5}",
    "{model: percentage, rate: 1.5%, included: 5}",
    "{model: percentage, rate: 1.5%, events: requests}",
    "{model: per_unit, unit: 1, minimum: -1}",
]
POLICIES = [
    "refund_on: 5xx",
    "refund_on: [600]",
    "refund_on: [server error]",
    "actual: size",
    "actual: {}",
    "actual: {header: X-Usage}",
    "actual: {header: x-tallygate-receipt}",
    "actual: {header: a, trailer: b}",
    "actual: bytes, within: 10",
    "actual: bytes, unsettled: forget",
    "within: 10m",
    "unsettled: charge",
]
MISTAKES = [
    "{}",
    "meters: {tokens: {}}",
    "plan: []",
    "plans: {key: p}",
    "meters: {a: b}\nroutes: []",
    "meters: {a: {unit: x}}\nroutes: []",
    *(f"meters: {{requests: {{{policy}}}}}\nroutes: []" for policy in POLICIES),
    "routes: [{cost: {requests: 1}}]",
    "routes: [{match: /v1}]",
    "routes: [{match: get /v1}]",
    "routes: [{match: HEAD /v1}]",
    "routes: [{match: 'GET /v1?x=1'}]",
    "routes: [{match: GET /v1, cost: 5}]",
    "routes: [{match: GET /v1, cost: {}}]",
    "routes: [{match: GET /v1, scop: x}]",
    *(f"plans: [{{{plan}}}]" for plan in PLANS),
    *(f"plans: [{{key: p, limits: [{{{limit}}}]}}]" for limit in LIMITS),
    *(
        "plans: [{key: p, price: {amount: 0, currency: USD}, limits: [{name: a, credits: 1, on_exceed: overage}], "
        f"overage: {{requests: {charge}}}}}]"
        for charge in CHARGES
    ),
]


@pytest.mark.parametrize("text", MISTAKES)
def test_typical_mistakes_are_marked(text: str) -> None:
    """A mistake that a schema can show is shown while it is typed; the reader refuses it as well."""
    with pytest.raises(InvalidCatalogueError):
        parse(text, "f")
    assert not is_valid(text)


@pytest.mark.parametrize(
    ("terms", "is_right"),
    [
        ({}, True),
        ({"limits": {"monthly": {"amount": 5, "ceiling": 9, "on_exceed": "overage"}}, "scopes": {"add": ["b"]}}, True),
        ({"features": {"seats": 7}, "scopes": {"add": [], "remove": ["a"]}}, True),
        ({"limits": {"monthly": {}}}, False),
        ({"limits": {"monthly": {"quota": 5}}}, False),
        ({"limits": {"monthly": {"amount": "5"}}}, False),
        ({"limits": {"monthly": {"amount": -1}}}, False),
        ({"limits": [{"name": "monthly", "amount": 5}]}, False),
        ({"features": {"seats": [7]}}, False),
        ({"scopes": ["a"]}, False),
        ({"scopes": {"add": ["a b"]}}, False),
        ({"price": {"amount": "9"}}, False),
    ],
)
def test_the_form_of_a_contract_s_own_terms_is_what_is_taken(terms: object, is_right: bool) -> None:  # noqa: FBT001
    """REST's document promises of an override what reading one holds."""
    schema = overrides_schema()
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(terms) == is_right
    limits = "[{name: monthly, quota: 1, period: day}]"
    (plan,) = parse(f"plans: [{{key: p, scopes: [a], features: {{seats: 5}}, limits: {limits}}}]", "p").plans
    if is_right:
        parse_overrides(json.dumps(terms), "terms", known_of([plan]))
    else:
        with pytest.raises(InvalidOverridesError):
            parse_overrides(json.dumps(terms), "terms", known_of([plan]))
