"""OpenHands' settings.json: flat up to 0.62, nested since 1.0 and for Agent Canvas. The shape that is there is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.llm import LLMConfig, from_a_container, too_small
from launcher.openhands_llm import fields_of, is_ours
from launcher.wiring import json_slots
from launcher.wiring.base import Files, Place
from launcher.wiring.json_slots import Document, Slot

NAME = "openhands-settings"
AGENT = "openhands"
GENERATIONS = ("v1", "v0")
PROGRAMS: tuple[str, ...] = ()
IN_CONTAINERS = True

# The newest of openhands-agent-server 1.58.0: the file's, and agent_settings' own. What a newer one looks like nobody knows.
_FILE_SCHEMA, _AGENT_SCHEMA = 6, 9
_LLM: Slot = ("agent_settings", "llm")
_FLAT: tuple[Slot, ...] = (("llm_model",), ("llm_api_key",), ("llm_base_url",))


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The one file of all of OpenHands' web applications."""
    return (place.openhands / "settings.json",)


def refuses(llm: LLMConfig) -> str | None:
    """Windows that OpenHands does not load; older releases would, and share the file."""
    return too_small(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A file that is not there, unless it shall be made; and one of a newer shape."""
    for path, text in files.items():
        if text is None and NAME not in place.chosen:
            return ""
        document = json_slots.read(path, text)
        agent = document.get("agent_settings")
        versions = (document.get("schema_version"), agent.get("schema_version") if isinstance(agent, dict) else None)
        for version, newest in zip(versions, (_FILE_SCHEMA, _AGENT_SCHEMA), strict=True):
            if isinstance(version, int) and version > newest:
                return (
                    f"{path} is of a newer form ({version}) than this launcher knows ({newest}); choose the model in OpenHands"
                )
    return None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:
    """The model becomes the one that is used; raises LauncherError for a file that is no JSON object."""
    told = from_a_container(llm) if place.docker else llm
    return {path: _connected(path, text, told) for path, text in files.items()}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """What stood there before, where our values still stand; raises LauncherError for what is no JSON object any more."""
    return {path: _without(path, text, before[path], after[path]) for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - the application finds its file by itself
    """The application in a container, which mounts this file; on the host it reads it as it is."""
    return "openhands serve" if place.docker else "agent-canvas, or OpenHands' web application"


def _connected(path: Path, text: str | None, llm: LLMConfig) -> str:
    document = json_slots.read(path, text)
    return json_slots.write(json_slots.put(document, _values(document, llm)), text)


def _values(document: Document, llm: LLMConfig) -> dict[Slot, Any]:
    if _is_flat(document):
        return dict(zip(_FLAT, (llm.model, llm.api_key, llm.base_url), strict=True))
    told = fields_of(llm, null_lives="llm_profiles" in document)
    values: dict[Slot, Any] = {_LLM: told}
    if "llm_profiles" in document:
        # OpenHands drops `active` where it is not the very same as agent_settings.llm (settings_models.py).
        values |= {("llm_profiles", "profiles", llm.name): told, ("llm_profiles", "active"): llm.name}
    elif "active_profile" in document or not document:
        values[("active_profile",)] = llm.name
    return values


def _is_flat(document: Document) -> bool:
    return "agent_settings" not in document and any(key.startswith("llm_") and key != "llm_profiles" for key in document)


def _without(path: Path, now: str | None, before: str | None, after: str | None) -> str | None:
    mine = json_slots.read(path, after)
    if _is_flat(mine) and now is not None and not _points_to_ours(json_slots.read(path, now), mine):
        return now
    return json_slots.without(path, now, before, after, _slots, is_ours)


def _points_to_ours(there: Document, mine: Document) -> bool:
    return all(there.get(key) == mine.get(key) for key in ("llm_model", "llm_base_url"))


def _slots(mine: Document) -> Iterator[Slot]:
    if _is_flat(mine):
        yield from _FLAT
        return
    yield _LLM
    yield ("active_profile",)
    profiles = mine.get("llm_profiles")
    if isinstance(profiles, dict):
        yield ("llm_profiles", "profiles", str(profiles.get("active")))
        yield ("llm_profiles", "active")
