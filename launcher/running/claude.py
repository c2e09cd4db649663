"""Claude Code: settings of its own for one run, since the `env` of a user's settings.json comes before the environment."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "claude"
PROGRAM = "claude"
INSTALL = "npm install -g @anthropic-ai/claude-code"
TOOLS = True

_TIERS = ("OPUS", "SONNET", "HAIKU", "FABLE")


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - all of it is in a file of ours
    """`--settings`, which comes before all that a user's own settings say."""
    settings = folder / "settings.json"
    argv = (PROGRAM, "--settings", str(settings), "--model", llm.served, *words)
    return Start(Command(argv), {settings: json.dumps({"env": variables(llm)}, indent=2) + "\n"})


def variables(llm: LLMConfig) -> dict[str, str]:
    """The variables of docs.claude.com, "LLM gateway configuration" and "Model configuration".

    vLLM takes the bearer token alone. Without the window a model of an unknown name is taken for one of a million tokens. What
    changes with each request at the head of a prompt would keep the engine from using its prefix cache.
    """
    window, output = str(llm.window), str(llm.max_output_tokens)
    return {
        "ANTHROPIC_BASE_URL": llm.origin,
        "ANTHROPIC_AUTH_TOKEN": llm.api_key,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": llm.served,
        **{f"ANTHROPIC_DEFAULT_{tier}_MODEL": llm.served for tier in _TIERS},
        "CLAUDE_CODE_SUBAGENT_MODEL": llm.served,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": window,
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": window,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": output,
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_USE_BEDROCK": "0",
        "CLAUDE_CODE_USE_VERTEX": "0",
        "CLAUDE_CODE_USE_FOUNDRY": "0",
        "API_TIMEOUT_MS": str((llm.timeout or 0) * 1000),
    }
