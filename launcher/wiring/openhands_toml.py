"""OpenHands up to 0.62: one section of a config.toml. Works on spans of text, so that all else stays byte for byte."""

import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import LauncherError
from launcher.llm import LLMConfig, from_a_container
from launcher.wiring.base import Files, Place
from launcher.wiring.spans import line_ends
from launcher.wiring.toml_lines import LINE, Key, gap, headers, joined, read_or_none, span, statements

NAME = "openhands-toml"
AGENT = "openhands"
GENERATIONS = ("v0",)
PROGRAMS: tuple[str, ...] = ()
IN_CONTAINERS = True

_NOTE = "# by launcher; to undo: launcher unwire"
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
    ours = _section(key, settings, ends=line_ends(text))
    found = span(text, key)
    head, tail = (text[: found[0]], text[found[1] :]) if found else (text + gap(text), "")
    new = head + ours + tail
    wanted = _with(old, key, _inside(ours, key))
    if wanted is None or read_or_none(new) != wanted:
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
    found = span(now, key)
    if not key or found is None:
        return now
    ours, there = _cut(after, key), now[slice(*found)]
    old = _cut(before, key)
    if line_ends(there) != line_ends(ours):  # somebody's editor converted the file
        old = _unix(old).replace("\n", line_ends(there))
    if there == old:
        return now
    new = old if _unix(there).strip() == _unix(ours).strip() else _merged(there, ours, old)
    head = now[: found[0]]
    if not new and not old:
        head = head.removesuffix(_gap_made(before, after))
    result = joined(head, new, now[found[1] :])
    return now if read_or_none(result) is None else result


def _changed(before: str, after: str) -> Key:
    """The section that is ours: the one that differs by more than the end of its last line."""
    for _, key in headers(after):
        if key[:1] == ("llm",) and _cut(before, key).rstrip("\r\n") != _cut(after, key).rstrip("\r\n"):
            return key
    return ()


def _cut(text: str, key: Key) -> str:
    found = span(text, key)
    return text[slice(*found)] if found else ""


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _gap_made(before: str, after: str) -> str:
    made = gap(before)
    return made if after.startswith(before + made) else ""


def _merged(there: str, ours: str, old: str) -> str:
    """Our section as somebody edited it, each key that still has our value replaced by its old line or left out."""
    header, *_ = LINE.findall(there)
    mine = {statement.key: read_or_none(statement.text) for statement in statements(ours)}
    present = statements(there)
    kept = {statement.key for statement in present if mine.get(statement.key) == read_or_none(statement.text)}
    if not kept:
        return there
    back = {statement.key: statement.remarks + statement.text for statement in statements(old)}
    parts = [s.remarks + (back.get(s.key, "") if s.key in kept else s.text) for s in present]
    theirs = {statement.key for statement in present} | mine.keys()
    parts += [text for key, text in back.items() if key not in theirs]
    if not old and all(statement.key in kept for statement in present):
        return "".join(parts)
    if old and header.strip() == LINE.findall(ours)[0].strip():
        header = LINE.findall(old)[0]
    return joined(header, *parts)
