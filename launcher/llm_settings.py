"""What a person says of an LLM configuration: a strict TOML text, single fields, and the configuration they make."""

import ast
import json
import math
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Union, get_args, get_origin, get_type_hints

from launcher.errors import LauncherError
from launcher.llm import SECRETS, LLMConfig

Value = str | int | float | bool | Mapping[str, Any]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_LARGEST = 10**9
# The bounds of each number; without an entry: not negative.
_BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "num_retries": (0, 100),
        "timeout": (1, 86_400),
        "max_input_tokens": (1, _LARGEST),
        "max_output_tokens": (1, _LARGEST),
    }
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said: the provider and the fields; all else stays as the model's kind has it. No secret is in it."""

    provider: str
    fields: Mapping[str, Value]


def kind_of(annotation: Any) -> type:
    """The type of a field without its None."""
    if get_origin(annotation) in {Union, types.UnionType}:
        (inner,) = (each for each in get_args(annotation) if each is not type(None))
        return kind_of(inner)
    kind: type = get_origin(annotation) or annotation
    return kind


# Every field that can be said, with its type; `name` is the file's, `provider` stands apart.
KINDS: Mapping[str, type] = MappingProxyType(
    {
        each.name: kind_of(get_type_hints(LLMConfig)[each.name])
        for each in fields(LLMConfig)
        if each.name not in {"name", "provider"}
    }
)


_FIELDS = f"the fields are {', '.join(each for each in KINDS if each not in SECRETS)}"


def refuses_name(name: str) -> str | None:
    """Why a configuration cannot be called so, or None: it becomes a file's name, here and in OpenHands' profile store."""
    if _NAME.fullmatch(name):
        return None
    return f"{name!r} is no name: letters, digits and ._- only, 64 at most, a letter or digit first"


def read(text: str, where: str) -> Settings:
    """The settings in a TOML text; raises LauncherError that tells all faults at once."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LauncherError(f"{where} is not valid TOML: {error}", hint="mend the file") from None
    provider = table.pop("provider", None)
    faults = [] if isinstance(provider, str) else ['provider is missing: provider = "openai"']
    faults += [fault for key, value in table.items() if (fault := fault_of(key, value))]
    if faults:
        raise LauncherError(f"{where}: {'; '.join(faults)}", hint=_FIELDS)
    return Settings(str(provider), MappingProxyType(table))


def write(settings: Settings) -> str:
    """The TOML text that `read` takes."""
    import tomlkit

    lines = [f"provider = {tomlkit.item(settings.provider).as_string()}"]
    for key, value in settings.fields.items():
        if isinstance(value, Mapping):
            table = tomlkit.inline_table()
            table.update(value)
            lines.append(f"{key} = {table.as_string()}")
        else:
            lines.append(f"{key} = {tomlkit.item(value).as_string()}")
    return "\n".join(lines) + "\n"


def fault_of(key: str, value: object) -> str | None:
    """What is wrong with one field, or None."""
    if key in SECRETS:
        return f"{key} is a secret and has a file of its own: `launcher llm edit NAME --new-key` asks for it"
    if key not in KINDS:
        close = get_close_matches(key, KINDS, n=1)
        return f"unknown field {key!r}" + (f" (closest: {close[0]})" if close else "")
    kind = KINDS[key]
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        return f"{key} = {value!r} is no {_WORDS[kind]}"
    if isinstance(value, (int, float)) and kind is not bool:
        return _number_fault(key, value)
    return _text_fault(key, value) if isinstance(value, str) else None


def cast(key: str, text: str) -> Value:
    """A field from typed words; raises LauncherError for what is none of its kind."""
    value = _cast(KINDS.get(key, str), text)
    if fault := fault_of(key, value):
        raise LauncherError(fault, hint="" if key in KINDS and key not in SECRETS else _FIELDS)
    return value


def configured(name: str, settings: Settings, secrets: Mapping[str, str], base: LLMConfig | None = None) -> LLMConfig:
    """The configuration: what was said, over `base` where it is a local model; raises LauncherError without a model."""
    said = {**settings.fields, **secrets}
    if base is not None:
        return replace(base, **said)  # type: ignore[arg-type]  # `fault_of` has looked at each
    if not said.get("model"):
        raise LauncherError(f"{name} names no model", hint=f"launcher llm edit {name} --set model=PROVIDER/MODEL")
    return LLMConfig(name=name, provider=settings.provider, **said)  # type: ignore[arg-type]  # the same


_WORDS: Mapping[type, str] = MappingProxyType(
    {str: "text", int: "whole number", float: "number", bool: "true or false", Mapping: "table"}
)


def _cast(kind: type, text: str) -> Value:
    if kind is bool and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if kind in {int, float} and (number := _number(kind, text)) is not None:
        return number
    if kind not in {str, int, float, bool}:
        return _table(text)
    return text


def _number(kind: type, text: str) -> float | int | None:
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        return None


def _table(text: str) -> Value:
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return text


def _number_fault(key: str, value: float) -> str | None:
    low, high = _BOUNDS.get(key, (0, math.inf))
    if math.isfinite(value) and low <= value <= high:
        return None
    return f"{key} = {value} is not " + (f"from {low} to {high}" if high < math.inf else f"{low} or more")


def _text_fault(key: str, value: str) -> str | None:
    if "\n" in value or "\r" in value:
        return f"{key} has more than one line"
    if key == "base_url" and not re.fullmatch(r"https?://[^\s/]+\S*", value):
        return f"base_url = {value!r} is no address that begins with http:// or https://"
    if key == "base_url" and "@" in value.split("/")[2]:
        return "base_url holds a password: it would be shown wherever the address is"
    if key == "reasoning_effort" and value not in _EFFORTS:
        return f"reasoning_effort = {value!r} is none of {', '.join(_EFFORTS)}"
    if key == "model" and not value.strip():
        return "model is empty"
    return None


def pairs(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """FIELD=VALUE words as fields and texts; raises LauncherError for another form."""
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise LauncherError(f"{word!r} is not FIELD=VALUE", hint="such as temperature=0.2; FIELD= takes it out")
        yield key, text
