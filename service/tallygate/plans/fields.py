"""Reading fields of a plan file: typed, with a path, and noting what is wrong instead of raising.

A reader that cannot give a value notes a problem and returns None (or an empty collection), and reading
goes on, so that one pass finds every mistake.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import yaml

from tallygate.core.errors import InputError
from tallygate.plans.notation import whole_number
from tallygate.plans.problems import Problems, did_you_mean, shown
from tallygate.plans.yaml_source import kind_of, line_of

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NAME_MEND = "begin with a-z, then a-z, 0-9, _ and -, at most 63 characters"
DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,12})?")
_SIMPLE = re.compile(r"[A-Za-z0-9_.*-]{1,63}")
_FLAGS = {"true": True, "false": False}
_KINDS = {"map": "a mapping", "seq": "a list"}
_Choice = TypeVar("_Choice", bound=StrEnum)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Field:
    """A value in the file: its node, its path such as `plans[0].limits[1].rate`, and the line of its key."""

    node: yaml.Node
    path: str
    line: int
    problems: Problems

    @property
    def kind(self) -> str:
        """Return what YAML takes the value for."""
        return kind_of(self.node)

    def wrong(self, problem: str, mend: str = "") -> None:
        """Note a problem with this value."""
        self.problems.add(self.line, self.path, problem, mend)

    def text(self) -> str | None:
        """Return a scalar as it is written, whatever YAML would make of it."""
        if self.kind == "null":
            self.wrong("has no value", "write one or remove the key")
        elif isinstance(self.node, yaml.ScalarNode):
            return str(self.node.value)
        else:
            self.wrong(f"is {_KINDS[self.kind]}", "write a single value")
        return None

    def matching(self, pattern: re.Pattern[str], mend: str) -> str | None:
        """Return the text if `pattern` matches all of it."""
        text = self.text()
        if text is None or pattern.fullmatch(text):
            return text
        self.wrong(f"{shown(text)} is not allowed", mend)
        return None

    def read(self, notation: Callable[[str], _Value]) -> _Value | None:
        """Return what the text says in `notation`, a function that raises InputError for what it cannot read."""
        text = self.text()
        if text is None:
            return None
        try:
            return notation(text)
        except InputError as error:
            self.wrong(error.problem, error.mend)
            return None

    def whole(self, minimum: int, below: int) -> int | None:
        """Return a whole number, at least `minimum` and less than `below`."""
        text = self.text()
        if text is None:
            return None
        number = whole_number(text)
        if number is None:
            self.wrong(f"{shown(text)} is not a whole number", "write digits, such as 1000 or 1_000_000")
        elif not minimum <= number < below:
            self.wrong(f"{number} is out of bounds", f"from {minimum} to {below - 1}")
            return None
        return number

    def flag(self) -> bool | None:
        """Return what `true` or `false` says; YAML's other spellings say nothing."""
        text = self.text()
        if text is not None and (self.kind != "bool" or text not in _FLAGS):
            self.wrong(f"{shown(text)} is neither true nor false", "write true or false, without quotes")
            return None
        return None if text is None else _FLAGS[text]

    def decimal(self) -> Decimal | None:
        """Return an exact amount of money, zero or more."""
        text = self.matching(DECIMAL, 'write a decimal such as "49.00"')
        return None if text is None else Decimal(text)

    def choice(self, choices: Iterable[_Choice]) -> _Choice | None:
        """Return the one of `choices` that is named."""
        text = self.text()
        if text is None:
            return None
        by_name = {choice.value: choice for choice in choices}
        if text not in by_name:
            self.wrong(f"{shown(text)} is not known", "one of " + ", ".join(by_name))
        return by_name.get(text)

    def items(self) -> "list[Field]":
        """Return the members of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.wrong("is not a list", "write - before each member, or [a, b]")
            return []
        return [
            Field(node, f"{self.path}[{index}]", line_of(node), self.problems)
            for index, node in enumerate(self.node.value)
        ]

    def named(self) -> "dict[str, Field]":
        """Return the values of a mapping by their keys."""
        if not isinstance(self.node, yaml.MappingNode):
            self.wrong("is not a mapping", "write key: value")
            return {}
        found: dict[str, Field] = {}
        for key, value in self.node.value:
            line = line_of(key)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.add(line, self.path, "a key is not a single word", "write key: value")
            elif key.value in found:
                self.problems.add(line, self.path, f"{shown(key.value)} is written twice", "remove one of them")
            else:
                found[key.value] = Field(value, self._below(key.value), line, self.problems)
        return found

    def record(self, known: Iterable[str]) -> "Record":
        """Return a mapping whose keys are given; note every other key."""
        known, fields = tuple(known), self.named()
        for name, value in fields.items():
            if name not in known:
                self.problems.add(value.line, self.path, f"unknown key {shown(name)}", did_you_mean(name, known))
        return Record(self, {name: value for name, value in fields.items() if name in known})

    def _below(self, name: str) -> str:
        label = name if _SIMPLE.fullmatch(name) else shown(name)
        return f"{self.path}.{label}" if self.path else label


@dataclass(frozen=True, slots=True)
class Record:
    """The known keys of a mapping."""

    field: Field
    fields: Mapping[str, Field]

    def get(self, name: str) -> Field | None:
        """Return the value of an optional key."""
        return self.fields.get(name)

    def choice(self, name: str, default: _Choice) -> _Choice:
        """Return which of the words beside `default` an optional key names."""
        found = self.fields.get(name)
        return (found.choice(type(default)) if found else None) or default

    def flag(self, name: str) -> bool:
        """Return whether an optional key says `true`."""
        found = self.fields.get(name)
        return bool(found and found.flag())

    def need(self, name: str, mend: str) -> Field | None:
        """Return the value of a required key; note its absence, saying what to write."""
        found = self.fields.get(name)
        if found is None and isinstance(self.field.node, yaml.MappingNode):
            self.field.wrong(f"has no {name}", mend)
        return found
