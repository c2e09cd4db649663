"""TOML by its lines: where sections begin and end, and what their statements are. All else of a text stays byte for byte."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from launcher.wiring.spans import line_ends

LINE = re.compile(r"[^\n]*\n|[^\n]+")
_MAYBE_HEADER = re.compile(r"^[ \t]*\[.*", re.MULTILINE)

Key = tuple[str, ...]


def read_or_none(text: str) -> dict[str, Any] | None:
    """What a text says, floats as text (a nan is not equal to itself); None for what is no TOML."""
    try:
        return tomllib.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


def span(text: str, key: Key) -> tuple[int, int] | None:
    """Where the section of this name begins and ends; comments and empty lines after its last key are not part of it."""
    for (start, name), (end, _) in pairwise([*headers(text), (len(text), ())]):
        if name == key:
            return start, _end_of_keys(text, start, end)
    return None


def headers(text: str) -> Iterator[tuple[int, Key]]:
    """Each line that opens a section, and its name; an array of tables has the name ().

    A line in brackets can also be part of a string or an array over several lines. It is a header exactly if what stands
    before it is whole TOML.
    """
    known = 0
    for match in _MAYBE_HEADER.finditer(text):
        if read_or_none(text[known : match.start()]) is not None:
            known = match.start()
            yield known, _header_key(match.group())


def _header_key(line: str) -> Key:
    names: list[str] = []
    inner: Any = read_or_none(line.strip())
    while inner:
        if not isinstance(inner, dict):
            return ()
        ((name, inner),) = inner.items()
        names.append(name)
    return tuple(names)


def _end_of_keys(text: str, start: int, end: int) -> int:
    for line in reversed(LINE.findall(text[start:end])):
        # What looks like a comment may be the last line of a string: then the text before it is not whole.
        if not _is_remark(line) or read_or_none(text[start : end - len(line)]) is None:
            break
        end -= len(line)
    return end


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def gap(text: str) -> str:
    """What stands between a text and a section appended to it: the end of its last line, and an empty line."""
    ends = line_ends(text)
    if not text.strip():
        return "" if not text or text.endswith("\n") else ends
    return ends if text.endswith("\n") else ends * 2


def joined(*parts: str) -> str:
    """The parts in a row, none of them running on from a line without an end."""
    text = ""
    for part in parts:
        if text and not text.endswith("\n") and part and not part.startswith(("\n", "\r\n")):
            text += line_ends(text + part)
        text += part
    return text


@dataclass(frozen=True, slots=True)
class Statement:
    """`key = value` over one or more lines, and the remarks above it."""

    key: str
    remarks: str
    text: str


def statements(section: str) -> list[Statement]:
    """The statements below the header of a section."""
    found: list[Statement] = []
    remarks = text = ""
    for line in LINE.findall(section)[1:]:
        if not text and _is_remark(line):
            remarks += line
            continue
        text += line
        if document := read_or_none(text):
            found.append(Statement(next(iter(document)), remarks, text))
            remarks = text = ""
    return found
