"""TOML as entries of ours stand in it: statements at its top or in a section, and whole sections."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.wiring.spans import Node, Part, Scalar, line_ends
from launcher.wiring.toml_lines import Key, gap, headers, joined, span, statements


class TOML:
    """A text; what is written as an inline table, or with a dotted key, is read but not edited."""

    def read(self, text: str) -> Node:
        tree = _tree(tomllib.loads(text, parse_float=Scalar))
        return _node(text, tree, (), list(headers(text)))

    def says(self, value: object) -> Any:
        return _tree(value)

    def added(self, text: str, node: Node, key: str | None, value: object) -> Iterator[str]:
        if key is None:
            return
        if isinstance(value, Mapping):
            yield text + gap(text) + "".join(_section((*node.path, key), value, line_ends(text)))
            return
        row = f"{_key(key)} = {_written(value)}{line_ends(text)}"
        simple = [part for part in node.parts if not part.node.parts and not isinstance(part.node.value, dict)]
        if simple:
            at = _line_end(text, simple[-1].node.end)
        elif node.path:
            found = span(text, node.path)
            at = _line_end(text, found[0]) if found else 0
        else:
            first = next((start for start, _ in headers(text)), len(text))
            at = len(text[:first].rstrip()) and _line_end(text, len(text[:first].rstrip()))
            row += line_ends(text) if first < len(text) and not text[:first].strip() else ""
        yield joined(text[:at], row, text[at:])

    def replaced(self, text: str, node: Node, value: object, *, at: int) -> Iterator[str]:  # noqa: ARG002 - YAML's rows need it
        if isinstance(value, Mapping):
            if not node.value and len(value) == 1:  # its header stays
                yield from self.added(text, node, *next(iter(value.items())))
            if node.path and span(text, node.path):
                yield self._without(text, node) + "".join(_section(node.path, value, line_ends(text)))
        elif not node.path:
            yield text[: node.start] + _written(value) + text[node.end :]

    def dropped(self, text: str, node: Node, number: int) -> Iterator[str]:
        part = node.parts[number]
        if part.node.path:
            whole = self._without(text, part.node)
            if text.startswith(whole):  # it came last: the empty line before it was ours
                yield whole.removesuffix("\r\n" if whole.endswith("\r\n") else "\n")
            yield whole
            return
        begin = text.rfind("\n", 0, part.start) + 1
        yield text[:begin] + text[_line_end(text, part.node.end) :]

    def _without(self, text: str, node: Node) -> str:
        """The text without a section and those below it."""
        for name in reversed([name for _, name in headers(text) if name[: len(node.path)] == node.path]):
            if found := span(text, name):
                text = joined(text[: found[0]], text[found[1] :])
        return text


def _node(text: str, tree: dict[str, Any], path: Key, known: list[tuple[int, Key]]) -> Node:
    """A section, with the statements that stand below its header; the top of the text is one without a header."""
    parts = list(_statements(text, path, known))
    for key, inner in tree.items():
        below = (*path, key)
        if isinstance(inner, dict) and any(name[: len(below)] == below for _, name in known):
            node = _node(text, inner, below, known)
            parts.append(Part(node.start, node, key))
    found = span(text, path) if path else (0, len(text))
    start, end = found or (len(text), len(text))
    return Node(start, end, tree, tuple(parts), path=path)


def _statements(text: str, path: Key, known: list[tuple[int, Key]]) -> Iterator[Part]:
    start, end = next(((at, _end(text, at, known)) for at, name in known if path and name == path), (None, 0))
    if path and start is None:
        return
    body = text[start:end] if start is not None else text[: known[0][0] if known else len(text)]
    at = _line_end(text, start) if start is not None else 0
    for each in statements(body if start is not None else "\n" + body):
        at += len(each.remarks)
        document = tomllib.loads(each.text, parse_float=Scalar)
        value = _tree(document)[each.key]
        if not isinstance(value, dict):
            yield Part(at, Node(at + _value(each.text), at + _value_end(each.text, document), value), each.key)
        at += len(each.text)


def _end(text: str, at: int, known: list[tuple[int, Key]]) -> int:
    return next((start for start, _ in known if start > at), len(text))


def _value(statement: str) -> int:
    """Where the value of `key = value` begins: behind the first = before which a key stands whole."""
    at = -1
    while (at := statement.find("=", at + 1)) >= 0:
        try:
            tomllib.loads(f"{statement[:at]} = 1")
        except ValueError:
            continue
        return at + 1 + len(statement[at + 1 :]) - len(statement[at + 1 :].lstrip(" \t"))
    return len(statement)


def _value_end(statement: str, document: object) -> int:
    """Where it ends: before a remark, if there is one."""
    at = -1
    while (at := statement.find("#", at + 1)) >= 0:
        try:
            if tomllib.loads(statement[:at], parse_float=Scalar) == document:
                return len(statement[:at].rstrip())
        except ValueError:
            continue
    return len(statement.rstrip())


def _tree(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _tree(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_tree(inner) for inner in value]
    if isinstance(value, float):
        return Scalar(_written(value))
    return value if isinstance(value, str | Scalar) else Scalar(str(value).lower() if isinstance(value, bool) else str(value))


def _section(path: Key, values: Mapping[str, object], ends: str) -> Iterator[str]:
    import tomlkit

    rows = [f"{_key(key)} = {_written(value)}{ends}" for key, value in values.items() if not isinstance(value, Mapping)]
    inner = [(key, value) for key, value in values.items() if isinstance(value, Mapping)]
    if rows or not inner:
        yield f"[{tomlkit.key(list(path)).as_string()}]{ends}"
        yield from rows
    for number, (key, value) in enumerate(inner):
        if rows or number:
            yield ends
        yield from _section((*path, key), value, ends)


def _key(key: str) -> str:
    import tomlkit

    return str(tomlkit.key(key).as_string())


def _written(value: object) -> str:
    import tomlkit

    return value.text if isinstance(value, Scalar) else str(tomlkit.item(value).as_string())


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1
