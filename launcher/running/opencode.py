"""opencode: a configuration in a variable, which it lays over all files (opencode.ai/docs/config)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher import forms
from launcher.command import Command
from launcher.forms import KEY, PROVIDER
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "opencode"
PROGRAM = "opencode"
INSTALL = "npm install -g opencode-ai"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - it takes no file
    """The configuration names the variable of the key."""
    env = {"OPENCODE_CONFIG_CONTENT": json.dumps(_configuration(llm))}
    return Start(Command((PROGRAM, *words), env=env, secrets={KEY: llm.api_key}))


def _configuration(llm: LLMConfig) -> dict[str, Any]:
    """The small model too, or titles would be made elsewhere."""
    name = f"{PROVIDER}/{llm.served}"
    return {"provider": {PROVIDER: forms.opencode(llm, f"{{env:{KEY}}}")}, "model": name, "small_model": name}
