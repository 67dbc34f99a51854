"""Rows of the control plane by noun: SQL parameters in, records out.

Owns the mapping between rows and records. Does not own what a use case means, nor transactions. Every
object here belongs to one transaction (see `transaction`), and so to one task.
"""

import json


def to_json(value: object) -> str | None:
    """Return the text of a JSON column."""
    return None if value is None else json.dumps(value, sort_keys=True)
