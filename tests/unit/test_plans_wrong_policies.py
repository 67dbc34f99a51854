"""What is wrong with the policy of a meter is told, with what would be right."""

import pytest
from support.plan_files import problems

ACTUAL_MEND = "write bytes_sent, bytes_received, bytes, reported, {header: NAME} or {trailer: NAME}"
NAME_MEND = "a header's name in lower case, at most 128 characters, and none of x-tallygate-"
NOTHING = "says nothing where no outcome changes the charge"


def in_meter(body: str) -> list[str]:
    """Return what is wrong with a meter that has `body`, without the place that all share."""
    text = f"meters: {{m: {{{body}}}}}\nroutes: [{{match: GET /, cost: {{m: 1}}}}]"
    return [line.removeprefix("plans.yaml:1: meters.m") for line in problems(text)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("refund_on: 5xx", [".refund_on: is not a list (write - before each member, or [a, b])"]),
        (
            "refund_on: [6xx, 99, 500-, server error]",
            [
                f'.refund_on[{at}]: "{text}" is no status (write 5xx, 429 or 500-503; statuses are 100 to 599)'
                for at, text in enumerate(["6xx", "99", "500-", "server error"])
            ],
        ),
        ("refund_on: [503-500]", ['.refund_on[0]: "503-500" ends before it begins (write 500-503)']),
        (
            f"refund_on: [{', '.join(['500'] * 101)}]",
            [".refund_on: has 101 members (at most 100: 500-503 and 5xx say several at once)"],
        ),
        ("actual: size", [f'.actual: "size" is not known ({ACTUAL_MEND})']),
        ("actual: header", [f'.actual: "header" is not known ({ACTUAL_MEND})']),
        ("actual: [bytes]", [".actual: is a list (write a single value)"]),
        ("actual: {}", [f".actual: names no header or trailer ({ACTUAL_MEND})"]),
        ("actual: {header: a, trailer: b}", [f".actual: names both a header and a trailer ({ACTUAL_MEND})"]),
        ("actual: {header: X-Usage}", [f'.actual.header: "X-Usage" is not allowed ({NAME_MEND})']),
        ("actual: {trailer: 'a b'}", [f'.actual.trailer: "a b" is not allowed ({NAME_MEND})']),
        ("actual: {header: ':status'}", [f'.actual.header: ":status" is not allowed ({NAME_MEND})']),
        (
            "actual: {header: x-tallygate-receipt}",
            [f'.actual.header: "x-tallygate-receipt" is not allowed ({NAME_MEND})'],
        ),
        ("actual: bytes, within: 0s", ['.within: "0s" is not from 1s to 24h (write 30s, 5m or 1h)']),
        ("actual: bytes, within: 25h", ['.within: "25h" is not from 1s to 24h (write 30s, 5m or 1h)']),
        ("within: 5m", [f".within: within {NOTHING} (remove it, or add refund_on, actual or unsettled: refund)"]),
        (
            "unsettled: charge, within: 5m",
            [f".unsettled: unsettled {NOTHING} (remove it, or add refund_on or actual, or write unsettled: refund)"],
        ),
        ("unsettled: forget", ['.unsettled: "forget" is not known (one of charge, refund)']),
        ("actual: size, refund_on: [x], within: z, unsettled: y", ["actual", "refund_on", "within", "unsettled"]),
    ],
)
def test_a_policy_is_checked_word_for_word(body: str, expected: list[str]) -> None:
    """Each mistake names the field and what to write, and all of them are told at once."""
    told = in_meter(body)
    if expected[0].startswith("."):
        assert told == expected
    else:
        assert {line[1:].partition(":")[0].partition("[")[0] for line in told} == set(expected)


def test_a_true_number_follows_those_of_the_children() -> None:
    """Two sources for one number would contradict each other."""
    text = """
meters:
  all: {actual: reported}
  tokens: {parent: all, actual: reported}
  in: {parent: tokens}
routes: [{match: GET /b, cost: {in: 0}}]
"""
    assert problems(text) == [
        f'plans.yaml:{line}: meters.{meter}.actual: "GET /b" costs in, which counts in {meter}: '
        "its true number follows from that (write it at in)"
        for line, meter in ((3, "all"), (4, "tokens"))
    ]


def test_a_policy_that_no_request_meets_is_told() -> None:
    """Who forgets the route's cost would wait for charges that never come; reports need no route."""
    text = """
meters: {bytes: {actual: bytes}, rows: {refund_on: [5xx]}, all: {refund_on: [500]},
  in: {parent: all}, jobs: {actual: reported}}
routes: [{match: GET /, cost: {in: 1}}]
"""
    assert problems(text) == [
        f'plans.yaml:2: meters.{meter}: no route costs any "{meter}", so nothing would become of it '
        "(give a route a cost in it; 0 charges only what is known afterwards)"
        for meter in ("bytes", "rows")
    ]


def test_policies_stand_beside_the_routes() -> None:
    """In a file without routes they would be read, and change nothing."""
    assert problems("meters: {a: {}, requests: {refund_on: [5xx]}}\nplans: [{key: p}]") == [
        "plans.yaml:1: meters.requests: has a policy, and the file has no routes (write it where the routes are)"
    ]
