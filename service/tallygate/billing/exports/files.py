"""A day's file: rows as CSV or Parquet, and a manifest beside it.

Owns how a file comes to be: under a temporary name, flushed to disk, then renamed, the manifest last: whoever sees a
manifest finds the whole file. The same rows make the same bytes (of Parquet, with the same version of pyarrow).
Everything here waits for the disk: run it in a thread.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from tallygate.billing.exports.columns import COLUMNS, Shape, Value
from tallygate.billing.exports.cursor import DayFile
from tallygate.billing.exports.row import LedgerRow

_READ_BYTES = 1 << 20


class Format(StrEnum):
    """What files are."""

    CSV = "csv"
    PARQUET = "parquet"


class Writer(Protocol):
    """Writes rows to an open file."""

    def write(self, rows: Sequence[LedgerRow]) -> None:
        """Add rows."""
        ...

    def finish(self) -> None:
        """Write what stands at the end."""
        ...


class CsvWriter:
    """Comma-separated values with a line of names, as RFC 4180 has it but for the line's end: a newline."""

    def __init__(self, file: BinaryIO, shape: Shape) -> None:
        """Write to `file`."""
        self._columns = COLUMNS[shape]
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(self._columns)

    def write(self, rows: Sequence[LedgerRow]) -> None:
        """Add rows."""
        self._writer.writerows([_text(column(row)) for column in self._columns.values()] for row in rows)

    def finish(self) -> None:
        """Leave the file to its owner."""
        self._text.flush()
        self._text.detach()


class DayWriter:
    """Writes one day's file of an export to a directory."""

    def __init__(self, directory: Path, export: str, file: DayFile, kind: Format, shape: Shape) -> None:
        """Begin a file, the directory being made if need be. Raises OSError."""
        self.path = directory / f"usage-{file.day}.{kind}"
        self._export = export
        self._file = file
        self._rows = 0
        self._numbers: tuple[int, int] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._temporary = directory / f".{self.path.name}.part"
        self._open = self._temporary.open("wb+")
        self._writer = _writer(self._open, kind, shape)

    def write(self, rows: Sequence[LedgerRow]) -> None:
        """Add rows."""
        self._writer.write(rows)
        self._rows += len(rows)
        for number in (row.id for row in rows):
            low, high = self._numbers or (number, number)
            self._numbers = min(low, number), max(high, number)

    def finish(self) -> tuple[int, str]:
        """Put the file and its manifest in their places; return its rows and SHA-256."""
        self._writer.finish()
        self._open.seek(0)
        digest = hashlib.sha256()
        size_bytes = 0
        while chunk := self._open.read(_READ_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        _keep(self._open, self._temporary, self.path)
        first_id, last_id = self._numbers or (None, None)
        manifest = {
            "export": self._export,
            "day": str(self._file.day),
            "file": self.path.name,
            "rows": self._rows,
            "first_id": first_id,
            "last_id": last_id,
            "late_after_id": self._file.after_id,
            "up_to_id": self._file.to_id,
            "bytes": size_bytes,
            "sha256": digest.hexdigest(),
        }
        self._write_manifest(json.dumps(manifest, indent=2) + "\n")
        return self._rows, digest.hexdigest()

    def abandon(self) -> None:
        """Leave nothing behind of a file that was not finished."""
        self._open.close()
        self._temporary.unlink(missing_ok=True)

    def _write_manifest(self, text: str) -> None:
        temporary = self._temporary.with_suffix(".manifest")
        with temporary.open("wb") as file:
            file.write(text.encode())
            _keep(file, temporary, self.path.with_name(f"{self.path.name}.manifest.json"))


def _writer(file: BinaryIO, kind: Format, shape: Shape) -> Writer:
    if kind is Format.CSV:
        return CsvWriter(file, shape)
    from tallygate.billing.exports.parquet import ParquetWriter  # noqa: PLC0415 - an extra that few install

    return ParquetWriter(file, shape)


def _keep(file: BinaryIO, temporary: Path, path: Path) -> None:
    """Put a file that is written in its place, on disk before it is believed."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _text(value: Value) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
