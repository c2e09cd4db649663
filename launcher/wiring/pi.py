"""pi: a provider of ours in its models.json, and its default in settings.json (pi.dev, "models.md")."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import PROVIDER, elsewhere, inputs
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.jsonc import JSON
from launcher.wiring.slots import Slot

NAME = "pi"
AGENT = "pi"
GENERATIONS = ("pi",)
PROGRAMS = ("pi",)
IN_CONTAINERS = False

_TEXT = JSON()
_PROVIDER: Slot = ("providers", PROVIDER)
_DEFAULTS: tuple[Slot, ...] = (("defaultProvider",), ("defaultModel",))


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - the same files for every model
    """Its models, and its settings."""
    folder = place.folder("PI_CODING_AGENT_DIR", place.home / ".pi" / "agent")
    return (folder / "models.json", folder / "settings.json")


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The provider, and the default where it is asked for; raises LauncherError for what cannot be edited."""
    models, settings = files
    chosen: dict[Slot, object] = dict(zip(_DEFAULTS, (PROVIDER, llm.served), strict=True))
    return {
        models: slots.put(_TEXT, models, files[models], {_PROVIDER: _provider(llm)}),
        settings: slots.put(_TEXT, settings, files[settings], chosen) if place.default else files[settings],
    }


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; raises LauncherError for a file that cannot be understood any more."""
    return slots.all_without(_TEXT, now, before, after, _ours)


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "pi" if place.default else f"pi --provider {PROVIDER} --model {shlex.quote(llm.served)}"


def _provider(llm: LLMConfig) -> dict[str, object]:
    model = {
        "id": llm.served,
        "name": llm.served,
        "reasoning": False,
        "input": inputs(llm),
        "contextWindow": llm.window,
        "maxTokens": llm.max_output_tokens,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }
    return {
        "baseUrl": llm.base_url,
        "api": "openai-completions",
        "apiKey": llm.api_key,
        "compat": {"supportsDeveloperRole": False, "supportsReasoningEffort": False, "maxTokensField": "max_tokens"},
        "models": [model],
    }


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - they are the same in every file
    yield from (_PROVIDER, *_DEFAULTS)
