"""What a plan file means when it is right."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tallygate.core.money import Money
from tallygate.core.periods import PeriodUnit
from tallygate.licenses.routes import RouteRule, RouteTable
from tallygate.limits.limit import CountedPer, FailPolicy, LimitKind, OnExceed, unenforceable
from tallygate.plans.charge import Charge, ChargeModel, Package, Percentage, PerUnit, Tier, Tiered
from tallygate.plans.contract import Contract
from tallygate.plans.document import (
    AllowUntil,
    Catalogue,
    LimitMode,
    Plan,
    PlanLimit,
    Price,
    QuotaPeriod,
)
from tallygate.plans.grant import compile_grant
from tallygate.plans.parse import parse

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "plans.yaml"
PRO = """
routes:
  - {match: "GET /v1/reports/{id}", cost: {requests: 5}, scope: reports.read, feature: reports}
  - {match: "* /v1/**", cost: {requests: 1}}
plans:
  - key: pro
    name: Pro
    price: {amount: "49.00", currency: USD, every: month}
    scopes: [things.read, things.write, reports.read]
    features: {reports: true, max_projects: 20}
    limits:
      - {name: burst, rate: 50/s, burst: 100}
      - {name: per-token, rate: 20/s, per: token}
      - {name: monthly, quota: 1_000_000, period: billing, on_exceed: overage, allow_until: 3x, fail: local}
    overage:
      requests: {model: graduated, tiers: [{up_to: 500000, unit: "0.0004"}, {unit: "0.0002"}]}
