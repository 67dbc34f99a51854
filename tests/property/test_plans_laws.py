"""Laws of the plan file that hold for every plan."""

import json
from datetime import UTC, datetime
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plan_strategies import plans, read, some

from tallygate.limits.limit import unenforceable
from tallygate.plans.codec import canonical, plan_from_document, plan_to_document
from tallygate.plans.contract import Contract
from tallygate.plans.grant import compile_grant
from tallygate.plans.parse import InvalidCatalogueError, Problem, parse

AT = datetime(2026, 1, 31, tzinfo=UTC)


@given(plans())
@settings(deadline=None)
def test_a_plan_survives_being_kept(written: dict[str, Any]) -> None:
    """File to plan to document to JSON to plan: nothing is lost, and the document stays the same text."""
    plan = read(written)
    document = plan_to_document(plan)
    kept = json.loads(json.dumps(document))
    assert plan_from_document(kept) == plan
    assert canonical(plan_to_document(plan_from_document(kept))) == canonical(document)


@given(plans())
@settings(deadline=None)
def test_a_document_is_itself_a_plan_file(written: dict[str, Any]) -> None:
    """What `plans show` prints can be pasted into a file, and means the same."""
    plan = read(written)
    again = read(plan_to_document(plan))
    assert again == plan
    assert canonical(plan_to_document(again)) == canonical(plan_to_document(plan))


@given(plans())
@settings(deadline=None)
def test_what_is_accepted_can_be_enforced(written: dict[str, Any]) -> None:
    """No plan that passes has a limit beyond what the counters hold exactly."""
    plan = read(written)
    grant = compile_grant(plan, "it@1", Contract("cus_1", "it@1", AT, "Europe/Berlin", AT))
    assert [unenforceable(limit) for limit in grant.limits] == [None] * len(plan.limits)


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    """Return what is wrong with a file, nothing where it is right."""
    try:
        parse(text, "f")
    except InvalidCatalogueError as error:
        return error.problems
    return ()


words = st.sampled_from(
    [
        "plans",
        "routes",
        "key",
        "name",
        "price",
        "limits",
        "rate",
        "quota",
        "period",
        "cost",
        "match",
        "features",
        "overage",
        "charges",
        "percentage",
        "trial",
        "grace",
        "rollout",
        "meters",
        "parent",
        "credits",
        "refill",
        "concurrency",
    ]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | words | st.just("5/s"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@given(some({}, meters=junk, plans=junk | st.lists(junk, max_size=3), routes=junk | st.lists(junk, max_size=3)) | junk)
@settings(deadline=None)
def test_reading_any_yaml_ends_in_a_catalogue_or_in_problems(document: object) -> None:
    """However wrong a file is, it is told in one error whose every line has a place; nothing else is raised."""
    text = yaml.safe_dump(document)
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in problems_of(text))


@given(st.text(max_size=200) | st.binary(max_size=200) | st.text("[]{}:,-&*!|>'\"%@`#?\n\t abc0", max_size=200))
@settings(deadline=None)
def test_reading_any_text_ends_in_a_catalogue_or_in_problems(text: str | bytes) -> None:
    """Not even text that is no YAML, or bytes that are no text, raise anything else."""
    assert all(str(problem).startswith("f:") for problem in problems_of(text))
