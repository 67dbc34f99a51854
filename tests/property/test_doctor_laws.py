"""Whatever stands in a configuration, doctor answers; and how it is written down changes nothing."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.gateway import ACCESS_LOG
from support.planted import PLANTS, Plant

from tallygate.core.errors import InputError
from tallygate.doctor.examine import examine

WHOLE: Any = yaml.safe_load(ACCESS_LOG)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 10**6),
    st.sampled_from(["", "0s", "-1s", "1h", "x-tallygate-a", "(", "%REQ(", "%REQ()%", "LOGICAL_DNS", "403"]),
    st.builds(list),
    st.builds(dict),
    st.just([[1]]),
    st.just({"regex": "("}),
)


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - any YAML
    """Return the way to every value in a tree."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*above, key)
        yield from paths(inner, (*above, key))


PATHS = list(paths(WHOLE))


def replaced(path: tuple[Any, ...], value: object) -> Any:  # noqa: ANN401 - any YAML
    """Return the configuration with another value in one place."""
    spoilt = deepcopy(WHOLE)
    inner = spoilt
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return spoilt


def names(text: str, workers: int = 1) -> list[str]:
    """Return what is found, in the order of the names."""
    return sorted(one.mistake.name for one in examine(text.encode(), "envoy", workers=workers).findings)


@given(path=st.sampled_from(PATHS), value=ODD)
def test_no_value_anywhere_is_too_odd(path: tuple[Any, ...], value: object) -> None:
    """A value of the wrong kind is Envoy's to refuse: doctor says what it can, and has a line for it."""
    text = yaml.safe_dump(replaced(path, value))
    try:
        findings = examine(text.encode(), "envoy.yaml", workers=3).findings
    except InputError:
        return
    assert all(1 <= finding.line <= text.count("\n") + 1 for finding in findings)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.mistake.name)
def test_a_mistake_is_found_however_it_is_written(plant: Plant) -> None:
    """In JSON on one line, with fields in camelCase, it is the same mistake."""
    value = yaml.safe_load(plant.planted)
    assert set(names(json.dumps(camel(value)), plant.workers)) == set(names(plant.planted, plant.workers))


def camel(value: Any) -> Any:  # noqa: ANN401 - any YAML
    """Return a tree with the names of fields as protobuf's JSON mapping has them; names with a dot are no fields."""
    if isinstance(value, dict):
        return {key if "." in key or "@" in key else camel_name(key): camel(inner) for key, inner in value.items()}
    return [camel(inner) for inner in value] if isinstance(value, list) else value


def camel_name(name: str) -> str:
    """Return `as_this` as `asThis`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