"""


def only_plan(body: str) -> Plan:
    """Return the plan of a file that has `key: p` and `body`, given as lines of flow mappings."""
    return parse("plans:\n  - key: p\n" + "".join(f"    {line}\n" for line in body.splitlines()), "plans.yaml").plans[0]


def only_limit(text: str) -> PlanLimit:
    """Return the one limit written as `text`."""
    return only_plan(f"limits: [{{name: it, {text}}}]").limits[0]


def test_the_documented_plan_is_read_whole() -> None:
    """The plan file that the outside world is told about gives exactly these values."""
    assert parse(PRO, "plans.yaml") == Catalogue(
        plans=(
            Plan(
                key="pro",
                name="Pro",
                price=Price(Money(Decimal("49.00"), "USD"), PeriodUnit.MONTH),
                scopes=frozenset({"things.read", "things.write", "reports.read"}),
                features={"reports": True, "max_projects": 20},
                limits=(
                    PlanLimit("burst", LimitKind.RATE, 50, window_us=1_000_000, burst=100),
                    PlanLimit("per-token", LimitKind.RATE, 20, window_us=1_000_000, burst=20, per=CountedPer.TOKEN),
                    PlanLimit(
                        "monthly",
                        LimitKind.QUOTA,
                        1_000_000,
                        period=QuotaPeriod.BILLING,
                        on_exceed=OnExceed.OVERAGE,
                        allow_until=AllowUntil(times=Decimal(3)),
                        fail=FailPolicy.LOCAL,
                    ),
                ),
                overage={
                    "requests": Charge(
                        Tiered(ChargeModel.GRADUATED, (Tier(Decimal("0.0004"), 500_000), Tier(Decimal("0.0002"))))
                    )
                },
            ),
        ),
        routes=(
            RouteRule("GET", "/v1/reports/{id}", (("requests", 5),), "reports.read", "reports"),
            RouteRule("*", "/v1/**", (("requests", 1),)),
        ),
    )


def test_bytes_are_read_as_utf_8() -> None:
    """A file is read the same as text or bytes, with or without a byte order mark."""
    assert parse(PRO.encode(), "f") == parse(PRO, "f") == parse(b"\xef\xbb\xbf" + PRO.encode(), "f")
    assert parse('plans: [{key: p, name: "Größe"}]'.encode(), "f").plans[0].name == "Größe"


def test_only_the_key_of_a_plan_is_required() -> None:
    """Everything else has the documented default."""
    assert only_plan("") == Plan(key="p", name="p")


@pytest.mark.parametrize(
    ("rate", "amount", "window_us"),
    [
        ("50/s", 50, 1_000_000),
        ("100/10s", 100, 10_000_000),
        ("5/min", 5, 60_000_000),
        ("1_000/5min", 1000, 300_000_000),
        ("20/h", 20, 3_600_000_000),
        ("7/d", 7, 86_400_000_000),
        ("7 / d", 7, 86_400_000_000),
    ],
)
def test_a_rate_is_an_amount_per_window(rate: str, amount: int, window_us: int) -> None:
    """Seconds, minutes, hours, days and multiples of them; the burst is the amount unless it is written."""
    assert only_limit(f'rate: "{rate}"') == PlanLimit("it", LimitKind.RATE, amount, window_us=window_us, burst=amount)


@pytest.mark.parametrize("text", ["1000000", "1_000_000", '"1_000_000"', "'1000000'"])
def test_a_whole_number_may_be_grouped_and_quoted(text: str) -> None:
    """The spellings people use are the same number."""
    assert only_limit(f"credits: {text}").amount == 1_000_000


def test_nothing_may_be_granted() -> None:
    """A quota or credits of 0 mean none of it."""
    assert only_limit("quota: 0, period: day").amount == 0
    assert only_limit("credits: 0").amount == 0


def test_every_word_of_a_limit_is_kept() -> None:
    """Meter, subject, mode and fail policy are those that were written."""
    limit = only_limit("credits: 5, meter: tokens, per: customer, mode: shadow, fail: open")
    assert limit == PlanLimit(
        "it",
        LimitKind.CREDITS,
        5,
        meter="tokens",
        per=CountedPer.CUSTOMER,
        mode=LimitMode.SHADOW,
        fail=FailPolicy.OPEN,
    )


@pytest.mark.parametrize(
    ("text", "ceiling"),
    [("3x", 9), ("1x", 3), ("1.5x", 4), ("1.001x", 3), ("2.999x", 8), ("3 units", 3), ("1_000 units", 1000)],
)
def test_the_end_of_an_overage_is_exact(text: str, ceiling: int) -> None:
    """A multiple is worked out in whole numbers, and never promises a part of a unit more."""
    limit = only_limit(f"quota: 3, period: day, on_exceed: overage, allow_until: {text}")
    assert limit.allow_until is not None
    assert limit.allow_until.ceiling(limit.amount) == ceiling


def test_a_multiple_of_a_large_amount_loses_no_digit() -> None:
    """Where a float would round, the ceiling does not."""
    assert AllowUntil(times=Decimal("1.001")).ceiling(8_998_001_998_001_999) == 9_007_000_000_000_000


def test_features_are_what_they_look_like() -> None:
    """Booleans, integers, decimals and text keep their kind; quotes make text of anything."""
    features = only_plan(
        'features: {a: true, b: false, c: 1_000, d: -1, e: 0.25, f: gold, g: "true", h: "12", i: "", "j.k*": x}'
    ).features
    expected = {
        "a": True,
        "b": False,
        "c": 1000,
        "d": -1,
        "e": 0.25,
        "f": "gold",
        "g": "true",
        "h": "12",
        "i": "",
        "j.k*": "x",
    }
    assert features == expected
    assert {key: type(value) for key, value in features.items()} == {
        key: type(value) for key, value in expected.items()
    }


def test_every_charge_is_read() -> None:
    """Each model keeps its own terms, as exact decimals; what is left out of a share of money has its default."""
    plan = only_plan(
        """price: {amount: 0, currency: EUR, every: year, prorate: true}
charges:
  a: {model: percentage, rate: "1.50%"}
  b: {model: percentage, rate: 2%, worth: "0.5", free_amount: 100, fee: "0.10", free_events: 3, maximum: 9}
  c: {model: per_unit, unit: 1, included: 1_000, minimum: "0.5", maximum: 20}
limits:
  - {name: a, credits: 1, meter: a, on_exceed: overage}
  - {name: b, credits: 1, meter: b, on_exceed: overage}
  - {name: c, credits: 1, meter: c, on_exceed: overage}
