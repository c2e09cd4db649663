"""OpenHands' command: a folder that shows the user's own, but for the agent that it starts with."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.openhands_llm import condenser_of, fields_of
from launcher.running.base import Mirror, Start, User

NAME = "openhands"
PROGRAM = "openhands"
INSTALL = "uv tool install --python 3.12 openhands"
TOOLS = True


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:
    """Its variables tell neither window nor patience (openhands 1.16, agent_store.py); conversations stay where they are."""
    shown, own = folder / "openhands", user.folder("OPENHANDS_PERSISTENCE_DIR", user.home / ".openhands")
    agent = {"kind": "Agent", "llm": fields_of(llm, null_lives=True), "condenser": condenser_of(llm)}
    env = {
        "OPENHANDS_PERSISTENCE_DIR": str(shown),
        "OPENHANDS_CONVERSATIONS_DIR": str(user.folder("OPENHANDS_CONVERSATIONS_DIR", own / "conversations")),
    }
    files = {shown / "agent_settings.json": json.dumps(agent, indent=2) + "\n"}
    return Start(Command((PROGRAM, *words), env=env), files, Mirror(shown, own, ("mcp.json",)))
