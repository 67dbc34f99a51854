"""Rows as Parquet; the one file that knows pyarrow, which comes with `pip install 'tallygate[parquet]'`."""

from collections.abc import Sequence
from datetime import datetime
from typing import BinaryIO

from tallygate.billing.exports.columns import COLUMNS, Shape
from tallygate.billing.exports.row import LedgerRow
from tallygate.core.errors import InputError

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError:  # pragma: no cover - the tests have it
    raise InputError(
        "EXPORTS_FILE", 'format = "parquet" needs pyarrow', "pip install 'tallygate[parquet]', or write csv"
    ) from None

_INSTANT, _WHOLE, _TEXT = pa.timestamp("us", tz="UTC"), pa.int64(), pa.string()
_EXAMPLE_AT = datetime(2000, 1, 1)  # noqa: DTZ001 - only what columns are made of is looked at
_EXAMPLE = LedgerRow(0, _EXAMPLE_AT, 0, "", "", "", "", "", "", "", "", _EXAMPLE_AT, 0)


class ParquetWriter:
    """A row group for each page of rows."""

    def __init__(self, file: BinaryIO, shape: Shape) -> None:
        """Write to `file`."""
        self._columns = COLUMNS[shape]
        kinds = {datetime: _INSTANT, int: _WHOLE, str: _TEXT}
        self._schema = pa.schema([(name, kinds[type(of(_EXAMPLE))]) for name, of in self._columns.items()])
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[LedgerRow]) -> None:
        """Add rows."""
        columns = {name: [column(row) for row in rows] for name, column in self._columns.items()}
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def finish(self) -> None:
        """Write the footer."""
        self._writer.close()
