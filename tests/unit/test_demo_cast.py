"""The demo's cast: who may be answered what, and how a play is judged."""

from collections import Counter

import pytest
from demo.accounts import catalogue
from demo.cast import CAST
from demo.persona import Persona, between, steady
from demo.traffic import put_off, wrong_answers

SERVED = Persona("reader", "pro", sees=frozenset({"200 ok"}), may_see=frozenset({"200 overage"}))


def test_everybody_is_on_a_plan_that_is_sold() -> None:
    """A plan is played by some persona, and no persona is on another."""
    played = {persona.plan.partition("@")[0] for persona in CAST} - {""}
    assert played == {plan.key for plan in catalogue().plans}


def test_no_two_are_called_alike() -> None:
    """Answers are counted by name."""
    assert len({persona.name for persona in CAST}) == len(CAST)


def test_a_stricter_free_plan_is_another_version() -> None:
    """What is tried in shadow is not what is in force."""
    (free,) = (plan for plan in catalogue().plans if plan.key == "free")
    (stricter,) = (plan for plan in catalogue(is_stricter=True).plans if plan.key == "free")
    assert [limit.amount for limit in free.limits] > [limit.amount for limit in stricter.limits]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"200 ok": 3}, []),
        ({"200 ok": 3, "200 overage": 1}, []),
        ({"200 overage": 1}, ["reader: never 200 ok"]),
        ({"200 ok": 3, "403 scope_missing": 2}, ["reader: 2 x 403 scope_missing"]),
        ({"200 ok": 3, "503 overloaded": 1}, []),
    ],
)
def test_a_wrong_answer_is_named(answers: dict[str, int], expected: list[str]) -> None:
    """Missing and strange answers fail a play; being put off is counted apart."""
    assert wrong_answers([SERVED], {"reader": Counter(answers)}) == expected


def test_who_was_put_off_is_counted() -> None:
    """All 503 of ours, of everybody; those of the upstream are none."""
    answers = {"a": Counter({"200 ok": 1, "503 overloaded": 1}), "b": Counter({"503 dependency_down": 1, "503 ok": 1})}
    assert put_off(answers) == 0.5
    assert put_off({}) == 0


def test_the_last_customer_is_the_slowest() -> None:
    """So customers of one kind stand at different shares of the same limit."""
    persona = Persona("reader", "pro", sees=frozenset(), customers=3, every_s=2, slower=4)
    assert [persona.pause_s(number, 0.5) for number in range(3)] == [2, 4, 8]


def test_somebody_who_is_not_busy_does_not_call() -> None:
    """A shape of 0 is a pause without an end."""
    assert (steady(0.3), between(0.2, 0.4)(0.3)) == (1, 1)
    resting = Persona("nightly", "stream", sees=frozenset(), shape=between(0.2, 0.4))
    assert resting.pause_s(0, 0.4) == float("inf")
