"""OpenHands' LLM profile store, read by SDK scripts and by Agent Canvas: one file of our own for each model."""

import json
import re
from pathlib import Path

from launcher.llm import SMALLEST_WINDOW, LLMConfig
from launcher.wiring.base import Files, Place

NAME = "openhands-profile"
AGENT = "openhands"

# Names of profiles (openhands-sdk, llm_profile_store.py).
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What makes a profile ours: where it sends requests, and for which model.
_POINTS = ("model", "base_url")
_REQUEST_SECONDS = 1800  # OpenHands gives up after 300, which a long prompt on small hardware needs for its first token


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:
    """The one file of this model in the store."""
    return (place.home / ".openhands" / "profiles" / f"{llm.name}.json",)


def refuses(llm: LLMConfig) -> str | None:
    """Names that the store does not take, and windows that OpenHands does not load."""
    if not _PROFILE_NAME.fullmatch(llm.name):
        return f"OpenHands takes no profile named {llm.name!r}: letters, digits and ._- only, 64 at most"
    if llm.max_input_tokens < SMALLEST_WINDOW:
        return f"OpenHands would not load it: {llm.name} has {llm.max_input_tokens:,} input tokens of {SMALLEST_WINDOW:,}"
    return None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:  # noqa: ARG001 - the file is ours as a whole
    """The profile, whatever stood in its place."""
    return {path: json.dumps(_profile(llm), indent=2, ensure_ascii=False) + "\n" for path in paths(place, llm)}


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """What stood there before, unless somebody made the profile point to another model or server."""
    return {path: before[path] if _ours(text, after[path]) else text for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - every OpenHands finds its store by itself
    """Agent Canvas lists the profile; scripts load it by name; the `openhands` command reads no profiles."""
    return f'npx @openhands/agent-canvas (Settings > LLM: {llm.name}); in SDK scripts LLMProfileStore().load("{llm.name}")'


def _profile(llm: LLMConfig) -> dict[str, object]:
    """A text model on an OpenAI-compatible server (openhands-sdk, llm.py: the fields of LLM).

    There is no null, since a null does not survive OpenHands' own next save; and no custom_tokenizer, since older releases
    fail on one they cannot download. Releases ignore the keys that they do not know.
    """
    return {
        "schema_version": 1,
        "model": llm.model,
        "base_url": llm.base_url,
        "api_key": llm.api_key,
        "usage_id": "agent",
        "max_input_tokens": llm.max_input_tokens,
        "max_output_tokens": llm.max_output_tokens,
        "native_tool_calling": llm.native_tool_calling,
        "timeout": _REQUEST_SECONDS,
        "num_retries": 5,
        "retry_min_wait": 8,
        "retry_max_wait": 64,
        "retry_multiplier": 8.0,
        # Without prices every call of an unknown model warns.
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "disable_vision": True,
        "caching_prompt": False,
        "drop_params": True,
        # The default, "high", drops the sampling parameters and turns thinking on in hybrid models.
        "reasoning_effort": "none",
        "api_mode": "chat",
        "capability_overrides": {
            "supports_reasoning_effort": False,
            "supports_sampling_params": True,
            "supports_vision": False,
            "supports_prompt_cache": False,
            "supports_responses_api": False,
        },
    }


def _ours(now: str | None, after: str | None) -> bool:
    if now is None or after is None:
        return False
    try:
        there, written = json.loads(now), json.loads(after)
    except ValueError:
        return False
    return isinstance(there, dict) and all(there.get(key) == written[key] for key in _POINTS)
