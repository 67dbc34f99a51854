"""What is wrong with a plan file is told: everything at once, where it stands, and what would be right."""

import pytest
from support.plan_files import in_plan, problems

from tallygate.core.errors import InputError
from tallygate.plans.parse import parse


def test_every_problem_is_told_at_once_in_the_order_of_lines() -> None:
    """One run shows all mistakes of a file, each with its own line and its mend."""
    text = """\
plans:
  - key: Pro
    limit: []
    limits:
      - name: burst
        rate: "50"
      - {name: daily, quota: ten, period: fortnight}
    price:
      amount: 49 dollars
routes:
  - match: get /v1
    scop: x
"""
    assert problems(text) == [
        (
            'plans.yaml:2: plans[0].key: "Pro" is not allowed '
            "(begin with a-z, then a-z, 0-9, _ and -, at most 63 characters)"
        ),
        'plans.yaml:3: plans[0]: unknown key "limit" (did you mean limits?)',
        'plans.yaml:6: plans[0].limits[0].rate: "50" has no window (write 50/s)',
        'plans.yaml:7: plans[0].limits[1].quota: "ten" is not a whole number (write digits, such as 1000 or 1_000_000)',
        (
            'plans.yaml:7: plans[0].limits[1].period: "fortnight" is not known '
            "(one of minute, hour, day, week, month, year, billing)"
        ),
        "plans.yaml:8: plans[0].price: has no currency (write currency: USD)",
        'plans.yaml:9: plans[0].price.amount: "49 dollars" is not allowed (write a decimal such as "49.00")',
        'plans.yaml:11: routes[0].match: "get" is not a method (write GET)',
        'plans.yaml:12: routes[0]: unknown key "scop" (did you mean scope?)',
    ]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            "plans: [{key: p, price: {amount: x, currency: usd, every: fortnight}}]",
            ["price.amount", "price.currency", "price.every"],
        ),
        ("plans: [{key: p, limits: [{name: a, quota: x, period: billing, per: customer}]}]", [".quota", ".period"]),
        (
            "plans: [{key: p, limits: [{name: a, credits: x, refill: {amount: x, every: billing}, per: customer}]}]",
            [".credits", ".refill.amount", ".refill.every"],
        ),
        ('routes: [{match: "* /**", cost: {requests: x}}, {match: GET /a}]', [".cost.requests", "routes[1]"]),
    ],
    ids=["price", "quota", "credits", "routes"],
)
def test_one_mistake_hides_no_other(text: str, fields: list[str]) -> None:
    """What is wrong with one word of a price, a limit or a rule keeps nothing from being said of the others."""
    told = problems(text)
    assert len(told) == len(fields)
    assert all(any(f"{field}: " in line for line in told) for field in fields)


