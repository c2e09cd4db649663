"""Hermes Agent: a provider of ours in its config.yaml (hermes-agent, hermes_cli/config.py)."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import PROVIDER, TITLE, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.slots import Slot
from launcher.wiring.yaml_rows import YAML

NAME = "hermes"
AGENT = "hermes"
GENERATIONS = ("hermes",)
PROGRAMS = ("hermes",)
IN_CONTAINERS = False

_TEXT = YAML()
_PROVIDER: Slot = ("providers", PROVIDER)
_DEFAULT: Slot = ("model",)
# hermes-agent 0.19, agent/model_metadata.py: MINIMUM_CONTEXT_LENGTH.
_LEAST = 64_000


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The user's configuration."""
    return (place.folder("HERMES_HOME", place.home / ".hermes") / "config.yaml",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models, whose keys would land in another file, and windows that Hermes does not start with."""
    if llm.local and llm.window < _LEAST:
        more = f"`launcher up {llm.name} --context 72k` has enough"
        return f"Hermes would not start with it: {llm.name} has {llm.window:,} tokens of {_LEAST:,} ({more})"
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The provider among the others; raises LauncherError for a file that cannot be understood, or not be edited alone."""
    values: dict[Slot, object] = {_PROVIDER: _provider(llm)}
    if place.default:
        values[_DEFAULT] = {"provider": PROVIDER, "default": llm.served, "base_url": llm.base_url}
    return {path: slots.put(_TEXT, path, text, values) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "hermes" if place.default else f"hermes chat --provider {PROVIDER} --model {shlex.quote(llm.served)}"


def _provider(llm: LLMConfig) -> dict[str, object]:
    """Hermes asks for as many tokens of answer as the window has: more than that is refused by the server."""
    return {
        "name": TITLE,
        "base_url": llm.base_url,
        "api_key": llm.api_key,
        "default_model": llm.served,
        "models": {llm.served: {"context_length": llm.window}},
        "context_length": llm.window,
        "request_timeout_seconds": llm.timeout,
    }


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - they are the same in every file
    yield from (_PROVIDER, _DEFAULT)
