"""OpenClaw: a provider of ours in its openclaw.json, which is JSON5 (docs.openclaw.ai, "Custom providers")."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import PROVIDER, elsewhere, inputs
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Slot

NAME = "openclaw"
AGENT = "openclaw"
GENERATIONS = ("openclaw",)
PROGRAMS = ("openclaw",)
IN_CONTAINERS = False

_TEXT = JSON(json5=True)
_PROVIDER: Slot = ("models", "providers", PROVIDER)
# One model, or one with others to fall back on.
_MODEL: Slot = ("agents", "defaults", "model")
_PRIMARY: Slot = (*_MODEL, "primary")


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """Its configuration."""
    return (place.folder("OPENCLAW_CONFIG_PATH", _state(place) / "openclaw.json"),)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The provider among the others; raises LauncherError for a file that cannot be understood, or not be edited alone."""
    return {path: slots.put(_TEXT, path, text, _values(path, text, place, llm)) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:
    """A question from the terminal; elsewhere the model is chosen in the chat."""
    ask = "openclaw agent --local --agent main --message 'YOUR QUESTION'"
    return ask if place.default else f"openclaw, and choose {PROVIDER}/{llm.served} with /model"


def _state(place: Place) -> Path:
    return place.folder("OPENCLAW_STATE_DIR", place.home / ".openclaw")


def _values(path: Path, text: str | None, place: Place, llm: LLMConfig) -> dict[Slot, object]:
    values: dict[Slot, object] = {_PROVIDER: _provider(llm)}
    if place.default:
        alone = isinstance(slots.at(slots.read(_TEXT, path, text or "").value, _MODEL), str)
        values[_MODEL if alone else _PRIMARY] = f"{PROVIDER}/{llm.served}"
    return values


def _provider(llm: LLMConfig) -> dict[str, object]:
    """Its gateway starts with no key that it does not know."""
    model = {
        "id": llm.served,
        "name": llm.served,
        "reasoning": False,
        "input": inputs(llm),
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        "contextWindow": llm.window,
        "maxTokens": llm.max_output_tokens,
    }
    return {
        "baseUrl": llm.base_url,
        "apiKey": llm.api_key,
        "api": "openai-completions",
        "timeoutSeconds": llm.timeout,
        "models": [model],
    }


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - they are the same in every file
    yield _PROVIDER
    yield _MODEL if isinstance(slots.at(mine, _MODEL), str) else _PRIMARY
