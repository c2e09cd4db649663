"""aider: flags, and two files that it reads beside the user's own."""

import json
from collections.abc import Sequence
from pathlib import Path

from launcher import forms
from launcher.command import Command
from launcher.llm import LLMConfig
from launcher.running.base import Start, User

NAME = "aider"
PROGRAM = "aider"
INSTALL = "uv tool install --python 3.12 aider-chat"
TOOLS = False


def start(llm: LLMConfig, words: Sequence[str], folder: Path, user: User) -> Start:  # noqa: ARG001 - aider finds its own files
    """Address and key are parameters of each request: a user's .env would come before the environment.

    Under aider's own name for parameters of every model, so that its rules by a model's name hold (aider, models.py).
    """
    model = f"hosted_vllm/{llm.served}"
    metadata, settings = folder / "metadata.json", folder / "settings.yml"
    parameters = {
        "api_base": llm.base_url,
        "api_key": llm.api_key,
        "max_tokens": llm.max_output_tokens,
        "timeout": llm.timeout,
    }
    files = {
        metadata: json.dumps({model: forms.litellm(llm)}, indent=2) + "\n",
        # YAML takes JSON.
        settings: json.dumps([{"name": "aider/extra_params", "extra_params": parameters}], indent=2) + "\n",
    }
    models = [word for option in ("--model", "--weak-model", "--editor-model") for word in (option, model)]
    own = ("--model-metadata-file", str(metadata), "--model-settings-file", str(settings), "--no-show-model-warnings")
    # LiteLLM's own list of models would be fetched before each start.
    return Start(Command((PROGRAM, *models, *own, *words), env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"}), files)
