"""Zed: a provider of ours in its settings, which take no key (zed.dev/docs/ai/use-api-access, OpenAI-compatible endpoints)."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import PROVIDER, TITLE, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Slot

NAME = "zed"
AGENT = "zed"
GENERATIONS = ("zed",)
PROGRAMS = ("zed", "zeditor")
IN_CONTAINERS = False

_TEXT = JSON()
_PROVIDER: Slot = ("language_models", "openai_compatible", PROVIDER)
_DEFAULT: Slot = ("agent", "default_model")


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The user's settings."""
    return (place.config / "zed" / "settings.json",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: this would be another one's address."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the editor."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The provider among the others; raises LauncherError for a file that cannot be understood, or not be edited alone."""
    values: dict[Slot, object] = {_PROVIDER: _provider(llm)}
    if place.default:
        values[_DEFAULT] = {"provider": PROVIDER, "model": llm.served}
    return {path: slots.put(_TEXT, path, text, values) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - the key is asked for in every place
    """The command with its variable of the key, which Zed asks for once where it is not set."""
    return f'eval "$(launcher llm env {shlex.quote(llm.name)} --for zed)" && zed'


def _provider(llm: LLMConfig) -> dict[str, object]:
    capabilities = {
        "tools": bool(llm.native_tool_calling),
        "images": not llm.disable_vision,
        "parallel_tool_calls": False,
        "prompt_cache_key": False,
        "chat_completions": True,
    }
    model = {
        "name": llm.served,
        "display_name": f"{llm.served} ({TITLE})",
        "max_tokens": llm.window,
        "max_output_tokens": llm.max_output_tokens,
        "capabilities": capabilities,
    }
    return {"api_url": llm.base_url, "available_models": [model]}


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - they are the same in every file
    yield from (_PROVIDER, _DEFAULT)
