"""simonw/llm: a model in its list of OpenAI-compatible ones, and the key in its keys.json (llm.datasette.io)."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import PROVIDER, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Item, Slot
from launcher.wiring.yaml_rows import YAML

NAME = "llm"
AGENT = "llm"
GENERATIONS = ("llm",)
PROGRAMS = ("llm",)
IN_CONTAINERS = False

_LIST, _PLAIN = YAML(), JSON(comments=False)
_KEY: Slot = (PROVIDER,)
_KNOWN_BY = ("model_id", "api_base")


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - the same files for every model
    """Its list, its keys, and the file that names its default."""
    folder = place.folder("LLM_USER_PATH", place.config / "io.datasette.llm")
    return (folder / "extra-openai-models.yaml", folder / "keys.json", folder / "default_model.txt")


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The model, its key, and the default where it is asked for; raises LauncherError for what cannot be edited."""
    models, keys, default = files
    item = Item(tuple(zip(_KNOWN_BY, (_id(llm), llm.base_url), strict=True)))
    return {
        models: slots.put(_LIST, models, files[models], {(item,): _model(llm)}),
        keys: slots.put(_PLAIN, keys, files[keys], {_KEY: llm.api_key}),
        default: _id(llm) if place.default else files[default],
    }


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return {path: _without(path, text, before[path], after[path]) for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:
    """A question; what is asked of another model than the default names it."""
    return "llm 'YOUR QUESTION'" if place.default else f"llm -m {shlex.quote(_id(llm))} 'YOUR QUESTION'"


def _id(llm: LLMConfig) -> str:
    return f"{PROVIDER}/{llm.served}"


def _model(llm: LLMConfig) -> dict[str, object]:
    told: dict[str, object] = {
        "model_id": _id(llm),
        "model_name": llm.served,
        "api_base": llm.base_url,
        "api_key_name": PROVIDER,
        "supports_tools": bool(llm.native_tool_calling),
        "supports_schema": True,
    }
    return told if llm.disable_vision else {**told, "vision": True}


def _without(path: Path, now: str | None, before: str | None, after: str | None) -> str | None:
    if path.suffix == ".txt":
        return before if now is not None and after is not None and now.strip() == after.strip() else now
    return slots.without(_LIST if path.suffix == ".yaml" else _PLAIN, path, now, before, after, _ours)


def _ours(old: Any, mine: Any) -> Iterator[Slot]:
    yield from slots.new_items(old, mine, (), _KNOWN_BY)
    if isinstance(mine, dict):
        yield _KEY
