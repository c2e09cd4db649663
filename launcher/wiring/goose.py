"""goose: a provider in a file of our own (goose, crates/goose/src/config/declarative_providers.rs)."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.forms import PROVIDER, TITLE, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.slots import Slot
from launcher.wiring.yaml_rows import YAML

NAME = "goose"
AGENT = "goose"
GENERATIONS = ("goose",)
PROGRAMS = ("goose",)
IN_CONTAINERS = False

_TEXT = YAML()
_ACTIVE: Slot = ("active_provider",)
_ENTRY: Slot = ("providers", PROVIDER)


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one provider for every model
    """The provider that is ours alone, and its settings."""
    folder = place.config / "goose"
    return (folder / "custom_providers" / f"{PROVIDER}.json", folder / "config.yaml")


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The provider, whatever stood in its place, the default where it is asked for; raises LauncherError for bad settings."""
    provider, settings = files
    chosen: dict[Slot, object] = {
        _ACTIVE: PROVIDER,
        _ENTRY: {"enabled": True, "model": llm.served, "configured": True},
    }
    return {
        provider: json.dumps(_provider(llm), indent=2) + "\n",
        settings: slots.put(_TEXT, settings, files[settings], chosen) if place.default else files[settings],
    }


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """Our entries out; the provider goes as a whole, since goose loads none of them where one is malformed."""
    return {path: _without(path, text, before[path], after[path]) for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:
    """The command, which is told of the model where it does not start with it."""
    return "goose" if place.default else f"GOOSE_PROVIDER={PROVIDER} GOOSE_MODEL={shlex.quote(llm.served)} goose"


def _provider(llm: LLMConfig) -> dict[str, object]:
    """The key is a header: else it would have to be in a variable or a keyring. Every release adds its path to an origin."""
    return {
        "name": PROVIDER,
        "engine": "openai",
        "display_name": TITLE,
        "description": "a model on this machine",
        "api_key_env": "",
        "requires_auth": False,
        "base_url": llm.origin,
        "headers": {"Authorization": f"Bearer {llm.api_key}"},
        "models": [{"name": llm.served, "context_limit": llm.window}],
        "dynamic_models": False,
        "supports_streaming": True,
        "timeout_seconds": llm.timeout,
    }


def _without(path: Path, now: str | None, before: str | None, after: str | None) -> str | None:
    if path.suffix == ".json":
        return before if _address(now) == _address(after) else now
    return slots.without(_TEXT, path, now, before, after, _ours)


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - they are the same in every file
    yield from (_ACTIVE, _ENTRY)


def _address(text: str | None) -> object:
    try:
        return json.loads(text or "")["base_url"]
    except (ValueError, LookupError, TypeError):
        return text
