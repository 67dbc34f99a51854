"""Plan files that are right, for the laws that hold for every one of them."""

import json
from typing import Any

from hypothesis import strategies as st

from tallygate.limits.limit import EXACT_INTEGER
from tallygate.plans.document import Plan
from tallygate.plans.parse import parse

FALLBACK = {"key": "fallback"}
"""The plan that trials downgrade to; in every file beside the one looked at."""

names = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)
keys = names.filter(lambda name: name != FALLBACK["key"])
money = st.decimals(0, 10**9, places=4).map(str)
amounts = st.integers(0, EXACT_INTEGER - 1)
positive = st.integers(1, EXACT_INTEGER - 1)
days = st.integers(1, 3650)


def some(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return mappings with all `required` keys and any of the `optional` ones."""
    return st.fixed_dictionaries(required, optional=optional)


shared: dict[str, st.SearchStrategy[Any]] = {
    "per": st.sampled_from(["customer", "subscription", "token"]),
    "mode": st.sampled_from(["enforce", "shadow"]),
    "fail": st.sampled_from(["open", "closed", "local"]),
    "meter": st.sampled_from(["requests", "tokens"]) | names,
}
leasable = shared | {"exactness": st.sampled_from(["exact", "leased"])}
periods = st.sampled_from(["minute", "hour", "day", "week", "month", "year", "billing"])
rates = st.builds(
    "{}/{}".format, st.integers(1, 1000), st.sampled_from(["s", "10s", "60s", "min", "5min", "h", "24h", "d"])
)
ends = st.builds("{}x".format, st.decimals(1, 9, places=3)) | st.just(f"{EXACT_INTEGER - 1} units")
refills = some({"amount": positive, "every": st.sampled_from(["day", "week", "month", "year", "billing"])})
holds = st.builds("{}{}".format, st.integers(1, 24), st.sampled_from("smh")) | st.just("5400s")


def is_sharable(limit: dict[str, Any]) -> bool:
    """Tell whether what a customer's subscriptions share has no billing period, which each has to itself."""
    return limit.get("per") != "customer" or "billing" not in (
        limit.get("period"),
        limit.get("refill", {}).get("every"),
    )


limits = st.one_of(
    some({"rate": rates}, burst=st.integers(1, 100_000), **leasable),
    some({"quota": amounts, "period": periods}, **leasable),
    some({"credits": amounts}, refill=refills, **leasable),
    some({"concurrency": positive}, hold=holds, **shared),
    some(
        {"quota": st.integers(0, 10**14), "period": periods, "on_exceed": st.just("overage"), "meter": st.just("m")},
        allow_until=ends,
        mode=shared["mode"],
    ),
).filter(is_sharable)
tiers = st.lists(some({"unit": money}, flat=money), min_size=1, max_size=4).map(
    lambda found: [tier | {"up_to": 10 * (at + 1)} for at, tier in enumerate(found[:-1])] + [found[-1]]
)
bounds = {"minimum": st.decimals(0, 100, places=2).map(str), "maximum": st.decimals(100, 10**9, places=2).map(str)}
unit_bounds = bounds | {"included": amounts}
shares = {"worth": st.decimals("0.001", 100, places=3).map(str), "free_amount": money}
rates_of_money = st.decimals(0, 100, places=4).map("{}%".format)
charges = st.one_of(
    some({"model": st.just("per_unit"), "unit": money}, **unit_bounds),
    some({"model": st.just("package"), "size": positive, "price": money}, **unit_bounds),
    some({"model": st.sampled_from(["graduated", "volume"]), "tiers": tiers}, **unit_bounds),
    some({"model": st.just("percentage"), "rate": rates_of_money}, **shares, **bounds),
    some(
        {"model": st.just("percentage"), "rate": rates_of_money, "fee": money},
        events=st.just("m"),
        free_events=amounts,
        **shares,
        **bounds,
    ),
)
percents = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)
values = (
    st.booleans()
    | st.integers(-(10**15) + 1, 10**15 - 1)
    | st.integers(-(10**9), 10**9).map(lambda thousandths: round(thousandths / 1000, 3))
    | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
    | some({"rollout": percents | st.integers(0, 100)})
)
trials = st.one_of(
    some({"days": days}, basis=st.sampled_from(["creation", "first_use"]), bill_usage=st.booleans()),
    some({"days": days, "at_end": st.sampled_from(["convert", "suspend", "cancel"])}),
    some({"days": days, "at_end": st.just("downgrade"), "to": st.just(FALLBACK["key"])}),
)
graces = st.one_of(
    some({"days": days}, limits=st.just("full")),
    some({"days": days, "limits": st.just("reduced")}, share=st.integers(1, 99).map("{}%".format)),
)


@st.composite
def plans(draw: st.DrawFn, key: st.SearchStrategy[str] = keys) -> dict[str, Any]:
    """Return a right plan in the shape of the file."""
    plan: dict[str, Any] = draw(
        some(
            {"key": key},
            name=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
            scopes=st.lists(st.from_regex(r"[!#-\[\]-~]{1,20}", fullmatch=True), unique=True, max_size=5),
            features=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.*-]{0,10}", fullmatch=True), values, max_size=5),
            upgrade_url=st.just("https://example.com/pricing?from=api"),
            trial=trials,
            grace=graces,
        )
    )
    plan["price"] = draw(
        some(
            {"amount": money, "currency": st.sampled_from(["USD", "JPY"])},
            every=st.sampled_from(["day", "week", "month", "year"]),
            prorate=st.booleans(),
        )
    )
    found = draw(st.lists(limits, max_size=5))
    plan["limits"] = [{"name": f"l{at}"} | limit for at, limit in enumerate(found)]
    plan["charges"] = draw(some({}, requests=charges, m=charges))
    if any(limit.get("on_exceed") for limit in found):
        plan["overage"] = draw(some({}, m=charges))
    return plan


def as_file(plan: dict[str, Any]) -> str:
    """Return a file with the plan and the one its trial falls back to; JSON is YAML with all text in quotes."""
    return json.dumps({"plans": [plan, FALLBACK]}, ensure_ascii=False)


def read(plan: dict[str, Any]) -> Plan:
    """Return the plan as it is read from a file."""
    return parse(as_file(plan), "f").plans[0]
