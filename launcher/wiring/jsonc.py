"""JSON as agents' people write it: with comments, with commas at the end, or as JSON5 has it (spec.json5.org)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher.wiring.spans import Flow, Node, Part, Scalar, written

_BLANK = re.compile(r"(?:[\s\ufeff]|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_REMARK = re.compile(r"[ \t]*(?://[^\n\r]*|/\*[^\n]*?\*/[ \t]*)?")
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_ANY_STRING = re.compile(r'"(?:[^"\\\n]|\\(?:\r\n|.))*"|' + r"'(?:[^'\\\n]|\\(?:\r\n|.))*'", re.DOTALL)
_WORD = re.compile(r"[^\s,:\[\]{}\"'/\\]+")
_JSON_WORD = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_JSON5_WORD = re.compile(
    r"true|false|null|[-+]?(?:Infinity|NaN|0[xX][0-9a-fA-F]+|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
)
_NAME = re.compile(r"[^\W\d][\w$]*|[$_][\w$]*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|.))", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_FLOW = Flow(_BLANK, _REMARK)


@dataclass(frozen=True, slots=True)
class JSON:
    """A dialect: `comments` allows these and a comma at the end; `json5` allows all that JSON5 does."""

    comments: bool = True
    json5: bool = False

    def read(self, text: str) -> Node:
        reader = _Reader(text, self)
        return reader.whole()

    def says(self, value: object) -> Any:
        return self.read(written(None, {"": value}, indent=None, unit="", ends="\n")).value[""]

    def added(self, text: str, node: Node, key: str | None, value: object) -> Iterator[str]:
        if not text[node.start : node.end].strip():
            yield text[: node.end] + _FLOW.added("{}", Node(0, 2, {}), key, value) + text[node.end :]
            return
        yield _FLOW.added(text, node, key, value)

    def replaced(self, text: str, node: Node, value: object, *, at: int) -> Iterator[str]:  # noqa: ARG002 - YAML's rows need it
        yield _FLOW.replaced(text, node, value)

    def dropped(self, text: str, node: Node, number: int) -> Iterator[str]:
        yield from _FLOW.dropped(text, node, number)


class _Reader:
    """One pass over a text; the place that it has come to is all that it keeps."""

    def __init__(self, text: str, dialect: JSON) -> None:
        self.text, self.dialect, self.at = text, dialect, 0

    def whole(self) -> Node:
        self._skip()
        if self.at == len(self.text):
            return Node(self.at, self.at, {})
        if self.text[self.at] != "{":
            raise self._fault("it holds no JSON object")
        node = self._value()
        self._skip()
        if self.at != len(self.text):
            raise self._fault("something follows the object")
        return node

    def _skip(self) -> None:
        if self.at == 0 and self.text.startswith("\ufeff"):
            self.at = 1
        found = (_BLANK if self.dialect.comments else _SPACE).match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _value(self) -> Node:
        opened = self.text[self.at : self.at + 1]
        if opened in {"{", "["}:
            return self._bracketed(pairs=opened == "{")
        start = self.at
        value: str | Scalar | None = self._string()
        if value is None:
            value = self._word()
        return Node(start, self.at, value)

    def _bracketed(self, *, pairs: bool) -> Node:
        start, parts = self.at, list[Part]()
        closing = "}" if pairs else "]"
        self.at += 1
        while True:
            self._skip()
            if self._takes(closing):
                if parts and not self.dialect.comments:
                    raise self._fault("a comma stands before the end")
                break
            parts.append(self._part(pairs=pairs))
            self._skip()
            if self._takes(","):
                continue
            if self._takes(closing):
                break
            raise self._fault(f"a comma or {closing} is missing")
        value: Any = {part.key: part.node.value for part in parts} if pairs else [part.node.value for part in parts]
        return Node(start, self.at, value, tuple(parts))

    def _part(self, *, pairs: bool) -> Part:
        start = self.at
        if not pairs:
            return Part(start, self._value())
        key = self._string()
        if key is None:
            key = self._name()
        self._skip()
        if not self._takes(":"):
            raise self._fault("a colon is missing")
        self._skip()
        return Part(start, self._value(), key)

    def _takes(self, sign: str) -> bool:
        there = self.text.startswith(sign, self.at)
        self.at += there
        return there

    def _string(self) -> str | None:
        found = (_ANY_STRING if self.dialect.json5 else _STRING).match(self.text, self.at)
        if found is None:
            return None
        try:
            string = _decoded(found.group()) if self.dialect.json5 else str(json.loads(found.group()))
        except ValueError:
            raise self._fault("a string has an escape that does not exist") from None
        self.at = found.end()
        return string

    def _word(self) -> Scalar:
        found = _WORD.match(self.text, self.at)
        known = _JSON5_WORD if self.dialect.json5 else _JSON_WORD
        if found is None or not known.fullmatch(found.group()):
            raise self._fault("this is no value")
        self.at = found.end()
        return Scalar(found.group())

    def _name(self) -> str:
        found = _NAME.match(self.text, self.at) if self.dialect.json5 else None
        if found is None:
            raise self._fault("this is no key")
        self.at = found.end()
        return found.group()

    def _fault(self, what: str) -> ValueError:
        line = self.text.count("\n", 0, self.at) + 1
        return ValueError(f"{what} (line {line}, column {self.at - self.text.rfind(chr(10), 0, self.at)})")


def _decoded(string: str) -> str:
    def one(found: re.Match[str]) -> str:
        if number := found[1] or found[2]:
            return chr(int(number, 16))
        return "" if found[3] in {"\n", "\r\n", "\r"} else _ESCAPES.get(found[3], found[3])

    return _ESCAPE.sub(one, string[1:-1])
