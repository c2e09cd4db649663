"""Simon Willison's llm: a folder that shows the user's own, but for the list of further models."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.running.base import Mirror, Start, User

NAME = "llm"
PROGRAM = "llm"
INSTALL = "uv tool install llm"
TOOLS = False

_LIST = "extra-openai-models.yaml"


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:
    """The log stays the user's. The key is a header: `llm` takes a key for one run from the argv alone (llm 0.36)."""
    shown = folder / "llm"
    model = {
        "model_id": llm.served,
        "model_name": llm.served,
        "api_base": llm.base_url,
        "headers": {"Authorization": f"Bearer {llm.api_key}"},
        "supports_tools": True,
        "supports_schema": True,
        "vision": not llm.disable_vision,
    }
    env = {"LLM_USER_PATH": str(shown), "LLM_MODEL": llm.served}
    # YAML takes JSON.
    files = {shown / _LIST: json.dumps([model], indent=2) + "\n"}
    return Start(Command((PROGRAM, *words), env=env), files, Mirror(shown, _folder(user), ("logs.db", "keys.json")))


def _folder(user: User) -> Path:
    """Where llm keeps its files (click.get_app_dir)."""
    settings = user.folder("XDG_CONFIG_HOME", user.home / ".config")
    return user.folder("LLM_USER_PATH", settings / "io.datasette.llm")