def test_the_error_is_an_input_error_with_the_first_problem() -> None:
    """Callers that know only InputError still learn a field, a problem and a mend."""
    with pytest.raises(InputError) as caught:
        parse("plans: [{key: p, limits: [{name: a, rate: 50}]}]", "f")
    assert (caught.value.field, caught.value.problem, caught.value.mend) == (
        "plans[0].limits[0].rate",
        '"50" has no window',
        "write 50/s",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: the file is empty (begin with plans:)"),
        ("# only a comment\n", "1: the file is empty (begin with plans:)"),
        (b"plans:\n\n  - {key: \xff}", "3: the file is not UTF-8 (save it in UTF-8)"),
        ("plans: [", "1: while parsing a flow node expected the node content, but found '<stream end>'"),
        ("plans:\n\t- a", "2: while scanning for the next token found character '\\t' that cannot start any token"),
        ("plans: []\n---\nplans: []", "2: expected a single document in the stream but found another document"),
        ("plans:\n  - \x07", "2: a character that YAML does not allow (remove it)"),
        ("a: &x [1]\nb: *x", "2: aliases are not supported (write the value out)"),
        (
            "plans: !!python/object/apply:os.system [ls]",
            '1: the tag "tag:yaml.org,2002:python/object/apply:os.system" is not supported (remove it)',
        ),
        ("plans: !mine []", '1: the tag "!mine" is not supported (remove it)'),
        ("[" * 100_000, "1: nested too deeply (at most 12 levels)"),
        ("- " * 100_000, "1: nested too deeply (at most 12 levels)"),
        ("#" * 300_000, "1: the file is larger than 262144 bytes (split it or shorten it)"),
        ("{}", "1: has neither plans nor routes (begin with plans:)"),
        ("meters: {}", "1: has neither plans nor routes (begin with plans:)"),
        ("plans: x", "1: plans: is not a list (write - before each member, or [a, b])"),
        ("plans: [x]", "1: plans[0]: is not a mapping (write key: value)"),
    ],
)
def test_what_is_no_plan_file_is_told_with_its_line(text: str | bytes, expected: str) -> None:
    """Broken, foreign and hostile YAML is refused by one sentence, before anything is built of it."""
    assert problems(text) == ["plans.yaml:" + expected]


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    """Nine levels of nine would be gigabytes; the first alias ends the reading."""
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    assert problems(bomb) == ["plans.yaml:2: aliases are not supported (write the value out)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plans: []\nplans: []", '2: "plans" is written twice (remove one of them)'),
        (
            "plans:\n - {key: a}\n - {key: a}",
            '3: plans[1]: a second plan with the key "a" (a key is its own within the file)',
        ),
        ("plans:\n - key: a\n   key: b", '3: plans[0]: "key" is written twice (remove one of them)'),
        ("plans:\n - name: a", "2: plans[0]: has no key (write key: pro)"),
        ("plans: [{key: a}]\nplan: 1", '2: unknown key "plan" (did you mean plans?)'),
        ("plans: [{key: a}]\n? [x]\n: 1", "2: a key is not a single word (write key: value)"),
        (
            "plans: [{key: a, <<: {name: b}}]",
            (
                '1: plans[0]: unknown key "<<" (known here: charges, features, grace, key, limits, name, '
                "overage, price, scopes, trial, upgrade_url)"
            ),
        ),
    ],
)
def test_keys_are_known_and_their_own(text: str, expected: str) -> None:
    """A mistyped, repeated or missing key is never silently ignored."""
    assert problems(text) == ["plans.yaml:" + expected]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("name: [a]", ".name: is a list (write a single value)"),
        ("name:", ".name: has no value (write one or remove the key)"),
        ('name: ""', ".name: is not a name (one line of 1 to 200 printable characters)"),
        ('name: "a\\nb"', ".name: is not a name (one line of 1 to 200 printable characters)"),
        ("scopes: a", ".scopes: is not a list (write - before each member, or [a, b])"),
        ("scopes: [a, b, a]", '.scopes[2]: "a" is written twice (remove one of them)'),
        (
            "scopes: [a b]",
            r'.scopes[0]: "a b" is not allowed (printable ASCII without space, " and \, at most 128 characters)',
        ),
        ("upgrade_url: pricing", '.upgrade_url: "pricing" is not allowed (write https://example.com/pricing)'),
        (
            "upgrade_url: 'javascript:x'",
            '.upgrade_url: "javascript:x" is not allowed (write https://example.com/pricing)',
        ),
        ("price: {amount: -1, currency: USD}", '.price.amount: "-1" is not allowed (write a decimal such as "49.00")'),
        (
            "price: {amount: 1e3, currency: USD}",
            '.price.amount: "1e3" is not allowed (write a decimal such as "49.00")',
        ),
        ("price: {amount: 1, currency: usd}", ".price.currency: 'usd' is not an ISO 4217 code such as USD"),
        (
            "price: {amount: 1, currency: USD, every: hour}",
            '.price.every: "hour" is not known (one of day, week, month, year)',
        ),
        ("price: 49", ".price: is not a mapping (write key: value)"),
        (
            "features: {A: 1}",
            (
                '.features.A: "A" is not a feature\'s key '
                "(begin with a-z, then a-z, 0-9, _, -, . and *, at most 63 characters)"
            ),
        ),
    ],
)
def test_a_plan_s_own_keys_are_checked(body: str, expected: str) -> None:
    """Each key takes what its standard allows, and says what that is."""
    assert in_plan(body) == [expected]


@pytest.mark.parametrize(
    "value",
    [
        "yes",
        "on",
        "0x10",
        "0o17",
        "1:30",
        "2024-01-01",
        "1e3",
        "-1.5E-3",
        ".inf",
        "1.2345",
        "1234567890123456",
        "é",
        "[1]",
        "~",
        "010",
    ],
)
def test_a_feature_that_could_be_misread_is_refused(value: str) -> None:
    """What YAML, or the structured field it becomes, would read as something else must be written otherwise."""
    assert len(in_plan(f"features: {{a: {value}}}")) == 1


def test_lists_are_bounded() -> None:
    """What each request, or each scrape, would have to walk through has an end."""
    limits = ", ".join(f"{{name: l{n}, credits: 1}}" for n in range(21))
    assert in_plan(f"limits: [{limits}]") == [".limits: has 21 limits (at most 20: a request asks all of them)"]
    plans = ", ".join(f"{{key: p{n}}}" for n in range(201))
    assert problems(f"plans: [{plans}]") == [
        "plans.yaml:1: plans: has 201 plans (at most 200: each is a label of the metrics)"
    ]
    routes = ", ".join(f"{{match: GET /{n}}}" for n in range(1001))
    assert problems(f"routes: [{routes}]") == [
        "plans.yaml:1: routes: has 1001 rules (at most 1000: a new path is compared with each in turn)"
    ]


def test_nothing_a_terminal_would_act_upon_is_printed() -> None:
    """Escape sequences in a file reach no screen."""
    told = problems('plans: [{key: "\\e[31m", "\\e[0m": 1, features: {"\\e]": 1}}]\n')
    assert len(told) == 3
    assert all(line.isprintable() and line.isascii() for line in told)
