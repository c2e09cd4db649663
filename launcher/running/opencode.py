"""opencode: a configuration in a variable, which it lays over all files (opencode.ai/docs/config)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.running.base import KEY, PROVIDER, Start, User

NAME = "opencode"
PROGRAM = "opencode"
INSTALL = "npm install -g opencode-ai"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - it takes no file
    """The configuration names the variable of the key."""
    env = {"OPENCODE_CONFIG_CONTENT": json.dumps(_configuration(llm))}
    return Start(Command((PROGRAM, *words), env=env, secrets={KEY: llm.api_key}))


def _configuration(llm: LLMConfig) -> dict[str, Any]:
    """Without limits it asks for 32,000 tokens and never compacts; the small model too, or titles would be made elsewhere."""
    model = {
        "name": llm.served,
        "tool_call": True,
        "attachment": not llm.disable_vision,
        "modalities": {"input": ["text"] if llm.disable_vision else ["text", "image"], "output": ["text"]},
        "limit": {"context": llm.window, "output": llm.max_output_tokens},
        "cost": {"input": 0, "output": 0},
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "model-launcher",
        "options": {"baseURL": llm.base_url, "apiKey": f"{{env:{KEY}}}", "timeout": (llm.timeout or 0) * 1000},
        "models": {llm.served: model},
    }
    name = f"{PROVIDER}/{llm.served}"
    return {"provider": {PROVIDER: provider}, "model": name, "small_model": name}
