"""OpenHands' LLM profile store, read by SDK scripts and by Agent Canvas: one file of our own for each model."""

import json
from pathlib import Path

from launcher.llm import LLMConfig, too_small
from launcher.llm_settings import refuses_name
from launcher.openhands_llm import fields_of, is_ours
from launcher.wiring.base import Files, Place

NAME = "openhands-profile"
AGENT = "openhands"
GENERATIONS = ("profile",)
PROGRAMS: tuple[str, ...] = ()
IN_CONTAINERS = False


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:
    """The one file of this model in the store."""
    return (place.openhands / "profiles" / f"{llm.name}.json",)


def refuses(llm: LLMConfig) -> str | None:
    """Names that the store does not take (openhands-sdk, llm_profile_store.py), and windows that OpenHands does not load."""
    if refuses_name(llm.name):
        return f"OpenHands takes no profile named {llm.name!r}: letters, digits and ._- only, 64 at most"
    return too_small(llm)


def leaves(files: Files, place: Place) -> str | None:  # noqa: ARG001 - a file of our own is made wherever we are
    """Never."""
    return None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:  # noqa: ARG001 - the file is ours as a whole
    """The profile, whatever stood in its place."""
    profile = {"schema_version": 1, **fields_of(llm)}
    return {path: json.dumps(profile, indent=2, ensure_ascii=False) + "\n" for path in paths(place, llm)}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """What stood there before, unless somebody made the profile point to another model or server."""
    return {path: before[path] if _ours(text, after[path]) else text for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - every OpenHands finds its store by itself
    """Agent Canvas lists the profile; scripts load it by name; the `openhands` command reads no profiles."""
    return f'npx @openhands/agent-canvas (Settings > LLM: {llm.name}); in SDK scripts LLMProfileStore().load("{llm.name}")'


def _ours(now: str | None, after: str | None) -> bool:
    if now is None or after is None:
        return False
    try:
        there = json.loads(now)
    except ValueError:
        return False
    return isinstance(there, dict) and is_ours(there, json.loads(after))
