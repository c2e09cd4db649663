"""Codex: `-c` for each value, which comes before its config.toml; the key in a variable that the provider names."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher import forms
from launcher.command import Command
from launcher.forms import KEY, PROVIDER
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "codex"
PROGRAM = "codex"
INSTALL = "npm install -g @openai/codex"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - it takes no file
    """The options stand before a subcommand, so that `exec` has them too (`-m` would be the terminal's alone)."""
    options = [word for key, value in _values(llm).items() for word in ("-c", f"{key}={json.dumps(value)}")]
    return Start(Command((PROGRAM, *options, *words), secrets={KEY: llm.api_key}))


def _values(llm: LLMConfig) -> dict[str, str | int]:
    provider = f"model_providers.{PROVIDER}"
    return {
        **forms.codex(llm),
        f"{provider}.name": "model-launcher",
        f"{provider}.base_url": llm.base_url,
        f"{provider}.wire_api": "responses",
        f"{provider}.env_key": KEY,
        f"{provider}.stream_idle_timeout_ms": (llm.timeout or 0) * 1000,
    }
