"""Claude Code: variables in its settings.json, which come before those of the shell (docs.claude.com, "Settings")."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.forms import elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Slot

NAME = "claude"
AGENT = "claude"
GENERATIONS = ("claude",)
PROGRAMS = ("claude",)
IN_CONTAINERS = False

_TEXT = JSON(comments=False)


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The user's settings."""
    return (place.folder("CLAUDE_CONFIG_DIR", place.home / ".claude") / "settings.json",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent; and one whose default shall stay, since it knows one address for all models."""
    if place.lacks(NAME, PROGRAMS, files):
        return ""
    once = "`launcher run claude` starts it with the model once"
    return None if place.default else f"it knows one address alone, which --default makes ours; {once}"


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:  # noqa: ARG001 - one form in every place
    """The variables among the others; raises LauncherError for a file that cannot be understood, or not be edited alone."""
    values: dict[Slot, object] = {("env", name): value for name, value in forms.claude(llm).items()}
    return {path: slots.put(_TEXT, path, text, values) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - it finds its file by itself
    """The command."""
    return "claude"


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - what did not change is left alone
    env = mine.get("env")
    yield from (("env", name) for name in env if isinstance(env, dict))
