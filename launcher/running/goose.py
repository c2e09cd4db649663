"""goose: variables, which come before its config.yaml (block.github.io/goose, "Environment variables")."""

from collections.abc import Sequence
from pathlib import Path

from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "goose"
PROGRAM = "goose"
INSTALL = "see block.github.io/goose/docs/getting-started/installation"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - it takes no file
    """Its provider for OpenAI, at our address."""
    env = {
        "GOOSE_PROVIDER": "openai",
        "GOOSE_MODEL": llm.served,
        "GOOSE_CONTEXT_LIMIT": str(llm.window),
        "GOOSE_MAX_TOKENS": str(llm.max_output_tokens),
        "OPENAI_HOST": llm.origin,
        "OPENAI_BASE_PATH": "v1/chat/completions",
        "OPENAI_TIMEOUT": str(llm.timeout),
    }
    return Start(Command((PROGRAM, *words), env=env, secrets={"OPENAI_API_KEY": llm.api_key}))
