"""Continue: a model in the list of its config.yaml, which its command and its editors' extensions share (docs.continue.dev)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import TITLE, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.slots import Item, Slot
from launcher.wiring.yaml_rows import YAML

NAME = "continue"
AGENT = "continue"
GENERATIONS = ("continue",)
PROGRAMS = ("cn",)
IN_CONTAINERS = False

_TEXT = YAML()
_MODELS: Slot = ("models",)
_KNOWN_BY = ("name", "apiBase")


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The user's configuration."""
    return (place.folder("CONTINUE_GLOBAL_DIR", place.home / ".continue") / "config.yaml",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The model among the others; raises LauncherError for a file that cannot be understood, or not be edited alone."""
    return {path: slots.put(_TEXT, path, text, _values(text, place, llm)) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours, scaffold=("name", "version", "schema"))


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - it is chosen in the agent
    """The command; the model is chosen in it, and in the extensions."""
    return f"cn, and choose {llm.served} with /model"


def _values(text: str | None, place: Place, llm: LLMConfig) -> dict[Slot, object]:  # noqa: ARG001 - it has no default in this file
    told = {
        "name": f"{llm.served} ({TITLE})",
        "provider": "openai",
        "model": llm.served,
        "apiBase": llm.base_url,
        "apiKey": llm.api_key,
        "roles": ["chat", "edit", "apply"],
        "capabilities": [*(["tool_use"] if llm.native_tool_calling else []), *([] if llm.disable_vision else ["image_input"])],
        "defaultCompletionOptions": {"contextLength": llm.window, "maxTokens": llm.max_output_tokens},
    }
    needed: dict[Slot, object] = {("name",): "Local", ("version",): "1.0.0", ("schema",): "v1"}
    values = needed if not (text or "").strip() else {}
    return {**values, (*_MODELS, Item(tuple((name, str(told[name])) for name in _KNOWN_BY))): told}


def _ours(old: Any, mine: Any) -> Iterator[Slot]:
    yield from slots.new_items(old, mine, _MODELS, _KNOWN_BY)
