"""A value of a configuration file that knows its line, and how to look into it.

Pure. Owns that a field may be written `as_this` or `asThis` (Envoy reads both, Istio the second), and that null is
a field left out. Looking never fails: what is not there, or is of another kind, is None or empty.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Scalar: TypeAlias = str | bool | None
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<unit>ns|us|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Place:
    """One value, and the line, counted from 1, of the field or list item that it is the value of.

    Numbers are kept as they are written.
    """

    line: int
    value: "Mapping[str, Place] | tuple[Place, ...] | Scalar"

    @property
    def fields(self) -> "Mapping[str, Place]":
        """Return the fields of a mapping."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> "tuple[Place, ...]":
        """Return the items of a list."""
        return self.value if isinstance(self.value, tuple) else ()

    def at(self, *names: str) -> "Place | None":
        """Return what stands under these field names, one in the other, or None."""
        place: Place | None = self
        for name in names:
            if place is None:
                return None
            place = place.fields.get(name) or place.fields.get(_camel(name))
        return None if place is None or place.value is None else place

    def text(self, *names: str) -> str:
        """Return what is written there, "" when it is no text, number or boolean."""
        found = self.at(*names)
        if found is None or not isinstance(found.value, str | bool):
            return ""
        return str(found.value).lower() if isinstance(found.value, bool) else found.value

    def is_true(self, *names: str) -> bool:
        """Return whether `true` is written there."""
        return self.text(*names) == "true"

    def items_at(self, *names: str) -> "tuple[Place, ...]":
        """Return the items of the list there."""
        found = self.at(*names)
        return () if found is None else found.items

    def line_of(self, *names: str) -> int:
        """Return the line of the field there, or of the nearest thing around it that is written."""
        for length in range(len(names), 0, -1):
            found = self.at(*names[:length])
            if found is not None:
                return found.line
        return self.line

    def walk(self) -> "Iterator[Place]":
        """Return every value in here, this one first, from top to bottom."""
        yield self
        for inner in (*self.fields.values(), *self.items):
            yield from inner.walk()


def seconds(text: str) -> float | None:
    """Return a duration such as `0.2s`, `200ms` or `1m30s` in seconds, None when it is none."""
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        return None
    return sum(float(part["number"]) * _UNIT_S[part["unit"]] for part in parts)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
