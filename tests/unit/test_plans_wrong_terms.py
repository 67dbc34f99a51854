"""What is wrong with trial, grace, a roll-out or meters is told, with what would be right."""

import pytest
from support.plan_files import in_plan, problems

from tallygate.plans.parse import parse


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("trial: 14", ".trial: is not a mapping (write key: value)"),
        ("trial: {at_end: convert}", ".trial: has no days (write days: 14)"),
        ("trial: {days: 0}", ".trial.days: 0 is out of bounds (from 1 to 3650)"),
        ("trial: {days: 14, basis: signup}", '.trial.basis: "signup" is not known (one of creation, first_use)'),
        (
            "trial: {days: 14, at_end: stop}",
            '.trial.at_end: "stop" is not known (one of convert, downgrade, suspend, cancel)',
        ),
        ("trial: {days: 14, at_end: downgrade}", ".trial: has no to (write to: free, the plan to downgrade to)"),
        (
            "trial: {days: 14, at_end: suspend, to: q}",
            ".trial.to: to says nothing where the trial ends in suspend (remove it, or at_end: downgrade)",
        ),
        (
            "trial: {days: 14, to: q}",
            ".trial.to: to says nothing where the trial ends in convert (remove it, or at_end: downgrade)",
        ),
        (
            "trial: {days: 14, at_end: downgrade, to: p}",
            ".trial.to: a trial cannot downgrade to its own plan (name a smaller one)",
        ),
        ("trial: {days: 14, at_end: downgrade, to: q}", '.trial.to: no plan "q" in this file (add it)'),
        ("grace: 7", ".grace: is not a mapping (write key: value)"),
        ("grace: {}", ".grace: has no days (write days: 7)"),
        ("grace: {days: 4000}", ".grace.days: 4000 is out of bounds (from 1 to 3650)"),
        ("grace: {days: 7, limits: some}", '.grace.limits: "some" is not known (one of full, reduced)'),
        (
            "grace: {days: 7, share: 5%}",
            ".grace.share: share says nothing where limits are full (remove it, or limits: reduced)",
        ),
        (
            "grace: {days: 7, limits: reduced, share: 100%}",
            '.grace.share: "100%" is not a share (write 10%; from 1% to 99%)',
        ),
        (
            "grace: {days: 7, limits: reduced, share: 10}",
            '.grace.share: "10" is not a share (write 10%; from 1% to 99%)',
        ),
        (
            "features: {beta: {rollout: 101}}",
            '.features.beta.rollout: "101" is not a percentage (write a number from 0 to 100, such as 2.5)',
        ),
        (
            "features: {beta: {rollout: 10%}}",
            '.features.beta.rollout: "10%" is not a percentage (write a number from 0 to 100, such as 2.5)',
        ),
        (
            "features: {beta: {rollout: 0.001}}",
            '.features.beta.rollout: "0.001" is not a percentage (write a number from 0 to 100, such as 2.5)',
        ),
        ("features: {beta: {}}", ".features.beta: has no rollout (write {rollout: 10}, or a value)"),
    ],
)
def test_a_term_that_could_not_be_kept_is_refused(body: str, expected: str) -> None:
    """Each mistake in a phase or a roll-out is told with what would be right."""
    assert in_plan(body) == [expected]


def test_a_trial_downgrades_to_a_plan_of_the_file() -> None:
    """A mistyped plan is found when the file is read, not when a customer's trial is over."""
    text = """\
plans:
  - key: free
  - key: pro
    trial:
      days: 14
      at_end: downgrade
      to: fere
"""
    assert problems(text) == ['plans.yaml:7: plans[1].trial.to: no plan "fere" in this file (did you mean free?)']


@pytest.mark.parametrize(
    ("meters", "expected"),
    [
        ("[a]", ["meters: is not a mapping (write key: value)"]),
        ("{a: }", ["meters.a: is not a mapping (write key: value)"]),
        ("{a: {unit: x}}", ['meters.a: unknown key "unit" (known here: actual, parent, refund_on, unsettled, within)']),
        ("{A: {}}", ['meters.A: "A" is not a meter (begin with a-z, then a-z, 0-9, _ and -, at most 63 characters)']),
        (
            "{tokens: {}, a: {parent: token}}",
            ['meters.a.parent: the meter "token" is not declared (did you mean tokens?)'],
        ),
        ("{a: {parent: a}}", ['meters.a.parent: "a" would count in itself (meters form a tree: remove one parent)']),
        (
            "{a: {parent: b}, b: {parent: c}, c: {parent: a}, d: {parent: c}}",
            ['meters.c.parent: "c" would count in itself (meters form a tree: remove one parent)'],
        ),
    ],
)
def test_meters_that_are_no_tree_are_refused(meters: str, expected: list[str]) -> None:
    """A circle is told once, and so is a parent that nobody declared."""
    assert problems(f"meters: {meters}\nroutes: []") == [f"plans.yaml:1: {problem}" for problem in expected]


