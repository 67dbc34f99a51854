"""Laws of what a diff of two plans says."""

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.plan_strategies import plans, read

from tallygate.plans.change import Change, ChangeKind
from tallygate.plans.codec import canonical, plan_to_document
from tallygate.plans.diff import diff
from tallygate.plans.document import LimitMode, Plan, PlanLimit

OPPOSITE = {
    ChangeKind.WIDENS: ChangeKind.NARROWS,
    ChangeKind.NARROWS: ChangeKind.WIDENS,
    ChangeKind.NEUTRAL: ChangeKind.NEUTRAL,
}
versions = plans(st.just("p")).map(read)


def told(changes: tuple[Change, ...]) -> Counter[tuple[str, str, str, ChangeKind]]:
    """Return changes without their order and sentences."""
    return Counter((item.field, canonical(item.before), canonical(item.after), item.kind) for item in changes)


@given(plans())
@settings(deadline=None)
def test_a_plan_does_not_differ_from_itself(written: dict[str, Any]) -> None:
    """Applying what stands already is said to change nothing, though it was read anew."""
    assert diff(read(written), read(written)) == ()


@st.composite
def two_versions(draw: st.DrawFn) -> tuple[Plan, Plan]:
    """Return two plans of one key that share some of their parts."""
    old, new = draw(versions), draw(versions)
    parts = ["price", "scopes", "features", "limits", "trial", "grace", "charges", "overage"]
    shared = draw(st.sets(st.sampled_from(parts)))
    return old, replace(new, **{name: getattr(old, name) for name in shared})


@given(two_versions())
@settings(deadline=None)
def test_nothing_is_told_exactly_where_nothing_would_be_published(pair: tuple[Plan, Plan]) -> None:
    """Whoever reads an empty diff may rely on it, and a new version is never without a reason."""
    old, new = pair
    is_same = canonical(plan_to_document(old)) == canonical(plan_to_document(new))
    assert (diff(old, new) == ()) == is_same


@given(two_versions())
@settings(deadline=None)
def test_the_way_back_is_of_the_opposite_kind(pair: tuple[Plan, Plan]) -> None:
    """What widens there narrows back: every change is told in both directions, with its ends exchanged."""
    there, back = diff(*pair), diff(*reversed(pair))
    mirrored = (Change(item.field, item.after, item.before, OPPOSITE[item.kind], "") for item in back)
    assert told(there) == told(tuple(mirrored))
    assert all(item.sentence for item in there)


@given(versions.filter(lambda plan: bool(plan.limits)), st.data(), st.integers(1, 10**6))
@settings(deadline=None)
def test_a_larger_amount_widens_unless_it_is_in_shadow(plan: Plan, data: st.DataObject, more: int) -> None:
    """Raising a limit is never told as taking something away, nor lowering it as giving."""
    limit = data.draw(st.sampled_from(plan.limits))
    larger = with_limit(plan, replace(limit, amount=limit.amount + more))
    if limit.mode is LimitMode.SHADOW:
        up, down = ChangeKind.NEUTRAL, ChangeKind.NEUTRAL
    else:
        up, down = ChangeKind.WIDENS, ChangeKind.NARROWS
    (there,), (back,) = diff(plan, larger), diff(larger, plan)
    assert (there.field, there.kind) == (f"limits.{limit.name}.{limit.kind.value}", up)
    assert (back.field, back.kind) == (there.field, down)


@given(versions.filter(lambda plan: bool(plan.limits)), st.data())
@settings(deadline=None)
def test_a_limit_that_goes_widens_unless_it_was_in_shadow(plan: Plan, data: st.DataObject) -> None:
    """Fewer limits refuse less; one that refused nobody is not missed."""
    limit = data.draw(st.sampled_from(plan.limits))
    without = replace(plan, limits=tuple(other for other in plan.limits if other is not limit))
    (change,) = diff(plan, without)
    expected = ChangeKind.NEUTRAL if limit.mode is LimitMode.SHADOW else ChangeKind.WIDENS
    assert (change.field, change.after, change.kind) == (f"limits.{limit.name}", None, expected)


def with_limit(plan: Plan, limit: PlanLimit) -> Plan:
    """Return the plan with `limit` in place of the one that has its name."""
    return replace(plan, limits=tuple(limit if other.name == limit.name else other for other in plan.limits))
