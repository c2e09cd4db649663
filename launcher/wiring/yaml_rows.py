"""YAML as the agents' own reader has it (PyYAML, of version 1.1): rows of pairs and items, and brackets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.wiring.spans import Flow, Node, Part, Scalar, line_ends, quoted, written

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_REMARK = re.compile(r"[ \t]*(?:#[^\n\r]*)?")
_REMARK_BEHIND = re.compile(r"\s+#.*$")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# What YAML 1.1 and 1.2 take for something else than a string.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_FLOW = Flow(_BLANK, _REMARK)
_STR, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


class YAML:
    """A text of one document; anchors and tags are left as they are."""

    def read(self, text: str) -> Node:
        import yaml

        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None
        if root is None or (root.tag == _NULL and not root.value):
            return Node(len(text), len(text), {}, flow=False)
        return _node(root, text)

    def says(self, value: object) -> Any:
        return self.read(written(None, {"": value}, indent=None, unit="", ends="\n")).value[""]

    def added(self, text: str, node: Node, key: str | None, value: object) -> Iterator[str]:
        if node.parts and not node.flow:
            yield from _added_row(text, node, key, value)
        elif node.start == node.end:  # a document without anything, but for remarks
            ends = line_ends(text)
            yield _joined(text, _row(key, value, "", ends), ends)
        else:
            yield _FLOW.added(text, node, key, value)

    def replaced(self, text: str, node: Node, value: object, *, at: int) -> Iterator[str]:
        rows = isinstance(value, (Mapping, list)) and bool(value)
        if rows and (not node.flow or not node.parts):
            yield from _replaced_rows(text, node, value, at)
        if not node.flow and node.parts and not rows:
            yield from _behind_key(text, node, _flow(value), at)
        gap = "" if node.start != node.end or text[node.start - 1 : node.start].isspace() else " "
        yield text[: node.start] + gap + _flow(value) + text[node.end :]

    def dropped(self, text: str, node: Node, number: int) -> Iterator[str]:
        if node.flow:
            yield from _FLOW.dropped(text, node, number)
            return
        part = node.parts[number]
        begin = text.rfind("\n", 0, part.start) + 1
        end = _line_end(text, part.node.end)
        if end == len(text) and not text.endswith("\n"):  # the text ends as it did
            yield text[:begin].removesuffix("\n").removesuffix("\r")
        yield text[:begin] + text[end:]
        if number + 1 < len(node.parts):  # the first row of an item stands behind its dash
            yield text[: part.start] + text[node.parts[number + 1].start :]


def _node(node: Any, text: str) -> Node:
    import yaml

    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.MappingNode):
        pairs = [(_node(key, text), _node(value, text)) for key, value in node.value]
        parts = tuple(Part(key.start, value, _key(key)) for key, value in pairs)
        last = max([key.end for key, _ in pairs[-1:]] + [value.end for _, value in pairs[-1:]], default=end)
        tree = {part.key: part.node.value for part in parts}
        return Node(start, end if node.flow_style else last, tree, parts, bool(node.flow_style))
    if isinstance(node, yaml.SequenceNode):
        items = [_node(item, text) for item in node.value]
        flow = bool(node.flow_style)
        starts = [item.start for item in items] if flow else _dashes(text, start, items)
        parts = tuple(Part(at, item) for at, item in zip(starts, items, strict=True))
        last = end if flow else max((item.end for item in items[-1:]), default=end)
        return Node(start, last, [item.value for item in items], parts, flow)
    if node.style in {"|", ">"}:
        # Its end is where the next token begins: blank lines behind it are its own only where it keeps them.
        end = start + len(text[start:end].rstrip("\r\n"))
    return Node(start, end, node.value if node.tag == _STR else Scalar(node.value, node.tag), (), flow=True)


def _key(key: Node) -> str:
    return key.value if isinstance(key.value, str) else str(getattr(key.value, "text", key.value))


def _dashes(text: str, start: int, items: list[Node]) -> list[int]:
    """Where the dash of each item stands: the first sign behind the item before, and its remarks."""
    found = [start]
    for item in items[:-1]:
        behind = _BLANK.match(text, item.end)
        found.append(behind.end() if behind else item.end)
    return found


def _line_end(text: str, at: int) -> int:
    """Where the next line begins."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _added_row(text: str, node: Node, key: str | None, value: object) -> Iterator[str]:
    ends = line_ends(text)
    first, last = node.parts[0], node.parts[-1]
    indent = _column(text, first.start)
    row = _row(key, value, indent, ends)
    at = _line_end(text, last.node.end)
    yield _joined(text[:at], row, ends, behind=text[at:])
    begin = text.rfind("\n", 0, first.start) + 1
    yield text[:begin] + row + text[begin:]


