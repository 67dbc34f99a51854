"""The pure parts of several workers: where each listens, and how long one that ended waits."""

import pytest

from tallygate.core.errors import InputError
from tallygate.workers.backoff import Backoff
from tallygate.workers.endpoints import endpoints, refuse_unshareable
from tallygate.workers.process import reason_of


@pytest.mark.parametrize(
    ("listen", "workers", "expected"),
    [
        ("0.0.0.0:50051", 1, ["0.0.0.0:50051"]),
        ("0.0.0.0:50051", 3, ["0.0.0.0:50051", "0.0.0.0:50052", "0.0.0.0:50053"]),
        ("[::1]:65534", 2, ["[::1]:65534", "[::1]:65535"]),
        ("unix:/run/t.sock", 1, ["unix:/run/t.sock"]),
        ("unix:/run/t.sock", 2, ["unix:/run/t.sock.0", "unix:/run/t.sock.1"]),
        ("127.0.0.1:0", 1, ["127.0.0.1:0"]),
    ],
)
def test_each_worker_has_an_address_that_can_be_foretold(listen: str, workers: int, expected: list[str]) -> None:
    """Envoy's configuration is written before the workers run: port + number, or path.number."""
    assert endpoints(listen, workers) == expected


@pytest.mark.parametrize(
    ("listen", "mend"),
    [
        ("127.0.0.1:0", "the first of the ports"),
        ("127.0.0.1:65535", "at most 65534"),
        ("nowhere", "such as"),
        ("unix:relative", "such as"),
    ],
)
def test_an_address_without_room_for_all_is_refused(listen: str, mend: str) -> None:
    """The complaint names the setting and what would be right."""
    with pytest.raises(InputError, match=f"TALLYGATE_LISTEN.*{mend}"):
        endpoints(listen, 2)


def test_what_workers_cannot_share_is_refused() -> None:
    """A path is one worker's, which would take it from the others; a port can be shared, whichever it is."""
    with pytest.raises(InputError, match="TALLYGATE_LISTEN"):
        refuse_unshareable("unix:/run/t.sock")
    refuse_unshareable("127.0.0.1:0")


def test_pauses_double_up_to_a_bound() -> None:
    """A worker that dies at once, again and again, does not take the machine."""
    backoff = Backoff(first_s=1, most_s=8, calm_s=30)
    assert [backoff.after(0) for _ in range(6)] == [1, 2, 4, 8, 8, 8]


def test_a_calm_run_makes_the_next_pause_short_again() -> None:
    """A crash once a day costs one short pause, not the longest."""
    backoff = Backoff(first_s=1, most_s=8, calm_s=30)
    pauses = [backoff.after(ran_s) for ran_s in (0, 0, 0, 29.9, 30, 0)]
    assert pauses == [1, 2, 4, 8, 1, 2]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_the_log_says_why_a_worker_ended(code: int, words: str) -> None:
    """An operator reads a signal's name, not a negative number."""
    assert words in reason_of(code)
