"""LiteLLM's proxy: a config.yaml with this model (docs.litellm.ai, "Proxy config.yaml")."""

import shlex

from launcher import forms
from launcher.exporting.base import Export, yaml

NAME = "litellm"


def refuses(export: Export) -> str | None:  # noqa: ARG001 - an address is all that it tells
    """Never."""
    return None


def text(export: Export) -> str:
    """The whole file; keys come from the proxy's environment."""
    # Dots stand for what only the person knows.
    key = f'"$(cat {shlex.quote(str(export.key_file))})"' if export.key_file else "..."
    whose = "keys" if export.key_file else "keys, the first of them the server's own"
    comments = (
        f"{export.plan.profile.title}, as it is served at {export.llm.base_url}. Made by `launcher export {NAME}`.",
        f"The {whose}: export LLM_API_KEY={key} LITELLM_MASTER_KEY=sk-$(openssl rand -hex 32)",
        "Then: litellm --config FILE",
    )
    content = {
        "model_list": [forms.litellm_proxy(export.llm, "os.environ/LLM_API_KEY")],
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    return yaml(content, comments=comments)
