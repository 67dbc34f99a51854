"""Named statements: SQL stands in `queries.sql` beside its feature, Python calls it by name.

A file is a row of blocks. Each begins with `-- name: find_license`, goes on with comments that say its
guarantee, inputs and outputs, and then the statement itself.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


def load(package: str, file_name: str = "queries.sql") -> Mapping[str, str]:
    """Return the statements of `file_name` in `package` by name; raise ValueError for a malformed file."""
    return parse((files(package) / file_name).read_text(encoding="utf-8"))


def parse(text: str) -> Mapping[str, str]:
    """Return the statements in `text` by name, comments included: they help in the server's logs."""
    preamble, *blocks = _NAME.split(text)
    if _statement(preamble):
        message = "SQL stands before the first `-- name:`"
        raise ValueError(message)
    statements: dict[str, str] = {}
    for name, block in zip(blocks[::2], blocks[1::2], strict=True):
        if name in statements or not _statement(block):
            message = f"statement {name!r} is there twice" if name in statements else f"statement {name!r} is empty"
            raise ValueError(message)
        statements[name] = f"-- {name}\n{block.strip()}"
    return MappingProxyType(statements)


def _statement(block: str) -> str:
    """Return what is left of `block` without its full-line comments."""
    return "\n".join(line for line in block.splitlines() if not line.lstrip().startswith("--")).strip()
