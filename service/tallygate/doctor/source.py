"""Text to places: YAML of several documents, or JSON, with every value's line.

Owns what is read: anchors, aliases and merge keys as Envoy and kubectl read them, bounded in number and depth, for
a few lines of them unfold to gigabytes. A text inside a ConfigMap that holds YAML of its own (Istio's `mesh`) is read
too. Nothing is constructed. Failure: InputError whose field is `FILE:LINE`.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import TypeAlias

import yaml

from tallygate.core.errors import InputError
from tallygate.doctor.place import Place

MAXIMUM_BYTES = 4 * 1024 * 1024
_MAXIMUM_VALUES = 200_000
_MAXIMUM_DEPTH = 80
_Pair: TypeAlias = tuple[yaml.Node, yaml.Node]
_PREFIX = "tag:yaml.org,2002:"


def read(text: bytes, name: str) -> tuple[Place, ...]:
    """Return the documents of a file that is called `name`, the empty ones left out."""
    if len(text) > MAXIMUM_BYTES:
        raise InputError(name, f"is larger than {MAXIMUM_BYTES} bytes", "give the part that is about Tallygate")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(name, text.count(b"\n", 0, error.start), "is not UTF-8", "save it in UTF-8") from None
    return tuple(_Reader(name).documents(decoded))


class _Reader:
    """Reads one file, counting what it has read."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values = 0

    def documents(self, text: str) -> Iterator[Place]:
        if text.lstrip().startswith(("{", "[")):
            text = text.replace("\t", " ")  # JSON has tabs between values only; YAML has none there
        try:
            for root in _composed(text):
                place = self._place(root, root.start_mark.line + 1, 0, 0)
                yield place
                yield from self._inner(root, 0)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position)
            raise _refused(self._name, line, "has a character that YAML does not allow", "remove it") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = " ".join(part for part in (error.context, error.problem) if part)
            raise _refused(self._name, mark.line if mark else 0, said, "write YAML or JSON") from None
        except RecursionError:
            raise InputError(self._name, "is nested too deeply", f"at most {_MAXIMUM_DEPTH} levels") from None

    def _place(self, node: yaml.Node, line: int, depth: int, offset: int) -> Place:
        self._count(node, depth)
        if isinstance(node, yaml.MappingNode):
            pairs = self._merged(node, depth)
            return Place(
                line + offset,
                {
                    str(key.value): self._place(value, key.start_mark.line + 1, depth + 1, offset)
                    for key, value in pairs
                    if isinstance(key, yaml.ScalarNode)
                },
            )
        if isinstance(node, yaml.SequenceNode):
            items = (self._place(item, item.start_mark.line + 1, depth + 1, offset) for item in node.value)
            return Place(line + offset, tuple(items))
        return Place(line + offset, _scalar(node))

    def _merged(self, node: yaml.MappingNode, depth: int) -> list[_Pair]:
        """Return the pairs of a mapping: those of its `<<` first, for later ones win."""
        own: list[_Pair] = []
        inherited: list[_Pair] = []
        for key, value in node.value:
            if _kind(key) != "merge":
                own.append((key, value))
                continue
            for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(base, yaml.MappingNode):
                    self._count(base, depth)
                    inherited[:0] = self._merged(base, depth + 1)
        return inherited + own

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._values += 1
        if self._values > _MAXIMUM_VALUES or depth > _MAXIMUM_DEPTH:
            raise _refused(self._name, node.start_mark.line, "unfolds to too much", "write fewer aliases")

    def _inner(self, root: yaml.Node, depth: int) -> Iterator[Place]:
        """Return the documents inside block texts of a document, which begin on the line after their key's."""
        if depth > _MAXIMUM_DEPTH or not isinstance(root, yaml.MappingNode):
            return
        for key, value in root.value:
            if isinstance(value, yaml.ScalarNode) and value.style == "|" and "extensionProviders" in value.value:
                with suppress(yaml.YAMLError):  # then it is some other text
                    for inner in _composed(value.value):
                        yield self._place(inner, inner.start_mark.line + 1, 0, key.start_mark.line + 1)
            yield from self._inner(value, depth + 1)


def _composed(text: str) -> Iterator[yaml.Node]:
    for root in yaml.compose_all(text, Loader=yaml.SafeLoader):
        if _kind(root) != "null":
            yield root


def _scalar(node: yaml.Node) -> str | bool | None:
    kind, written = _kind(node), str(node.value)
    if kind == "bool":
        return written.lower() in {"true", "yes", "on"}
    return None if kind == "null" else written


def _kind(node: yaml.Node) -> str:
    return str(node.tag).removeprefix(_PREFIX)


def _refused(name: str, line_before: int, problem: str, mend: str) -> InputError:
    return InputError(f"{name}:{line_before + 1}", problem, mend)
