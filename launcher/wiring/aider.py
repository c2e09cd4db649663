"""aider: its .aider.conf.yml, and what it reads of models beside it (aider.chat/docs, "Advanced model settings")."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.forms import elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Item, Slot
from launcher.wiring.yaml_rows import YAML

NAME = "aider"
AGENT = "aider"
GENERATIONS = ("aider",)
PROGRAMS = ("aider",)
IN_CONTAINERS = False

# Its metadata are read as JSON5 (aider, models.py).
_ROWS, _LIST = YAML(), JSON(json5=True)
_DEFAULTS: tuple[Slot, ...] = (("model",), ("weak-model",))


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - the same files for every model
    """Its options, and what it knows of models: how they are asked, and their limits."""
    names = (".aider.model.settings.yml", ".aider.model.metadata.json", ".aider.conf.yml")
    return tuple(place.home / name for name in names)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """Address and key stand with the model: no other one is asked there; raises LauncherError for what cannot be edited."""
    asked, known, options = files
    model = f"hosted_vllm/{llm.served}"
    item = Item((("name", model), ("extra_params.api_base", llm.base_url)))
    default: dict[Slot, object] = dict.fromkeys(_DEFAULTS, model)
    return {
        asked: slots.put(_ROWS, asked, files[asked], {(item,): _asked(model, llm)}),
        known: slots.put(_LIST, known, files[known], {(model,): forms.litellm(llm)}),
        options: slots.put(_ROWS, options, files[options], default) if place.default else files[options],
    }


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return {
        path: slots.without(_LIST if path.suffix == ".json" else _ROWS, path, text, before[path], after[path], _ours)
        for path, text in now.items()
    }


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "aider" if place.default else f"aider --model {shlex.quote(f'hosted_vllm/{llm.served}')}"


def _asked(model: str, llm: LLMConfig) -> dict[str, object]:
    parameters = {
        "api_base": llm.base_url,
        "api_key": llm.api_key,
        "max_tokens": llm.max_output_tokens,
        "timeout": llm.timeout,
    }
    return {"name": model, "weak_model_name": model, "edit_format": "diff", "extra_params": parameters}


def _ours(old: Any, mine: Any) -> Iterator[Slot]:
    yield from slots.new_items(old, mine, (), ("name", "extra_params.api_base"))
    if isinstance(mine, dict):
        yield from ((key,) for key in mine if key.startswith("hosted_vllm/"))
        yield from _DEFAULTS
