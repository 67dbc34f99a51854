"""Files of usage: one for each day that is over, each entry in one and in one only, the same whenever written again."""

import csv
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from support.exporting import Books, exporter_of, open_books
from support.servers import Database

from tallygate.billing.exports.archive import Archive
from tallygate.billing.exports.round import Round

FIRST = datetime(2026, 6, 10, 23, 58, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 6, 11, tzinfo=UTC)


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    """The ledger of a customer who used something around a midnight: 1 and 2 before it, 3 and 4 after."""
    async with open_books(database) as opened:
        await opened.use([1, 2, 3, 4], at=FIRST)
        yield opened


def archive_of(books: Books, directory: Path, *lines: str) -> Archive:
    """Return what writes files to the directory `out`."""
    text = "\n".join(["[exports.files]", 'kind = "files"', 'directory = "out"', *lines])
    made = exporter_of(books, directory, text)
    assert isinstance(made, Archive)
    return made


async def written(books: Books, archive: Archive, moved_to: datetime) -> Round:
    """Write what is over once the ledger has everything up to an instant."""
    await books.pool.execute("UPDATE usage_ledger SET moved_to = $1", moved_to)
    done = await archive.round()
    assert done is not None
    return done


def rows_in(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def quantities(directory: Path) -> dict[str, list[int]]:
    """Return what each CSV file holds."""
    files = sorted((directory / "out").glob("*.csv"))
    return {path.stem.removeprefix("usage-"): [int(row["quantity"]) for row in rows_in(path)] for path in files}


async def test_a_day_is_written_when_all_of_it_is_in_the_ledger(books: Books, tmp_path: Path) -> None:
    """Not a minute before, and each once; a day without usage has a file too."""
    archive = archive_of(books, tmp_path)
    assert (await written(books, archive, MIDNIGHT - timedelta(minutes=1))).files == 0
    assert (await written(books, archive, MIDNIGHT)).files == 1
    assert quantities(tmp_path) == {"2026-06-10": [1, 2]}
    assert (await written(books, archive, MIDNIGHT)).files == 0
    done = await written(books, archive, MIDNIGHT + 2 * DAY)
    assert (done.files, done.oldest_at) == (2, MIDNIGHT + 2 * DAY)
    assert quantities(tmp_path) == {"2026-06-10": [1, 2], "2026-06-11": [3, 4], "2026-06-12": []}


async def test_a_manifest_says_what_its_file_holds(books: Books, tmp_path: Path) -> None:
    """Rows, numbers and the digest; nothing unfinished lies beside it."""
    await written(books, archive_of(books, tmp_path), MIDNIGHT)
    path = tmp_path / "out" / "usage-2026-06-10.csv"
    manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    assert (manifest["rows"], manifest["first_id"], manifest["last_id"]) == (2, 1, 2)
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["bytes"] == path.stat().st_size
    assert {item.name for item in path.parent.glob("*")} == {path.name, f"{path.name}.manifest.json"}


async def test_what_comes_late_is_in_the_next_file(books: Books, tmp_path: Path) -> None:
    """A clock stepped back, or a bucket was put right by hand: still every entry is in one file, and in one only."""
    archive = archive_of(books, tmp_path)
    await written(books, archive, MIDNIGHT)
    await books.use([5], at=FIRST + timedelta(minutes=1), meter="late")
    await books.use([6], at=MIDNIGHT + DAY)
    await written(books, archive, MIDNIGHT + DAY)
    await written(books, archive, MIDNIGHT + 2 * DAY)
    assert quantities(tmp_path) == {"2026-06-10": [1, 2], "2026-06-11": [3, 4, 5], "2026-06-12": [6]}


@pytest.mark.parametrize("shape", ["ledger", "focus"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
async def test_a_file_written_again_is_the_same(books: Books, tmp_path: Path, kind: str, shape: str) -> None:
    """To the byte, manifest and all, though more has come since."""
    archive = archive_of(books, tmp_path, f'format = "{kind}"', f'columns = "{shape}"')
    await written(books, archive, MIDNIGHT + DAY)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(before) == 4
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    await books.use([5], at=FIRST, meter="late")
    assert await books.control.acting("test").exports.write_again("files", FIRST) == 2
    assert (await written(books, archive, MIDNIGHT + DAY)).files == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


async def test_a_writer_that_dies_leaves_no_half_file(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off anywhere before it is noted, the file is written again from what was planned."""
    archive = archive_of(books, tmp_path)

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tallygate.billing.exports.postgres.ExportRows.note_written", die)
        with pytest.raises(KeyboardInterrupt):
            await written(books, archive, MIDNIGHT)
    first = (tmp_path / "out" / "usage-2026-06-10.csv").read_bytes()
    await books.use([5], at=FIRST, meter="late")
    assert (await written(books, archive, MIDNIGHT)).files == 1
    assert (tmp_path / "out" / "usage-2026-06-10.csv").read_bytes() == first


async def test_a_disk_that_cannot_be_written_is_told(books: Books, tmp_path: Path) -> None:
    """The next round writes what is missing."""
    (tmp_path / "out").write_text("in the way")
    done = await written(books, archive_of(books, tmp_path), MIDNIGHT)
    assert "cannot write to" in done.problem
    assert (await books.cursor("files")).last_error == done.problem
    (tmp_path / "out").unlink()
    assert (await written(books, archive_of(books, tmp_path), MIDNIGHT)).files == 1
    assert quantities(tmp_path) == {"2026-06-10": [1, 2]}


async def test_parquet_holds_what_csv_holds(books: Books, tmp_path: Path) -> None:
    """Instants as instants and units as whole numbers, in the same order."""
    await written(books, archive_of(books, tmp_path), MIDNIGHT)
    lines = rows_in(tmp_path / "out" / "usage-2026-06-10.csv")
    again = tmp_path / "again"
    again.mkdir()
    text = '[exports.more]\nkind = "files"\ndirectory = "out"\nformat = "parquet"\n'
    other = exporter_of(books, again, text)
    await other.round()
    table: Any = pyarrow.parquet.read_table(again / "out" / "usage-2026-06-10.parquet")
    shown = [{name: _text(value) for name, value in row.items()} for row in table.to_pylist()]
    assert shown == lines
    assert lines[0]["customer_key"] == "acme"


def _text(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


async def test_only_what_is_asked_for_is_written(books: Books, tmp_path: Path) -> None:
    """Live usage of the meters that are named."""
    await books.use([7], at=FIRST, meter="bytes")
    await books.use([8], at=FIRST, meter="tokens", subscription=books.test_subscription)
    done = await written(books, archive_of(books, tmp_path, 'meters = ["bytes", "tokens"]'), MIDNIGHT)
    assert (quantities(tmp_path), done.sent, done.skipped) == ({"2026-06-10": [7]}, 1, 3)


async def test_files_begin_where_they_are_told_to(books: Books, tmp_path: Path) -> None:
    """What was recorded before is in no file."""
    await written(books, archive_of(books, tmp_path, "from = 2026-06-11T00:01:00Z"), MIDNIGHT + DAY)
    assert quantities(tmp_path) == {"2026-06-11": [4]}
