"""opencode: a provider of ours in its configuration (opencode.ai/docs/config)."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.forms import PROVIDER, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Slot

NAME = "opencode"
AGENT = "opencode"
GENERATIONS = ("opencode",)
PROGRAMS = ("opencode",)
IN_CONTAINERS = False

_TEXT = JSON()
_PROVIDER: Slot = ("provider", PROVIDER)
_DEFAULTS: tuple[Slot, ...] = (("model",), ("small_model",))
_SCHEMA = ("$schema",)


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """Both files that it reads, the one that comes last first."""
    folder = place.config / "opencode"
    return (folder / "opencode.jsonc", folder / "opencode.json")


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The provider, in the last of the files that are there; raises LauncherError for what cannot be edited."""
    last, other = files
    chosen = last if files[last] is not None else other
    return {**files, chosen: slots.put(_TEXT, chosen, files[chosen], _values(files[chosen], place, llm))}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours, scaffold=_SCHEMA)


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "opencode" if place.default else f"opencode -m {shlex.quote(f'{PROVIDER}/{llm.served}')}"


def _values(text: str | None, place: Place, llm: LLMConfig) -> dict[Slot, object]:
    values: dict[Slot, object] = {}
    if text is None:
        values[_SCHEMA] = "https://opencode.ai/config.json"
    values[_PROVIDER] = forms.opencode(llm, llm.api_key)
    if place.default:
        values |= dict.fromkeys(_DEFAULTS, f"{PROVIDER}/{llm.served}")
    return values


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - they are the same in every file
    yield from (_PROVIDER, *_DEFAULTS)
