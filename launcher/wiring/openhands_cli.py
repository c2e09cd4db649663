"""OpenHands' command line (`openhands`, since 1.0): the agent that it starts with, and the window of its condenser."""

from pathlib import Path
from typing import Any

from launcher.llm import LLMConfig, too_small
from launcher.openhands_llm import condenser_of, fields_of, is_ours
from launcher.wiring import json_slots
from launcher.wiring.base import Files, Place
from launcher.wiring.json_slots import Document, Slot

NAME = "openhands-cli"
AGENT = "openhands"
GENERATIONS = ("cli",)
PROGRAMS = ("openhands",)
IN_CONTAINERS = False

_KIND: Slot = ("kind",)
_LLM: Slot = ("llm",)
_CONDENSER: Slot = ("condenser",)
_CONDENSED: Slot = ("condenser", "llm")
_WINDOW: Slot = ("condenser", "max_tokens")
# In the order in which they are taken out: a condenser of our own goes when its model is ours no more.
_SLOTS = (_LLM, _CONDENSED, _WINDOW, _CONDENSER)


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The one file of the command."""
    return (place.openhands_cli / "agent_settings.json",)


def refuses(llm: LLMConfig) -> str | None:
    """Windows that OpenHands does not load: the command would call its file corrupted."""
    return too_small(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the command and without its file, unless the file shall be made."""
    here = NAME in place.chosen or "openhands" in place.programs or any(text is not None for text in files.values())
    return None if here else ""


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:  # noqa: ARG001 - the command runs on the host
    """The model becomes the agent's and its condenser's; raises LauncherError for a file that is no JSON object."""
    return {path: _connected(path, text, llm) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """What stood there before, where our values still stand; raises LauncherError for what is no JSON object any more."""
    return {path: _without(path, text, before[path], after[path]) for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - the command finds its file by itself
    """The command."""
    return "openhands"


def _connected(path: Path, text: str | None, llm: LLMConfig) -> str:
    document = json_slots.read(path, text)
    return json_slots.write(json_slots.put(document, _values(document, llm)), text)


def _values(document: Document, llm: LLMConfig) -> dict[Slot, Any]:
    """Without a condenser an overflow ends the conversation."""
    condenser = condenser_of(llm)
    values: dict[Slot, Any] = {_LLM: fields_of(llm, null_lives=True)}
    if "kind" not in document:
        values[_KIND] = "Agent"
    if isinstance(document.get("condenser"), dict):
        return {**values, _CONDENSED: condenser["llm"], _WINDOW: condenser["max_tokens"]}
    return {**values, _CONDENSER: condenser}


def _without(path: Path, now: str | None, before: str | None, after: str | None) -> str | None:
    """A file that we made goes as a whole while it names our model: to the command, one without a model is corrupted."""
    mine = now is not None and is_ours(json_slots.read(path, now), json_slots.read(path, after))
    if mine and before is None:
        return None
    return json_slots.without(path, now, before, after, lambda _: (*_SLOTS, *([_KIND] if mine else [])), is_ours)
