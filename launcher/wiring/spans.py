"""A text as a tree of spans, and edits between brackets: what JSON and YAML's flow style have in common."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SIMPLE = re.compile(r"[ \t]*")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value that is no string, as it stands in the text: 1.0, true, null. So nan equals itself, and 1 is not True."""

    text: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a text, from `start` to `end`; `value` is a str, a Scalar, a list or a dict.

    `parts` are its items, or its pairs; in `flow` it stands between brackets. `path` is the name of one of TOML's sections.
    """

    start: int
    end: int
    value: Any
    parts: tuple["Part", ...] = ()
    flow: bool = True
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """An item, or a pair with its key; it starts where its key does, or its dash."""

    start: int
    node: Node
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """How a language writes what stands between brackets: `blank` is white space with comments, `remark` what ends a line."""

    blank: re.Pattern[str]
    remark: re.Pattern[str]

    def added(self, text: str, node: Node, key: str | None, value: object) -> str:
        """The text with another part at the end of a node."""
        ends, unit = line_ends(text), unit_of(text)
        if not node.parts:
            return self._first(text, node, key, value)
        first, last = node.parts[0], node.parts[-1]
        rows = "\n" in text[node.start : first.start]
        indent = indent_at(text, first.start)
        part = written(key, value, indent=indent if rows else None, unit=unit, ends=ends)
        after = self.blank.match(text, last.node.end)
        trailing = after is not None and text.startswith(",", after.end())
        at = after.end() + 1 if after and trailing else last.node.end
        behind = at
        if rows and (remark := self.remark.match(text, at)) and text.startswith(("\n", "\r\n"), remark.end()):
            behind = remark.end()
        comma = "" if trailing else ","
        gap = ends + indent if rows else " "
        return text[: last.node.end] + comma + text[last.node.end : behind] + gap + part + comma_if(trailing) + text[behind:]

    def _first(self, text: str, node: Node, key: str | None, value: object) -> str:
        ends, unit = line_ends(text), unit_of(text)
        inside = text[node.start + 1 : node.end - 1]
        if "\n" not in text.strip() and text.strip() not in {"{}", "[]"} and not inside.strip():
            return text[: node.start + 1] + written(key, value, indent=None, unit=unit, ends=ends) + text[node.end - 1 :]
        closing = indent_at(text, node.start)
        at = node.start + 1 + len(inside.rstrip())
        part = written(key, value, indent=closing + unit, unit=unit, ends=ends)
        tail = text[at:] if "\n" in text[at : node.end - 1] else ends + closing + text[node.end - 1 :]
        return text[:at] + ends + closing + unit + part + tail

    def dropped(self, text: str, node: Node, number: int) -> Iterator[str]:
        """The text without a part of a node; the first try takes the white space before it along."""
        part = node.parts[number]
        after = self.blank.match(text, part.node.end)
        comma = after.end() if after and text.startswith(",", after.end()) else None
        head = text[: part.start].rstrip(" \t").removesuffix("\n").removesuffix("\r")
        for start in (len(head), part.start):
            if comma is not None:
                tail = text[part.node.end : comma] + text[comma + 1 :]
                alone = text[:start].endswith(("{", "[")) and "\n" not in text[start : part.start]
                yield text[:start] + (tail.lstrip(" \t") if alone else tail)
            elif number == 0:
                yield text[:start] + text[part.node.end :]
            else:
                before = node.parts[number - 1].node.end
                gap = self.blank.match(text, before)
                at = gap.end() if gap else before
                yield text[:at] + text[at + 1 : start] + text[part.node.end :]

    def replaced(self, text: str, node: Node, value: object) -> str:
        """The text with another value in the place of a node."""
        rows = "\n" in text.strip()
        new = written(
            None, value, indent=indent_at(text, node.start) if rows else None, unit=unit_of(text), ends=line_ends(text)
        )
        return text[: node.start] + new + text[node.end :]


@dataclass(frozen=True, slots=True)
class Source:
    """A part as it stood in a text, byte for byte: with its key, or its dash."""

    text: str
    value: Any


def comma_if(yes: bool) -> str:  # noqa: FBT001 - it is the question
    """A comma, or nothing."""
    return "," if yes else ""


def written(key: str | None, value: object, *, indent: str | None, unit: str, ends: str) -> str:
    """A part as JSON; `indent` is that of its line, None for all in one line."""
    text = _json(value, indent, unit, ends)
    return text if key is None else f"{quoted(key)}: {text}"


def quoted(text: str) -> str:
    """A string as JSON has it."""
    import json

    return json.dumps(text, ensure_ascii=False)


def _json(value: object, indent: str | None, unit: str, ends: str) -> str:
    if isinstance(value, Scalar):
        return value.text
    if isinstance(value, Mapping):
        parts = [f"{quoted(key)}: {_json(inner, _deeper(indent, unit), unit, ends)}" for key, inner in value.items()]
        return _bracketed("{}", parts, indent, unit, ends)
    if isinstance(value, (list, tuple)):
        flat = all(not isinstance(inner, (Mapping, list, tuple)) for inner in value)
        inside = None if flat else indent
        return _bracketed("[]", [_json(inner, _deeper(inside, unit), unit, ends) for inner in value], inside, unit, ends)
    import json

    return json.dumps(value, ensure_ascii=False)


def _deeper(indent: str | None, unit: str) -> str | None:
    return None if indent is None else indent + unit


def _bracketed(brackets: str, parts: list[str], indent: str | None, unit: str, ends: str) -> str:
    if indent is None or not parts:
        return brackets[0] + ", ".join(parts) + brackets[1]
    inner = ("," + ends + indent + unit).join(parts)
    return f"{brackets[0]}{ends}{indent}{unit}{inner}{ends}{indent}{brackets[1]}"


def line_ends(text: str) -> str:
    """What most lines of a text end with."""
    windows = text.count("\r\n")
    return "\r\n" if windows > text.count("\n") - windows else "\n"


def indent_at(text: str, at: int) -> str:
    """The white space that the line of a place begins with."""
    found = _SIMPLE.match(text, text.rfind("\n", 0, at) + 1)
    return found.group() if found else ""


def unit_of(text: str) -> str:
    """What one step of indentation is: that of the first line that has one, two spaces where none has."""
    found = re.search(r"^([ \t]+)[^\s/#*]", text, re.MULTILINE)
    return found[1] if found else "  "
