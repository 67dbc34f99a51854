"""The journal of slabs: what a killed worker held is found by the next, and nothing else there is believed."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.counting import ALICE, MemoryCounting, asking, prepaid, quota, rate
from support.leasing import Fault, Worker, abandon

from tallygate.core.periods import PeriodUnit
from tallygate.limits.amendment import Amendment
from tallygate.limits.journal import NoJournal
from tallygate.limits.journal_files import FILE_BYTES, SLABS, TEXT_BYTES, FileJournal, open_journal
from tallygate.limits.keys import record_key
from tallygate.limits.lease_record import read_slab, slab_text
from tallygate.limits.leased import LeaseResult
from tallygate.limits.leases import lease_terms
from tallygate.limits.limit import CountedPer

RECORD = record_key(ALICE, CountedPer.SUBSCRIPTION)
PLENTY = 1_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return where journals are."""
    return tmp_path / "slabs"


@pytest.fixture
def journal(directory: Path) -> Iterator[FileJournal]:
    """Return a worker's journal."""
    made = FileJournal(directory)
    yield made
    made.close()


def terms(lease: str = "lease:1", route: str = "GET /v1/{a|b}") -> Amendment:
    """Return the terms of a slab."""
    limits = (quota(PLENTY, is_leased=True), (prepaid(9, is_leased=True), 3), rate(9, 9, is_leased=True))
    asked = asking(*limits)._replace(route=route, plan="pro@3")
    return lease_terms(asked, lease, ends_us=(1_700_000_000_000_000, 0, 0), minute=28_000_000)


def files(directory: Path) -> list[str]:
    """Return the names of what lies there."""
    return sorted(each.name for each in directory.iterdir())


def left_behind(directory: Path, *texts: bytes) -> Path:
    """Leave a journal behind as a killed worker does; return its file."""
    journal = FileJournal(directory)
    for number, text in enumerate(texts):
        entry = journal._file.enter(text, 8 + number)
        assert entry is not None
        entry.counts[entry.at] = 5
    abandon(journal)
    return directory / journal._file.name


def test_a_slab_reads_as_it_was_written() -> None:
    """Terms and size come back whole, and any other text is refused."""
    written = slab_text(terms(), 64)
    assert read_slab(written) == (terms(), 64)
    for at in range(len(written)):
        with pytest.raises(ValueError, match="no slab"):
            read_slab(written[:at])
    for other in (
        b"[]",
        b"{}",
        b"\xff",
        b"1",
        b'"a"',
        written.replace(b'"n":64', b'"n":-1'),
        written.replace(b"64", b"true"),
    ):
        with pytest.raises(ValueError, match="no slab"):
            read_slab(other)


def test_only_what_is_left_behind_is_found(journal: FileJournal, directory: Path) -> None:
    """A living worker's slabs are its own; a killed one's are found, by one of the others, until they are settled."""
    alive = FileJournal(directory)
    assert alive.enter(terms(), 8) is not None
    left_behind(directory, slab_text(terms("lease:2"), 8))
    (orphan,) = journal.orphans()
    assert (orphan.terms, orphan.spent, orphan.unspent) == (terms("lease:2"), 3, 5)
    assert journal.orphans() == alive.orphans() == []
    orphan.entry.clear()
    assert journal.orphans() == []
    assert len(files(directory)) == 2
    abandon(alive)
    assert [each.terms.id for each in journal.orphans()] == ["lease:1"]


def test_what_is_not_settled_is_found_again(directory: Path) -> None:
    """Whoever adopted slabs and goes too leaves what it has not settled to the next."""
    left_behind(directory, slab_text(terms("lease:1"), 8), slab_text(terms("lease:2"), 9))
    first = FileJournal(directory)
    found = {each.terms.id: each.entry for each in first.orphans()}
    found["lease:1"].clear()
    first.close()
    second = FileJournal(directory)
    (orphan,) = second.orphans()
    assert orphan.terms.id == "lease:2"
    orphan.entry.clear()
    second.close()
    assert files(directory) == []


def test_torn_and_foreign_entries_are_put_aside(journal: FileJournal, directory: Path) -> None:
    """What is cut off or garbage is no slab: the rest is settled, one file is kept to be looked at, and logged."""
    torn = left_behind(directory, slab_text(terms("lease:1"), 8), slab_text(terms("lease:2"), 9))
    data = torn.read_bytes()
    torn.write_bytes(data.replace(b"lease:1", b"lease:?"))
    left_behind(directory, b'{"not": "a slab"}')
    (directory / "slabs-garbage").write_bytes(os.urandom(FILE_BYTES))
    (directory / "slabs-short").write_bytes(b"tallygate")
    (directory / "slabs-empty").touch()
    (directory / "slabs-link").symlink_to("/etc/passwd")
    (directory / "slabs-directory").mkdir()
    os.mkfifo(directory / "slabs-pipe")
    with capture_logs() as logs:
        (orphan,) = journal.orphans()
        orphan.entry.clear()
    assert orphan.terms.id == "lease:2"
    assert len(logs) == 4
    kept = {"not-readable", "slabs-link", "slabs-directory", "slabs-pipe", journal._file.name}
    assert set(files(directory)) == kept


