"""Keys, parts and pauses of exports: what is pure of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tallygate.billing.exports.http import fate_of
from tallygate.billing.exports.pace import Pace
from tallygate.billing.exports.parts import outcome, parts
from tallygate.billing.exports.receiver import Answer, Fate
from tallygate.billing.exports.row import LedgerRow
from tallygate.billing.exports.terms import Terms

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
ROW = LedgerRow(
    7, NOW, 99, "cus_1", "sub_1", "fam_1", "pro@1", "requests", "GET /v1/things", "allowed", "counted", NOW, 5,
    customer_key="acme",
)  # fmt: skip
NAMED = {"recorded_at": NOW + timedelta(minutes=1), "bucket": 98, "customer": "cus_2", "subscription": "sub_2",
         "family": "fam_2", "plan": "pro@2", "meter": "bytes", "route": "", "outcome": "overage", "entry": "refund",
         "minute_at": NOW - timedelta(minutes=1)}  # fmt: skip


def test_a_key_is_made_of_what_an_entry_is_about() -> None:
    """It changes with each part of the ledger's own key, and with nothing else: neither number nor looked-up names."""
    keys = {replace(ROW, **{name: value}).key for name, value in NAMED.items()}  # type: ignore[arg-type]
    assert len(keys | {ROW.key}) == len(NAMED) + 1
    assert replace(ROW, id=8, quantity=6, customer_key="b", environment="test", reference="x").key == ROW.key


def test_a_key_never_changes() -> None:
    """Receivers know an entry by it for ever: whoever changes how it is made has everything counted twice."""
    assert ROW.key == "use_b7489a8babab69a4fdafb142d4b7b905"


def test_a_key_tells_apart_texts_that_run_together() -> None:
    """Where one ends and the next begins makes a difference."""
    assert replace(ROW, family="ab", plan="c").key != replace(ROW, family="a", plan="bc").key


def rows(*quantities: int) -> list[LedgerRow]:
    """Return entries numbered from 1; those of 0 units have no customer that is known."""
    return [
        replace(
            ROW,
            id=number,
            quantity=quantity,
            customer_key="acme" if quantity else "",
            meter="m" if quantity > 0 else "n",
        )
        for number, quantity in enumerate(quantities, 1)
    ]


def test_entries_are_cut_into_calls() -> None:
    """Each of so many events at most, with what is put aside or left out between them."""
    cut = list(parts(rows(1, -1, 2, 0, 3, -1), Terms(meters={"m": "M", "n": "N"}), 2))
    assert [[event.row.id for event in part.events] for part in cut] == [[1, 2], [3, 5], [6]]
    assert [[aside.entry_id for aside in part.asides] for part in cut] == [[], [4], []]
    only = list(parts(rows(1, -1, 2), Terms(meters={"m": "M"}), 2))
    assert [(part.last_id, part.skipped) for part in only] == [(3, 1)]


SENT, GONE, REFUSED, UNHEARD = (
    Answer(Fate.SENT),
    Answer(Fate.UNKNOWN, "?"),
    Answer(Fate.REFUSED, "bad"),
    Answer(Fate.UNHEARD),
)


@pytest.mark.parametrize(
    ("answers", "reached", "asides", "is_unheard"),
    [
        ([SENT, SENT, SENT], 4, [2], True),
        ([SENT, REFUSED, SENT], 4, [2, 3], True),
        ([GONE, SENT, SENT], 0, [], False),
        ([SENT, GONE, REFUSED], 2, [2], False),
        ([SENT, UNHEARD, UNHEARD], 2, [2], True),
        ([SENT, UNHEARD, SENT], 2, [2], False),
    ],
)
def test_what_has_no_answer_is_left_and_all_that_follows_it(
    answers: list[Answer], reached: int, asides: list[int], *, is_unheard: bool
) -> None:
    """The cursor stops before it; whether the receiver may have some of the rest is told."""
    (part,) = parts(rows(1, 0, 2, 3), Terms(), 9)
    came = outcome(part, answers)
    assert (came.reached, [aside.entry_id for aside in came.asides]) == (reached, asides)
    assert came.is_unheard == is_unheard
    assert (came.failure is None) == (reached == 4)


def test_pauses_double_up_to_a_bound() -> None:
    """From a second to five minutes, a half of it chance; begun anew after a success."""
    pace = Pace(chance=lambda: 1.0)
    assert [pace.after_failure() for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    pace.after_success()
    assert pace.after_failure() == 1
    assert [Pace(chance=lambda: 0.0).after_failure(), Pace().after_failure(70), Pace().after_failure(1e9)] == [
        0.5,
        70,
        3600,
    ]


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, Fate.SENT), (204, Fate.SENT), (301, Fate.UNHEARD), (400, Fate.REFUSED), (401, Fate.UNHEARD),
        (403, Fate.UNHEARD), (404, Fate.UNHEARD), (408, Fate.UNKNOWN), (413, Fate.REFUSED), (422, Fate.REFUSED),
        (429, Fate.UNHEARD), (500, Fate.UNKNOWN), (503, Fate.UNKNOWN),
    ],
)  # fmt: skip
def test_a_status_is_said_of_the_event_or_of_the_moment(status: int, fate: Fate) -> None:
    """A wrong key or address puts nothing aside; a server's fault may have counted."""
    assert fate_of(status) is fate
