"""Codex: a profile file of our own, which `--profile` lays over its config.toml (developers.openai.com/codex/config)."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.forms import PROVIDER, TITLE, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring import slots
from launcher.wiring.base import Files, Place
from launcher.wiring.slots import Slot
from launcher.wiring.toml_rows import TOML

NAME = "codex"
AGENT = "codex"
GENERATIONS = ("codex",)
PROGRAMS = ("codex",)
IN_CONTAINERS = False


_TEXT = TOML()


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - the same files for every model
    """The profile that is ours alone, and the configuration that it is laid over."""
    folder = place.folder("CODEX_HOME", place.home / ".codex")
    return (folder / f"{PROVIDER}.config.toml", folder / "config.toml")


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The profile; the same in the configuration for `default`. Raises LauncherError for what cannot be edited."""
    profile, own = files
    values: dict[Slot, object] = {(key,): value for key, value in forms.codex(llm).items()}
    values[_PROVIDER] = _provider(llm)
    return {
        profile: slots.put(_TEXT, profile, "# by launcher; to undo: launcher unwire\n", values),
        own: slots.put(_TEXT, own, files[own], values) if place.default else files[own],
    }


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """What stood there before, unless somebody made the profile lead elsewhere."""
    return {path: _without(path, text, before[path], after[path]) for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - the profile has one name for every model
    """The command, with our profile where it does not start with the model."""
    return "codex" if place.default else f"codex --profile {PROVIDER}"


_PROVIDER: Slot = ("model_providers", PROVIDER)


def _provider(llm: LLMConfig) -> dict[str, str | int]:
    return {
        "name": TITLE,
        "base_url": llm.base_url,
        "wire_api": "responses",
        "experimental_bearer_token": llm.api_key,
        "stream_idle_timeout_ms": (llm.timeout or 0) * 1000,
    }


def _without(path: Path, now: str | None, before: str | None, after: str | None) -> str | None:
    if path.name != "config.toml":
        return before if _address(now) == _address(after) else now
    return slots.without(_TEXT, path, now, before, after, _ours)


def _ours(old: Any, mine: Any) -> Iterator[Slot]:  # noqa: ARG001 - what did not change is left alone
    yield from ((key,) for key, value in mine.items() if not isinstance(value, dict))
    yield _PROVIDER


def _address(text: str | None) -> object:
    try:
        return tomllib.loads(text or "")["model_providers"][PROVIDER]["base_url"]
    except (ValueError, LookupError, TypeError):
        return text