def test_the_journal_is_bounded(journal: FileJournal) -> None:
    """What finds no room, or is too long, is not entered: then no slab is taken. A cleared place is used again."""
    assert journal.enter(terms(route="/" * TEXT_BYTES), 8) is None
    entries = [journal.enter(terms(f"lease:{number}"), 8) for number in range(SLABS)]
    assert journal.enter(terms(), 8) is None
    for entry in entries:
        assert entry is not None
        entry.clear()
    again = journal.enter(terms(), 8)
    assert again is not None
    again.clear()


def test_a_directory_that_others_may_enter_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an open directory, nor a link, nor a file is trusted; without one there is no journal, and it is said."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = open_journal("redis://:secret@localhost:6379/0")
    assert made.is_lasting
    made.close()
    (own,) = tmp_path.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o755)
    with capture_logs() as logs:
        assert isinstance(open_journal("redis://localhost"), NoJournal)
    assert len(logs) == 1
    own.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own.symlink_to(tmp_path / "elsewhere")
    assert isinstance(open_journal("redis://localhost"), NoJournal)
    own.unlink()
    own.touch()
    assert isinstance(open_journal("redis://localhost"), NoJournal)


def test_counters_elsewhere_have_another_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slab is settled where it was taken: a new password is the same Redis, another port is not."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = open_journal("redis://:old@localhost:6379/0")
    assert isinstance(first, FileJournal)
    assert first.enter(terms(), 8) is not None
    abandon(first)
    other, same = open_journal("redis://localhost:6380/0"), open_journal("redis://:new@localhost:6379/0")
    assert other.orphans() == []
    assert len(files(tmp_path / f"tallygate-{os.geteuid()}")) == 3
    assert [each.terms.id for each in same.orphans()] == ["lease:1"]


def test_what_nobody_asks_for_is_removed_after_a_day(directory: Path) -> None:
    """A file of counters that are used no more stays until its slabs are known nowhere; a living worker's stays."""
    old, young, alive = (FileJournal(directory, f"slabs-{name}-") for name in ("old", "young", "alive"))
    for each in (old, young, alive):
        assert each.enter(terms(), 8) is not None
    for each in (old, alive):
        os.utime(directory / each._file.name, (1, 1))
    abandon(old)
    abandon(young)
    looking = FileJournal(directory, "slabs-other-")
    assert looking.orphans() == []
    looking.close()
    assert files(directory) == sorted(each._file.name for each in (young, alive))


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.UNHEARD, Fault.SLOW])
async def test_what_a_killed_worker_held_is_settled_by_the_next(directory: Path, fault: Fault) -> None:
    """Spent requests are in the ledger in their minute, unspent units are back, also of a slab that was under way."""
    counting = MemoryCounting()
    worker = Worker(counting.memory, lambda: 0.0, journal=FileJournal(directory))
    asked = asking(quota(PLENTY, PeriodUnit.MONTH, is_leased=True), prepaid(PLENTY, is_leased=True))
    for number in range(300):
        if number == 200:
            worker.store.fault = fault
        await worker.limiter.acquire(asked)
        await worker.quiet()
    assert worker.became[LeaseResult.GRANTED] > 0
    await worker.crash()
    heir = Worker(counting.memory, lambda: 0.0, journal=FileJournal(directory))
    await heir.limiter.tend()
    await heir.limiter.close()
    record = await counting.record(RECORD)
    assert {int(text.split(":")[0]) for field, text in record.items() if field != "x"} == {300}
    assert sum((await counting.usage()).values()) == 300
    assert files(directory) == []


async def test_what_cannot_be_written_down_is_not_leased(directory: Path) -> None:
    """A kind of request whose text is too long is asked for one by one."""
    worker = Worker(MemoryCounting().memory, lambda: 0.0, journal=FileJournal(directory))
    asked = asking(quota(PLENTY, is_leased=True))._replace(route="/" * TEXT_BYTES)
    for _ in range(100):
        await worker.limiter.acquire(asked)
        await worker.quiet()
    assert len(worker.store.asked) == 100
    await worker.limiter.close()
    await asyncio.sleep(0)
