"""Qwen Code: a file in the place of the machine's settings, which come before the user's and the project's."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher import forms
from launcher.command import Command
from launcher.forms import KEY
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "qwen"
PROGRAM = "qwen"
INSTALL = "npm install -g @qwen-code/qwen-code"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - it finds its own files
    """No variable tells it the limits, and a user's own list of providers would come before variables (Qwen Code 0.24)."""
    settings = folder / "settings.json"
    content = {
        "modelProviders": {"openai": [forms.qwen(llm)]},
        "security": {"auth": {"selectedType": "openai"}},
        "model": {"name": llm.served},
    }
    env = {"QWEN_CODE_SYSTEM_SETTINGS_PATH": str(settings)}
    argv = (PROGRAM, "--auth-type", "openai", "--model", llm.served, *words)
    return Start(Command(argv, env=env, secrets={KEY: llm.api_key}), {settings: json.dumps(content, indent=2) + "\n"})
