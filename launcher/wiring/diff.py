"""Shows what wiring would write: a unified diff without a secret in it."""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from launcher.wiring.base import Edit
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Language
from launcher.wiring.yaml_rows import YAML

# Not what names a key (simonw/llm: api_key_name), nor a field for a count (pi: maxTokensField).
_TELLTALE = r"(?:api[ _-]?key(?!_name)|_KEY\b|token(?!iz|sField)|secret|password|passwd|credential|authorization|aws_)"
# Files in which every text is a key: simonw/llm's.
_KEY_FILES = {"keys.json"}
_SECRET_KEY = re.compile(_TELLTALE, re.IGNORECASE)
_SECRET_LINE = re.compile(rf"(.*?{_TELLTALE}[^=:]*[=:]\s*)(.+)", re.IGNORECASE)
_PLAIN_VALUE = re.compile(r"(?:[-+\d._]+|true|false|null),?", re.IGNORECASE)  # max_input_tokens = 29491
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
_MASK = "****"
_SHORTEST_PART = 4  # masking shorter ones wherever they occur would mask half of the text


def diff(edits: Iterable[Edit]) -> str:
    """What the edits change, as a unified diff in which every secret, the user's own ones too, is masked."""
    return "".join(_diff(edit) for edit in edits if edit.changes)


def _diff(edit: Edit) -> str:
    now, after = _lines(edit.now), _lines(edit.after)
    name = str(edit.path)
    before, behind = (name if text is not None else "/dev/null" for text in (edit.now, edit.after))
    whole = edit.path.name in _KEY_FILES
    secrets = {part for text in (edit.now, edit.after) for part in _secret_parts(_parsed(text or ""), secret=whole)}
    lines = difflib.unified_diff(now, after, before, behind, lineterm="")
    return "".join(_masked(line, secrets) + "\n" for line in lines)


def _lines(text: str | None) -> list[str]:
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []


def _parsed(text: str) -> Any:
    for parse in (json.loads, tomllib.loads, _span_parsed(JSON(json5=True)), _span_parsed(YAML())):
        with suppress(ValueError, RecursionError):
            return parse(text)
    return None


def _span_parsed(language: Language) -> Callable[[str], Any]:
    return lambda text: language.read(text).value


def _secret_parts(node: Any, *, secret: bool = False) -> Iterator[str]:
    """The lines of every secret: it can be a string in triple quotes, or stand in an array of several lines."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _secret_parts(value, secret=secret or bool(_SECRET_KEY.search(key)))
    elif isinstance(node, list):
        for value in node:
            yield from _secret_parts(value, secret=secret)
    elif secret and isinstance(node, str):
        yield from (part for line in node.splitlines() if len(part := line.strip()) >= _SHORTEST_PART)


def _masked(line: str, secrets: AbstractSet[str]) -> str:
    if (match := _SECRET_LINE.fullmatch(line)) and not _PLAIN_VALUE.fullmatch(match[2].strip()):
        line = f'{match[1]}"{_MASK}"' + "," * line.endswith(",")
    for part in sorted(secrets, key=len, reverse=True):
        line = line.replace(part, _MASK)
    return _URL_PASSWORD.sub(rf"\1{_MASK}@", line)