def test_meters_are_bounded() -> None:
    """Each meter is a label of the metrics."""
    meters = ", ".join(f"m{n}: {{}}" for n in range(101))
    assert problems(f"meters: {{{meters}}}\nroutes: []") == [
        "plans.yaml:1: meters: has 101 meters (at most 100: each is a label of the metrics)"
    ]


def test_where_meters_are_declared_no_other_is_used() -> None:
    """A mistyped meter in a cost, a limit or a charge would count apart from what was meant."""
    text = """\
meters: {tokens: {}, input: {parent: tokens}}
routes:
  - {match: GET /a, cost: {inptu: 3, requests: 1}}
plans:
  - key: p
    price: {amount: 1, currency: USD}
    limits:
      - {name: a, credits: 5, meter: token, on_exceed: overage}
      - {name: b, credits: 5, meter: tokens}
    overage: {tokesn: {model: per_unit, unit: 1}}
"""
    assert problems(text) == [
        'plans.yaml:3: routes[0].cost.inptu: the meter "inptu" is not declared (did you mean input?)',
        'plans.yaml:8: plans[0].limits[0].meter: the meter "token" is not declared (did you mean tokens?)',
        (
            'plans.yaml:9: plans[0].limits[1].meter: no route costs any "tokens", so this limit would never count '
            "(known here: inptu, requests)"
        ),
        'plans.yaml:10: plans[0].overage.tokesn: the meter "tokesn" is not declared (did you mean tokens?)',
    ]


def test_costs_stay_countable_up_the_tree() -> None:
    """Two children that are each in bounds may be too much for their parent."""
    most = 2**53 - 1
    meters = "meters: {t: {}, a: {parent: t}, b: {parent: t}}"
    (told,) = problems(f"{meters}\nroutes: [{{match: GET /, cost: {{a: {most}, b: 1}}}}]")
    problem = f"{most + 1} t, those of its children counted in, are out of bounds (at most {most})"
    assert told == f"plans.yaml:2: routes[0].cost: {problem}"


REACH = """\
meters: {{tokens: {{}}, input: {{parent: tokens}}}}
routes:
  - {{match: GET /a, cost: {{requests: 5, input: 50}}}}
  - {{match: GET /b, cost: {{requests: 9}}, scope: b}}
  - {{match: GET /c, cost: {{requests: 9}}, feature: c}}
plans:
  - {{key: other, scopes: [b], features: {{c: true}}}}
  - {{key: p, {grants}limits: [{{name: it, {limit}}}]}}
"""


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("rate: 4/s", '.rate: "GET /a" costs 5 requests and could never pass (write a burst of at least 5)'),
        ("rate: 9/s, burst: 4", '.burst: "GET /a" costs 5 requests and could never pass (write a burst of at least 5)'),
        (
            "quota: 4, period: day",
            '.quota: "GET /a" costs 5 requests and could never pass (write at least 5, or 0 to grant none)',
        ),
        (
            "quota: 49, period: day, meter: tokens",
            '.quota: "GET /a" costs 50 tokens and could never pass (write at least 50, or 0 to grant none)',
        ),
        (
            "quota: 2, period: day, on_exceed: overage, allow_until: 2x",
            '.allow_until: "GET /a" costs 5 requests and could never pass (allow at least 5 units)',
        ),
    ],
)
def test_a_limit_that_a_route_can_never_pass_is_refused(limit: str, expected: str) -> None:
    """A route that one request would exceed is closed by mistake."""
    assert problems(REACH.format(grants="", limit=limit)) == ["plans.yaml:8: plans[1].limits[0]" + expected]


@pytest.mark.parametrize(
    "limit",
    [
        "rate: 5/s",
        "rate: 1/s, burst: 5",
        "quota: 5, period: day",
        "quota: 0, period: day",
        "quota: 4, period: day, mode: shadow",
        "quota: 0, period: day, on_exceed: overage",
        "quota: 1, period: day, on_exceed: overage, allow_until: 5 units",
        "credits: 1",
    ],
)
def test_a_limit_that_is_small_on_purpose_is_not_refused(limit: str) -> None:
    """None of it, a shadow, an overage, and a balance that can be granted close nothing by mistake.

    Neither does a route that the plan does not grant.
    """
    assert len(parse(REACH.format(grants="", limit=limit), "plans.yaml").plans) == 2


@pytest.mark.parametrize("grants", ["scopes: [b], ", "features: {c: 1}, ", "features: {c: {rollout: 1}}, "])
def test_a_route_that_the_plan_grants_must_pass(grants: str) -> None:
    """The same limit is too small once the plan has the scope or the feature of a larger route."""
    (told,) = problems(REACH.format(grants=grants, limit="rate: 5/s"))
    assert told.endswith(" costs 9 requests and could never pass (write a burst of at least 9)")
