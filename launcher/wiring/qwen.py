"""Qwen Code: a model of its provider for OpenAI-compatible addresses, and a variable with the key (its settings.json)."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.errors import LauncherError
from launcher.forms import KEY, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Item, Slot

NAME = "qwen"
AGENT = "qwen"
GENERATIONS = ("qwen",)
PROGRAMS = ("qwen",)
IN_CONTAINERS = False

_TEXT = JSON()
_MODELS: Slot = ("modelProviders", "openai")
_KEY: Slot = ("env", KEY)
_AUTH: Slot = ("security", "auth", "selectedType")
_DEFAULT: Slot = ("model", "name")


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The user's settings."""
    return (place.home / ".qwen" / "settings.json",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The model among the others; raises LauncherError for a file that cannot be edited, or has another one of that name."""
    for path, text in files.items():
        _refuse_namesake(path, text, llm)
    return {path: slots.put(_TEXT, path, text, _values(text, place, llm)) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "qwen" if place.default else f"qwen --auth-type openai -m {shlex.quote(llm.served)}"


def _refuse_namesake(path: Path, text: str | None, llm: LLMConfig) -> None:
    """Qwen Code takes the first model of a name (0.24.4, ModelRegistry), and the user's comes before ours."""
    models = slots.at(slots.read(_TEXT, path, text or "").value, _MODELS)
    for each in models if isinstance(models, list) else ():
        if slots.at(each, ("id",)) == llm.served and slots.at(each, ("envKey",)) != KEY:
            hint = "rename that one, or take it out; `launcher run qwen` needs neither"
            raise LauncherError(f"{path} has another model called {llm.served}, which Qwen Code would take", hint=hint)


def _values(text: str | None, place: Place, llm: LLMConfig) -> dict[Slot, object]:  # noqa: ARG001 - the same in every file
    item = Item((("id", llm.served), ("envKey", KEY), ("baseUrl", llm.base_url)))
    values: dict[Slot, object] = {_KEY: llm.api_key, (*_MODELS, item): forms.qwen(llm)}
    if place.default:
        values |= {_AUTH: "openai", _DEFAULT: llm.served}
    return values


def _ours(old: Any, mine: Any) -> Iterator[Slot]:
    yield from slots.new_items(old, mine, _MODELS, ("id", "envKey", "baseUrl"))
    yield from (_KEY, _AUTH, _DEFAULT)