overage:
  a: {model: per_unit, unit: "0.10"}
  b: {model: package, size: 100, price: 5}
  c: {model: volume, tiers: [{up_to: 10, unit: "1", flat: "2.50"}, {unit: "0.5"}]}"""
    )
    assert plan.price == Price(Money(Decimal(0), "EUR"), PeriodUnit.YEAR, is_prorated=True)
    assert plan.charges == {
        "a": Charge(Percentage(Decimal("1.5"), worth=Decimal("0.01"))),
        "b": Charge(
            Percentage(Decimal(2), Decimal("0.5"), Decimal("0.1"), "requests", 3, Decimal(100)), maximum=Decimal(9)
        ),
        "c": Charge(PerUnit(Decimal(1)), 1000, Decimal("0.5"), Decimal(20)),
    }
    assert plan.overage == {
        "a": Charge(PerUnit(Decimal("0.1"))),
        "b": Charge(Package(100, Decimal(5))),
        "c": Charge(Tiered(ChargeModel.VOLUME, (Tier(Decimal(1), 10, Decimal("2.5")), Tier(Decimal("0.5"))))),
    }


def test_a_route_costs_one_request_unless_it_says_otherwise() -> None:
    """The default is one request; costs are in the order of their meters, zero included."""
    routes = parse('routes: [{match: "GET /a"}, {match: "GET /b", cost: {tokens: 2, bytes: 0}}]', "f").routes
    assert routes == (RouteRule("GET", "/a"), RouteRule("GET", "/b", (("bytes", 0), ("tokens", 2))))


def test_routes_and_plans_may_stand_alone() -> None:
    """A file may hold only one of the two; without routes nothing is said of meters and scopes."""
    assert parse('routes: [{match: "GET /a", scope: s, feature: f}]', "f").plans == ()
    assert only_limit("credits: 1, meter: tokens").meter == "tokens"


@pytest.fixture(scope="module")
def sample() -> Catalogue:
    """Return the catalogue that is shipped."""
    return parse(SAMPLE.read_bytes(), SAMPLE.name)


def test_the_sample_has_the_promised_plans(sample: Catalogue) -> None:
    """`dev` seeds free, pro and enterprise; enterprise has a rate, a day and a month."""
    assert [plan.key for plan in sample.plans] == ["free", "pro", "enterprise"]
    enterprise = sample.plans[2]
    assert [limit.kind for limit in enterprise.limits] == [LimitKind.RATE, LimitKind.QUOTA, LimitKind.QUOTA]
    assert [limit.period for limit in enterprise.limits] == [None, QuotaPeriod.DAY, QuotaPeriod.MONTH]
    assert min(limit.amount for limit in enterprise.limits) >= 1_000_000


def test_every_sample_plan_may_read_things(sample: Catalogue) -> None:
    """GET /v1/things costs one request and asks for nothing a plan lacks."""
    rule = RouteTable(sample.routes).match("GET", "/v1/things")
    assert rule is not None
    assert rule.costs == (("requests", 1),)
    assert all(rule.scope is None or rule.scope in plan.scopes for plan in sample.plans)
    assert rule.feature is None


def test_the_free_sample_plan_lacks_reports_and_writing(sample: Catalogue) -> None:
    """What the demonstration refuses is refused by the plan: a feature and two scopes."""
    free, pro = sample.plans[:2]
    report = RouteTable(sample.routes).match("GET", "/v1/reports/7")
    write = RouteTable(sample.routes).match("POST", "/v1/things")
    assert report is not None
    assert write is not None
    assert (report.costs, report.scope, report.feature) == ((("requests", 5),), "reports.read", "reports")
    assert {report.scope, write.scope}.isdisjoint(free.scopes)
    assert {report.scope, write.scope} <= pro.scopes
    assert free.features["reports"] is False
    assert pro.features["reports"] is True


def test_every_limit_of_the_sample_can_be_counted(sample: Catalogue) -> None:
    """No shipped limit is beyond what the counters hold exactly."""
    at = datetime(2026, 1, 31, tzinfo=UTC)
    for plan in sample.plans:
        for limit in compile_grant(plan, "it@1", Contract("cus_1", "it@1", at, "UTC", at)).limits:
            assert unenforceable(limit) is None


def test_the_reference_shows_a_file_that_is_right() -> None:
    """Whoever copies an example of docs/plans.md gets a catalogue, from the first that of the first test here."""
    text = (ROOT / "docs" / "plans.md").read_text(encoding="utf-8")
    shown, *others = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert all(parse(other, "plans.md").plans for other in others)
    catalogue, documented = parse(shown, "plans.md"), parse(PRO, "f")
    assert catalogue.routes == documented.routes
    assert catalogue.plans == (replace(documented.plans[0], upgrade_url="https://example.com/contact"),)
