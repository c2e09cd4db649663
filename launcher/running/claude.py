"""Claude Code: settings of its own for one run, since the `env` of a user's settings.json comes before the environment."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher import forms
from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "claude"
PROGRAM = "claude"
INSTALL = "npm install -g @anthropic-ai/claude-code"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - all of it is in a file of ours
    """`--settings`, which comes before all that a user's own settings say."""
    settings = folder / "settings.json"
    argv = (PROGRAM, "--settings", str(settings), "--model", llm.served, *words)
    return Start(Command(argv), {settings: json.dumps({"env": forms.claude(llm)}, indent=2) + "\n"})
