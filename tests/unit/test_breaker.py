"""The breaker, moved by hand: when it refuses, what it lets through, and what counts."""

from datetime import UTC, datetime

import pytest

from tallygate.core.clock import ManualClock
from tallygate.core.errors import LimiterUnavailableError, StoreUnavailableError
from tallygate.storage.breaker import Breaker

REFUSAL = StoreUnavailableError("it has not been answering")


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that moves by hand."""
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def lose(breaker: Breaker, times: int = 1) -> None:
    """Make guarded calls meet an outage."""
    for _ in range(times):
        with pytest.raises(StoreUnavailableError, match="lost"), breaker.guard(REFUSAL):
            raise StoreUnavailableError("lost")


def is_refused(breaker: Breaker) -> bool:
    """Say whether a guarded call is refused; if not, it is answered."""
    try:
        with breaker.guard(REFUSAL):
            return False
    except StoreUnavailableError as error:
        return error is REFUSAL


def test_it_opens_after_failures_in_a_row_only(clock: ManualClock) -> None:
    """An answer between failures starts the count anew."""
    breaker = Breaker(clock.monotonic, failures=2, pause_s=1)
    for note in (breaker.failed, breaker.answered, breaker.failed):
        note()
    assert breaker.may_ask()
    breaker.failed()
    assert (breaker.is_open, breaker.may_ask()) == (True, False)


def test_each_pause_has_one_try(clock: ManualClock) -> None:
    """While open, one call per pause looks; whether it fails, succeeds or vanishes, nothing hangs on it."""
    breaker = Breaker(clock.monotonic, failures=1, pause_s=1)
    breaker.failed()
    clock.advance(0.999)
    assert not breaker.may_ask()
    clock.advance(0.001)
    assert [breaker.may_ask() for _ in range(3)] == [True, False, False]
    clock.advance(1)
    assert [breaker.may_ask() for _ in range(3)] == [True, False, False]
    breaker.failed()
    assert not breaker.may_ask()
    clock.advance(1)
    assert breaker.may_ask()
    breaker.answered()
    assert [breaker.may_ask() for _ in range(3)] == [True, True, True]


def test_a_try_that_failed_slowly_has_its_pause_too(clock: ManualClock) -> None:
    """A try that waited longer than the pause is not followed by the next at once."""
    breaker = Breaker(clock.monotonic, failures=1, pause_s=1)
    breaker.failed()
    clock.advance(1)
    assert breaker.may_ask()
    clock.advance(5)
    breaker.failed()
    assert not breaker.may_ask()
    clock.advance(1)
    assert breaker.may_ask()


def test_the_wall_clock_does_not_move_it(clock: ManualClock) -> None:
    """A step of the wall clock neither opens nor closes it."""
    breaker = Breaker(clock.monotonic, failures=1, pause_s=1)
    breaker.failed()
    clock.set(datetime(2030, 1, 1, tzinfo=UTC))
    assert not breaker.may_ask()


def test_a_few_outages_are_no_pattern(clock: ManualClock) -> None:
    """One broken connection does not refuse everyone; an answer in between begins the count again."""
    breaker = Breaker(clock.monotonic, failures=3)
    for _ in range(2):
        lose(breaker, 2)
        assert not is_refused(breaker)


def test_while_it_is_down_callers_hear_so_at_once_and_one_keeps_trying(clock: ManualClock) -> None:
    """A lost database costs requests no deadline each, and its return is noticed within the pause."""
    breaker = Breaker(clock.monotonic, failures=3, pause_s=0.5)
    lose(breaker, 3)
    assert is_refused(breaker)
    clock.advance(0.5)
    with breaker.guard(REFUSAL):
        assert is_refused(breaker)  # a second one does not try as well
    assert not breaker.is_open
    assert not is_refused(breaker)


def test_any_dependency_that_does_not_answer_is_a_failure_and_a_mistake_of_ours_is_not(clock: ManualClock) -> None:
    """The breaker serves every dependency, and a bug in a guarded block refuses nobody else."""
    breaker = Breaker(clock.monotonic, failures=1)
    with pytest.raises(ZeroDivisionError), breaker.guard(REFUSAL):
        raise ZeroDivisionError
    assert not breaker.is_open
    with pytest.raises(LimiterUnavailableError), breaker.guard(REFUSAL):
        raise LimiterUnavailableError("no answer")
    assert breaker.is_open


def test_a_try_that_was_cancelled_does_not_keep_others_from_trying(clock: ManualClock) -> None:
    """A client that leaves while it probes the database does not leave the breaker open for ever."""
    breaker = Breaker(clock.monotonic, failures=1, pause_s=0.5)
    lose(breaker)
    clock.advance(0.5)
    with pytest.raises(KeyboardInterrupt), breaker.guard(REFUSAL):
        raise KeyboardInterrupt
    assert breaker.is_open
    clock.advance(0.5)
    assert not is_refused(breaker)
    assert not breaker.is_open