def _column(text: str, at: int) -> str:
    """As much white space as stands, with other signs, before a place in its line."""
    line = text[text.rfind("\n", 0, at) + 1 : at].removeprefix("\ufeff")
    return " " * len(line)


def _joined(head: str, row: str, ends: str, *, behind: str = "") -> str:
    """A row in a line of its own; where it comes last, the text ends as it did."""
    if head and not head.endswith("\n") and head != "\ufeff":
        return head + ends + row.removesuffix(ends) + behind
    return head + row + behind


def _replaced_rows(text: str, node: Node, value: object, at: int) -> Iterator[str]:
    """Rows in the place of rows, or of nothing; what stands behind the key in its line stays."""
    ends = line_ends(text)
    key_indent = _column(text, at)
    inner = key_indent if isinstance(value, list) and not text.startswith("-", at) else key_indent + "  "
    rows = "".join(_rows(value, inner, ends))
    if node.parts and not node.flow:
        begin = text.rfind("\n", 0, node.parts[0].start) + 1
        end = _line_end(text, node.end)
        yield text[:begin] + rows + text[end:]
        return
    head, behind = text[: node.start].rstrip(" \t"), text[node.end :]
    end = _line_end(behind, 0)
    rest = behind[:end].removesuffix("\n").removesuffix("\r")
    whole = behind[:end].endswith("\n")
    yield head + (rest if rest.strip() else "") + ends + (rows if whole else rows.removesuffix(ends)) + behind[end:]


def _behind_key(text: str, node: Node, value: str, at: int) -> Iterator[str]:
    """A value in the line of its key takes the place of rows below it; a remark in that line stays."""
    line, begin = _line_end(text, at), text.rfind("\n", 0, node.parts[0].start) + 1
    if line > begin:  # the first row stands in the line of its dash
        return
    header = text[at:line].rstrip("\r\n")
    remark = _REMARK_BEHIND.search(header)
    key = header[: remark.start()] if remark else header.rstrip()
    between = text[at + len(header) : begin].removesuffix("\n").removesuffix("\r")
    yield text[:at] + key + (" " + value if value else "") + header[len(key) :] + between + text[node.end :]


def _row(key: str | None, value: object, indent: str, ends: str) -> str:
    return "".join(_rows([value] if key is None else {key: value}, indent, ends))


def _rows(value: object, indent: str, ends: str) -> Iterator[str]:
    """A mapping or a list, a line each."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _in_line(inner):
                yield f"{indent}{_string(key)}: {_flow(inner)}{ends}"
            else:
                yield f"{indent}{_string(key)}:{ends}"
                yield from _rows(inner, indent + "  ", ends)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if _in_line(inner):
                yield f"{indent}- {_flow(inner)}{ends}"
            else:
                first, *others = _rows(inner, indent + "  ", ends)
                yield f"{indent}- {first[len(indent) + 2 :]}"
                yield from others


def _in_line(value: object) -> bool:
    """Whether a value stands behind its key: a scalar, or a list of such."""
    if isinstance(value, (list, tuple)):
        return all(not isinstance(inner, (Mapping, list, tuple)) for inner in value)
    return not isinstance(value, Mapping) or not value


def _flow(value: object) -> str:
    if isinstance(value, Scalar):
        return value.text or "null"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_string(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    return written(None, value, indent=None, unit="", ends="")


def _string(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else quoted(text)
