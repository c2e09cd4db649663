"""LiteLLM's proxy: a model in the list of its config.yaml (docs.litellm.ai, "Proxy config.yaml")."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.forms import elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.slots import Item, Slot
from launcher.wiring.yaml_rows import YAML

NAME = "litellm"
AGENT = "litellm"
GENERATIONS = ("litellm",)
PROGRAMS: tuple[str, ...] = ()
IN_CONTAINERS = False

_TEXT = YAML()
_MODELS: Slot = ("model_list",)
_KNOWN_BY = ("model_name", "litellm_params.api_base")


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The configuration that was named, since the proxy looks for none itself; else one of our own."""
    return (place.named or place.own / "litellm.yaml",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:  # noqa: ARG001 - the program alone says nothing of a proxy
    """Where nobody asked for it: every agent that uses LiteLLM brings the proxy's program along."""
    return None if NAME in place.chosen else ""


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The model among the others; raises LauncherError for a file that cannot be understood, or not be edited alone."""
    return {path: slots.put(_TEXT, path, text, _values(text, place, llm)) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:
    """The proxy, which reads its file as it starts, and takes no request without a key of its own."""
    return f"LITELLM_MASTER_KEY=sk-YOURS litellm --config {shlex.quote(str(paths(place, llm)[0]))}"


def _values(text: str | None, place: Place, llm: LLMConfig) -> dict[Slot, object]:  # noqa: ARG001 - the same in every file
    slot = (*_MODELS, Item(tuple(zip(_KNOWN_BY, (llm.served, llm.base_url), strict=True))))
    return {slot: forms.litellm_proxy(llm, llm.api_key)}


def _ours(old: Any, mine: Any) -> Iterator[Slot]:
    yield from slots.new_items(old, mine, _MODELS, _KNOWN_BY)
