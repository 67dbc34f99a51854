"""What changes between two tables of route rules, and which way.

Owns the judgement of each change; costs are those counted up the tree of meters. Pure. Rules are known by what
they match. One that is new, or gone, is compared with the rule that had its requests before, or has them now.
"""

from collections.abc import Iterator, Sequence

from tallygate.licenses.routes import EVERYTHING, RouteRule
from tallygate.plans.change import Change, ChangeKind, kind_of
from tallygate.plans.parse_routes import covers, overlap

_Rules = Sequence[RouteRule]


def diff_routes(old: _Rules, new: _Rules) -> tuple[Change, ...]:
    """Return how the table `new` differs from `old`, rule by rule; no rules at all are `EVERYTHING`."""
    old, new = old or (EVERYTHING,), new or (EVERYTHING,)
    before, after = ({rule.text: rule for rule in rules} for rules in (old, new))
    changes: list[Change] = []
    for text in dict.fromkeys([*after, *before]):
        if text not in before:
            changes += _coming(after[text], old)
        elif text not in after:
            changes += _going(before[text], new)
        else:
            changes += _terms(text, before[text], after[text])
    return (*changes, *_order(old, new))


def _coming(rule: RouteRule, old: _Rules) -> Iterator[Change]:
    was = next((each for each in old if covers(each, rule)), None)
    if was is not None:
        yield Change(rule.text, None, rule.text, ChangeKind.NEUTRAL, f"the rule is new; its requests met {was.text}")
        yield from _terms(rule.text, was, rule)
    elif any(overlap(each, rule) for each in old):
        sentence = "the rule is new; some of its requests met other rules"
        yield Change(rule.text, None, rule.text, ChangeKind.NEUTRAL, sentence)
    else:
        yield Change(rule.text, None, rule.text, ChangeKind.WIDENS, "the rule is new; its requests were refused")


def _going(rule: RouteRule, new: _Rules) -> Iterator[Change]:
    is_now = next((each for each in new if covers(each, rule)), None)
    if is_now is not None:
        sentence = f"the rule is gone; its requests meet {is_now.text}"
        yield Change(rule.text, rule.text, None, ChangeKind.NEUTRAL, sentence)
        yield from _terms(rule.text, rule, is_now)
    elif any(overlap(each, rule) for each in new):
        sentence = "the rule is gone; some of its requests meet other rules"
        yield Change(rule.text, rule.text, None, ChangeKind.NEUTRAL, sentence)
    else:
        yield Change(rule.text, rule.text, None, ChangeKind.NARROWS, "the rule is gone; its requests are refused")


def _terms(text: str, old: RouteRule, new: RouteRule) -> Iterator[Change]:
    costs, costs_now = dict(old.costs), dict(new.costs)
    for meter in sorted({*costs, *costs_now}):
        was, is_now = costs.get(meter, 0), costs_now.get(meter, 0)
        if was != is_now:
            sentence = f"a request costs {is_now} {meter} instead of {was}"
            yield Change(f"{text}.cost.{meter}", was, is_now, kind_of(is_now, was), sentence)
    for name, needed, needed_now in (("scope", old.scope, new.scope), ("feature", old.feature, new.feature)):
        if needed != needed_now:
            kind = kind_of(needed is None, needed_now is None)
            sentence = f"asks for the {name} {needed_now}" if needed_now else f"asks for no {name}"
            yield Change(f"{text}.{name}", needed, needed_now, kind, sentence + (f", not {needed}" if needed else ""))


def _order(old: _Rules, new: _Rules) -> Iterator[Change]:
    """Tell of rules that are in both tables in another order, where that could matter."""
    kept = [rule.text for rule in new if rule.text in {each.text for each in old}]
    was = [rule.text for rule in old if rule.text in set(kept)]
    if was != kept:
        sentence = "the rules are asked in another order: where two match, another one decides"
        yield Change("order", was, kept, ChangeKind.NEUTRAL, sentence)
