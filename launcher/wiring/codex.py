"""Codex: a profile file of our own, which `--profile` lays over its config.toml (developers.openai.com/codex/config)."""

from pathlib import Path

from launcher.forms import PROVIDER, TITLE, elsewhere
from launcher.llm import LLMConfig
from launcher.wiring.base import Files, Place

NAME = "codex"
AGENT = "codex"
GENERATIONS = ("codex",)
PROGRAMS = ("codex",)


def paths(place: Place, llm: LLMConfig) -> tuple[Path, ...]:  # noqa: ARG001 - one file for every model
    """The profile that is ours alone."""
    return (place.folder("CODEX_HOME", place.home / ".codex") / f"{PROVIDER}.config.toml",)


def refuses(llm: LLMConfig) -> str | None:
    """A provider's models: their keys would land in another file."""
    return elsewhere(llm)


def leaves(files: Files, place: Place) -> str | None:
    """A machine without the agent."""
    return "" if place.lacks(NAME, PROGRAMS, files) else None


def connect(files: Files, place: Place, llm: LLMConfig) -> Files:  # noqa: ARG001 - a profile is chosen at each start
    """The profile, whatever stood in its place."""
    return dict.fromkeys(files, _profile(llm))


def disconnect(now: Files, before: Files, after: Files) -> Files:
    """What stood there before, unless somebody made the profile lead elsewhere."""
    return {path: before[path] if _address(text) == _address(after[path]) else text for path, text in now.items()}


def start_line(place: Place, llm: LLMConfig) -> str:  # noqa: ARG001 - the profile has one name for every model
    """The command with our profile; its own default is its config.toml's, and stays."""
    return f"codex --profile {PROVIDER}"


def _profile(llm: LLMConfig) -> str:
    """Codex sends no limit of an answer; its hosted web search is not this server's to run (codex-rs, core/src/config)."""
    import tomlkit

    values = {
        "model": llm.served,
        "model_provider": PROVIDER,
        "model_context_window": llm.window,
        "model_auto_compact_token_limit": llm.max_input_tokens or 0,
        "web_search": "disabled",
        "model_providers": {
            PROVIDER: {
                "name": TITLE,
                "base_url": llm.base_url,
                "wire_api": "responses",
                "experimental_bearer_token": llm.api_key,
                "stream_idle_timeout_ms": (llm.timeout or 0) * 1000,
            }
        },
    }
    return "# by launcher; to undo: launcher unwire\n" + tomlkit.dumps(values)


def _address(text: str | None) -> object:
    import tomllib

    try:
        providers = tomllib.loads(text or "").get("model_providers", {})
        return providers[PROVIDER]["base_url"]
    except (ValueError, LookupError, TypeError):
        return text
