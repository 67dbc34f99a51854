"""What becomes of a meter's units after the response, as it is written in a plan file."""

from pathlib import Path

import pytest

from tallygate.licenses.routes import ActualSource, MeterPolicy, RouteTable
from tallygate.plans.codec_routes import meters_to_document
from tallygate.plans.diff_meters import diff_meters
from tallygate.plans.meters import expand_routes
from tallygate.plans.parse import InvalidCatalogueError, parse

CATALOGUE = Path(__file__).parents[2] / "examples" / "catalogue.yaml"


def policy(body: str) -> MeterPolicy | None:
    """Return the policy of a meter that has `body`."""
    return parse(f"meters: {{m: {{{body}}}}}\nroutes: [{{match: GET /, cost: {{m: 1}}}}]", "f").policies.get("m")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", None),
        ("refund_on: []", None),
        ("refund_on: [5xx, 429, 500-503]", MeterPolicy("m", ((429, 429), (500, 599)))),
        ("refund_on: [4xx, '500', 501]", MeterPolicy("m", ((400, 501),))),
        ("actual: bytes_sent", MeterPolicy("m", actual=ActualSource.BYTES_SENT)),
        ("actual: bytes_received", MeterPolicy("m", actual=ActualSource.BYTES_RECEIVED)),
        ("actual: bytes", MeterPolicy("m", actual=ActualSource.BYTES)),
        ("actual: reported, within: 24h", MeterPolicy("m", actual=ActualSource.REPORTED, within_s=86_400)),
        ("actual: {header: x-m}", MeterPolicy("m", actual=ActualSource.HEADER, field_name="x-m")),
        ("actual: {trailer: x-m}", MeterPolicy("m", actual=ActualSource.TRAILER, field_name="x-m")),
        ("unsettled: refund", MeterPolicy("m", is_refunded_unsettled=True)),
        ("refund_on: [500], unsettled: charge, within: 1s", MeterPolicy("m", ((500, 500),), within_s=1)),
    ],
)
def test_a_policy_is_read_as_it_is_meant(body: str, expected: MeterPolicy | None) -> None:
    """Statuses come to ranges, words to sources, and what is left out to its default: ten minutes, and charged."""
    assert policy(body) == expected


def test_a_limit_may_be_on_what_only_outcomes_and_reports_count() -> None:
    """Nothing is charged at once, and the limit counts all the same: its ancestors' too."""
    text = """
meters: {all: {}, bytes: {parent: all, actual: bytes_sent}, jobs: {actual: reported}, looked: {refund_on: [5xx]}}
routes: [{match: GET /, cost: {bytes: 0, looked: 0}}]
plans: [{key: p, limits: [{name: a, credits: 1, meter: %s}]}]
"""
    for meter in ("bytes", "all", "jobs"):
        assert parse(text % meter, "f").plans[0].limits[0].meter == meter
    with pytest.raises(InvalidCatalogueError, match="would never count"):
        parse(text % "looked", "f")


def test_the_example_catalogue_sells_what_was_really_used() -> None:
    """A completion is charged an estimate, settled by what the model says, and costs nothing when it failed."""
    read = parse(CATALOGUE.read_bytes(), "catalogue.yaml")
    rules = RouteTable(expand_routes(read.routes, read.meters, read.policies), read.meters)
    completion = rules.by_text("POST /v1/completions")
    assert completion is not None
    assert completion.policies == (
        MeterPolicy("input_tokens", ((500, 599),)),
        MeterPolicy("output_tokens", ((500, 599),), ActualSource.HEADER, "x-usage-output-tokens"),
    )
    report = rules.by_text("GET /v1/reports/{id}")
    assert report is not None
    assert report.policies == (MeterPolicy("bytes", actual=ActualSource.BYTES_SENT),)
    assert [rule.text for rule in rules.rules if rule.policies] == [completion.text, report.text]


def test_changes_of_meters_are_told_and_judge_nothing() -> None:
    """Nothing changes in what is put in force that nobody is told of."""

    def written(meters: str) -> dict[str, dict[str, object]]:
        read = parse(f"meters: {meters}\nroutes: [{{match: GET /, cost: {{a: 0, b: 0}}}}]", "f")
        return meters_to_document(read.meters, read.policies)

    old = written("{a: {refund_on: [5xx]}, b: {}, c: {}}")
    new = written("{a: {refund_on: [500], within: 1h}, b: {parent: d, actual: bytes}, d: {}}")
    told = [(change.field, change.before, change.after, change.kind.value) for change in diff_meters(old, new)]
    assert told == [
        ("meters.a.refund_on", ["5xx"], ["500"], "neutral"),
        ("meters.a.within", "10m", "1h", "neutral"),
        ("meters.b.parent", None, "d", "neutral"),
        ("meters.b.actual", None, "bytes", "neutral"),
        ("meters.b.within", None, "10m", "neutral"),
        ("meters.b.unsettled", None, "charge", "neutral"),
        ("meters.c", {}, None, "neutral"),
        ("meters.d", None, {}, "neutral"),
    ]
    assert list(diff_meters(new, new)) == []
