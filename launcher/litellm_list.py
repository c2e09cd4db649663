"""LiteLLM's own list of models, read from its package: importing LiteLLM takes seconds, its list a few milliseconds."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = "model_prices_and_context_window_backup.json"
_CHAT = ("chat", "responses")


@dataclass(frozen=True, slots=True)
class Listed:
    """What the list says of a model: windows in tokens, prices in US dollars a token; None where it says nothing."""

    model: str
    max_input_tokens: int | None
    max_output_tokens: int | None
    input_cost: float | None
    output_cost: float | None
    vision: bool | None
    tools: bool | None


def look_up(model: str) -> Listed | None:
    """The entry of a model with its provider's prefix, or None; the list leaves the prefix out for some providers."""
    provider, _, bare = model.partition("/")
    for key in (model, bare):
        entry = _entries().get(key)
        if entry and (key == model or _is_of(entry, provider)):
            return _listed(model, entry)
    return None


def models(provider: str) -> tuple[str, ...]:
    """All models of a provider that chat, with its prefix."""
    found = {
        key if key.startswith(f"{provider}/") else f"{provider}/{key}"
        for key, entry in _entries().items()
        if _is_of(entry, provider) and entry.get("mode") in _CHAT
    }
    return tuple(sorted(found))


def _is_of(entry: Mapping[str, Any], prefix: str) -> bool:
    """Whether models of this entry are called with a prefix: the list has vertex_ai-language-models, bedrock_converse, ..."""
    named = str(entry.get("litellm_provider"))
    return named == prefix or named.startswith(f"{prefix}-") or named == f"{prefix}_converse"


@cache
def _entries() -> Mapping[str, Mapping[str, Any]]:
    spec = importlib.util.find_spec("litellm")
    folders = spec.submodule_search_locations if spec else None
    entries: dict[str, dict[str, Any]] = json.loads((Path(folders[0]) / FILE).read_bytes()) if folders else {}
    entries.pop("sample_spec", None)
    return entries


def _listed(model: str, entry: Mapping[str, Any]) -> Listed:
    return Listed(
        model=model,
        max_input_tokens=_whole(entry.get("max_input_tokens")),
        max_output_tokens=_whole(entry.get("max_output_tokens")),
        input_cost=entry.get("input_cost_per_token"),
        output_cost=entry.get("output_cost_per_token"),
        vision=entry.get("supports_vision"),
        tools=entry.get("supports_function_calling"),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
