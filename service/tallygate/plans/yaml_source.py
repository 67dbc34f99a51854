"""YAML text to a tree of nodes that know their lines.

Owns what of YAML is accepted: one UTF-8 document of plain mappings, lists and scalars. Aliases are
refused, for a few lines of them unfold to gigabytes; so are tags, which ask a reader to build objects.
Size and depth are bounded before anything recurses. Nothing is constructed: values are read from the
text of the scalars, so `010`, `1:30` and `1.10` never turn into numbers nobody wrote.
"""

import re

import yaml

from tallygate.plans.problems import Problems, shown

MAXIMUM_BYTES = 256 * 1024
_MAXIMUM_DEPTH = 12
_PREFIX = "tag:yaml.org,2002:"
_TAGS = {
    _PREFIX + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
}
_BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def compose(text: str | bytes, problems: Problems) -> yaml.Node | None:
    """Return the root node, or None after noting why there is none."""
    if len(text) > MAXIMUM_BYTES:
        problems.add(1, "", f"the file is larger than {MAXIMUM_BYTES} bytes", "split it or shorten it")
        return None
    decoded = _decode(text, problems)
    if decoded is None:
        return None
    root = _compose(decoded, problems)
    if root is None:
        return None
    if kind_of(root) == "null":
        problems.add(1, "", "the file is empty", "begin with plans:")
        return None
    return root


def kind_of(node: yaml.Node) -> str:
    """Return what YAML takes the node for: `map`, `seq`, `str`, `int`, `float`, `bool`, `null`, `timestamp`."""
    return str(node.tag).removeprefix(_PREFIX)


def line_of(node: yaml.Node) -> int:
    """Return the line the node begins on, counted from 1."""
    return int(node.start_mark.line) + 1


def _decode(text: str | bytes, problems: Problems) -> str | None:
    if isinstance(text, str):
        return text.removeprefix(_BYTE_ORDER_MARK)
    try:
        return text.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        problems.add(text.count(b"\n", 0, error.start) + 1, "", "the file is not UTF-8", "save it in UTF-8")
        return None


def _compose(text: str, problems: Problems) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        # An empty document has no node at all.
        return loader.get_single_node() or yaml.ScalarNode(_PREFIX + "null", "", loader.get_mark())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, "", "a character that YAML does not allow", "remove it")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        problems.add(mark.line + 1 if mark else 1, "", said, error.note or "")
    return None


class _Loader(yaml.SafeLoader):
    """PyYAML's composer, without aliases, foreign tags, and depth."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; called once for each, before its children."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # the stubs leave it out
        if self.check_event(yaml.AliasEvent):
            raise _refused(mark, "aliases are not supported", "write the value out")
        if self._depth >= _MAXIMUM_DEPTH:
            raise _refused(mark, "nested too deeply", f"at most {_MAXIMUM_DEPTH} levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and node.tag not in _TAGS:
            raise _refused(mark, f"the tag {shown(str(node.tag))} is not supported", "remove it")
        return node


# What a reader of YAML 1.2 takes for a number, and one of YAML 1.1 for text, is neither without quotes.
_Loader.add_implicit_resolver(
    _PREFIX + "float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+|0o[0-7]+"),
    list("-+.0123456789"),
)


def _refused(mark: yaml.Mark, problem: str, mend: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark, note=mend)
