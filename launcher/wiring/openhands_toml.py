"""OpenHands up to 0.62: one section of a config.toml. Works on spans of text, so that all else stays byte for byte."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from launcher.errors import LauncherError
from launcher.llm import LLMConfig, from_a_container
from launcher.wiring.base import Files, Place

NAME = "openhands-toml"
AGENT = "openhands"
GENERATIONS = ("v0",)
PROGRAMS: tuple[str, ...] = ()

_NOTE = "# by launcher; to undo: launcher unwire"
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_MAYBE_HEADER = re.compile(r"^[ \t]*\[.*", re.MULTILINE)

Key = tuple[str, ...]
Settings = Mapping[str, str | int | float]


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The config.toml that was chosen."""
    return (place.config_file,)


def refuses(llm: LLMConfig) -> str | None:  # noqa: ARG001 - these releases load a model of any window
    """Never."""
    return None


def leaves(files: Files, place: Place) -> str | None:  # noqa: ARG001 - a file of our own is made where there is none
    """Never."""
    return None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """`[llm]` as a whole becomes ours, or `[llm.NAME]` is added; raises LauncherError for what cannot be edited so."""
    path = place.config_file
    key = ("llm", llm.name) if place.register_only else ("llm",)
    told = from_a_container(llm) if place.docker else llm
    return {path: _replaced(path, files.get(path) or "", key, _settings(told))}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """The old section comes back; keys that others changed in ours stay; raises LauncherError for what is no TOML now."""
    return {path: _without_ours(path, text, before[path], after[path]) for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:
    """The headless start of these releases."""
    named = f" -l {shlex.quote(llm.name)}" if place.register_only else ""
    return f'python -m openhands.core.main --config-file {shlex.quote(str(place.config_file))}{named} -t "YOUR TASK"'


# The fields of ours that these releases know (OpenHands 0.62, llm_config.py). One that they do not know voids the whole
# section, since their LLMConfig forbids extras; and a table is a named section to them.
_KNOWN = (
    "model",
    "base_url",
    "api_key",
    "api_version",
    "custom_llm_provider",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_region_name",
    "openrouter_site_url",
    "openrouter_app_name",
    "max_input_tokens",
    "max_output_tokens",
    "native_tool_calling",
    "timeout",
    "num_retries",
    "retry_min_wait",
    "retry_max_wait",
    "retry_multiplier",
    "temperature",
    "top_p",
    "input_cost_per_token",
    "output_cost_per_token",
    "disable_vision",
    "caching_prompt",
    "drop_params",
    "modify_params",
    "reasoning_effort",
    "custom_tokenizer",
)


def _settings(llm: LLMConfig) -> Settings:
    return {key: value for key in _KNOWN if (value := getattr(llm, key)) not in (None, "")}


# -- putting our section in --


def _replaced(path: Path, text: str, key: Key, settings: Settings) -> str:
    old = _parsed(path, text)
    ours = _section(key, settings, ends=_line_ends(text))
    span = _span(text, key)
    head, tail = (text[: span[0]], text[span[1] :]) if span else (text + _gap(text), "")
    new = head + ours + tail
    wanted = _with(old, key, _inside(ours, key))
    if wanted is None or _read(new) != wanted:
        name = ".".join(key)
        hint = f"write {name} as one plain [{name}] section of key = value lines, with what is nested in it as [{name}.OTHER]"
        raise LauncherError(f"{path} holds {name} in a form that cannot be replaced alone; it was left as it is", hint=hint)
    return new


def _parsed(path: Path, text: str) -> dict[str, Any]:
    """The document; floats are kept as text, since a nan is not equal to itself."""
    try:
        return tomllib.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        reason = "it begins with a byte order mark" if text.startswith("\ufeff") else str(error)
        hint = "mend it, or choose another file with --config-file"
        raise LauncherError(f"{path} is not valid TOML and was left alone: {reason}", hint=hint) from None


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


def _with(document: Mapping[str, Any], key: Key, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document with these settings at `key`, of whose old content only the sections below it stay."""
    if not key:
        return {**{name: value for name, value in document.items() if isinstance(value, dict)}, **settings}
    first, *rest = key
    inner = document.get(first, {})
    if not isinstance(inner, dict):
        return None
    return {**document, first: _with(inner, tuple(rest), settings)}


def _inside(section: str, key: Key) -> Mapping[str, Any]:
    """What a section says, with floats as text like in every document here."""
    inner: Any = tomllib.loads(section, parse_float=str)
    for name in key:
        inner = inner[name]
    return dict(inner)


def _section(key: Key, settings: Settings, *, ends: str) -> str:
    import tomlkit

    lines = [f"[{tomlkit.key(list(key)).as_string()}]  {_NOTE}"]
    lines += [f"{name} = {tomlkit.item(value).as_string()}" for name, value in settings.items()]
    return "".join(line + ends for line in lines)


def _line_ends(text: str) -> str:
    windows = text.count("\r\n")
    return "\r\n" if windows > text.count("\n") - windows else "\n"


def _gap(text: str) -> str:
    """What stands between a text and a section appended to it: the end of its last line, and an empty line."""
    ends = _line_ends(text)
    if not text.strip():
        return "" if not text or text.endswith("\n") else ends
    return ends if text.endswith("\n") else ends * 2


# -- finding sections --


def _span(text: str, key: Key) -> tuple[int, int] | None:
    """Where the section of this name begins and ends; comments and empty lines after its last key are not part of it."""
    for (start, name), (end, _) in pairwise([*_headers(text), (len(text), ())]):
        if name == key:
            return start, _end_of_keys(text, start, end)
    return None


def _headers(text: str) -> Iterator[tuple[int, Key]]:
    """Each line that opens a section, and its name; an array of tables has the name ().

    A line in brackets can also be part of a string or an array over several lines. It is a header exactly if what stands
    before it is whole TOML.
    """
    known = 0
    for match in _MAYBE_HEADER.finditer(text):
        if _read(text[known : match.start()]) is not None:
            known = match.start()
            yield known, _header_key(match.group())


def _header_key(line: str) -> Key:
    names: list[str] = []
    inner: Any = _read(line.strip())
    while inner:
        if not isinstance(inner, dict):
            return ()
        ((name, inner),) = inner.items()
        names.append(name)
    return tuple(names)


def _end_of_keys(text: str, start: int, end: int) -> int:
    for line in reversed(_LINE.findall(text[start:end])):
        # What looks like a comment may be the last line of a string: then the text before it is not whole.
        if not _is_remark(line) or _read(text[start : end - len(line)]) is None:
            break
        end -= len(line)
    return end


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


# -- taking our section out --


def _without_ours(path: Path, now: str | None, before: str | None, after: str | None) -> str | None:
    if now == after:
        return before
    if now is None or after is None:
        return now
    _parsed(path, now)
    left = _taken_out(now, before or "", after)
    return None if before is None and left != now and not left.strip() else left


def _taken_out(now: str, before: str, after: str) -> str:
    key = _changed(before, after)
    span = _span(now, key)
    if not key or span is None:
        return now
    ours, there = _cut(after, key), now[slice(*span)]
    old = _cut(before, key)
    if _line_ends(there) != _line_ends(ours):  # somebody's editor converted the file
        old = _unix(old).replace("\n", _line_ends(there))
    if there == old:
        return now
    new = old if _unix(there).strip() == _unix(ours).strip() else _merged(there, ours, old)
    head = now[: span[0]]
    if not new and not old:
        head = head.removesuffix(_gap_made(before, after))
    result = _joined(head, new, now[span[1] :])
    return now if _read(result) is None else result


def _changed(before: str, after: str) -> Key:
    """The section that is ours: the one that differs by more than the end of its last line."""
    for _, key in _headers(after):
        if key[:1] == ("llm",) and _cut(before, key).rstrip("\r\n") != _cut(after, key).rstrip("\r\n"):
            return key
    return ()


def _cut(text: str, key: Key) -> str:
    span = _span(text, key)
    return text[slice(*span)] if span else ""


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _gap_made(before: str, after: str) -> str:
    gap = _gap(before)
    return gap if after.startswith(before + gap) else ""


def _joined(*parts: str) -> str:
    """The parts in a row, none of them running on from a line without an end."""
    text = ""
    for part in parts:
        if text and not text.endswith("\n") and part and not part.startswith(("\n", "\r\n")):
            text += _line_ends(text + part)
        text += part
    return text


@dataclass(frozen=True, slots=True)
class _Statement:
    """`key = value` over one or more lines, and the remarks above it."""

    key: str
    remarks: str
    text: str


def _merged(there: str, ours: str, old: str) -> str:
    """Our section as somebody edited it, each key that still has our value replaced by its old line or left out."""
    header, *_ = _LINE.findall(there)
    mine = {statement.key: _read(statement.text) for statement in _statements(ours)}
    present = _statements(there)
    kept = {statement.key for statement in present if mine.get(statement.key) == _read(statement.text)}
    if not kept:
        return there
    back = {statement.key: statement.remarks + statement.text for statement in _statements(old)}
    parts = [s.remarks + (back.get(s.key, "") if s.key in kept else s.text) for s in present]
    theirs = {statement.key for statement in present} | mine.keys()
    parts += [text for key, text in back.items() if key not in theirs]
    if not old and all(statement.key in kept for statement in present):
        return "".join(parts)
    if old and header.strip() == _LINE.findall(ours)[0].strip():
        header = _LINE.findall(old)[0]
    return _joined(header, *parts)


def _statements(section: str) -> list[_Statement]:
    found: list[_Statement] = []
    remarks = text = ""
    for line in _LINE.findall(section)[1:]:
        if not text and _is_remark(line):
            remarks += line
            continue
        text += line
        if document := _read(text):
            found.append(_Statement(next(iter(document)), remarks, text))
            remarks = text = ""
    return found
