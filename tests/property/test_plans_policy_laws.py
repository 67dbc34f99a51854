"""Whatever policies a file has: both planes read the same of them, and what is printed can be applied again."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.plan_strategies import some

from tallygate.licenses.codec_routes import decode_routes
from tallygate.plans.codec_routes import routes_to_document
from tallygate.plans.diff_meters import diff_meters
from tallygate.plans.meters import expand_routes
from tallygate.plans.notation import read_statuses, statuses_text
from tallygate.plans.parse import parse
from tallygate.plans.schema import plan_file_schema

VALIDATOR = Draft202012Validator(plan_file_schema())
METERS = ("requests", "tokens", "in", "out")
STATUS = st.integers(100, 599)
STATUSES = st.one_of(
    STATUS,
    st.integers(1, 5).map("{}xx".format),
    st.tuples(STATUS, STATUS).map(lambda ends: f"{min(ends)}-{max(ends)}"),
)
FIELD = st.from_regex(r"[a-z0-9_.!-]{1,20}", fullmatch=True).filter(lambda name: not name.startswith("x-tallygate-"))
ACTUALS = st.one_of(
    st.sampled_from(["bytes_sent", "bytes_received", "bytes", "reported"]),
    st.fixed_dictionaries({"header": FIELD}),
    st.fixed_dictionaries({"trailer": FIELD}),
)
WITHIN = st.builds("{}{}".format, st.integers(1, 24), st.sampled_from("smh"))
WORDS: dict[str, st.SearchStrategy[Any]] = {"within": WITHIN, "unsettled": st.sampled_from(["charge", "refund"])}
POLICIES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    some({"refund_on": st.lists(STATUSES, max_size=4)}, **WORDS),
    some({"actual": ACTUALS}, refund_on=st.lists(STATUSES, max_size=4), **WORDS),
    some({"unsettled": st.just("refund")}, within=WITHIN),
)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """Return a file with meters that have policies; `in` and `out` count in tokens, whose number follows theirs."""
    meters: dict[str, Any] = {meter: draw(POLICIES) for meter in METERS}
    meters["tokens"].pop("actual", None)
    if "refund_on" not in meters["tokens"] and meters["tokens"].get("unsettled") != "refund":
        meters["tokens"] = {}
    for child in ("in", "out"):
        meters[child] = {**meters[child], "parent": "tokens"}
    costs = st.dictionaries(st.sampled_from(METERS), st.integers(0, 9), min_size=1)
    routes = [{"match": f"GET /{at}", "cost": cost} for at, cost in enumerate(draw(st.lists(costs, max_size=3)))]
    return {"meters": meters, "routes": [*routes, {"match": "GET /all", "cost": dict.fromkeys(METERS, 1)}]}


@given(files())
@settings(deadline=None)
def test_both_planes_read_the_same_of_any_policy(written: dict[str, Any]) -> None:
    """What a request is settled by is what was written: no status, source, name or time is lost on the way."""
    read = parse(json.dumps(written), "f")
    document = json.loads(json.dumps(routes_to_document(read.routes, read.meters, read.policies)))
    rules, meters = decode_routes(json.dumps(document))
    assert rules == expand_routes(read.routes, read.meters, read.policies)
    assert meters == read.meters


@given(files())
@settings(deadline=None)
def test_what_is_printed_of_meters_can_be_applied_again(written: dict[str, Any]) -> None:
    """It is valid in the editor, means the same, and a second printing is the same text."""
    read = parse(json.dumps(written), "f")
    document = routes_to_document(read.routes, read.meters, read.policies)
    printed = {"meters": document["meters"], "routes": written["routes"]}
    for file in (written, printed):
        assert [error.message for error in VALIDATOR.iter_errors(json.loads(json.dumps(file)))] == []
    again = parse(json.dumps(printed), "f")
    assert (again.meters, again.policies) == (read.meters, read.policies)
    meters = routes_to_document(again.routes, again.meters, again.policies)["meters"]
    assert list(diff_meters(document["meters"], meters)) == []
    assert meters == document["meters"]


@given(st.lists(STATUSES, min_size=1, max_size=6), STATUS)
def test_a_status_is_refunded_exactly_when_it_was_named(written: list[str | int], status: int) -> None:
    """Merging ranges neither adds a status nor loses one, and ranges stay apart."""
    file = {"meters": {"requests": {"refund_on": written}}, "routes": [{"match": "GET /"}]}
    ranges = parse(json.dumps(file), "f").policies["requests"].refund_on
    named = [read_statuses(str(each)) for each in written]
    is_in = [any(first <= status <= last for first, last in found) for found in (ranges, named)]
    assert is_in[0] == is_in[1]
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(ranges))
    assert tuple(read_statuses(statuses_text(*each)) for each in ranges) == ranges
