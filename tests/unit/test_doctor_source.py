"""What doctor reads, and that it knows the lines of it."""

import json
import textwrap

import pytest

from tallygate.core.errors import InputError
from tallygate.doctor.place import Place, seconds
from tallygate.doctor.source import MAXIMUM_BYTES, read


def places(text: str) -> tuple[Place, ...]:
    """Return the documents of a text."""
    return read(textwrap.dedent(text).encode(), "f.yaml")


def refusal(text: bytes) -> str:
    """Return what is said of a text that cannot be read."""
    with pytest.raises(InputError) as refused:
        read(text, "f.yaml")
    return str(refused.value)


def test_every_value_knows_its_line() -> None:
    """A finding points at what was written, in whichever document of the file."""
    first, second = places(
        """\
        a:
          b: {c: 1}
        ---
        # a comment
        d: [x,
            y]
        """
    )
    assert (first.line_of("a"), first.line_of("a", "b"), first.line_of("a", "b", "none")) == (1, 2, 2)
    assert [item.line for item in second.items_at("d")] == [5, 6]


def test_fields_may_be_in_either_case() -> None:
    """Envoy accepts both spellings of its JSON mapping."""
    (place,) = places("{failureModeAllow: true, status_on_error: null}")
    assert place.is_true("failure_mode_allow")
    assert place.at("status_on_error") is None


def test_json_is_read_with_its_lines() -> None:
    """What Envoy's admin interface prints is read as it is, indented by tabs or not."""
    text = json.dumps({"a": {"b": [True, "x"]}}, indent="\t")
    (place,) = read(text.encode(), "f.json")
    assert place.items_at("a", "b")[1] == Place(5, "x")


def test_anchors_and_merges_are_unfolded() -> None:
    """Later fields win over merged ones, and the first base over the second."""
    (place,) = places(
        """\
        one: &one {a: 1, b: 1}
        two: &two {b: 2, c: 2, d: 2}
        all: {<<: [*one, *two], d: 3}
        """
    )
    assert [place.text("all", name) for name in "abcd"] == ["1", "1", "2", "3"]


def test_yaml_inside_a_config_map_is_read() -> None:
    """Istio's mesh configuration is a text in a ConfigMap: its lines are the file's."""
    (_, inner) = places(
        """\
        kind: ConfigMap
        data:
          mesh: |-
            # of the mesh
            extensionProviders:
              - name: tallygate
        """
    )
    assert inner.items_at("extensionProviders")[0].line_of("name") == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [1\nb: 2", "f.yaml:2: "),
        (b"a: 1\n\tb: 2", "f.yaml:2: "),
        (b"a: \xff", "f.yaml:1: is not UTF-8"),
        (b"a: 1\nb: \x01", "f.yaml:2: has a character"),
        (b"a: *b", "f.yaml:1: found undefined alias"),
        (b"[" * 5000, "f.yaml: is nested too deeply"),
        (b"a: &a [*a]", "f.yaml:1: unfolds to too much"),
        (b"a: &a {<<: *a}", "f.yaml:1: unfolds to too much"),
        (b" " * (MAXIMUM_BYTES + 1), "is larger than"),
    ],
    ids=["flow", "tab", "encoding", "control", "alias", "depth", "itself", "merge", "size"],
)
def test_what_cannot_be_read_is_said_with_its_line(text: bytes, said: str) -> None:
    """Whatever is given, the answer is one line that says where it is wrong."""
    assert said in refusal(text)


def test_a_few_lines_do_not_unfold_to_gigabytes() -> None:
    """Aliases of aliases are counted as they unfold, in values and in merges."""
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "unfolds to too much" in refusal("\n".join(levels).encode())
    merges = ["m0: &m0 {a: 1}"]
    merges += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    assert "unfolds to too much" in refusal("\n".join(merges).encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.2s", 0.2), ("200ms", 0.2), ("1m30s", 90.0), ("0s", 0.0), (".5s", 0.5), ("5", None), ("", None), ("1s ", None)],
)
def test_durations_of_envoy_and_of_kubernetes(text: str, expected: float | None) -> None:
    """Protobuf's seconds and Go's units mean the same."""
    assert seconds(text) == (None if expected is None else pytest.approx(expected))
